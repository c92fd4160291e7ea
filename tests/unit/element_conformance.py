"""What every element must do: one test for each clause of `artstorefs/elements/interface.py`.

A test module makes a subclass of `ElementConformance` whose name starts with `Test`, with a
fixture `rig`. The tests use the contract only; `ElementRig` says what else they need.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from artstorefs.core.errors import (
    ElementDenied,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.elements.interface import Element

OBJECT = "2026/11/23/22/harbour_anna_20261123T225130_2f1c.tif"
SIDECAR = f"{OBJECT}.attr.json"
NODE = ".artstorefs/nodes/2f/2f1c.node.json"

BAD_KEYS = [
    "",
    "/etc/passwd",
    "../outside",
    "2026/../../outside",
    "2026/./x",
    "2026//x",
    "2026/",
    "a\0b",
    "a\\b",
    "x" * 256,
    "2026/" + "é" * 128,
    "\udcff",
]


@dataclass
class ElementRig:
    """An element under test, and what the tests do to it from outside."""

    element: Element
    sources: Path
    """Where source files are made."""
    crash: Callable[[], Element]
    """The process dies and starts again: gives the element anew, over the same storage."""
    vanish: Callable[[], None]
    """The storage goes away (unmounted, switched off) without the element being told."""

    def source(self, data: bytes, name: str = "source") -> str:
        """A new source file with this content."""
        path = self.sources / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return str(path)

    def put(self, key: str, data: bytes, *, digest: bool = False) -> None:
        """Stage an object of `data`."""
        sha256 = sha256_of(data) if digest else None
        self.element.put(key, self.source(data), size_bytes=len(data), sha256=sha256)

    def store(self, key: str, data: bytes) -> None:
        """Stage an object of `data` and make it durable."""
        self.put(key, data)
        self.element.barrier()


def sha256_of(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def content(element: Element, key: str) -> bytes:
    """The whole object."""
    with element.open_read(key) as stream:
        return stream.read()


class ElementConformance:
    """The suite."""

    # --------------------------------------------------------------------------- objects

    def test_put_read_stat_after_barrier(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"content of the harbour")
        assert content(rig.element, OBJECT) == b"content of the harbour"
        found = rig.element.stat(OBJECT)
        assert (found.key, found.size_bytes) == (OBJECT, 22)
        assert found.modified_ns > 0

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [(0, 3, b"012"), (7, 3, b"789"), (8, 5, b"89"), (10, 1, b""), (50, 1, b""), (0, 0, b"")],
    )
    def test_read_range(self, rig: ElementRig, offset: int, length: int, expected: bytes) -> None:
        rig.store(OBJECT, b"0123456789")
        assert rig.element.read(OBJECT, offset, length) == expected

    def test_big_object_keeps_every_byte(self, rig: ElementRig) -> None:
        data = os.urandom(5 << 20)
        rig.put(OBJECT, data, digest=True)
        rig.element.barrier()
        assert sha256_of(content(rig.element, OBJECT)) == sha256_of(data)
        assert rig.element.read(OBJECT, (5 << 20) - 10, 100) == data[-10:]

    def test_empty_object(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"")
        assert rig.element.stat(OBJECT).size_bytes == 0

    def test_source_removed_after_put_keeps_the_object(self, rig: ElementRig) -> None:
        source = rig.source(b"data")
        rig.element.put(OBJECT, source, size_bytes=4)
        os.unlink(source)
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"

    def test_what_is_locked_and_what_locks_nothing(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"kept")
        until_ns = time.time_ns() + 3600 * 10**9
        if not rig.element.can_lock():
            with pytest.raises(ElementDenied):
                rig.element.lock(OBJECT, until_ns)
            return
        for more_ns in (0, 0, -10, 10**12):
            rig.element.lock(OBJECT, until_ns + more_ns)
        with pytest.raises(ObjectAbsent):
            rig.element.lock(SIDECAR, until_ns)
        assert content(rig.element, OBJECT) == b"kept"

    def test_put_existing_object_refused(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"first")
        with pytest.raises(ObjectExists):
            rig.put(OBJECT, b"second")
        with pytest.raises(ObjectExists):
            rig.put(OBJECT, b"other", digest=True)
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"first"

    def test_put_twice_in_one_batch_refused(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"first")
        with pytest.raises(ObjectExists):
            rig.put(OBJECT, b"second")
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"first"

    def test_put_repeated_with_digest_counts_as_stored(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data", digest=True)
        rig.put(OBJECT, b"data", digest=True)
        rig.element.barrier()
        rig.put(OBJECT, b"data", digest=True)
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"

    def test_put_same_source_repeated_counts_as_stored(self, rig: ElementRig) -> None:
        source, digest = rig.source(b"data"), sha256_of(b"data")
        for _ in range(2):
            rig.element.put(OBJECT, source, size_bytes=4, sha256=digest)
            rig.element.barrier()
        with pytest.raises(ObjectExists):
            rig.element.put(OBJECT, source, size_bytes=4)
        assert content(rig.element, OBJECT) == b"data"

    def test_put_wrong_size_is_damage(self, rig: ElementRig) -> None:
        with pytest.raises(ObjectDamaged):
            rig.element.put(OBJECT, rig.source(b"short"), size_bytes=6)
        rig.element.barrier()
        with pytest.raises(ObjectAbsent):
            rig.element.stat(OBJECT)

    def test_put_missing_source_is_its_own_error(self, rig: ElementRig) -> None:
        with pytest.raises(FileNotFoundError):
            rig.element.put(OBJECT, str(rig.sources / "none"), size_bytes=1)

    # ------------------------------------------------------------------------- documents

    def test_replace_makes_and_replaces(self, rig: ElementRig) -> None:
        rig.element.replace(SIDECAR, b'{"version": 1}')
        rig.element.barrier()
        rig.element.replace(SIDECAR, b"{}")
        rig.element.barrier()
        assert content(rig.element, SIDECAR) == b"{}"

    def test_replace_twice_in_one_batch_last_one_stays(self, rig: ElementRig) -> None:
        for version in range(6):
            rig.element.replace(SIDECAR, b"%d" % version)
        rig.element.barrier()
        assert content(rig.element, SIDECAR) == b"5"

    def test_replaced_document_open_reader_keeps_the_old_one(self, rig: ElementRig) -> None:
        rig.element.replace(SIDECAR, b"old document")
        rig.element.barrier()
        with rig.element.open_read(SIDECAR) as stream:
            rig.element.replace(SIDECAR, b"new")
            rig.element.barrier()
            assert stream.read() == b"old document"

    def test_replace_staged_old_or_new_is_whole(self, rig: ElementRig) -> None:
        rig.element.replace(SIDECAR, b"old")
        rig.element.barrier()
        rig.element.replace(SIDECAR, b"the new one")
        assert content(rig.element, SIDECAR) in {b"old", b"the new one"}
        element = rig.crash()
        assert content(element, SIDECAR) in {b"old", b"the new one"}

    # ------------------------------------------------------------------- staging, crashes

    def test_crash_before_barrier_then_repeat(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data", digest=True)
        rig.element.replace(SIDECAR, b"{}")
        rig.element = rig.crash()
        rig.put(OBJECT, b"data", digest=True)
        rig.element.replace(SIDECAR, b"{}")
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"
        assert content(rig.element, SIDECAR) == b"{}"

    def test_crash_after_barrier_keeps_everything_and_allows_repeat(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"data")
        rig.element.replace(NODE, b"{}")
        rig.element.barrier()
        rig.element = rig.crash()
        assert content(rig.element, OBJECT) == b"data"
        assert content(rig.element, NODE) == b"{}"
        rig.put(OBJECT, b"data", digest=True)
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"

    def test_first_try_at_a_key(self, rig: ElementRig) -> None:
        rig.element.put(OBJECT, rig.source(b"data"), size_bytes=4, is_first=True)
        rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"

    def test_first_try_at_a_key_that_is_taken_all_the_same(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"data")

        def attempt() -> None:  # refused now or by the barrier
            rig.element.put(OBJECT, rig.source(b"other"), size_bytes=5, is_first=True)
            rig.element.barrier()

        with pytest.raises(ObjectExists):
            attempt()
        assert content(rig.element, OBJECT) == b"data"

    def test_first_try_of_which_nobody_heard_is_repeated(self, rig: ElementRig) -> None:
        digest = sha256_of(b"data")
        for _ in range(2):
            source = rig.source(b"data")
            rig.element.put(OBJECT, source, size_bytes=4, sha256=digest, is_first=True)
            rig.element.barrier()
        assert content(rig.element, OBJECT) == b"data"

    def test_barrier_tells_marks_as_a_look_and_a_listing_do(self, rig: ElementRig) -> None:
        """Those that it tells at all, and of documents only."""
        rig.put(OBJECT, b"data")
        rig.element.replace(SIDECAR, b"{}")
        told = rig.element.barrier()
        seen = rig.element.stat(SIDECAR).mark
        assert set(told) <= {SIDECAR}
        assert told.get(SIDECAR, seen) == seen
        assert [found.mark for found in rig.element.list(SIDECAR)] == [seen]
        rig.element.replace(SIDECAR, b"[]")
        told = rig.element.barrier()
        seen = rig.element.stat(SIDECAR).mark
        assert told.get(SIDECAR, seen) == seen

    def test_leftovers_of_a_crash_can_be_removed(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data")
        rig.element.replace(SIDECAR, b"{}")
        rig.element = rig.crash()
        assert [found.key for found in rig.element.list("2026/")] == []
        for found in list(rig.element.leftovers()):
            assert found.key not in {other.key for other in rig.element.list()}
            rig.element.remove(found.key)
        rig.element.barrier()
        assert list(rig.element.leftovers()) == []

    def test_own_staging_is_neither_listed_nor_left_over(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data")
        assert all("tmp" not in found.key for found in rig.element.list())
        assert list(rig.element.list(".artstorefs/tmp/")) == []
        assert list(rig.element.leftovers()) == []

    def test_barrier_without_anything_staged(self, rig: ElementRig) -> None:
        rig.element.barrier()
        rig.element.barrier()

    def test_batch_of_many_keeps_the_order(self, rig: ElementRig) -> None:
        for number in range(20):
            rig.put(f"{OBJECT}{number}", b"%d" % number)
            rig.element.replace(f"{OBJECT}{number}.attr.json", b"{}")
        rig.element.remove(f"{OBJECT}3")
        rig.put(f"{OBJECT}3", b"again")
        rig.element.remove(f"{OBJECT}4")
        rig.element.barrier()
        keys = {found.key for found in rig.element.list("2026/")}
        assert len(keys) == 39
        assert content(rig.element, f"{OBJECT}3") == b"again"
        assert f"{OBJECT}4" not in keys

    def test_threads_stage_different_keys(self, rig: ElementRig) -> None:
        sources = [rig.source(b"%d" % number, f"source{number}") for number in range(8)]

        def stage(number: int) -> None:
            for part in range(10):
                key = f"2026/11/23/{number:02}/{part}"
                rig.element.put(f"{key}", sources[number], size_bytes=1)
                rig.element.replace(f"{key}.attr.json", b"{}")

        threads = [threading.Thread(target=stage, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rig.element.barrier()
        assert len(list(rig.element.list("2026/"))) == 160

    # --------------------------------------------------------------------------- removal

    def test_remove_is_durable_and_idempotent(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"data")
        for _ in range(3):
            rig.element.remove(OBJECT)
            rig.element.barrier()
        rig.element = rig.crash()
        with pytest.raises(ObjectAbsent):
            rig.element.stat(OBJECT)

    def test_remove_of_what_never_was(self, rig: ElementRig) -> None:
        rig.element.remove("1999/01/01/00/none")
        rig.element.barrier()

    def test_remove_one_leaves_its_neighbours(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data")
        rig.element.replace(SIDECAR, b"{}")
        rig.element.barrier()
        rig.element.remove(SIDECAR)
        rig.element.barrier()
        assert [found.key for found in rig.element.list("2026/")] == [OBJECT]

    def test_put_after_removal_of_the_last_one(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"first")
        rig.element.remove(OBJECT)
        rig.element.barrier()
        rig.store(OBJECT, b"second")
        assert content(rig.element, OBJECT) == b"second"

    # -------------------------------------------------------------------- absent, vanished

    def test_absent_object_is_absent(self, rig: ElementRig) -> None:
        for ask in (rig.element.stat, rig.element.open_read):
            with pytest.raises(ObjectAbsent):
                ask(OBJECT)
        with pytest.raises(ObjectAbsent):
            rig.element.read(OBJECT, 0, 1)

    def test_vanished_element_is_unavailable_never_absent(self, rig: ElementRig) -> None:
        rig.store(OBJECT, b"data")
        rig.vanish()
        for ask in (rig.element.stat, rig.element.open_read):
            with pytest.raises(ElementUnavailable):
                ask(f"{OBJECT}.none")
        with pytest.raises(ElementUnavailable):
            rig.element.read(f"{OBJECT}.none", 0, 1)
        with pytest.raises(ElementUnavailable):
            list(rig.element.list())
        with pytest.raises(ElementUnavailable):
            list(rig.element.list("1999/"))
        with pytest.raises(ElementUnavailable):
            rig.element.capacity()

    def test_vanished_element_takes_no_writes(self, rig: ElementRig) -> None:
        rig.vanish()

        def write() -> None:
            rig.element.replace(SIDECAR, b"{}")
            rig.element.barrier()

        with pytest.raises(ElementUnavailable):
            write()

    # ------------------------------------------------------------------------------ listing

    def test_list_shows_all_kinds_with_sizes(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data")
        rig.element.replace(SIDECAR, b"{}")
        rig.element.replace(NODE, b"[]")
        rig.element.replace("at-the-root", b"")
        rig.element.barrier()
        found = {stat.key: stat.size_bytes for stat in rig.element.list()}
        expected = {OBJECT: 4, SIDECAR: 2, NODE: 2, "at-the-root": 0}
        assert expected.items() <= found.items()
        assert set(found) - set(expected) <= {".artstorefs/archive.json"}

    @pytest.mark.parametrize(
        ("prefix", "count"),
        [("2026/", 3), ("2026/11/23/2", 2), ("2026/11/23/22/b", 1), ("2027/", 0), ("2", 3)],
    )
    def test_list_prefix(self, rig: ElementRig, prefix: str, count: int) -> None:
        for key in ("2026/11/23/22/a", "2026/11/23/22/b", "2026/11/24/00/c"):
            rig.element.replace(key, b"")
        rig.element.barrier()
        assert len(list(rig.element.list(prefix))) == count

    def test_list_prefix_outside_is_refused(self, rig: ElementRig) -> None:
        for prefix in ("../", "/", "/etc/", "2026/../../x"):
            with pytest.raises(KeyInvalid):
                list(rig.element.list(prefix))

    # --------------------------------------------------------------------------------- keys

    @pytest.mark.parametrize(
        "name",
        ["Überseehafen – 港口 🚢.tif", "é" * 127, "x" * 255, "new\nline", "-rf *", "e\u0301"],
    )
    def test_odd_names_are_kept_as_they_are(self, rig: ElementRig, name: str) -> None:
        key = f"2026/11/23/22/{name}"
        rig.store(key, b"data")
        assert content(rig.element, key) == b"data"
        assert [found.key for found in rig.element.list("2026/")] == [key]

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_key_is_refused_everywhere(self, rig: ElementRig, key: str) -> None:
        source = rig.source(b"x")
        for call in (
            lambda: rig.element.put(key, source, size_bytes=1),
            lambda: rig.element.replace(key, b""),
            lambda: rig.element.remove(key),
            lambda: rig.element.read(key, 0, 1),
            lambda: rig.element.open_read(key),
            lambda: rig.element.stat(key),
        ):
            with pytest.raises(KeyInvalid):
                call()

    def test_nothing_can_be_put_among_the_temporaries(self, rig: ElementRig) -> None:
        with pytest.raises(KeyInvalid):
            rig.element.replace(".artstorefs/tmp/x", b"")
        with pytest.raises(KeyInvalid):
            rig.element.put(".artstorefs/tmp/x", rig.source(b""), size_bytes=0)

    # ---------------------------------------------------------------------------- the rest

    def test_capacity_is_plausible(self, rig: ElementRig) -> None:
        room = rig.element.capacity()
        if room.total_bytes is not None and room.free_bytes is not None:
            assert 0 <= room.free_bytes <= room.total_bytes
        if room.total_files is not None and room.free_files is not None:
            assert 0 <= room.free_files <= room.total_files

    def test_close_drops_what_is_staged(self, rig: ElementRig) -> None:
        rig.put(OBJECT, b"data")
        rig.element.close()
        rig.element.close()
        element = rig.crash()
        assert list(element.leftovers()) == []
        with pytest.raises(ObjectAbsent):
            element.stat(OBJECT)
