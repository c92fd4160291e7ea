"""Bugs on the way to an element: what is written first, what is compared, what is tried again."""

from .bug import Bug

COPIES = "tests/filesystem/test_copies.py::"
DAMAGE = "tests/filesystem/test_spool_damage.py::"
STEPS = "tests/filesystem/test_transfer_steps.py::"
TRANSFER = "tests/filesystem/test_transfer.py::"
KILLED = TRANSFER + "test_killed_before_each_call_of_an_element"
SCHEDULE = "tests/unit/test_schedule.py::"

BUGS = [
    Bug(
        name="attr-before-object",
        what="attr.json is written, and durable, before the object that it speaks of.",
        breaks="promise 3: a new object is written before attr.json points at it",
        path="artstorefs/transfer/carrier.py",
        old="        element.put(\n            job.key,\n",
        new="""
        early = attributes_document(item.snapshot, content, self._accounts, time.time_ns())
        element.replace(naming.sidecar_key(job.key), early)
        element.barrier()
        element.put(
            job.key,
""",
        caught_by=(KILLED + "[1-put]",),
    ),
    Bug(
        name="object-barrier-skipped",
        what="Documents are written while the objects that they speak of are not durable yet.",
        breaks="promise 3: a new object is written and verified before attr.json points at it",
        path="artstorefs/transfer/carrier.py",
        old="""
        carried = self._barrier(carried, result)
        if carried:
            crash_point("objects.durable")
""",
        new="""
        if carried:
            crash_point("objects.durable")
""",
        caught_by=(STEPS + "test_documents_are_written_when_their_objects_are_durable",),
    ),
    Bug(
        name="old-object-removed-first",
        what="The old object goes before the new one is recorded.",
        breaks="promise 3, lesson 7: old content outlives the change",
        path="artstorefs/transfer/carrier.py",
        old="        element.put(\n            job.key,\n",
        new="""
        for copy in self._reader.snapshot(job.ino, job.element).copies:
            for key in (naming.sidecar_key(copy.key), copy.key):
                element.remove(key)
        element.barrier()
        element.put(
            job.key,
""",
        caught_by=(KILLED + "[1-put]", TRANSFER + "test_each_call_fails_for_a_while[put-full]"),
    ),
    Bug(
        name="spool-goes-with-the-first-copy",
        what="Content leaves the spool when one element has it, though two are to have it.",
        breaks="copies = N: until N elements have a file its content stays in the spool",
        path="artstorefs/state/outcomes.py",
        old="if content_state == ContentState.SEALED and self._policy.is_safe(node, copies):\n",
        new="if content_state == ContentState.SEALED and copies:\n",
        caught_by=(COPIES + "test_until_the_second_has_it_the_spool_keeps_it",),
    ),
    Bug(
        name="object-changed-by-way-of-the-spool",
        what="Content that one element has, by a link, is changed in place in the spool.",
        breaks="promise 3: an object does not change under its attr.json",
        path="artstorefs/filesystem/spool_sums.py",
        old="any(has_content(copy, node) for copy in archive.index.copies(node.ino))",
        new="False",
        caught_by=(COPIES + "test_content_that_is_on_its_way_to_nobody_is_not_changed_in_place",),
    ),
    Bug(
        name="two-copies-in-one-inode",
        what="Two elements on one filesystem get the same inode by hard links.",
        breaks="copies = N: what damages one copy leaves the others",
        path="artstorefs/elements/staging.py",
        old="found.st_nlink > 1",
        new="False",
        caught_by=(COPIES + "test_two_elements_have_all_of_it",),
    ),
    Bug(
        name="copy-of-a-damaged-copy",
        what="A further copy is made without a look at the checksum.",
        breaks="promise 7: nothing damaged passes for right",
        path="artstorefs/transfer/carrier.py",
        old="                if copy.sha256 is None or sha256 != copy.sha256.hex():\n",
        new="                if copy.sha256 is None:\n",
        caught_by=(COPIES + "test_copy_that_would_be_made_of_a_damaged_one",),
    ),
    Bug(
        name="barrier-failure-ignored",
        what="What an element failed to make durable counts as stored.",
        breaks="lesson 6: an I/O error is seen and not returned",
        path="artstorefs/transfer/carrier.py",
        old="                broken[name] = exc\n        kept = []\n",
        new='                log.warning("%s", exc)\n        kept = []\n',
        caught_by=(STEPS + "test_barrier_that_fails_once_is_no_answer[1]",),
    ),
    Bug(
        name="spool-size-not-compared",
        what="A spool file that has lost its end is carried as if it were the content.",
        breaks="lesson 5: right name, wrong bytes",
        path="artstorefs/transfer/carrier.py",
        old='        if size != node.size:\n            reason = f"spool file',
        new='        if size < 0:\n            reason = f"spool file',
        caught_by=(STEPS + "test_spool_file_of_another_size_is_not_carried",),
    ),
    Bug(
        name="sum-not-compared-when-carried",
        what="Content that has been summed is carried to an element whatever has become of it.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/transfer/carrier.py",
        old="        if known is not None and known.sha256.hex() != sha256:\n",
        new='        if known is not None and known.sha256.hex() == "":\n',
        caught_by=(
            DAMAGE + "test_flip_is_carried_to_no_element",
            DAMAGE + "test_flip_leaves_the_content_that_the_element_has",
        ),
    ),
    Bug(
        name="object-removed-before-document",
        what="Of a deleted file the object goes first: a crash leaves an attr.json without one.",
        breaks="DESIGN section 4: the old attr.json is removed, then the old object",
        path="artstorefs/transfer/removals.py",
        old="""
        errors |= self._remove_stage(left, _document_keys)
        crash_point("removal.documents_gone")
        left = [job for job in jobs if job.log_id not in errors]
        errors |= self._remove_stage(left, _object_keys)
""",
        new="""
        errors |= self._remove_stage(left, _object_keys)
        crash_point("removal.documents_gone")
        left = [job for job in jobs if job.log_id not in errors]
        errors |= self._remove_stage(left, _document_keys)
""",
        caught_by=(STEPS + "test_document_is_removed_before_its_object",),
    ),
    Bug(
        name="unknown-keys-dropped",
        what="Keys of an attr.json that others have written are gone after the next change.",
        breaks="promise 7, lesson 18: rewrites keep unknown keys",
        path="artstorefs/transfer/documents.py",
        old="in _as_v2(carried).items()",
        new="in ()",
        caught_by=(
            "tests/hostile/test_unknown_keys.py::test_lesson_18_keys_survive_empty_and_full_again",
        ),
    ),
    Bug(
        name="document-of-others-overwritten",
        what="An attr.json that somebody else has changed is written over unseen.",
        breaks="promise 7: neighbours may write what is theirs",
        path="artstorefs/transfer/carrier.py",
        old="            if self._changed_by_others(job, snapshot, result):\n",
        new="            if False:\n",
        caught_by=(
            "tests/hostile/test_documents.py::test_a_rewrite_never_destroys_what_cannot_be_read",
        ),
    ),
    Bug(
        name="tried-a-few-times-only",
        what="What has failed eight times is not tried any more.",
        breaks="lesson 6: retried for ever, never dropped",
        path="artstorefs/transfer/schedule.py",
        old="        pause = min(RETRY_LIMIT_S, RETRY_FIRST_S * 2 ** min(count - 1, 16))\n",
        new="""
        if count > 8:
            return
        pause = min(RETRY_LIMIT_S, RETRY_FIRST_S * 2 ** min(count - 1, 16))
""",
        caught_by=(SCHEDULE + "test_pauses_grow_up_to_a_limit",),
    ),
    Bug(
        name="killed-and-assigned-anew",
        what="After a kill an object goes to another key than the one that was agreed on.",
        breaks="lesson 11: a start is an idempotent replay",
        path="artstorefs/transfer/targets.py",
        old="        elif before and before.element == element:\n",
        new="        elif before and before.element != element:\n",
        caught_by=(TRANSFER + "test_killed_after_step_1_assigned",),
    ),
    Bug(
        name="removal-forgotten-with-the-process",
        what="Removals that were under way when the transfer process died are not told again.",
        breaks="lesson 11: every step can be repeated",
        path="artstorefs/transfer/schedule.py",
        old="        for log_id in self._removals_under_way():\n",
        new="        for log_id in self._ready_removals.copy():\n",
        caught_by=(SCHEDULE + "test_death_of_the_transfer_process",),
    ),
    Bug(
        name="read-only-element-chosen",
        what="New files go to an element whose mode takes none.",
        breaks="DESIGN section 7: the table of modes",
        path="artstorefs/transfer/placement.py",
        old="if refusal(ElementMode(element.mode), Operation.CREATE, False):",
        new="if refusal(ElementMode(element.mode), Operation.READ, False):",
        caught_by=("tests/unit/test_placement.py::test_modes_that_take_nothing_are_passed_over",),
    ),
]
