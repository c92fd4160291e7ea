"""The index from the elements: every attr.json and node record becomes its row again.

    * Of several documents with one file_id the one with the highest revision counts, and the same
      one each time where that is equal.
    * A document that cannot be used is reported and left where it is.
    * What has no parent any more, and a directory that is its own ancestor, is in `lost+found`.
    * Of two files with one name the second is `NAME (first 8 of file_id).EXT`.
    * An attr.json without `posix` (ArtStore's own) shows at `storage_path/original_filename`, the
      owner being the root directory's. The directories that this takes, `lost+found`, and a root
      directory that no document tells of are in the index alone until something in them changes.
    * An object that is not beside its attr.json lies on the medium of its element, if that has one.
    * An element that cannot be listed whole, or goes away, fails the rebuild as a whole.

With an earlier index (a backup) inode numbers stay, documents that it knows as they are now are not
read, and of its pending intents those are kept that are about something newer than the elements
have: with an element that was unreachable for a day, that is the names of all that the spool holds.
An earlier row of a file that was stored and whose document is gone was deleted since.

`renew` puts the result in place of the archive's index.
"""

import json
import logging
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.errors import one_line
from artstorefs.elements.interface import Element
from artstorefs.recovery.gather import (
    Found,
    FoundLink,
    FoundNode,
    Listed,
    OnProgress,
    Origin,
    Rank,
    list_documents,
    made_directory_id,
    read_documents,
)
from artstorefs.recovery.kept_modes import kept_modes
from artstorefs.recovery.offline_content import note_offline
from artstorefs.recovery.places import LOST_AND_FOUND, Places
from artstorefs.state.bulk import NewIndex
from artstorefs.state.earlier import EarlierIndex, EarlierNode
from artstorefs.state.index import FIRST_INO, FIRST_LINK_ID, ROOT_INO, Name
from artstorefs.state.log import OUTDATED, UNRECORDED
from artstorefs.state.node import ContentState, Node
from artstorefs.transfer.documents import Accounts
from artstorefs.transfer.reading import REPORTED_MAX

log = logging.getLogger(__name__)

SHOWN_PROBLEMS = 100


@dataclass(slots=True)
class Report:
    """What a rebuild has found. `problems` are lines for a person, the first hundred of them."""

    nodes: int = 0
    documents: int = 0
    unread: int = 0
    unreadable: int = 0
    lost: int = 0
    renamed: int = 0
    pending: int = 0
    spool_lost: int = 0
    source: str = ""
    """Which earlier index was used."""
    aside: str | None = None
    """Where a good index that was replaced is."""
    problems: list[str] = field(default_factory=list)

    _told: int = 0

    def problem(self, text: str) -> None:
        self._told += 1
        if self._told <= REPORTED_MAX:
            log.error("%s", one_line(text))
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(one_line(text))


@dataclass(slots=True)
class _Place:
    """The newest document of a node, as far as the tree needs it."""

    ino: int
    file_id: bytes
    rank: Rank
    element: str
    parent: bytes
    name: bytes
    path: str
    is_directory: bool
    is_earlier: bool = False


class Rebuild:
    """One rebuild into one new index."""

    def __init__(
        self,
        index: NewIndex,
        elements: dict[str, Element],
        root_id: UUID,
        accounts: Accounts,
        earlier: EarlierIndex | None = None,
        spool_inos: Iterable[int] = (),
    ) -> None:
        self.report = Report()
        self._index = index
        self._elements = elements
        self._root_id = root_id.bytes
        self._origin = Origin(root_id, accounts)
        self._earlier = earlier
        self._places: dict[bytes, _Place] = {}
        self._by_ino: dict[int, _Place] = {}
        self._links: dict[bytes, FoundLink] = {}
        self._unstored: set[int] = set()
        self._outdated: set[int] = set()
        """Nodes of which elements have different revisions."""
        self._made: list[int] = []
        ino, name_id = earlier.highest_numbers() if earlier else (0, 0)
        self._last_ino = max([FIRST_INO - 1, ino, *spool_inos])
        self._last_name_id = max(FIRST_LINK_ID, name_id)

    def run(self, on_progress: OnProgress, processes: int | None = None) -> Report:
        """Fill the index; with no document at all it stays empty. Raises ElementError."""
        listed = list_documents(self._elements)
        self.report.documents = len(listed)
        rest = self._take_known(listed)
        for batch in read_documents(self._elements, rest, self._origin, on_progress, processes):
            self._take(batch)
        settings = dict(self._earlier.settings()) if self._earlier is not None else {}
        self._index.put_settings(settings.items())
        modes = kept_modes(self._elements.values(), settings, self.report.problem)
        self._index.put_settings(modes)
        if self._earlier is not None:
            self._take_pending(self._earlier)
        self._index.put_settings([(OUTDATED, json.dumps(sorted(self._outdated)))])
        note_offline(self._index, self._elements.values())
        if not self._places and not self.report.unreadable:
            return self.report
        self._make_root()
        names = self._add_names()
        self._index.put_settings([(UNRECORDED, json.dumps(self._made))])
        self._index.put_names((n, n.id not in self._unstored) for n in names)
        self._count_links(names)
        self.report.nodes = len(self._by_ino)
        return self.report

    # --------------------------------------------------------------------------- documents

    def _take_known(self, listed: list[Listed]) -> list[Listed]:
        """Take what the earlier index knows as it is; returns what has to be read."""
        if self._earlier is None:
            return listed
        known = self._earlier.documents(naming.SIDECAR_SUFFIX)
        rest = []
        for item in listed:
            seen = known.get((item.element, item.key))
            same = seen and (seen.size_bytes, seen.mark) == (item.size_bytes, item.mark)
            row = self._earlier.node(seen.ino) if seen and same else None
            if row is None:
                rest.append(item)
            else:
                key = naming.object_of(item.key)
                self._take_earlier(row, self._earlier.copies(row.node.ino), key)
                self.report.unread += 1
        return rest

    def _take_earlier(self, row: EarlierNode, copies: list[tuple[Any, ...]], key: str) -> None:
        node = row.node
        place = _Place(
            *(node.ino, node.file_id, (node.revision, node.is_regular, key, node.element or "")),
            element=node.element or "",
            parent=row.parent,
            name=row.name,
            path="",
            is_directory=node.is_directory,
            is_earlier=True,
        )
        self._places[node.file_id] = self._by_ino[node.ino] = place
        self._index.put_nodes([node.values()])
        self._index.put_copies((node.ino, *copy) for copy in copies)

    def _take(self, batch: list[Found]) -> None:
        nodes: dict[int, tuple[Any, ...]] = {}
        for found in batch:
            if isinstance(found, str):
                self.report.unreadable += 1
                self.report.problem(f"left where it is: {found}")
            elif isinstance(found, FoundLink):
                known = self._links.get(found.link_id)
                if known is None or known[1:3] < found[1:3]:
                    self._links[found.link_id] = found
            elif found is not None:
                self._take_node(found, nodes)
        self._index.put_nodes(nodes.values())

    def _take_node(self, found: FoundNode, nodes: dict[int, tuple[Any, ...]]) -> None:
        place = self._places.get(found.file_id)
        if place is not None and not self._is_better(found, place):
            return
        ino = place.ino if place else self._ino_of(found.file_id)
        is_directory = stat.S_ISDIR(found.node[2])
        place = _Place(
            *(ino, found.file_id, found.rank, found.element),
            parent=found.parent,
            name=found.name,
            path=found.path,
            is_directory=is_directory,
        )
        self._places[found.file_id] = self._by_ino[ino] = place
        nodes[ino] = (ino, *found.node[1:5], 2 if is_directory else 1, *found.node[6:])
        self._index.put_copies([(ino, *found.copy)])

    def _is_better(self, found: FoundNode, place: _Place) -> bool:
        """Whether a further document of a node is the newest; the newest of each element are kept
        as copies, in whatever order they are read. What one has of an older revision it will be
        told of anew, unless it is a directory: its records are kept where nothing is changed."""
        if found.revision != place.rank[0]:
            is_newer = found.revision > place.rank[0]
            if is_newer:
                self._index.outdate_copies(place.ino, found.copy)
            elif found.element != place.element:
                self._index.put_older_copy(place.ino, place.element, found.copy)
            if not place.is_directory:
                self._outdated.add(place.ino)
            return is_newer
        if place.is_earlier:  # whose versions of content are others
            if found.element != place.element or found.rank <= place.rank:
                return False
            self._index.drop_copies(place.ino)
            return True
        known = self._index.copy_rank(place.ino, found.element)
        if known is None or known < found.rank[1:3]:
            self._index.put_copies([(place.ino, *found.copy)])
        return found.rank > place.rank

    def _ino_of(self, file_id: bytes) -> int:
        if file_id == self._root_id:
            return ROOT_INO
        known = self._earlier.inos.get(file_id) if self._earlier else None
        if known is not None and known != ROOT_INO:
            return known
        self._last_ino += 1
        return self._last_ino

    # --------------------------------------------------------------- intents of the earlier index

    def _take_pending(self, earlier: EarlierIndex) -> None:
        kept = []
        for intent in earlier.intents():
            ino = intent[3]
            row = earlier.node(ino)
            if row is None:
                continue
            place = self._places.get(row.node.file_id)
            if place is None:
                if earlier.copies(ino):
                    continue  # deleted since
                self._take_earlier(row, [], "")
            elif not place.is_earlier:
                if place.rank[0] >= row.node.revision:
                    continue  # carried out since
                self._overlay(row, place)
            kept.append(intent)
            self._index.put_changed_attributes(earlier.changed_attributes(ino))
            for name, parent in earlier.unstored_links(ino):
                assert name.link_id is not None
                if name.link_id not in self._links:
                    self._links[name.link_id] = FoundLink(
                        name.link_id, 0, "", row.node.file_id, parent, name.name
                    )
        self.report.pending = len(kept)
        self._index.put_intents(kept)

    def _overlay(self, row: EarlierNode, place: _Place) -> None:
        """The earlier row is newer than the document; what the element has is an older content,
        unless nothing but names and attributes have changed."""
        stored = self._index.row(place.ino)
        node = row.node
        if node.content_state == ContentState.ARCHIVED and stored is not None:
            element, content = Node(*stored).element, Node(*stored).content
            node.element, node.content = element, content
        else:
            self._index.set_copy_content(place.ino, 0)  # an older one than any
        place.parent, place.name, place.path = row.parent, row.name, ""
        place.rank = (node.revision, node.is_regular, "", "")
        self._index.put_nodes([node.values()])

    # ------------------------------------------------------------------------------- names

    def _make_root(self) -> None:
        """The row of the root directory, where no document tells of it."""
        if self._root_id not in self._places:
            if any(place.parent for place in self._by_ino.values()):  # not all of ArtStore's own
                self.report.problem("the root directory has no node record; it gets a new one")
            self._make_directory(self._root_id, self._root_id, b"", 0o755)
        root = self._index.row(ROOT_INO)
        assert root is not None
        self._index.set_owner_of_revision_0(root[3], root[4])

    def _make_directory(self, file_id: bytes, parent: bytes, name: bytes, mode: int) -> _Place:
        """A directory that no document tells of, with the owner and times of the root."""
        ino = self._ino_of(file_id)
        root = self._index.row(ROOT_INO)
        uid, gid, times = os.geteuid(), os.getegid(), (time.time_ns(),) * 4
        if root is not None:
            uid, gid, times = root[3], root[4], (root[10],) * 4
        node = Node(
            *(ino, file_id, stat.S_IFDIR | mode, uid, gid, 2, 0, 0),
            *times,
            *(uid, None, None, None, None, 1, 0, ContentState.EMPTY, None),
        )
        place = _Place(ino, file_id, (1, False, "", ""), "", parent, name, "", True)
        self._places[file_id] = self._by_ino[ino] = place
        self._index.put_nodes([node.values()])
        self._made.append(ino)
        return place

    def _add_names(self) -> list[Name]:
        """The tree, from documents that may say anything about where they belong. They are taken in
        the order of their ranks, so that each rebuild gives the same names."""
        places = Places(self._by_ino, self._lost_and_found, self.report.problem, self._last_name_id)
        without_section = []
        for place in sorted(self._places.values(), key=lambda place: place.rank, reverse=True):
            if not place.parent:
                without_section.append(place)
            elif place.ino != ROOT_INO:
                places.add_node(place.ino, self._ino(place.parent), place.name)
        for place in sorted(without_section, key=lambda place: place.rank[2:]):
            places.add_node(place.ino, self._directory_of_path(places, place.path), place.name)
        self._add_links(places)
        names = places.settle()
        self.report.lost, self.report.renamed = places.lost, places.renamed
        return names

    def _add_links(self, places: Places) -> None:
        for _, link in sorted(self._links.items()):
            target = self._places.get(link.target)
            if target is None or target.is_directory or link.link_id in self._places:
                self.report.problem(
                    f"link record {UUID(bytes=link.link_id)}: its file is not there; left"
                )
                continue
            parent = self._ino(link.parent)
            number = places.add_link(link.link_id, target.ino, parent, link.name)
            if link.revision == 0:
                self._unstored.add(number)

    def _ino(self, file_id: bytes) -> int | None:
        place = self._places.get(file_id)
        return None if place is None else place.ino

    def _directory_of_path(self, places: Places, path: str) -> int:
        """Inode number of the directory of files without a `posix` section, made if need be."""
        parent, walked = ROOT_INO, ""
        for part in path.split("/") if path else ():
            walked = f"{walked}/{part}" if walked else part
            name = part.encode("utf-8", "replace")
            file_id = self._free_directory_id(walked)
            ino = self._ino(file_id) or places.directory(parent, name)
            if ino is None:
                above = self._by_ino[parent].file_id
                ino = self._make_directory(file_id, above, name, 0o755).ino
                places.add_node(ino, parent, name)
            parent = ino
        return parent

    def _free_directory_id(self, path: str) -> bytes:
        """The id of a made directory; another one where a document claims it for something else."""
        for number in count():
            # No path begins with a slash, so this is the id of nothing else.
            claimed = f"/{number}/{path}" if number else path
            file_id = made_directory_id(self._root_id, claimed)
            known = self._places.get(file_id)
            if known is None or known.is_directory:
                return file_id
        raise AssertionError("not reached: count() has no end")

    def _lost_and_found(self) -> int:
        """Inode number of the directory, which is made when it is needed first."""
        for number in count():
            file_id = made_directory_id(self._root_id, f"/lost+found/{number}")
            known = self._places.get(file_id)
            if known is None:
                return self._make_directory(file_id, self._root_id, LOST_AND_FOUND, 0o700).ino
            if known.is_directory and known.parent == self._root_id:
                return known.ino
        raise AssertionError("not reached: count() has no end")

    def _count_links(self, names: list[Name]) -> None:
        links: dict[int, int] = {ROOT_INO: 2}
        for entry in names:
            if self._by_ino[entry.ino].is_directory:
                links[entry.ino] = links.get(entry.ino, 0) + 2
                links[entry.parent] = links.get(entry.parent, 0) + 1
            else:
                links[entry.ino] = links.get(entry.ino, 0) + 1
        self._index.set_links((number, ino) for ino, number in links.items())
