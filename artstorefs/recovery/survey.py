"""A look at whole elements for what others have changed: one listing, and no reading of what is as
we left it. Runs in the transfer process; `additions.py` and the log take over what it finds.

    changed    the custom attributes of a document that we know, and keys that are not ours
    new        an attr.json without a posix section, of a file_id that nobody here has
    vanished   a document, or its object, that the index knows and the element positively has not:
               it is told of, and stays in the tree
    returned   an object that the index has offline, and somebody has put back
    unknown    any other document in order that the index does not know: told of, and left

Memory: a byte for each node of the index, and one part of what was found.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

from artstorefs.core import naming
from artstorefs.core.attributes import FileAttributesV2
from artstorefs.core.errors import (
    DocumentError,
    DocumentInvalid,
    ElementError,
    ObjectAbsent,
    one_line,
)
from artstorefs.core.node_record import LinkRecord
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.recovery.additions import Folder, FoundFile
from artstorefs.recovery.gather import FoundNode, Listed, found_file, made_directory_id
from artstorefs.state.index import Copy
from artstorefs.state.node import COLUMNS, ContentState
from artstorefs.state.outcomes import Observed
from artstorefs.state.reader import Reader
from artstorefs.state.rows import COPY_COLUMNS
from artstorefs.transfer.documents import Accounts
from artstorefs.transfer.observe import is_changed, observe
from artstorefs.transfer.reading import REPORTED_MAX, read_document

PART = 128
"""Found files and changes that are told together: the mount process takes a few hundredths of a
second to commit as many, and serves nobody else meanwhile."""

TOLD_INTERVAL_S = 0.5
"""Between two parts, also where nothing was found: whoever waits sees how far the look is."""

FOLDERS_REMEMBERED = 1000

_DOCUMENT, _OBJECT = 1, 2
_CONTENT_STATE = COLUMNS.index("content_state")
_SIZE = COPY_COLUMNS.index("size") - 1  # behind ino


@dataclass(slots=True)
class Part:
    """What was found since the part before, and how many documents were seen so far."""

    seen: int = 0
    observed: list[Observed] = field(default_factory=list)
    found: list[FoundFile] = field(default_factory=list)
    returned: list[tuple[str, int]] = field(default_factory=list)
    """Elements and inode numbers."""

    def to_message(self) -> dict[str, Any]:
        return {
            "seen": self.seen,
            "observed": [item.to_message() for item in self.observed],
            "found": [item.to_message() for item in self.found],
            "returned": self.returned,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Part":
        """Raises KeyError, TypeError and ValueError for what is none."""
        return cls(
            message["seen"],
            [Observed(**values) for values in message["observed"]],
            [FoundFile.from_message(values) for values in message["found"]],
            [(element, ino) for element, ino in message["returned"]],
        )


@dataclass(frozen=True, slots=True)
class Vanished:
    """A node of the index whose document, or object, is not where it was."""

    ino: int
    element: str
    key: str


@dataclass(slots=True)
class Survey:
    """What is known at the end; lists name the first ones. What parts have told is not in it."""

    seen: int = 0
    unknown: int = 0
    unknown_keys: list[str] = field(default_factory=list)
    vanished: int = 0
    gone: list[Vanished] = field(default_factory=list)
    quarantined: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def to_message(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "gone": [[one.ino, one.element, one.key] for one in self.gone]
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Survey":
        """Raises KeyError, TypeError and ValueError for what is none."""
        return cls(**{**message, "gone": [Vanished(*values) for values in message["gone"]]})


Tell = Callable[[Part], None]
"""Is given each part; may block until the one who takes it over has done so."""


def survey(elements: dict[str, Element], reader: Reader, accounts: Accounts, tell: Tell) -> Survey:
    """Look at everything of every element. An element that cannot be listed is in `errors`, and
    nothing is concluded from what its listing did not show."""
    found = Survey()
    parts = _Parts(found, tell)
    known = _KnownIds(reader)
    for name, element in elements.items():
        look = _Look(element, reader, accounts, found, parts, known)
        try:
            for stat in element.list():
                look.at(stat)
            look.conclude()
        except ElementError as exc:
            found.errors.append(str(exc))
        except sqlite3.OperationalError as exc:  # no room for the table of ids
            found.errors.append(f"element {name}: what is new cannot be looked for now: {exc}")
    parts.tell()
    return found


class _Parts:
    def __init__(self, survey: Survey, tell: Tell) -> None:
        self._survey = survey
        self._tell = tell
        self._part = Part()
        self._told = time.monotonic()

    def add(self, item: Observed | FoundFile) -> None:
        if isinstance(item, Observed):
            self._part.observed.append(item)
        else:
            self._part.found.append(item)
        if len(self._part.observed) + len(self._part.found) >= PART:
            self.tell()

    def add_returned(self, element: str, ino: int) -> None:
        self._part.returned.append((element, ino))
        if len(self._part.returned) >= PART:
            self.tell()

    def tell_now_and_then(self) -> None:
        if time.monotonic() - self._told >= TOLD_INTERVAL_S:
            self.tell()

    def tell(self) -> None:
        part, self._part = self._part, Part()
        part.seen = self._survey.seen
        self._tell(part)
        self._told = time.monotonic()


class _KnownIds:
    """Asked for the first document that is new, and then by all elements."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._is_remembered = False
        self.folders = lru_cache(FOLDERS_REMEMBERED)(self._folders)

    def node(self, file_id: bytes) -> tuple[int, int] | None:
        """Inode number and mode."""
        if not self._is_remembered:
            self._reader.remember_ids()
            self._is_remembered = True
        return self._reader.node_of_id(file_id)

    def _folders(self, path: str) -> list[Folder]:
        """The directories on the way to a file, with the ids that a rebuild gives them."""
        root_id = self._reader.root_id()
        folders: list[Folder] = []
        walked = ""
        for part in path.split("/") if path else ():
            walked = f"{walked}/{part}" if walked else part
            ino, file_id = self._directory(root_id, walked)
            folders.append(Folder(part.encode("utf-8", "replace"), ino, file_id))
        return folders

    def _directory(self, root_id: bytes, path: str) -> tuple[int, bytes]:
        for number in count():
            file_id = made_directory_id(root_id, f"/{number}/{path}" if number else path)
            known = self.node(file_id)
            if known is None or known[1] & 0o170000 == 0o040000:
                return (known[0] if known else 0), file_id
        raise AssertionError("not reached: count() has no end")


class _Look:
    """At one element."""

    def __init__(
        self,
        element: Element,
        reader: Reader,
        accounts: Accounts,
        found: Survey,
        parts: _Parts,
        known: _KnownIds,
    ) -> None:
        self._element = element
        self._reader = reader
        self._accounts = accounts
        self._found = found
        self._parts = parts
        self._known = known
        self._seen = bytearray()

    def at(self, stat: ObjectStat) -> None:
        """Something that the element has."""
        key, name = stat.key, self._element.id
        if naming.is_sidecar(key) or naming.is_record(key):
            self._found.seen += 1
            of = naming.object_of(key) if naming.is_sidecar(key) else key
            copy = self._reader.copy_under(name, of)
            if copy is not None:
                self._note(copy.ino, _DOCUMENT)
            if copy is None or is_changed(stat, copy):
                self._read(stat, copy)
            self._parts.tell_now_and_then()
        elif not key.startswith(naming.OWN_FOLDER) and not naming.is_blocks(key):
            ino = self._reader.ino_under(name, key)
            if ino is not None:
                self._note(ino, _OBJECT)

    def _note(self, ino: int, what: int) -> None:
        if ino >= len(self._seen):
            self._seen.extend(bytes(ino + 1 + len(self._seen) // 8 - len(self._seen)))
        self._seen[ino] |= what

    # --------------------------------------------------------------------- what is new or other

    def _read(self, stat: ObjectStat, copy: Copy | None) -> None:
        try:
            if copy is None:
                self._read_new(stat)
                return
            observed = observe(self._element, stat, copy, self._reader, self._accounts)
        except ObjectAbsent:
            return  # removed since its name was read
        except DocumentError as exc:
            self._found.quarantined += 1
            if len(self._found.unreadable) < REPORTED_MAX:
                self._found.unreadable.append((one_line(stat.key), str(exc)))
            return
        if observed is not None:
            self._parts.add(observed)

    def _read_new(self, stat: ObjectStat) -> None:
        document = read_document(self._element, stat.key)
        is_new = self._known.node(document.file_id.bytes) is None
        if is_new and isinstance(document, FileAttributesV2) and document.posix is None:
            listed = Listed(
                self._element.id, stat.key, stat.size_bytes, stat.modified_ns, stat.mark
            )
            file = found_file(document, listed, self._accounts)
            self._require_object(stat.key, file)
            self._parts.add(FoundFile(self._known.folders(file.path), *_rows(file)))
        elif is_new and not isinstance(document, LinkRecord):
            self._found.unknown += 1
            if len(self._found.unknown_keys) < REPORTED_MAX:
                self._found.unknown_keys.append(f"{self._element.id}: {stat.key}")

    def _require_object(self, key: str, file: FoundNode) -> None:
        """A file without content is none: whoever writes it may not have come so far."""
        where = f"{self._element.id}: {key}"
        try:
            stat = self._element.stat(naming.object_of(key))
        except ObjectAbsent:
            raise DocumentInvalid(where, "its object is not there") from None
        size = file.copy[_SIZE]
        if stat.size_bytes != size:
            reason = f"its object has {stat.size_bytes} bytes, and it says {size}"
            raise DocumentInvalid(where, reason)

    # ------------------------------------------------------------------------- what is not there

    def conclude(self) -> None:
        """After a listing that was whole: what did the index expect that was not in it?"""
        name = self._element.id
        for ino, key, is_record, is_offline in self._reader.copies_on(name):
            expected = _DOCUMENT if is_record or is_offline else _DOCUMENT | _OBJECT
            seen = self._seen[ino] if ino < len(self._seen) else 0
            if is_offline and seen & _OBJECT and self._is_back(ino, key):
                self._parts.add_returned(name, ino)
            if seen & expected == expected:
                continue
            parts = [key] if is_record else [naming.sidecar_key(key), key][: 2 - is_offline]
            gone = [part for part in parts if self._is_absent(part)]
            still = self._reader.copy_under(name, key)
            if gone and still is not None and still.ino == ino:
                self._found.vanished += 1
                if len(self._found.gone) < REPORTED_MAX:
                    self._found.gone.append(Vanished(ino, name, gone[0]))

    def _is_back(self, ino: int, key: str) -> bool:
        """Whether an object that is offline is here again, and not just still here: each is removed
        by an intent that was logged when it went offline."""
        if not self._element.capabilities.local_path:
            return False  # in a bucket it is only in another class
        return not self._reader.is_being_removed(ino) and not self._is_absent(key)

    def _is_absent(self, key: str) -> bool:
        try:
            self._element.stat(key)
        except ObjectAbsent:
            return True
        except ElementError as exc:
            if self._is_there():
                return False  # something else is in its place, which a check tells of
            raise exc
        return False

    def _is_there(self) -> bool:
        try:
            self._element.capacity()
        except ElementError:
            return False
        return True


def _rows(file: FoundNode) -> tuple[bytes, tuple[Any, ...], tuple[Any, ...]]:
    node = list(file.node)
    node[_CONTENT_STATE] = int(ContentState.ARCHIVED)
    return file.name, tuple(node), file.copy
