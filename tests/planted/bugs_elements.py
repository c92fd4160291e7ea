"""Bugs below everything else: durable writes, the local element, what a document says of values."""

from .bug import Bug

DURABLE = "tests/unit/test_durable.py::"
LOCAL = "tests/unit/test_local_element.py::"
LINKED = "tests/unit/test_elements.py::TestLocalByLink::"
FAILURES = "tests/unit/test_local_element_failures.py::"
BREAKER = "tests/unit/test_breaker.py::"

BUGS = [
    Bug(
        name="durable-write-without-fsync",
        what="A file of ours is renamed into its place before its content is on the disk.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/elements/durable.py",
        old="""
            write_all(fd, data)
            os.fsync(fd)
""",
        new="""
            write_all(fd, data)
""",
        caught_by=(DURABLE + "test_write_flushes_file_before_rename_and_directory_after",),
    ),
    Bug(
        name="new-directories-not-durable",
        what="The state directory is made, and the names that lead to it are not flushed.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/elements/durable.py",
        old="""
    fsync_directory(target)
    try:
        fsync_directory(target.parent)
    except PermissionError:
        if os.access(target.parent, os.W_OK):
            raise
""",
        new="""
    fsync_directory(target)
""",
        caught_by=(
            "tests/filesystem/test_power_cut.py::"
            "test_a_new_state_directory_is_durable_with_all_above_it",
        ),
    ),
    Bug(
        name="failed-flush-forgotten",
        what="A flush that failed is believed when it is tried again: the kernel says yes then.",
        breaks="lesson 6: a failure is sticky",
        path="artstorefs/elements/durable.py",
        old="    if os.fstat(fd).st_mode & FLUSH_FAILED:\n",
        new="    if os.fstat(fd).st_mode & 0:\n",
        caught_by=(
            "tests/limits/test_failed_flushes.py::"
            "test_lesson_06_fsync_that_failed_stays_failed_until_written_anew",
        ),
    ),
    Bug(
        name="existing-object-replaced",
        what="Moving an object to its key replaces what somebody else has put there meanwhile.",
        breaks="promise 3: an object never changes once it is written",
        path="artstorefs/elements/durable.py",
        old="_RENAME_NOREPLACE = 1  # <linux/fs.h>",
        new="_RENAME_NOREPLACE = 0  # <linux/fs.h>",
        caught_by=(LOCAL + "test_object_made_by_somebody_else_meanwhile_is_kept",),
    ),
    Bug(
        name="object-content-not-flushed",
        what="A barrier of an element moves objects to their keys without having flushed them.",
        breaks="promise 3: a new object is written and verified before attr.json points at it",
        path="artstorefs/elements/local.py",
        old="                self._staging.flush_contents(batch)\n",
        new="",
        caught_by=(
            FAILURES + "test_failed_flush_stores_nothing_and_the_repeat_writes_anew",
            FAILURES + "test_staged_while_a_flush_failed_is_not_taken_as_stored",
        ),
    ),
    Bug(
        name="object-name-not-flushed",
        what="A barrier of an element flushes the objects, and not the directories they are in.",
        breaks="promise 3: a new object is written and verified before attr.json points at it",
        path="artstorefs/elements/local.py",
        old="                self._staging.flush_directories(touched)\n",
        new="",
        caught_by=(FAILURES + "test_barrier_flushes_new_directories_and_all_above_them",),
    ),
    Bug(
        name="directories-above-not-flushed",
        what="The directory of a new object is flushed, and not the ones that were made for it.",
        breaks="promise 3: a new object is written and verified before attr.json points at it",
        path="artstorefs/elements/publication.py",
        old="above for above in ancestors_of(path) if above not in shared.known_durable",
        new="above for above in () if above not in shared.known_durable",
        caught_by=(FAILURES + "test_barrier_flushes_new_directories_and_all_above_them",),
    ),
    Bug(
        name="staged-size-not-compared",
        what="An object of another size than was announced is stored.",
        breaks="lesson 5: size and SHA-256 are checked before it counts as verified",
        path="artstorefs/elements/staging.py",
        old='        if found != size_bytes:\n            reason = f"{what} has',
        new='        if found < 0:\n            reason = f"{what} has',
        caught_by=(LINKED + "test_put_wrong_size_is_damage",),
    ),
    Bug(
        name="copy-not-compared",
        what="The copy of an object that could not be linked is not read back and compared.",
        breaks="lesson 5: size and SHA-256 are checked before it counts as verified",
        path="artstorefs/elements/staging.py",
        old="if change.sha256 is not None and sha256_of(change.fd) != change.sha256:",
        new="if change.sha256 is not None and len(sha256_of(change.fd)) != 64:",
        caught_by=(FAILURES + "test_copy_with_another_digest_is_damage",),
    ),
    Bug(
        name="other-object-confirmed",
        what="Another object of the same size under the key counts as the one that is to go there.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/elements/local.py",
        old="same = os.fstat(fd).st_size == size_bytes and sha256_of(fd) == sha256",
        new="same = os.fstat(fd).st_size == size_bytes",
        caught_by=(LINKED + "test_put_existing_object_refused",),
    ),
    Bug(
        name="unreachable-taken-for-absent",
        what="With the disk unmounted every object is told to be absent.",
        breaks="promise 5, lesson 19: unreachable is never absent",
        path="artstorefs/elements/directories.py",
        old="""
        self.check_present()
        return ObjectAbsent(self.element, key)
""",
        new="""
        return ObjectAbsent(self.element, key)
""",
        caught_by=(
            LINKED + "test_vanished_element_is_unavailable_never_absent",
            LOCAL + "test_archive_document_vanished_is_unavailable",
        ),
    ),
    Bug(
        name="other-archive-taken-for-ours",
        what="What is in the place of an element is used whichever archive it says it is of.",
        breaks="SEMANTICS ELEM-17: nothing is written into what is in an element's place",
        path="artstorefs/elements/identified.py",
        old="    if record.archive_id != archive_id:\n",
        new="    if record.archive_id is archive_id is None:\n",
        caught_by=("tests/unit/test_identified_element.py::test_what_is_not_the_element[archive]",),
    ),
    Bug(
        name="changed-archive-json-not-seen",
        what="An archive.json that becomes another one while the element is in use is not noticed.",
        breaks="SEMANTICS ELEM-17: nothing is written into what is in an element's place",
        path="artstorefs/elements/directories.py",
        old="        if self._archive_document not in (None, document):\n",
        new="        if self._archive_document is NotImplemented:\n",
        caught_by=(
            LOCAL + "test_another_archive_document_makes_it_unavailable_and_untouched",
            LOCAL + "test_archive_document_changed_while_something_is_staged_fails_the_barrier",
        ),
    ),
    Bug(
        name="every-call-is-a-trial",
        what="Once the pause is over, all who wait ask the server that has failed, and not one.",
        breaks="SEMANTICS ELEM-19: one attempt at one request is the trial",
        path="artstorefs/elements/breaker.py",
        old="                self._state = BreakerState.HALF_OPEN\n",
        new="",
        caught_by=(
            BREAKER + "test_one_trial_after_the_pause_and_its_answer_closes",
            BREAKER + "test_of_many_threads_one_makes_the_trial",
        ),
    ),
    Bug(
        name="refused-taken-for-absent",
        what="What an open breaker refuses is told as if the server had said that it has nothing.",
        breaks="promise 5, lesson 19: unreachable is never absent",
        path="artstorefs/elements/s3_connection.py",
        old="            raise S3Trouble(Trouble.LEFT_ALONE, ",
        new="            raise S3Trouble(Trouble.ABSENT, ",
        caught_by=(
            "tests/s3/test_s3_breaker.py::"
            "test_refused_is_never_absent_also_where_nothing_was_ever_seen",
        ),
    ),
    Bug(
        name="counters-lost-with-a-process",
        what="What a transfer process has counted goes with it.",
        breaks="SEMANTICS ELEM-20: the counters survive transfer processes",
        path="daemon/artstorefs_daemon/element_reports.py",
        old="            self._ended[element] = self._ended.get(element, NOTHING).plus(counts)\n",
        new="            self._ended[element] = self._ended.get(element, NOTHING)\n",
        caught_by=(
            "tests/unit/test_element_reports.py::"
            "test_totals_are_those_of_all_transfer_processes_and_of_the_mount_process",
        ),
    ),
    Bug(
        name="listing-error-swallowed",
        what="A directory that cannot be read makes a listing shorter.",
        breaks="lesson 3: any read error ends the pass",
        path="artstorefs/elements/listing.py",
        old="    with os.scandir(fd) as entries, suppress(FileNotFoundError):\n",
        new="    with os.scandir(fd) as entries, suppress(OSError):\n",
        caught_by=(FAILURES + "test_listing_error_raises_and_is_never_a_shorter_listing",),
    ),
    Bug(
        name="type-of-a-value-lost",
        what='The number 5 of an attribute becomes the string "5" once it is copied.',
        breaks="DESIGN section 8: JSON types written by others survive a copy",
        path="artstorefs/core/xattr_values.py",
        old="        return value if found else text\n",
        new="        return text\n",
        caught_by=("tests/unit/test_xattr_values.py::test_each_form_of_a_value",),
    ),
    Bug(
        name="read-only-element-written",
        what="Files on an element of mode ro may be written.",
        breaks="DESIGN section 7: the table of modes",
        path="artstorefs/core/modes.py",
        old="(ElementMode.RO, Operation.CHANGE_CONTENT): errno.EROFS",
        new="(ElementMode.RO, Operation.CHANGE_CONTENT): 0",
        caught_by=(
            "tests/unit/test_modes.py::test_a_sealed_file_follows_the_table_of_the_design",
            "tests/filesystem/test_semantics.py::test_modes[ro]",
        ),
    ),
    Bug(
        name="adopted-element-without-witness",
        what="An adopted element is believed whatever is in its place.",
        breaks="promise 5: an empty mount point says nothing of what is absent",
        path="artstorefs/elements/adoption.py",
        old="any(_is_there(witness, read) for witness in witnesses)",
        new="witnesses",
        caught_by=(
            "tests/filesystem/test_adoption.py::test_an_empty_mount_point_is_not_it",
            "tests/filesystem/test_adoption.py::test_another_element_is_not_it",
        ),
    ),
    Bug(
        name="adopted-element-not-joined",
        what="The first change of an adopted element is carried without its archive.json.",
        breaks="SEMANTICS: ADOPT-3",
        path="artstorefs/elements/identified.py",
        old="            self._join(element)\n",
        new="",
        caught_by=(
            "tests/filesystem/test_adoption.py::"
            "test_first_change_makes_it_an_element_of_the_archive",
        ),
    ),
]
