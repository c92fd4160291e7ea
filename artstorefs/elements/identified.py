"""An element that is opened at its first use, and used only if it is the one that it should be.

An archive names its elements by where they are: a path, a bucket. What is found there may be the
empty mount point of a disk, an emptied bucket, another archive, or the disk of another element. So
the first thing that is asked of it is its archive.json, and until that is the right one every call
raises `ElementUnavailable` and nothing else is done there. From then on the element itself sees to
it that its archive.json stays what it was (`directories.py`, `s3.py`).

Making one asks nothing and waits for nothing.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO
from uuid import UUID

from artstorefs.core.archive_record import ArchiveRecord, parse_archive_record
from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES
from artstorefs.core.errors import (
    DocumentError,
    ElementDenied,
    ElementOfAnother,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
)
from artstorefs.elements.adoption import Adoption, Read
from artstorefs.elements.interface import (
    ARCHIVE_KEY,
    Capabilities,
    Capacity,
    Element,
    ObjectStat,
)

ARCHIVE_LIMIT_BYTES = 65_536
"""More than any archive.json has."""

Join = Callable[[Element], None]
"""Makes an adopted element one of the archive, durably, if it is none yet. Raises ElementError."""


def read_layout(element: Element) -> ArchiveRecord | None:
    """What the element says it belongs to; None if it is no element of an archive yet.

    Raises DocumentError for an archive.json that cannot be read as one, ElementError if the
    element cannot be asked.
    """
    try:
        data = element.read(ARCHIVE_KEY, 0, ARCHIVE_LIMIT_BYTES + 1)
    except ObjectAbsent:
        return None
    return parse_archive_record(data, f"element {element.id}: {ARCHIVE_KEY}")


def check_identity(
    element: Element, archive_id: UUID, place: str, adoption: Adoption | None = None
) -> None:
    """Raise `ElementUnavailable` unless this is the archive's element of this id; `place` is where
    it was looked for. Other ElementErrors if it cannot be asked. An adopted one that has no
    archive.json yet is known by its witnesses."""
    try:
        record = read_layout(element)
    except DocumentError as exc:
        reason = f"{ARCHIVE_KEY}: {exc.reason}; put back the one of this archive"
        raise ElementUnavailable(element.id, place, reason) from exc
    if record is None:
        check_adopted(element, place, adoption or Adoption(lambda: None))
        return
    if record.archive_id != archive_id:
        name = f"{record.archive_name} ({record.archive_id}), not to {archive_id}"
        reason = f"belongs to another archive, {name}; correct the place, or mount the right disk"
        raise ElementOfAnother(element.id, place, reason)
    if record.element_id != element.id:
        reason = f"is element {record.element_id} of this archive; are two disks exchanged?"
        raise ElementUnavailable(element.id, place, reason)


def check_adopted(element: Element, place: str, adoption: Adoption) -> None:
    """Raise `ElementUnavailable` unless what has no archive.json is this adopted element."""
    problem = adoption.problem_of_place(reader_of(element))
    if problem is not None:
        raise ElementUnavailable(element.id, place, problem)


def reader_of(element: Element) -> Read:
    """How an adoption looks at documents of an element."""

    def read(key: str) -> bytes | None:
        try:
            return element.read(key, 0, ATTR_JSON_LIMIT_BYTES + 1)
        except (ObjectAbsent, ElementDenied, KeyInvalid):
            return None

    return read


class IdentifiedElement:
    """The `Element` that `open_inner` opens, once it has proved to be the one it should be.

    Before each call `require` may raise an ElementError: what is known of the element already.
    Before the first change `join` makes an adopted element one of the archive, if it is none yet.
    """

    def __init__(
        self,
        open_inner: Callable[[], Element],
        *,
        id: str,
        kind: str,
        place: str,
        capabilities: Capabilities,
        archive_id: UUID,
        require: Callable[[], None] | None = None,
        adoption: Adoption | None = None,
        join: Join | None = None,
    ) -> None:
        self.id = id
        self.kind = kind
        self.capabilities = capabilities
        self._open_inner = open_inner
        self._place = place
        self._archive_id = archive_id
        self._require = require
        self._adoption = adoption
        self._join = join
        self._lock = threading.Lock()
        self._inner: Element | None = None

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
        self._opened_to_change().put(
            key, source_path, size_bytes=size_bytes, sha256=sha256, is_first=is_first
        )

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document."""
        self._opened_to_change().replace(key, data)

    def remove(self, key: str) -> None:
        """Stage a removal."""
        self._opened_to_change().remove(key)

    def barrier(self) -> Mapping[str, int]:
        """Carry out what is staged."""
        return self._opened().barrier()

    # -------------------------------------------------------------------------------- reads

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object."""
        return self._opened().read(key, offset, length)

    def open_read(self, key: str) -> BinaryIO:
        """An object as a stream."""
        return self._opened().open_read(key)

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object."""
        return self._opened().stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Everything below a prefix."""
        return self._opened().list(prefix)

    def leftovers(self) -> Iterator[ObjectStat]:
        """Staging temporaries of processes that died."""
        return self._opened().leftovers()

    def capacity(self) -> Capacity:
        """Room as of now."""
        return self._opened().capacity()

    def can_lock(self) -> bool:
        """Whether objects are locked there."""
        return self._opened().can_lock()

    def lock(self, key: str, until_ns: int) -> None:
        """Have an object kept."""
        self._opened_to_change().lock(key, until_ns)

    def close(self) -> None:
        """Let go of what was opened, if anything was."""
        with self._lock:
            inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def _opened_to_change(self) -> Element:
        element = self._opened()
        if self._join is not None:
            self._join(element)
            self._join = None
        return element

    def _opened(self) -> Element:
        """The element itself. ElementError while it is not there, or not the right one."""
        if self._require is not None:
            self._require()
        if self._inner is not None:
            return self._inner
        with self._lock:
            if self._inner is None:
                inner = self._open_inner()
                try:
                    check_identity(inner, self._archive_id, self._place, self._adoption)
                except BaseException:
                    inner.close()
                    raise
                self._inner = inner
            return self._inner
