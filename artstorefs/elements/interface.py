"""What a storage element is: the contract that `local`, `s3` and `memory` keep, later `remote`.

An element holds objects (bytes, never changed once written) and small documents (attr.json, node
records, replaced whole) under keys. It knows nothing of files, inodes or the index. All calls are
synchronous and are made from threads of the transfer process; the reading calls are made by the
mount process too, for an element whose capabilities say `local_path`.

The invariants, kept by every element and tested in `tests/unit/element_conformance.py`:

- **Staging.** `put`, `replace` and `remove` stage a change. It may be seen earlier, but is durable
  and seen only once a later `barrier` has returned. A crash before that loses it, whole.
- **Order.** Staged changes become visible in the order in which they were staged; an element over a
  network carries out stores of different keys that follow one another at the same time. What must
  be *durable* before another thing may happen gets a barrier between the two.
- **Unreachable is never absent.** `ObjectAbsent` is raised for a positive answer only.
- **The same place.** Once archive.json has been seen, nothing is changed, and nothing is absent,
  while another one is there, or none.
- **Wrong input never leads out.** Keys are checked; a symlink is not followed.

Errors are the subclasses of `ElementError` in `core/errors.py`, and nothing else, except that a
source file of `put` that cannot be opened raises its own `OSError`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from artstorefs.core.errors import KeyInvalid

COMPONENT_BYTES_MAX = 255  # NAME_MAX of every Linux filesystem that matters

DEPTH_MAX = 32
"""Parts of a key; ours have five. Deeper directories, of a hostile hand, would take a descriptor
and a frame of the stack for each level."""

OWN_DIRECTORY = ".artstorefs"
ARCHIVE_KEY = ".artstorefs/archive.json"
"""Says which archive and element this is; an element that has once had it must have it still."""

TEMPORARY_PREFIX = ".artstorefs/tmp/"
"""Where an element may stage; nothing can be put there, and `list` does not show it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a caller may make use of, as data, so that no caller asks for a class."""

    local_path: bool
    """`open_read` gives a real file whose descriptor may be handed to the kernel and kept."""

    links: bool
    """`put` may take the source file by hard link. The source is then the object: it is given the
    object's mode, and must never be written to again (removing it is fine)."""

    at_once: int = 1
    """How many calls at a time are worth it: each is a wait for an answer over a network."""


IN_PLACE = Capabilities(local_path=True, links=True)
"""What a directory of a mounted filesystem offers."""

OVER_A_NETWORK = Capabilities(local_path=False, links=False)


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What an element knows about one key without reading the content."""

    key: str
    size_bytes: int
    modified_ns: int
    """Time of the last change, nanoseconds since the epoch, by the clock of the element."""

    is_ordinary: bool = True
    """False for a symlink, a pipe or a device that a listing shows; it can be neither read nor
    removed."""

    etag_mark: int | None = None
    """The mark, where the element knows contents apart by more than the time."""

    @property
    def mark(self) -> int:
        """A number of 63 bits that is another one when the content is: what a caller remembers, to
        see whether somebody else has written the object since."""
        return self.modified_ns if self.etag_mark is None else self.etag_mark


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room on an element; None where it has no such limit or does not tell."""

    total_bytes: int | None
    free_bytes: int | None
    total_files: int | None
    free_files: int | None


class Element(Protocol):
    """A place that holds objects. Safe to call from many threads, each with keys of its own.

    One owner calls `barrier`: a failed barrier is reported once, to its caller, and concerns
    everything that any thread had staged.
    """

    @property
    def id(self) -> str:
        """The element's name in the configuration, for messages and metrics."""

    @property
    def kind(self) -> str:
        """`local`, `s3`, `memory`, …"""

    @property
    def capabilities(self) -> Capabilities:
        """What this element offers beyond the contract; constant."""

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage a new object with the content of a local regular file.

        `is_first`: nobody has tried this key before, so that it need not be looked up; if it is
        taken all the same, `barrier` says so.

        Conditional: `ObjectExists` if the key holds, or is staged to hold, anything. A repeat
        after a crash is recognised if `sha256` (64 hex digits) is given: then a key that holds
        exactly these bytes counts as staged. `ObjectDamaged` if the source does not have
        `size_bytes`, or the copy not the given SHA-256. An element that moves the bytes verifies
        them; one that links the source (see `Capabilities`) does not read it. `ObjectExists` may
        also come from `barrier`, if somebody else was faster.
        """

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document over whatever the key holds: readers see the old or the new one, whole.

        `ElementDenied` if the key holds something that is not an ordinary object.
        """

    def remove(self, key: str) -> None:
        """Stage the removal of an object. Idempotent: an absent key is fine.

        `ElementDenied` if the key holds something that is not an ordinary object.
        """

    def barrier(self) -> Mapping[str, int]:
        """Make everything staged so far durable and visible, in the order of staging.

        Returns the marks (`ObjectStat.mark`) of the documents that it has replaced, as far as the
        element knows them without asking: of those that are not in it a `stat` tells.

        When it raises, nothing staged since the last good barrier may be taken as stored, though
        some of it may be visible; the staging is dropped, and everything has to be staged again
        from its source, which the rules of `put`, `replace` and `remove` allow. Calls that were
        staging while a barrier failed may make the next one fail too.
        """

    def read(self, key: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer only where the object ends. `ObjectAbsent`."""

    def open_read(self, key: str) -> BinaryIO:
        """The object as a binary stream, to be closed by the caller. `ObjectAbsent`.

        The stream stays good if the object is removed or replaced meanwhile. Its reads raise
        `OSError`; without `local_path` also where a large object is removed meanwhile, and such a
        stream has no descriptor.
        """

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object. `ObjectAbsent`."""

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Everything whose key starts with `prefix`, in no order, sidecars and our own included.

        Complete or an error: what cannot be read raises, at the latest at the end. What is added
        or removed meanwhile may show or not. Names that are no valid key, and things that are no
        ordinary object, are listed as well (bytes that are not UTF-8 as surrogate escapes), so
        that a check can report them; reading them raises. So are directories below `DEPTH_MAX`
        levels, and what is in those is not listed. Staging temporaries are not listed.
        """

    def leftovers(self) -> Iterator[ObjectStat]:
        """Staging temporaries of processes that died; their keys may be given to `remove`."""

    def capacity(self) -> Capacity:
        """Room as of now. What is staged may be counted or not."""

    def can_lock(self) -> bool:
        """Whether it keeps by itself what it is told to (`lock`). May have to ask, once."""

    def lock(self, key: str, until_ns: int) -> None:
        """Have an object kept from being removed by anybody, us included, before a moment, in
        nanoseconds since the epoch; what is there is durable already. `ObjectAbsent`.

        Durable when it returns, and needs no barrier. Only ever made later: one that ends later
        stays, and to repeat it changes nothing. `ElementDenied` where it is refused, as by every
        element that cannot lock. What `remove` does to such an object is for the element to say:
        in a bucket, whose versions stay, it is hidden.
        """

    def close(self) -> None:
        """Drop what is staged and let go of everything. Idempotent; no call may follow."""


def check_key(element: str, key: str) -> None:
    """Raise `KeyInvalid` unless `key` is a relative path that stays inside and fits everywhere.

    Components are separated by "/", none is empty, "." or "..", none has more than 255 bytes of
    UTF-8; no NUL, and no backslash, which is a separator to some tools that sync elements. There
    are at most `DEPTH_MAX` of them.
    """
    if not key:
        raise KeyInvalid(element, key, "a key is empty")
    if "\0" in key or "\\" in key:
        raise KeyInvalid(element, repr(key), "holds a NUL or a backslash")
    components = key.split("/")
    if len(components) > DEPTH_MAX:
        raise KeyInvalid(element, key[:COMPONENT_BYTES_MAX], f"has more than {DEPTH_MAX} parts")
    for component in components:
        _check_component(element, key, component)


def check_writable_key(element: str, key: str) -> None:
    """`check_key`, and the key is not in the part where elements stage."""
    check_key(element, key)
    if key.startswith(TEMPORARY_PREFIX):
        raise KeyInvalid(element, key, "lies where the element keeps its temporaries")


def check_prefix(element: str, prefix: str) -> None:
    """`check_key` for the directory part of a prefix; the rest is only compared."""
    directory = prefix.rpartition("/")[0]
    if directory or prefix.startswith("/"):
        check_key(element, directory)


def _check_component(element: str, key: str, component: str) -> None:
    if component in {"", ".", ".."}:
        raise KeyInvalid(element, key, f"has a component {component!r}")
    if len(component) <= COMPONENT_BYTES_MAX and component.isascii():
        return
    try:
        size_bytes = len(component.encode())
    except UnicodeEncodeError:
        raise KeyInvalid(element, repr(key), "is not valid Unicode") from None
    if size_bytes > COMPONENT_BYTES_MAX:
        reason = f"has a component of {size_bytes} bytes, at most {COMPONENT_BYTES_MAX} are allowed"
        raise KeyInvalid(element, key, reason)
