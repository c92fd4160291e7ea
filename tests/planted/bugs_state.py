"""Bugs of the state directory: the spool, the index, and the log of intents."""

from .bug import Bug

CONTENT = "tests/filesystem/test_content.py::"
LINKS = "tests/filesystem/test_links.py::"
POWER_CUT = "tests/filesystem/test_power_cut.py::"
STATE = "tests/filesystem/test_state.py::"
STEPS = "tests/filesystem/test_transfer_steps.py::"
TRANSFER = "tests/filesystem/test_transfer.py::"
SUMS = "tests/filesystem/test_spool_sums.py::"
SCHEDULE = "tests/unit/test_schedule.py::"
TOUCHES = "tests/filesystem/test_touches.py::"

BUGS = [
    Bug(
        name="fsync-without-content",
        what="fsync(2) of a file answers without having flushed its content.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/state/spool.py",
        old="                flush(descriptor)\n",
        new="                pass\n",
        caught_by=(CONTENT + "test_fsync_by_a_descriptor_that_did_not_write[sealed]",),
    ),
    Bug(
        name="fsync-without-spool-directory",
        what="fsync(2) of a new file flushes the content, and not the name of the spool file.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/state/spool.py",
        old="""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
""",
        new="""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pass
        finally:
""",
        caught_by=(CONTENT + "test_fsync_by_a_descriptor_that_did_not_write[open]",),
    ),
    Bug(
        name="fsync-without-log",
        what="fsync(2) answers without having flushed the log that knows the names.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/state/database.py",
        old="            os.fdatasync(self._log_fd)\n",
        new="            pass\n",
        caught_by=(
            "tests/limits/test_failed_flushes.py::"
            "test_log_that_could_not_be_flushed_is_carried_into_the_database_first",
        ),
    ),
    Bug(
        name="failed-commit-half-undone",
        what="A change that could not be committed stays in memory, where everybody sees it.",
        breaks="promise 8: a full disk gives a clear errno, and nothing else happens",
        path="artstorefs/state/node_transaction.py",
        old="            node.restore(values)\n",
        new="            node.nlink = node.nlink\n",
        caught_by=(STATE + "test_failed_commit_changes_nothing[unlink-True]",),
    ),
    Bug(
        name="times-of-a-directory-forgotten",
        what="A start does not look for entries whose directory was not recorded.",
        breaks="promise 1: a killed daemon loses nothing that was acknowledged",
        path="artstorefs/state/touches.py",
        old="        return self._execute(_UNTOLD).fetchall()\n",
        new="        return []\n",
        caught_by=(TOUCHES + "test_killed_before_it_was_recorded",),
    ),
    Bug(
        name="times-of-a-directory-set-back",
        what="A start gives a directory the times of its newest entry, whatever was set since.",
        breaks="promise 1: a killed daemon loses nothing that was acknowledged",
        path="artstorefs/state/touches.py",
        old="child.created_ns > directory.ctime_ns",
        new="child.created_ns > directory.mtime_ns",
        caught_by=(TOUCHES + "test_what_was_set_after_the_entry_came_stays",),
    ),
    Bug(
        name="damaged-row-believed",
        what="A row of the index is taken as it is, whatever its checksum says.",
        breaks="SEMANTICS DATA-9: a flipped bit of the index is EIO, and never another file",
        path="artstorefs/state/row_sums.py",
        old="        is_right = known is None or row_sum(values) == known\n",
        new="        is_right = True\n",
        caught_by=(
            "tests/filesystem/test_damaged_index.py"
            "::test_row_with_another_bit_is_damage_and_its_name_is_still_listed",
        ),
    ),
    Bug(
        name="damaged-name-believed",
        what="A name leads to whatever inode its row has, whatever its checksum says.",
        breaks="SEMANTICS DATA-9: a flipped bit of the index is EIO, and never another file",
        path="artstorefs/state/row_sums.py",
        old="        is_right = known is None or name_sum(*values) == known\n",
        new="        is_right = True\n",
        caught_by=(
            "tests/filesystem/test_damaged_index.py"
            "::test_name_with_another_bit_leads_to_no_other_file",
        ),
    ),
    Bug(
        name="sum-of-an-older-version-believed",
        what="The sum of content that was is believed of the content that is.",
        breaks="a row of spool_sums counts only while its version is the content",
        path="artstorefs/state/spool_sums.py",
        old=" WHERE ino = ? AND content = ?",
        new=" WHERE ino = ? AND content <= ?",
        caught_by=(SUMS + "test_sum_of_an_older_version_says_nothing",),
    ),
    Bug(
        name="sum-stays-with-new-content",
        what="What is written in place keeps the sum of what was there before.",
        breaks="what takes content out of its state removes its row in the same transaction",
        path="artstorefs/state/changes.py",
        old="""
            drop_spool_sum(self._execute, node.ino)
            node.content = version
""",
        new="""
            node.content = version
""",
        caught_by=(SUMS + "test_row_goes_with_the_content_that_it_is_of[written_under_way]",),
    ),
    Bug(
        name="rename-not-logged",
        what="A rename changes the index, and no element is told of the new name.",
        breaks="lesson 1: one ordered log for names and content",
        path="artstorefs/state/changes.py",
        old="""
            self._changed(node, now_ns, uid)
            moved = 1 if node.is_directory else 0
""",
        new="""
            node.ctime_ns = now_ns
            self._save(node)
            moved = 1 if node.is_directory else 0
""",
        caught_by=(LINKS + "test_directory_of_a_link_is_moved",),
    ),
    Bug(
        name="renamed-over-without-waiting",
        what="The file that a rename replaces leaves the element before the new one is there.",
        breaks="promise 3, lesson 7: old content outlives the change",
        path="artstorefs/state/changes.py",
        old="uid, held=held, after=[node.ino, node.revision])",
        new="uid, held=held, after=None)",
        caught_by=(TRANSFER + "test_replaced_file_goes_only_after_the_new_one_is_there",),
    ),
    Bug(
        name="removal-released-early",
        what="A removal that waits for a revision goes with any earlier one.",
        breaks="promise 3, lesson 7: old content outlives the change",
        path="artstorefs/transfer/schedule.py",
        old="if revision is None or (removal.after and removal.after[1] <= revision):",
        new="if revision is None or (removal.after and removal.after[0] == ino):",
        caught_by=(SCHEDULE + "test_a_removal_after_a_revision",),
    ),
    Bug(
        name="removal-not-logged",
        what="A deleted file is gone from the index, and its object stays on the element.",
        breaks="lesson 3: deletes only by a logged intent, and by that always",
        path="artstorefs/state/changes.py",
        old="        if remove or spool:\n            self._log.removal(\n",
        new="        if spool:\n            self._log.removal(\n",
        caught_by=(CONTENT + "test_unlink_of_a_closed_file[archived]",),
    ),
    Bug(
        name="hard-link-not-counted",
        what="A further hard link is not counted: the first unlink deletes the file.",
        breaks="promise 1: names and hard links are rebuilt exactly",
        path="artstorefs/state/changes.py",
        old="            node.nlink += 1\n",
        new="            pass\n",
        caught_by=(LINKS + "test_unlink_of_one_of_two_links[after-a]",),
    ),
    Bug(
        name="change-under-way-lost",
        what="A change of attributes while the file is carried counts as carried with it.",
        breaks="promise 1: the elements alone rebuild everything",
        path="artstorefs/state/outcomes.py",
        old="""
        if is_complete:
            self._log.carried_out(node.ino)
""",
        new="""
        if node.content == outcome.content:
            self._log.carried_out(node.ino)
""",
        caught_by=(STATE + "test_a_change_after_the_answer_is_an_update",),
    ),
    Bug(
        name="spool-file-still-needed-removed",
        what="When an old content is stored the newer one in the spool is taken for stored, too.",
        breaks="lesson 4: nobody removes the only copy",
        path="artstorefs/state/copies.py",
        old="return copy.is_record == is_in_record(node) and copy.content == node.content",
        new="return copy.is_record == is_in_record(node)",
        caught_by=(STEPS + "test_written_anew_between_the_element_and_its_answer",),
    ),
    Bug(
        name="abandoned-object-forgotten",
        what="What an attempt has left under another key is not removed from the element.",
        breaks="lesson 3: orphans are not made in the first place",
        path="artstorefs/state/outcomes.py",
        old="        if place == (assignment.element, assignment.key):\n",
        new="        if place:\n",
        caught_by=(STEPS + "test_object_of_an_attempt_that_was_cut_off_is_removed",),
    ),
    Bug(
        name="removed-attribute-comes-back",
        what="An attribute that was removed here comes back from a document that others changed.",
        breaks="promise 2: what was acknowledged is kept",
        path="artstorefs/state/outcomes.py",
        old="merged = {key: value for key, value in theirs.items() if key not in changed}",
        new="merged = dict(theirs)",
        caught_by=(
            "tests/model/test_regressions.py::"
            "test_attribute_removed_here_stays_removed_when_others_write_meanwhile",
        ),
    ),
    Bug(
        name="inode-number-used-twice",
        what="The number of a deleted file is given out again after a restart.",
        breaks="lesson 1: an upload is keyed by an identity that is never another's",
        path="artstorefs/state/changes.py",
        old="            self._database.set_setting(_LAST_INO, str(node.ino))\n",
        new="            pass\n",
        caught_by=(TRANSFER + "test_inode_numbers_are_not_used_again_when_nothing_is_pending",),
    ),
    Bug(
        name="put-aside-over-another",
        what="A spool file that is put aside replaces the one that was put aside before.",
        breaks="lesson 3: orphans are kept, not removed",
        path="artstorefs/state/spool.py",
        old="                os.link(source, path)\n                break\n",
        new="                os.replace(source, path)\n                return path\n",
        caught_by=(CONTENT + "test_spool_file_that_was_put_aside_half_or_twice",),
    ),
    Bug(
        name="backup-not-checked",
        what="A backup of a damaged index is kept as if it were one.",
        breaks="lesson 12: metadata lost, so data lost",
        path="artstorefs/state/backup.py",
        old="        if problem:\n            raise BackupFailed(problem)\n",
        new="        if problem is None:\n            problem = temporary\n",
        caught_by=(
            "tests/filesystem/test_damaged_index.py::test_backup_of_a_damaged_index_is_none",
        ),
    ),
]
