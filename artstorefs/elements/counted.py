"""An element whose calls are counted, and not to be told from the one that is counted.

A stream of an element over a network is counted as one `open_read` when it is closed, with the time
that its reads took. That of a local element is handed on as it is, because its descriptor goes to
the kernel: of it the opening is counted. A listing is counted when it ends.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

from artstorefs.elements.counters import Counters
from artstorefs.elements.interface import Capacity, Element, ObjectStat
from artstorefs.elements.wrapper import ElementWrapper

_Begun = TypeVar("_Begun")


class CountedElement(ElementWrapper):
    """Wraps any element; as thread-safe as that."""

    def __init__(self, inner: Element, counters: Counters) -> None:
        super().__init__(inner)
        self._counters = counters

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
        with self._call("put"):
            self._inner.put(
                key, source_path, size_bytes=size_bytes, sha256=sha256, is_first=is_first
            )
        self._counters.sent(size_bytes)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document."""
        with self._call("replace"):
            self._inner.replace(key, data)
        self._counters.sent(len(data))

    def remove(self, key: str) -> None:
        """Stage a removal."""
        with self._call("remove"):
            self._inner.remove(key)

    def barrier(self) -> Mapping[str, int]:
        """Carry out what is staged."""
        with self._call("barrier"):
            return self._inner.barrier()

    # -------------------------------------------------------------------------------- reads

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object."""
        with self._call("read"):
            data = self._inner.read(key, offset, length)
        self._counters.received(len(data))
        return data

    def open_read(self, key: str) -> BinaryIO:
        """An object as a stream."""
        if self._inner.capabilities.local_path:
            with self._call("open_read"):
                return self._inner.open_read(key)
        stream, duration_s = self._begun("open_read", lambda: self._inner.open_read(key))
        return io.BufferedReader(_CountedStream(stream, self._counters, duration_s))

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object."""
        with self._call("stat"):
            return self._inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Everything below a prefix."""
        return self._listed(*self._begun("list", lambda: self._inner.list(prefix)))

    def leftovers(self) -> Iterator[ObjectStat]:
        """Staging temporaries of processes that died."""
        return self._listed(*self._begun("list", self._inner.leftovers))

    def capacity(self) -> Capacity:
        """Room as of now."""
        with self._call("capacity"):
            return self._inner.capacity()

    def lock(self, key: str, until_ns: int) -> None:
        """Have an object kept."""
        with self._call("lock"):
            self._inner.lock(key, until_ns)

    @contextmanager
    def _call(self, kind: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Exception as exc:
            self._counters.failed(exc)
            raise
        finally:
            self._counters.called(kind, time.perf_counter() - began)

    def _begun(self, kind: str, begin: Callable[[], _Begun]) -> tuple[_Begun, float]:
        """What goes on after the call, and how long the call took; counted here if it fails."""
        began = time.perf_counter()
        try:
            return begin(), time.perf_counter() - began
        except Exception as exc:
            self._counters.called(kind, time.perf_counter() - began)
            self._counters.failed(exc)
            raise

    def _listed(self, found: Iterator[ObjectStat], duration_s: float) -> Iterator[ObjectStat]:
        """The time that whoever lists takes between two is not that of the element."""
        try:
            while True:
                began = time.perf_counter()
                try:
                    one = next(found, None)
                finally:
                    duration_s += time.perf_counter() - began
                if one is None:
                    return
                yield one
        except Exception as exc:
            self._counters.failed(exc)
            raise
        finally:
            self._counters.called("list", duration_s)


class _CountedStream(io.RawIOBase):
    """What is read of `inner`."""

    def __init__(self, inner: BinaryIO, counters: Counters, duration_s: float) -> None:
        super().__init__()
        self._inner = inner
        self._counters = counters
        self._duration_s = duration_s

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]
        """Some bytes, 0 at the end."""
        began = time.perf_counter()
        try:
            data = self._inner.read(len(buffer))
        except OSError as exc:
            self._counters.failed(exc)
            raise
        finally:
            self._duration_s += time.perf_counter() - began
        self._counters.received(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the other one, and count all of it."""
        if not self.closed:
            self._counters.called("open_read", self._duration_s)
            self._inner.close()
        super().close()
