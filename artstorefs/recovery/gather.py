"""Reads every document of the elements, in several processes where there are many.

The elements are listed whole first: one that cannot be listed raises before anything is concluded
from what the others hold, and the number of documents gives the time that is left. What a document
says comes back as plain rows, so that no model of a million documents is ever in memory.

Processes are forked, not threads: parsing takes most of the time, and holds the interpreter's lock.
"""

import json
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from artstorefs.core import naming
from artstorefs.core.attributes import FileAttributesV2
from artstorefs.core.errors import DocumentError, ElementError, ObjectAbsent
from artstorefs.core.json_text import cut_utf8
from artstorefs.core.log_fields import about
from artstorefs.core.node_record import LinkRecord, NodeRecord
from artstorefs.core.posix_section import PosixSection
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.elements.interface import Element
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reader import Snapshot
from artstorefs.transfer.documents import RECORD_TYPES, Accounts, carried_by
from artstorefs.transfer.reading import check_root, is_document, read_document

log = logging.getLogger(__name__)

BATCH_DOCUMENTS = 64
"""What a process is given at a time: two batches fit into the buffer of its pipe."""

PARALLEL_FROM_DOCUMENTS = 2_000
"""Below, starting processes would take longer than it saves."""

PROCESSES_MAX = 8
"""One process writes what the others read, and eight are more than it can follow."""

PROGRESS_INTERVAL_S = 0.5

PATH_LIMIT_CHARACTERS = 4096
"""Of a `storage_path` that is followed: no program could name anything below a longer one, and a
hostile one would make a directory of every two characters."""

Rank = tuple[int, bool, str, str]

_KINDS = {name: kind for kind, name in RECORD_TYPES.items()}


class FoundNode(NamedTuple):
    """What a document says of a node. `revision` 0: without a `posix` section, its place is the
    directory `path`; otherwise it is in the directory whose file_id is `parent`."""

    file_id: bytes
    revision: int
    element: str
    key: str
    parent: bytes
    name: bytes
    path: str
    node: tuple[Any, ...]
    """Columns of `nodes`; ino and nlink are 0."""
    copy: tuple[Any, ...]
    """Columns of `copies` behind ino."""

    @property
    def rank(self) -> Rank:
        """Of two documents of one node, the one with the higher rank counts: by revision, and the
        same one each time where that is equal."""
        return self.revision, not self.copy[2], self.copy[1], self.element


class FoundLink(NamedTuple):
    """What a link record says."""

    link_id: bytes
    revision: int
    element: str
    target: bytes
    parent: bytes
    name: bytes


Found = FoundNode | FoundLink | str | None
"""A string says why a document cannot be used; None: it is not there any more."""


class Listed(NamedTuple):
    """A document that an element has."""

    element: str
    key: str
    size_bytes: int
    modified_ns: int
    mark: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading is. `left_s` is None before anything can be said."""

    documents: int
    total: int
    rate: float
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose documents they are: of which archive, by users of which names."""

    root_id: UUID
    accounts: Accounts


OnProgress = Callable[[Progress], None]


def list_documents(elements: dict[str, Element]) -> list[Listed]:
    """Every attr.json and node record. Raises ElementError unless all elements are listed whole."""
    return [
        Listed(name, found.key, found.size_bytes, found.modified_ns, found.mark)
        for name, element in elements.items()
        for found in element.list()
        if is_document(found.key)
    ]


def read_documents(
    elements: dict[str, Element],
    documents: list[Listed],
    origin: Origin,
    on_progress: OnProgress,
    processes: int | None = None,
) -> Iterator[list[Found]]:
    """What the documents say, in no order. Raises ElementError for one that cannot be read, which
    an element does not do for one that is positively absent: somebody has removed it meanwhile."""
    count = processes or min(len(os.sched_getaffinity(0)), PROCESSES_MAX)
    rest = iter(documents)
    batches = iter(lambda: list(islice(rest, BATCH_DOCUMENTS)), [])
    results: Iterator[list[Found]]
    if count < 2 or len(documents) < PARALLEL_FROM_DOCUMENTS:
        results = (_read_batch(elements, batch, origin) for batch in batches)
    else:
        results = _in_processes(elements, batches, origin, count)
    started = told = time.monotonic()
    done = 0
    for result in results:
        yield result
        done += len(result)
        now = time.monotonic()
        if now - told >= PROGRESS_INTERVAL_S or done == len(documents):
            told = now
            rate = done / max(now - started, 1e-6)
            on_progress(Progress(done, len(documents), rate, (len(documents) - done) / rate))


# ----------------------------------------------------------------------------------- processes


def _in_processes(
    elements: dict[str, Element], batches: Iterator[list[Listed]], origin: Origin, count: int
) -> Iterator[list[Found]]:
    context = get_context("fork")
    workers: dict[Any, Connection] = {}
    processes = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            inherited = [*workers.values(), ours]
            process = context.Process(
                target=_work, args=(theirs, inherited, elements, origin), daemon=True
            )
            process.start()
            theirs.close()
            processes.append(process)
            workers[ours.fileno()] = ours
        waiting = dict.fromkeys(workers.values(), 0)
        for ours in [*waiting, *waiting]:  # one to work on, and one to go on with
            _give(ours, batches, waiting)
        while busy := [ours for ours, number in waiting.items() if number]:
            ready = set(wait(busy))
            for ours in filter(ready.__contains__, busy):
                yield _answer(ours)
                waiting[ours] -= 1
                _give(ours, batches, waiting)
    finally:
        for ours in workers.values():
            ours.close()
        for process in processes:
            process.join()


def _give(
    worker: Connection, batches: Iterator[list[Listed]], waiting: dict[Connection, int]
) -> None:
    batch = next(batches, None)
    if batch is not None:
        worker.send(batch)
        waiting[worker] += 1


def _answer(worker: Connection) -> list[Found]:
    try:
        answer = worker.recv()
    except EOFError:
        raise RuntimeError("a process that read documents has ended") from None
    if isinstance(answer, tuple):
        raise ElementError(*answer)
    result: list[Found] = answer
    return result


def _work(
    pipe: Connection, inherited: list[Connection], elements: dict[str, Element], origin: Origin
) -> None:
    """A process: until the other end of its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C ends the one who reads us
    for other in inherited:
        other.close()
    try:
        while True:
            batch = pipe.recv()
            try:
                pipe.send(_read_batch(elements, batch, origin))
            except ElementError as exc:
                pipe.send((exc.element, exc.key, exc.reason))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


# ----------------------------------------------------------------------------------- documents


def _read_batch(elements: dict[str, Element], batch: list[Listed], origin: Origin) -> list[Found]:
    return [_read(elements[listed.element], listed, origin) for listed in batch]


def _read(element: Element, listed: Listed, origin: Origin) -> Found:
    try:
        document = read_document(element, listed.key)
        if not isinstance(document, LinkRecord):
            check_root(document, origin.root_id, f"{element.id}: {listed.key}")
    except DocumentError as exc:
        return str(exc)
    except ObjectAbsent as exc:
        log.warning("removed while it was looked at: %s", exc, extra=about(exc))
        return None
    except ElementError as exc:
        if is_readable_element(element):
            return str(exc)  # this one document: a key that leads nowhere, a bad sector
        raise
    if isinstance(document, LinkRecord):
        place = document.posix
        return FoundLink(
            document.file_id.bytes,
            place.revision,
            listed.element,
            document.target_id.bytes,
            place.parent.bytes,
            place.name_bytes,
        )
    if isinstance(document, NodeRecord):
        return _record(document, listed, origin.accounts)
    return found_file(document, listed, origin.accounts)


def is_readable_element(element: Element) -> bool:
    """Whether the element is there at all, so that a failure is one of a single document."""
    try:
        element.stat(naming.ARCHIVE_KEY)
    except ObjectAbsent:  # a positive answer, of an adopted element
        return True
    except ElementError:
        return False
    return True


def found_file(document: FileAttributesV2, listed: Listed, accounts: Accounts) -> FoundNode:
    """What an attr.json says."""
    posix = document.posix
    object_key = naming.object_of(listed.key)
    copy = (
        *(listed.element, object_key, False, posix.revision if posix else 0, 1),
        *(document.file_size, bytes.fromhex(document.checksum)),
        bytes.fromhex(posix.blocks) if posix and posix.blocks else None,
        *(listed.size_bytes, listed.mark),
    )
    state = ContentState.ARCHIVED
    if posix is None:
        node = _node_of_others(document, listed, state)
        name, parent, path = _name_of_others(document.original_filename), b"", _path(document)
        if not path:
            path = listed.key.rpartition("/")[0]
    else:
        node = _node(document, posix, stat.S_IFREG, document.file_size, 1, state)
        name, parent, path = posix.name_bytes, posix.parent.bytes, ""
    node.element = listed.element
    node.carried = _text(carried_by(document, Snapshot(node, name, parent, [], []), accounts))
    revision = posix.revision if posix else 0
    return FoundNode(
        *(node.file_id, revision, listed.element, listed.key, parent, name, path),
        *(node.values(), copy),
    )


def _record(document: NodeRecord, listed: Listed, accounts: Accounts) -> FoundNode:
    posix = document.posix
    target = document.target_bytes if document.target is not None else None
    size = len(target or b"")
    node = _node(document, posix, _KINDS[str(document.type)], size, 0, ContentState.EMPTY)
    node.target = target
    node.element = listed.element
    if document.rdev is not None:
        node.rdev = os.makedev(document.rdev.major, document.rdev.minor)
    snapshot = Snapshot(node, posix.name_bytes, posix.parent.bytes, [], [])
    node.carried = _text(carried_by(document, snapshot, accounts))
    copy = (
        *(listed.element, listed.key, True, posix.revision, 0, 0, None, None),
        *(listed.size_bytes, listed.mark),
    )
    return FoundNode(
        *(node.file_id, posix.revision, listed.element, listed.key),
        parent=posix.parent.bytes,
        name=posix.name_bytes,
        path="",
        node=node.values(),
        copy=copy,
    )


def _node(
    document: FileAttributesV2 | NodeRecord,
    posix: PosixSection,
    kind: int,
    size: int,
    content: int,
    state: ContentState,
) -> Node:
    created_ns = _moment_ns(document.created_at, posix.ctime_ns)
    return Node(
        *(0, document.file_id.bytes, kind | posix.mode_bits, posix.uid, posix.gid, 0),
        *(0, size, posix.atime_ns, posix.mtime_ns, posix.ctime_ns, created_ns),
        *(_creator(document), None),
        *(_text(document.custom_attributes), _text(posix.xattrs), None),
        *(posix.revision, content, state, None),
    )


def _node_of_others(document: FileAttributesV2, listed: Listed, state: ContentState) -> Node:
    """A file of ArtStore's own: no owner and mode are known (`rebuild` gives it the root's owner),
    and its time is that of its last change as the document tells it."""
    changed_ns = _moment_ns(document.updated_at, listed.modified_ns)
    created_ns = _moment_ns(document.created_at, changed_ns)
    return Node(
        *(0, document.file_id.bytes, stat.S_IFREG | 0o644, 0, 0, 0, 0, document.file_size),
        *(changed_ns, changed_ns, changed_ns, created_ns, _creator(document), None),
        *(_text(document.custom_attributes), None, None, 0, 1, state, None),
    )


def _name_of_others(text: str) -> bytes:
    """`original_filename` as one name: some writers have paths there, or names too long."""
    name = text.rstrip("/").rpartition("/")[2].replace("\0", "_")
    raw = name.encode("utf-8", "replace")
    if raw in (b"", b".", b".."):
        return b"_"
    if len(raw) <= naming.PART_LIMIT_BYTES:
        return raw
    stem, extension = os.path.splitext(name)
    tail = extension.encode()[: naming.EXTENSION_LIMIT_CHARACTERS]
    return cut_utf8(stem, naming.PART_LIMIT_BYTES - len(tail)).encode() + tail


def _path(document: FileAttributesV2) -> str:
    """`storage_path` with its good parts; nothing in it leads upwards."""
    parts = (document.storage_path or "").replace("\0", "_").split("/")
    good = [part for part in parts if part not in ("", ".", "..")]
    fits = all(len(part.encode("utf-8", "replace")) <= naming.PART_LIMIT_BYTES for part in good)
    path = "/".join(good)
    return path if fits and len(path) < PATH_LIMIT_CHARACTERS else ""


def _moment_ns(moment: Any, otherwise_ns: int) -> int:
    """What a document tells; one that 64 bits of nanoseconds cannot hold is `otherwise_ns`, and
    the document keeps what it says."""
    if moment is not None:
        moment_ns = timestamp_ns(moment)
        if -(2**63) <= moment_ns < 2**63:
            return moment_ns
    return otherwise_ns


def _creator(document: FileAttributesV2 | NodeRecord) -> int:
    """The user id of who created the node; others may have written something else there."""
    try:
        creator = int(document.created_by_id or 0)
    except (ValueError, OverflowError):
        return 0
    return creator if 0 <= creator < 2**32 - 1 else 0


def _text(members: dict[str, Any]) -> str | None:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) if members else None


def made_directory_id(root_id: bytes, path: str) -> bytes:
    """file_id of the directory `path` of files without a `posix` section, where no document tells
    of one: the same in each rebuild, so that what is written of it later is found again."""
    return uuid5(UUID(bytes=root_id), path).bytes
