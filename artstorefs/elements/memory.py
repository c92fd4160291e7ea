"""An element in memory, for tests: the whole contract, a crash at will, an error at any call.

The crash model: what is staged is lost by `crash`, what a barrier has published stays. A barrier
publishes all or, if `before` raises for it, nothing. Two errors that a disk can show and this
cannot have to be injected: a torn barrier, and content that goes bad (see `publish`).
"""

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from artstorefs.core.errors import (
    ElementDenied,
    ElementFull,
    ObjectAbsent,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.elements.interface import (
    Capabilities,
    Capacity,
    ObjectStat,
    check_key,
    check_prefix,
    check_writable_key,
)


@dataclass(frozen=True, slots=True)
class _Content:
    data: bytes
    modified_ns: int


class MemoryElement:
    """The `Element` in memory. See `interface.py` for the contract.

    `before`, if set, is called with the name of the operation and its key ("" where there is none)
    before each call does anything; what it raises is the answer. `calls` counts them by name.
    `locked`, if it is set, has until when keys are locked, as `lock` was told.
    """

    kind = "memory"
    capabilities = Capabilities(local_path=False, links=False)

    def __init__(self, id: str, *, capacity_bytes: int | None = None) -> None:
        self.id = id
        self.capacity_bytes = capacity_bytes
        self.before: Callable[[str, str], None] | None = None
        self.calls: dict[str, int] = {}
        self.locked: dict[str, int] | None = None
        self._lock = threading.Lock()
        self._visible: dict[str, _Content] = {}
        self._staged: list[tuple[str, _Content | None]] = []

    def crash(self) -> None:
        """What a killed process or a power cut does: what is staged is lost."""
        with self._lock:
            self._staged.clear()

    def publish(self, key: str, data: bytes) -> None:
        """Make `data` the visible content of a key, as another program or a bad disk would."""
        with self._lock:
            self._visible[key] = _Content(data, time.time_ns())

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage a copy of the source file, verified."""
        self._begin("put", key, writes=True)
        with open(source_path, "rb") as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != size_bytes:
            reason = f"the source has {len(data)} bytes, not {size_bytes}"
            raise ObjectDamaged(self.id, key, reason)
        with self._lock:
            there = self._expected(key)
            if there is None:
                if sha256 not in {None, digest}:
                    raise ObjectDamaged(self.id, key, "the copy has another SHA-256")
                self._stage(key, data)
            elif sha256 is None or hashlib.sha256(there.data).hexdigest() != sha256:
                raise ObjectExists(self.id, key)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document."""
        self._begin("replace", key, writes=True)
        with self._lock:
            self._stage(key, data)

    def remove(self, key: str) -> None:
        """Stage a removal."""
        self._begin("remove", key)
        with self._lock:
            self._staged.append((key, None))

    def barrier(self) -> Mapping[str, int]:
        """Publish what is staged, all or nothing."""
        try:
            self._count("barrier", "")
        except BaseException:
            self.crash()
            raise
        with self._lock:
            for key, content in self._staged:
                if content is None:
                    self._visible.pop(key, None)
                else:
                    self._visible[key] = content
            self._staged.clear()
        return {}

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A slice of the content."""
        self._begin("read", key)
        return self._content(key).data[offset : offset + length]

    def open_read(self, key: str) -> BinaryIO:
        """The content as a stream."""
        self._begin("open_read", key)
        return io.BytesIO(self._content(key).data)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of the content."""
        self._begin("stat", key)
        return _object_stat(key, self._content(key))

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """A snapshot of the visible keys; `before` is asked for each key as well, as "list"."""
        check_prefix(self.id, prefix)
        self._count("list", prefix)
        with self._lock:
            snapshot = dict(self._visible)
        for key, content in snapshot.items():
            if key.startswith(prefix):
                self._count("list", key)
                yield _object_stat(key, content)

    def leftovers(self) -> Iterator[ObjectStat]:
        """Nothing: a crash leaves no temporaries in memory."""
        self._count("leftovers", "")
        return iter(())

    def capacity(self) -> Capacity:
        """Room below `capacity_bytes`; the number of objects has no limit."""
        self._count("capacity", "")
        if self.capacity_bytes is None:
            return Capacity(None, None, None, None)
        with self._lock:
            return Capacity(self.capacity_bytes, self.capacity_bytes - self._used(), None, None)

    def can_lock(self) -> bool:
        """As a test has it."""
        return self.locked is not None

    def lock(self, key: str, until_ns: int) -> None:
        """Kept in `locked`."""
        self._begin("lock", key)
        self._content(key)
        if self.locked is None:
            raise ElementDenied(self.id, key, "locks nothing")
        self.locked[key] = max(until_ns, self.locked.get(key, 0))

    def close(self) -> None:
        """Drop what is staged."""
        self.crash()

    def _begin(self, operation: str, key: str, *, writes: bool = False) -> None:
        if writes:
            check_writable_key(self.id, key)
        else:
            check_key(self.id, key)
        self._count(operation, key)

    def _count(self, operation: str, key: str) -> None:
        with self._lock:
            self.calls[operation] = self.calls.get(operation, 0) + 1
        if self.before is not None:
            self.before(operation, key)

    def _content(self, key: str) -> _Content:
        with self._lock:
            content = self._visible.get(key)
        if content is None:
            raise ObjectAbsent(self.id, key)
        return content

    def _expected(self, key: str) -> _Content | None:
        """What the key will hold after the next barrier."""
        for staged, content in reversed(self._staged):
            if staged == key:
                return content
        return self._visible.get(key)

    def _stage(self, key: str, data: bytes) -> None:
        if self.capacity_bytes is not None and self._used() + len(data) > self.capacity_bytes:
            raise ElementFull(self.id, key, "no room left")
        self._staged.append((key, _Content(data, time.time_ns())))

    def _used(self) -> int:
        staged = sum(len(content.data) for _, content in self._staged if content is not None)
        return staged + sum(len(content.data) for content in self._visible.values())


def _object_stat(key: str, content: _Content) -> ObjectStat:
    return ObjectStat(key, len(content.data), content.modified_ns)
