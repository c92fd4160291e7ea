"""An element that is another one in all but what a subclass does otherwise."""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from artstorefs.elements.interface import Capabilities, Capacity, Element, ObjectStat


class ElementWrapper:
    """The `Element` `inner`; as thread-safe as that."""

    def __init__(self, inner: Element) -> None:
        self._inner = inner

    @property
    def id(self) -> str:
        """Of the element."""
        return self._inner.id

    @property
    def kind(self) -> str:
        """Of the element."""
        return self._inner.kind

    @property
    def capabilities(self) -> Capabilities:
        """Of the element."""
        return self._inner.capabilities

    # ------------------------------------------------------------------------------ changes

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage an object."""
        self._inner.put(key, source_path, size_bytes=size_bytes, sha256=sha256, is_first=is_first)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document."""
        self._inner.replace(key, data)

    def remove(self, key: str) -> None:
        """Stage a removal."""
        self._inner.remove(key)

    def barrier(self) -> Mapping[str, int]:
        """Carry out what is staged."""
        return self._inner.barrier()

    # -------------------------------------------------------------------------------- reads

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object."""
        return self._inner.read(key, offset, length)

    def open_read(self, key: str) -> BinaryIO:
        """An object as a stream."""
        return self._inner.open_read(key)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object."""
        return self._inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Everything below a prefix."""
        return self._inner.list(prefix)

    def leftovers(self) -> Iterator[ObjectStat]:
        """Staging temporaries of processes that died."""
        return self._inner.leftovers()

    def capacity(self) -> Capacity:
        """Room as of now."""
        return self._inner.capacity()

    def can_lock(self) -> bool:
        """Whether objects are locked there."""
        return self._inner.can_lock()

    def lock(self, key: str, until_ns: int) -> None:
        """Have an object kept."""
        self._inner.lock(key, until_ns)

    def close(self) -> None:
        """Let go of everything."""
        self._inner.close()
