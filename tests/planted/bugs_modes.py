"""Bugs of modes: what is sealed, retained, locked, frozen, and when an element is drained."""

from .bug import Bug

RETENTION = "tests/filesystem/test_retention.py::"
SEALING = "tests/filesystem/test_sealing.py::"
ELEMENTS = "tests/filesystem/test_modes_of_elements.py::"
LOCKS = "tests/filesystem/test_locks.py::"
CHANGES = "tests/mount/test_mode_changes.py::"

BUGS = [
    Bug(
        name="retained-file-removed",
        what="Only writing is forbidden before retain_until, and removing is not.",
        breaks="SEMANTICS: RETAIN-1",
        path="artstorefs/filesystem/guard.py",
        old="_KEEPING = frozenset({Operation.CHANGE_CONTENT, Operation.DELETE})\n",
        new="_KEEPING = frozenset({Operation.CHANGE_CONTENT})\n",
        caught_by=(RETENTION + "test_no_name_of_it_goes",),
    ),
    Bug(
        name="later-time-not-told",
        what="A bucket that has locked an object is not told of a later time.",
        breaks="SEMANTICS: RETAIN-4",
        path="artstorefs/state/locks.py",
        old="        return until_ns if until_ns > (told_ns or 0) else 0\n",
        new="        return until_ns if told_ns is None else 0\n",
        caught_by=(
            LOCKS + "test_file_is_locked_until_its_own_time",
            LOCKS + "test_later_time_of_the_configuration_is_of_what_is_there",
        ),
    ),
    Bug(
        name="lock-of-a-rebuilt-index-forgotten",
        what="What a rebuilt index knows to be retained by itself counts as locked.",
        breaks="SEMANTICS: RETAIN-5",
        path="artstorefs/state/locks.py",
        old="    \" AND (ifnull(locked_ns, 0) < :until OR instr(ifnull(xattrs, ''), :mark))\"\n",
        new="    \" AND ifnull(locked_ns, 0) < :until AND :mark != ''\"\n",
        caught_by=(LOCKS + "test_rebuilt_index_has_everything_locked_again",),
    ),
    Bug(
        name="lock-forgotten-with-the-next-change",
        what="A new attr.json has the index forget that the object is locked.",
        breaks="SEMANTICS: RETAIN-4",
        path="artstorefs/state/outcomes.py",
        old="        copy = _with_lock_of_before(outcome.copy(), before)\n",
        new="        copy = outcome.copy()\n",
        caught_by=(LOCKS + "test_what_is_locked_is_not_asked_for_again",),
    ),
    Bug(
        name="most-lenient-mode",
        what="A file on two elements can be changed if the mode of one of them allows it.",
        breaks="SEMANTICS: MODE-7",
        path="artstorefs/filesystem/guard.py",
        old="        return errno.EROFS if errno.EROFS in codes else max(codes)\n",
        new="        return min(codes)\n",
        caught_by=(
            ELEMENTS + "test_file_on_two_elements_obeys_the_strictest[edit-ro-codes3]",
            ELEMENTS + "test_file_on_two_elements_obeys_the_strictest[rw-edit-codes2]",
        ),
    ),
    Bug(
        name="sealed-under-a-writer",
        what="A file is sealed when its time has come, although somebody has it open for writing.",
        breaks="SEMANTICS: MODE-6",
        path="artstorefs/filesystem/xattr.py",
        old="        if node.content_state == ContentState.OPEN or guard.is_written(node.ino):\n",
        new="        if node.content_state == ContentState.OPEN and not node.nlink:\n",
        caught_by=(SEALING + "test_seal_at_once",),
    ),
    Bug(
        name="retention-shortened-by-configuration",
        what="retain_until of an element is what the configuration says now.",
        breaks="SEMANTICS: RETAIN-2",
        path="artstorefs/core/mode_changes.py",
        old="    if retain_until_ns is None or retain_until_ns <= (state.retain_until_ns or 0):\n",
        new="    if retain_until_ns == state.retain_until_ns:\n",
        caught_by=(RETENTION + "test_configuration_does_not_shorten_it",),
    ),
    Bug(
        name="record-of-a-frozen-element-written",
        what="The record of a directory is brought up to date on an element of mode ro.",
        breaks="SEMANTICS: MODE-7",
        path="artstorefs/state/copies.py",
        old="        if not node.is_directory or not self.frozen:\n",
        new="        if node.nlink:\n",
        caught_by=(ELEMENTS + "test_directory_goes_on_elsewhere_and_its_record_stays_as_it_is",),
    ),
    Bug(
        name="drained-under-a-writer",
        what="An element is put into its new mode although a file of it is open for writing.",
        breaks="SEMANTICS: MODE-8",
        path="daemon/artstorefs_daemon/mode_changes.py",
        old="not left and not self._writers(element):\n",
        new="not left:\n",
        caught_by=(CHANGES + "test_it_waits_for_a_file_that_is_open_and_was_not_written",),
    ),
]
