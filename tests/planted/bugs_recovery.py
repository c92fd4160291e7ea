"""Bugs of what makes an archive whole again: the start, fsck, rebuild, restore."""

from .bug import Bug

CONTENT = "tests/filesystem/test_content.py::"
DAMAGED = "tests/filesystem/test_damaged_index.py::"
POWER_CUT = "tests/filesystem/test_power_cut.py::"
FINDINGS = "tests/filesystem/test_fsck_findings.py::"
REBUILD = "tests/filesystem/test_rebuild.py::"
RESTORE = "tests/filesystem/test_restore.py::"

BUGS = [
    Bug(
        name="open-content-not-sealed",
        what="What was being written when the daemon was killed is never carried to an element.",
        breaks="promise 2: a killed daemon loses nothing that a system call had returned for",
        path="artstorefs/recovery/decisions.py",
        old="    NodeRow(True, _OPEN, SpoolFile.OTHER, ANY, False, NodeAction.SEAL),\n",
        new="    NodeRow(True, _OPEN, SpoolFile.OTHER, ANY, False, NodeAction.KEEP),\n",
        caught_by=(CONTENT + "test_killed_while_a_file_was_open",),
    ),
    Bug(
        name="unknown-spool-file-removed",
        what="A spool file that nothing refers to is removed, not put aside.",
        breaks="lesson 3: orphans are reported and kept, not removed",
        path="artstorefs/recovery/decisions.py",
        old="    SpoolRow(False, False, False, SpoolAction.PUT_ASIDE),\n",
        new="    SpoolRow(False, False, False, SpoolAction.REMOVE),\n",
        caught_by=(CONTENT + "test_spool_file_of_no_file_is_kept_aside",),
    ),
    Bug(
        name="synced-content-reverted",
        what="Content that was synced goes back to an older one, as its size is not that recorded.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/recovery/start.py",
        old="    if stat is not None and (size or stat.st_mode & SYNCED):\n",
        new="    if stat is None and copies and SYNCED:\n",
        caught_by=(
            POWER_CUT + "test_power_cut_takes_what_was_appended_and_not_what_was_synced",
            POWER_CUT + "test_power_cut_after_a_truncate_that_was_not_synced",
        ),
    ),
    Bug(
        name="surviving-content-reverted",
        what="Content of which something is left goes back to an older one, if it has no mark.",
        breaks="promise 2: a power cut loses nothing that sync has returned for",
        path="artstorefs/recovery/start.py",
        old="    if stat is not None and (size or stat.st_mode & SYNCED):\n",
        new="    if stat is not None and stat.st_mode & SYNCED:\n",
        caught_by=(
            POWER_CUT + "test_power_cut_takes_what_was_appended_after_a_sync_of_the_whole_disk",
            POWER_CUT
            + "test_power_cut_takes_what_was_written_to_a_copy_and_not_what_was_synced_before",
        ),
    ),
    Bug(
        name="index-given-up-for-one-failed-read",
        what="An index is replaced because a read of it failed once, though all of it is whole.",
        breaks="promise 2: what was acknowledged is kept",
        path="artstorefs/state/files.py",
        old="    return _look_once(path, look) and _look_once(path, look)\n",
        new="    return _look_once(path, look)\n",
        caught_by=(DAMAGED + "test_index_that_cannot_be_read_once_at_the_start_is_read_again",),
    ),
    Bug(
        name="older-content-not-kept",
        what="Whole content goes, though a power cut may have left a part of what follows it.",
        breaks="promise 3: no failure leaves a file with neither its old nor its new content",
        path="artstorefs/recovery/start.py",
        old="        _keep_earlier(archive, node, earlier)\n",
        new="        pass\n",
        caught_by=(
            POWER_CUT
            + "test_older_content_is_kept_when_a_power_cut_may_have_taken_a_part_of_the_new",
        ),
    ),
    Bug(
        name="older-content-removed-before-it-is-kept",
        what="An element that cannot keep older content has it removed all the same.",
        breaks="promise 3: no failure leaves a file with neither its old nor its new content",
        path="artstorefs/transfer/removals.py",
        old="                    errors[job.log_id] = _error(exc)\n        if jobs:\n",
        new="                    _error(exc)\n        if jobs:\n",
        caught_by=(
            POWER_CUT + "test_element_that_cannot_keep_it_keeps_the_older_content_where_it_is",
        ),
    ),
    Bug(
        name="version-of-lost-content-used-again",
        what="What follows lost content has its version, and is removed in the place of it.",
        breaks="promise 2: a killed daemon loses nothing that a system call had returned for",
        path="artstorefs/state/changes.py",
        old="        version = node.content + 1\n",
        new="        version = copy.content\n",
        caught_by=(POWER_CUT + "test_content_that_follows_a_lost_one_is_not_removed_in_its_place",),
    ),
    Bug(
        name="lost-content-carried",
        what="A spool file that a power cut has emptied becomes the content, over the older one.",
        breaks="promise 3: no failure leaves a file with neither content",
        path="artstorefs/recovery/decisions.py",
        old="    NodeRow(True, _SEALED, SpoolFile.OTHER, True, ANY, NodeAction.REVERT),\n",
        new="    NodeRow(True, _SEALED, SpoolFile.OTHER, True, ANY, NodeAction.SEAL),\n",
        caught_by=(POWER_CUT + "test_power_cut_takes_content_that_was_never_synced",),
    ),
    Bug(
        name="finding-swallowed",
        what="A deep check reads every object, and reports none of another SHA-256.",
        breaks="promise 4: a mismatch is told",
        path="artstorefs/recovery/fsck_deep.py",
        old="        return Hashed(size, FindingClass.WRONG_HASH, detail)\n",
        new="        return Hashed(size, None, detail)\n",
        caught_by=(FINDINGS + "test_made_found_and_repaired[wrong hash]",),
    ),
    Bug(
        name="quarantine-deletes",
        what="What goes to quarantine is removed, and only the report of it is kept.",
        breaks="lesson 3: orphans are quarantined, not removed",
        path="artstorefs/elements/quarantine.py",
        old="            self._copy(element, key, target)\n",
        new="            pass\n",
        caught_by=(FINDINGS + "test_made_found_and_repaired[object without sidecar, unknown]",),
    ),
    Bug(
        name="incomplete-listing-concluded-from",
        what="Of an element that was not read whole, what was not seen counts as missing.",
        breaks="promise 5, lesson 19: unreachable is never absent",
        path="artstorefs/recovery/fsck_index.py",
        old="        elif survey is not None and survey.incomplete is None:\n",
        new="        elif survey is not None:\n",
        caught_by=(
            "tests/filesystem/test_fsck_run.py::test_lesson_03_an_error_of_reading_is_no_answer",
        ),
    ),
    Bug(
        name="lower-revision-wins",
        what="Of two documents of one file a rebuild takes the one that it reads last.",
        breaks="DESIGN section 4: the higher revision is the file",
        path="artstorefs/recovery/rebuild.py",
        old="            return is_newer\n",
        new="            return True\n",
        caught_by=(REBUILD + "test_the_highest_revision_of_all_elements_counts",),
    ),
    Bug(
        name="rebuild-over-pending-changes",
        what="A rebuild that somebody asks for forgets what no element has yet.",
        breaks="promise 2: what was acknowledged is kept",
        path="artstorefs/recovery/renew.py",
        old="        if count:\n            raise PendingChanges(name, count)\n",
        new="        if count < 0:\n            raise PendingChanges(name, count)\n",
        caught_by=(REBUILD + "test_what_is_pending_is_not_rebuilt_over",),
    ),
    Bug(
        name="rebuilt-links-not-counted",
        what="A rebuilt file with several names has a link count of one.",
        breaks="promise 1: names and hard links are rebuilt exactly",
        path="artstorefs/recovery/rebuild.py",
        old="                links[entry.ino] = links.get(entry.ino, 0) + 1\n",
        new="                links[entry.ino] = 1\n",
        caught_by=(REBUILD + "test_rebuilt_tree_is_the_tree_before[1]",),
    ),
    Bug(
        name="element-gone-taken-for-damage",
        what="A rebuild leaves out what it cannot read of an element that has gone away meanwhile.",
        breaks="promise 5, lesson 19: unreachable is never absent",
        path="artstorefs/recovery/gather.py",
        old="    except ElementError:\n        return False\n    return True\n",
        new="    except ElementError:\n        return True\n    return True\n",
        caught_by=(
            REBUILD
            + "test_an_element_that_goes_away_while_it_is_read_fails_the_rebuild_as_a_whole",
        ),
    ),
    Bug(
        name="restored-without-a-hash",
        what="restore.py gives back objects of another SHA-256 as whole ones.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/recovery/restore.py",
        old='return "" if digest.hexdigest() == node.sha256 else',
        new='return "" if len(digest.hexdigest()) == len(node.sha256) else',
        caught_by=(
            RESTORE + "test_damage_is_told_and_the_rest_is_restored",
            RESTORE + "test_another_element_has_what_is_damaged_here",
        ),
    ),
    Bug(
        name="damaged-index-deleted",
        what="An index that is damaged is removed, not kept aside.",
        breaks="lesson 3: nothing is deleted, it is put aside",
        path="artstorefs/state/files.py",
        old="        durable.rename_durably(path + suffix, os.path.join(target, INDEX + suffix))\n",
        new="        os.unlink(path + suffix)\n",
        caught_by=(
            "tests/filesystem/test_damaged_index.py::"
            "test_damaged_index_is_replaced_and_nothing_that_the_element_has_is_lost"
            "[garbage-True-True]",
        ),
    ),
    Bug(
        name="removed-file-found-again",
        what="A file that is removed during a look at the elements comes back.",
        breaks="SEMANTICS: ADOPT-6",
        path="artstorefs/recovery/additions.py",
        old="            item.place not in self._removed\n            and ",
        new="            ",
        caught_by=(
            "tests/filesystem/test_additions.py::test_what_is_removed_here_does_not_come_back",
        ),
    ),
    Bug(
        name="vanished-file-not-told",
        what="Nobody is told of files that others have removed from an element.",
        breaks="SEMANTICS: ADOPT-7",
        path="artstorefs/recovery/survey.py",
        old="            if gone and still",
        new="            if not gone and still",
        caught_by=(
            "tests/filesystem/test_additions.py::"
            "test_what_others_have_removed_is_told_of_and_stays",
        ),
    ),
]
