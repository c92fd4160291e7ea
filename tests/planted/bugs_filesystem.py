"""Bugs of what programs see: content of open files, verified reads, the spool's limit, mappings."""

from .bug import Bug

CONTENT = "tests/filesystem/test_content.py::"
READS = "tests/filesystem/test_verified_reads.py::"
SUMS = "tests/filesystem/test_spool_sums.py::"
DAMAGE = "tests/filesystem/test_spool_damage.py::"
PASSTHROUGH = "tests/mount/test_passthrough.py::"

BUGS = [
    Bug(
        name="hash-not-compared",
        what="A block of another SHA-256 is served.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/verified.py",
        old="    if hashlib.sha256(data).digest() != digest:\n",
        new="    if len(hashlib.sha256(data).digest()) != len(digest):\n",
        caught_by=(
            READS + "test_flip_in_a_block[0-0]",
            "tests/filesystem/test_semantics.py::test_wrong_bytes_are_never_served",
        ),
    ),
    Bug(
        name="short-read-served",
        what="An object that is cut off gives a short read, which looks like the end of the file.",
        breaks="lesson 5: a short read is EIO",
        path="artstorefs/filesystem/source.py",
        old="        if found != copy.size:\n",
        new="        if found < 0:\n",
        caught_by=(READS + "test_object_of_another_size[4194304]",),
    ),
    Bug(
        name="block-list-not-compared",
        what="Any block list beside an object is believed.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/source.py",
        old="        if block_list_hash(data) != copy.blocks:\n",
        new='        if len(block_list_hash(data)) != len(copy.blocks or b""):\n',
        caught_by=(READS + "test_valid_list_of_a_lie",),
    ),
    Bug(
        name="older-copy-served",
        what="A copy of the content that a file had before is served, if it has the same size.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/source.py",
        old="if copy.content != node.content or copy.is_record or",
        new="if copy.is_record or",
        caught_by=(READS + "test_copy_of_an_older_content_is_not_served",),
    ),
    Bug(
        name="stale-blocks-after-a-rewrite",
        what="Verified blocks stay when a file is closed, for whoever has its place next.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/verified.py",
        old="        self._cache.drop_all(id(self))\n",
        new="",
        caught_by=(READS + "test_blocks_are_forgotten_when_their_file_is_closed",),
    ),
    Bug(
        name="content-under-way-changed",
        what="Content is changed in place while the transfer process hashes and carries it.",
        breaks="promise 3: an object never changes once it is written",
        path="artstorefs/filesystem/content.py",
        old="ContentState.SEALED and self.sums.may_change(node):",
        new="ContentState.SEALED:",
        caught_by=(CONTENT + "test_content_that_is_being_carried_never_changes",),
    ),
    Bug(
        name="copy-for-writing-not-durable",
        what="An archived file that is opened to be changed is recorded as content of a spool file"
        " that is not on the disk.",
        breaks="promise 2: a power cut loses nothing that was durable before",
        path="artstorefs/filesystem/source.py",
        old="            await trio.to_thread.run_sync(os.fsync, target)\n",
        new="",
        caught_by=(
            "tests/filesystem/test_power_cut.py::"
            "test_content_brought_back_is_durable_before_it_is_recorded",
        ),
    ),
    Bug(
        name="open-file-deleted",
        what="A file that somebody has open loses its content with its last name.",
        breaks="SEMANTICS: an unlinked file stays while it is open",
        path="artstorefs/filesystem/tree.py",
        old="        held = self._is_held(node.ino)\n",
        new="        held = False\n",
        caught_by=(CONTENT + "test_unlink_while_open_keeps_the_content[sealed]",),
    ),
    Bug(
        name="full-spool-ignored",
        what="The spool grows beyond its limit.",
        breaks="lesson 8: hard budgets, wait, then ENOSPC",
        path="artstorefs/filesystem/spool_budget.py",
        old="return self.used_bytes + size_bytes <= self.limit_bytes and not self._disk_is_full()",
        new="return not self._disk_is_full()",
        caught_by=(
            CONTENT + "test_full_spool_waits_then_refuses",
            CONTENT + "test_full_spool_refuses_to_bring_content_back",
        ),
    ),
    Bug(
        name="full-disk-not-told",
        what="A write that found the spool's disk full answers that all was written.",
        breaks="promise 8: a full disk gets a clear errno",
        path="artstorefs/filesystem/open_file.py",
        old="        if exc.errno not in FULL:\n            raise\n    return None\n",
        new="        if exc.errno not in FULL:\n            raise\n    return len(data)\n",
        caught_by=(CONTENT + "test_budget_after_a_disk_that_is_full",),
    ),
    Bug(
        name="mapped-file-sealed",
        what="Content is sealed, and carried, while a mapping still writes to it.",
        breaks="SEMANTICS: what is mapped is content until the mapping ends",
        path="artstorefs/filesystem/open_file.py",
        old="self.backing > 0 or self.is_mapped",
        new="self.backing > 0",
        caught_by=(
            PASSTHROUGH + "test_mapping_that_outlives_its_descriptor_is_carried_when_it_ends",
        ),
    ),
    Bug(
        name="dead-mount-counts-as-a-writer",
        what="The kernel gets the descriptor with which the daemon writes a spool file.",
        breaks="SEMANTICS DUR-1: what a killed daemon had open is carried by the next",
        path="daemon/artstorefs_daemon/stub_system.py",
        old="os.O_PATH | os.O_CLOEXEC",
        new="os.O_RDWR | os.O_CLOEXEC",
        caught_by=(
            PASSTHROUGH + "test_mount_of_a_killed_daemon_that_a_container_keeps_holds_up_no_file",
        ),
    ),
    Bug(
        name="room-ahead-kept",
        what="Room that was set aside for a file that grew stays with it, also on the element.",
        breaks="DESIGN.md section 6: the spool has a limit, and counts what is there",
        path="artstorefs/filesystem/closing.py",
        old="(file is None or file.has_room_ahead)",
        new="file is None",
        caught_by=(PASSTHROUGH + "test_room_set_aside_for_a_large_file_is_given_back",),
    ),
    Bug(
        name="room-ahead-given-back-before-the-seal",
        what="It is given back while the times of OPEN content are those of its spool file.",
        breaks="promise 1: a time that was set is kept",
        path="artstorefs/filesystem/passthrough.py",
        old="        self.refresh(file)\n        self._kernel.unbind(file.backing)\n",
        new="        self._kernel.unbind(file.backing)\n"
        "        os.ftruncate(file.descriptor, file.node.size)\n        self.refresh(file)\n",
        caught_by=(PASSTHROUGH + "test_room_set_aside_for_a_large_file_is_given_back",),
    ),
    Bug(
        name="size-of-passthrough-not-refreshed",
        what="The size of a file that the kernel writes by itself is not brought up to date.",
        breaks="SEMANTICS: everybody sees the same bytes",
        path="artstorefs/filesystem/passthrough.py",
        old="        node.size = status.st_size\n",
        new="",
        caught_by=(PASSTHROUGH + "test_everybody_sees_one_content_while_and_after_it_is_written",),
    ),
    Bug(
        name="sum-of-what-is-written-meanwhile",
        what="A sum is recorded of content that was opened, written and closed since it was read.",
        breaks="a file that changes its state while it is summed is given up",
        path="artstorefs/filesystem/spool_sums.py",
        old="        if self._under_way == ino:\n            self._under_way = 0\n",
        new="",
        caught_by=(SUMS + "test_file_that_changes_its_state_is_given_up[written]",),
    ),
    Bug(
        name="sum-given-up-without-a-sync",
        what="Content is written on while a power cut may still bring its sum back.",
        breaks="promise 2: a power cut loses nothing that fsync has returned for",
        path="artstorefs/filesystem/spool_sums.py",
        old="            await trio.to_thread.run_sync(self._archive.database.sync_log)\n",
        new="            await trio.lowlevel.checkpoint()\n",
        caught_by=(DAMAGE + "test_row_is_durably_gone_before_anything_is_written",),
    ),
    Bug(
        name="flip-laundered-in-place",
        what="Content that waits is written on without being verified, and its sum is forgotten.",
        breaks="promise 4: wrong bytes are never served as right ones",
        path="artstorefs/filesystem/spool_sums.py",
        old="        await self._source.check_sealed(node, known)\n",
        new="        await trio.lowlevel.checkpoint()\n",
        caught_by=(DAMAGE + "test_flip_never_becomes_new_content",),
    ),
    Bug(
        name="admission-always-yes",
        what="A file that the kernel writes by itself is never told that the spool is full.",
        breaks="lesson 8: hard budgets, wait, then ENOSPC",
        path="artstorefs/filesystem/passthrough.py",
        old='                log.error("%s", exc, extra=told)\n                return False\n',
        new='                log.error("%s", exc, extra=told)\n                grant = 0\n',
        caught_by=(
            "tests/limits/test_spool_full.py::test_lesson_08_full_spool_fail_is_refused_at_once",
        ),
    ),
]
