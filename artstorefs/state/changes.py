"""Changes of the tree: each method is one change, one transaction, committed when it returns.

A change bumps the revision of every node whose attr.json or node record has to follow, and logs
the intent in the same transaction. Callers have checked what POSIX asks (types, emptiness,
permissions); here it is only recorded. Times are nanoseconds since the epoch, given by the caller.

If the commit fails nothing has changed, in the database and in the `Node` objects alike. On a full
disk the changes that `makes_room` marks have a reserve to live on, and others are StateFull.
"""

import json
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from artstorefs.core.crash_points import crash_point
from artstorefs.core.marks import SEALED, mark
from artstorefs.core.naming import new_file_id, record_key
from artstorefs.state.attribute_room import require_room
from artstorefs.state.database import Database
from artstorefs.state.expiring import drop_row
from artstorefs.state.index import FIRST_INO, FIRST_LINK_ID, ROOT_INO, Copy, Index, Name
from artstorefs.state.log import Log, Removal
from artstorefs.state.node import COLUMNS, ContentState, Node
from artstorefs.state.node_transaction import NodeTransaction
from artstorefs.state.reserve import makes_room
from artstorefs.state.row_sums import name_sum, row_sum
from artstorefs.state.rows import insert_name, insert_node
from artstorefs.state.spool import spool_name
from artstorefs.state.spool_sums import SpoolSum, drop_spool_sum, put_spool_sums
from artstorefs.state.touches import Touches, touch

_UPDATE_NODE = (
    f"UPDATE nodes SET {', '.join(f'{c} = ?' for c in COLUMNS[2:])}, sum = ? WHERE ino = ?"
)
_MOVE_NAME = "UPDATE names SET parent = ?, name = ?, stored = 0, sum = ? WHERE id = ?"

_LAST_INO = "last_ino"
"""The setting that remembers the last inode number once its node is gone: the log and the spool
know deleted files by their numbers, so none is used twice."""


class Changes:
    """The one writer of nodes and names. Not thread-safe; nothing here suspends."""

    def __init__(self, database: Database, index: Index, log: Log) -> None:
        self._database = database
        self._execute = database.execute
        self._index = index
        self._log = log
        self.touches = Touches(database, log)
        deleted = int(database.setting(_LAST_INO) or 0)
        self._last_ino = max(index.highest_ino(), deleted, FIRST_INO - 1)
        self._last_name_id = max(index.highest_name_id(), FIRST_LINK_ID)

    # ---------------------------------------------------------------------------- creation

    def create_root(self, file_id: bytes, mode: int, uid: int, gid: int, now_ns: int) -> Node:
        """The root directory of a new archive; its file_id is the archive's id."""
        root = self._new_node(ROOT_INO, file_id, stat.S_IFDIR | mode, uid, gid, now_ns)
        with self._change(root):
            insert_node(self._execute, root)
            self._log.node_changed(ROOT_INO, file_id, created=True, uid=uid)
        crash_point("root.committed")
        self._index.remember(root)
        return root

    def create(
        self,
        parent: Node,
        name: bytes,
        *,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        rdev: int = 0,
        target: bytes | None = None,
        xattrs: str | None = None,
        open_content: bool = False,
    ) -> Node:
        """A new node. `open_content`: it is being written already. Raises sqlite3.IntegrityError if
        the name is not free, which costs nobody else a question."""
        self._database.require_room()
        node = self._new_node(self._last_ino + 1, new_file_id(), mode, uid, gid, now_ns)
        node.rdev = rdev
        node.target = target
        node.xattrs = xattrs
        if target is not None:
            node.size = len(target)
        if open_content:
            node.content = 1
            node.content_state = ContentState.OPEN
        touches_later = not stat.S_ISDIR(mode) and self.touches.may_wait(parent, now_ns)
        with self._change(parent, is_lone=touches_later):
            insert_node(self._execute, node)
            insert_name(self._execute, node.ino, parent.ino, name, node.ino, None)
            if touches_later:
                touch(parent, now_ns, 0)
            else:
                self._touch_directory(parent, now_ns, 1 if stat.S_ISDIR(mode) else 0, uid)
            self._log.node_changed(node.ino, node.file_id, created=True, uid=uid)
            if self._database.audit is not None:
                self._database.audit.created(node, (parent.ino, name))
        if touches_later:
            self.touches.add(parent, uid)
        crash_point("create.committed")
        self._last_ino = node.ino
        self._index.remember(node)
        return node

    def new_ino(self) -> int:
        """A number that nobody else gets."""
        self._last_ino += 1
        return self._last_ino

    def entry_came(self, directory: Node, at_ns: int) -> None:
        """Record what a new entry has changed of its directory, see `touches.py`."""
        with self._change(directory):
            self._touch_directory(directory, at_ns, 0, directory.uid)
        crash_point("entry_came.committed")

    def _new_node(
        self, ino: int, file_id: bytes, mode: int, uid: int, gid: int, now_ns: int
    ) -> Node:
        nlink = 2 if stat.S_ISDIR(mode) else 1
        return Node(
            *(ino, file_id, mode, uid, gid, nlink, 0, 0),
            *(now_ns, now_ns, now_ns, now_ns, uid),
            *(None, None, None, None),
            *(1, 0, ContentState.EMPTY, None),
        )

    def link(self, node: Node, parent: Node, name: bytes, now_ns: int, uid: int) -> None:
        """A further hard link under a name that is free."""
        self._database.require_room()
        link_id = new_file_id()
        identifier = self._last_name_id + 1
        with self._change(node, parent):
            insert_name(self._execute, identifier, parent.ino, name, node.ino, link_id)
            node.nlink += 1
            self._changed(node, now_ns, uid)
            self._touch_directory(parent, now_ns, 0, uid)
            if self._database.audit is not None:
                self._database.audit.linked(node, (parent.ino, name))
        crash_point("link.committed")
        self._last_name_id = identifier

    # ----------------------------------------------------------------------------- removal

    @makes_room
    def remove(
        self, parent: Node, entry: Name, node: Node, now_ns: int, uid: int, *, held: bool
    ) -> None:
        """Take a name away: unlink(2), rmdir(2). `held`: somebody still has the node open, so
        that its row and content stay until `purge`."""
        with self._change(parent, node):
            if self._database.audit is not None:
                self._database.audit.removed(node, (parent.ino, entry.name))
            self._touch_directory(parent, now_ns, -1 if node.is_directory else 0, uid)
            self._drop_name(entry, node, now_ns, uid, held=held, after=None)
        crash_point("remove.committed")
        if node.nlink == 0 and not held:
            self._index.forget(node.ino)

    @makes_room
    def purge(self, node: Node, uid: int) -> None:
        """The last one that held a node without names lets go of it."""
        with self._change(node):
            self._delete_node(node, uid, after=None)
        crash_point("purge.committed")
        self._index.forget(node.ino)

    @makes_room
    def expire(self, node: Node, places: Sequence[tuple[Node, Name]], now_ns: int) -> None:
        """A file has come to its end: all its names go, the first one last, and it with them.
        `places` are these, each with its directory."""
        changed_ns = node.ctime_ns
        with self._change(node, *{parent.ino: parent for parent, _ in places}.values()):
            for parent, entry in places:
                if self._database.audit is not None:
                    self._database.audit.expired(node, (parent.ino, entry.name), changed_ns)
                self._touch_directory(parent, now_ns, 0, node.uid)
                self._drop_name(entry, node, now_ns, node.uid, held=False, after=None)
            drop_row(self._execute, node.ino)
        crash_point("expire.committed")
        self._index.forget(node.ino)

    def _drop_name(
        self,
        entry: Name,
        node: Node,
        now_ns: int,
        uid: int,
        *,
        held: bool,
        after: list[int] | None,
    ) -> None:
        if node.is_directory:
            node.nlink = 0
        else:
            node.nlink -= 1
        if node.nlink == 0:
            if held:
                node.ctime_ns = now_ns
                self._execute("DELETE FROM names WHERE id = ?", (entry.id,))
                self._save(node)
            else:
                self._execute("DELETE FROM names WHERE id = ?", (entry.id,))
                self._delete_node(node, uid, after=after)
            return
        self._execute("DELETE FROM names WHERE id = ?", (entry.id,))
        self._changed(node, now_ns, uid)
        link_id = entry.link_id
        if link_id is None:
            link_id = self._promote_link(node)
            after = None  # its record goes once attr.json has the name, whoever has the old one
        elements = {copy.element for copy in self._index.copies(node.ino)}
        under_way = self._log.assignment(node.ino)
        if under_way is not None:
            elements.add(under_way.element)
        if elements:
            records = [[element, record_key(UUID(bytes=link_id))] for element in sorted(elements)]
            waits_for = after or [node.ino, node.revision]
            removal = Removal(ino=node.ino, remove=records, after=waits_for)
            self._log.removal(node.file_id, removal, uid)

    def _promote_link(self, node: Node) -> bytes:
        """A further link becomes the first name; returns the id of its record, now needless."""
        link = self._index.link_names(node.ino)[0]
        assert link.link_id is not None
        known = name_sum(node.ino, link.parent, link.name, node.ino, None)
        first = "UPDATE names SET id = ?, link_id = NULL, sum = ? WHERE id = ?"
        self._execute(first, (node.ino, known, link.id))
        return link.link_id

    def _move_name(self, entry: Name, parent: int, name: bytes) -> None:
        known = name_sum(entry.id, parent, name, entry.ino, entry.link_id)
        self._execute(_MOVE_NAME, (parent, name, known, entry.id))

    def _delete_node(self, node: Node, uid: int, after: list[int] | None) -> None:
        copies = self._index.copies(node.ino)
        remove = [[copy.element, copy.key] for copy in copies]
        under_way = self._log.drop_node(node.ino)
        if under_way is not None and [under_way.element, under_way.key] not in remove:
            remove.append([under_way.element, under_way.key])
        spool = []
        if node.content_state in (ContentState.OPEN, ContentState.SEALED):
            spool.append(spool_name(node.ino, node.content))
        if remove or spool:
            self._log.removal(
                node.file_id, Removal(ino=node.ino, remove=remove, spool=spool, after=after), uid
            )
        self._execute("DELETE FROM copies WHERE ino = ?", (node.ino,))
        drop_spool_sum(self._execute, node.ino)
        self._execute("DELETE FROM nodes WHERE ino = ?", (node.ino,))
        if node.ino == self._last_ino:
            self._database.set_setting(_LAST_INO, str(node.ino))

    # ------------------------------------------------------------------------------ rename

    def rename(
        self,
        parent: Node,
        entry: Name,
        node: Node,
        new_parent: Node,
        new_name: bytes,
        replaced: tuple[Name, Node] | None,
        now_ns: int,
        uid: int,
        *,
        held: bool,
    ) -> None:
        """rename(2), over `replaced` if there is one; `held`: somebody has the replaced one open.

        The old file leaves the elements only after the new one is there under the new name.
        """
        self._database.require_room()
        touched = [parent, new_parent, node] + ([replaced[1]] if replaced else [])
        with self._change(*touched):
            if self._database.audit is not None:
                places = ((parent.ino, entry.name), (new_parent.ino, new_name))
                over = replaced[1] if replaced else None
                self._database.audit.renamed(node, *places, over)
            self._changed(node, now_ns, uid)
            moved = 1 if node.is_directory else 0
            gone = 0
            if replaced is not None:
                gone = 1 if replaced[1].is_directory else 0
                self._drop_name(*replaced, now_ns, uid, held=held, after=[node.ino, node.revision])
            self._move_name(entry, new_parent.ino, new_name)
            if parent is new_parent:
                self._touch_directory(parent, now_ns, -gone, uid)
            else:
                self._touch_directory(parent, now_ns, -moved, uid)
                self._touch_directory(new_parent, now_ns, moved - gone, uid)
        crash_point("rename.committed")
        if replaced is not None and replaced[1].nlink == 0 and not held:
            self._index.forget(replaced[1].ino)

    def exchange(
        self,
        parent: Node,
        entry: Name,
        node: Node,
        other_parent: Node,
        other_entry: Name,
        other: Node,
        now_ns: int,
        uid: int,
    ) -> None:
        """renameat2(2) with RENAME_EXCHANGE."""
        self._database.require_room()
        with self._change(parent, other_parent, node, other):
            if self._database.audit is not None:
                place, other_place = ((one.parent, one.name) for one in (entry, other_entry))
                self._database.audit.exchanged(node, place, other, other_place)
            self._changed(node, now_ns, uid)
            self._changed(other, now_ns, uid)
            self._move_name(entry, -1, entry.name)  # the names are unique meanwhile
            self._move_name(other_entry, entry.parent, entry.name)
            self._move_name(entry, other_entry.parent, other_entry.name)
            if parent is other_parent:
                self._touch_directory(parent, now_ns, 0, uid)
            else:
                difference = int(other.is_directory) - int(node.is_directory)
                self._touch_directory(parent, now_ns, difference, uid)
                self._touch_directory(other_parent, now_ns, -difference, uid)
        crash_point("exchange.committed")

    # -------------------------------------------------------------------------- attributes

    @contextmanager
    def attributes(self, node: Node, now_ns: int, uid: int) -> Iterator[Node]:
        """Change fields of `node` in the body; they are committed together with the intent.

        Nothing is recorded of a node that has been removed: a working directory, or what was
        removed between the lookup of its path and the call, shows the change to who still asks.
        """
        if node.nlink == 0 and self._index.node(node.ino) is None:
            yield node
            return
        self._database.require_room()
        with self._change(node):
            custom = node.custom
            owner = (node.mode, node.uid, node.gid)
            yield node
            if self._database.audit is not None:
                self._database.audit.owner_changed(node, uid, owner)
            if node.custom != custom:
                self._log.attributes_changed(node.ino, _changed_keys(custom, node.custom))
            self._changed(node, now_ns, uid)
        crash_point("attributes.committed")

    def access_time(self, node: Node, atime_ns: int) -> None:
        """Record that a file was read. The elements learn of it with the node's next change:
        reading an archive must not rewrite it."""
        self._database.require_room()
        with self._change(node):
            node.atime_ns = atime_ns
            self._execute("UPDATE nodes SET atime_ns = ? WHERE ino = ?", (atime_ns, node.ino))

    # ----------------------------------------------------------------------------- content

    @makes_room  # cutting a file off to nothing must be possible
    def content_opened(self, node: Node, version: int, size: int) -> None:
        """The spool has (or, of size 0, will have) content `version`, and it may change now.

        A spool file that this leaves behind goes once nobody is carrying it.
        """
        with self._change(node):
            if version != node.content and node.content_state == ContentState.SEALED:
                left = Removal(ino=node.ino, spool=[spool_name(node.ino, node.content)])
                self._log.removal(node.file_id, left, node.uid)
            drop_spool_sum(self._execute, node.ino)
            node.content = version
            node.content_state = ContentState.OPEN
            node.size = size
            self._changed(node, node.ctime_ns, node.uid)
        crash_point("content_opened.committed")

    def content_sealed(self, node: Node, uid: int, seal_ns: int | None = None) -> None:
        """The last writer has closed: what the spool holds is the content, and from `seal_ns` on
        nobody may change it where the mode says so."""
        self.contents_sealed([(node, uid)], seal_ns)

    @makes_room
    def contents_sealed(
        self, closed: Sequence[tuple[Node, int]], seal_ns: int | None = None
    ) -> None:
        """The same of many nodes, each with the user who has closed it, in one transaction."""
        with self._change(*(node for node, _ in closed)):
            for node, uid in closed:
                if node.content_state == ContentState.SEALED:  # a power cut has shortened it
                    drop_spool_sum(self._execute, node.ino)
                node.content_state = ContentState.SEALED
                if node.size == 0:
                    node.content_state = ContentState.EMPTY
                    spool = [spool_name(node.ino, node.content)]
                    self._log.removal(node.file_id, Removal(ino=node.ino, spool=spool), uid)
                node.xattrs = mark(node.xattrs, SEALED, seal_ns)
                self._changed(node, node.ctime_ns, uid)
                if self._database.audit is not None:
                    self._database.audit.sealed(node, uid)
        crash_point("content_sealed.committed")

    def contents_summed(self, sums: Sequence[SpoolSum]) -> None:
        """These are of the content, SEALED, that the nodes have now; their spool files are on the
        disk. Nothing of it concerns an element."""
        self._database.require_room()
        with self._database.transaction():
            put_spool_sums(self._execute, sums)
        crash_point("contents_summed.committed")

    def sum_dropped(self, node: Node) -> None:
        """The SEALED content of `node` is about to be changed in place. Whoever changes it syncs
        the log before: a power cut must not bring the row back beside other content."""
        with self._database.transaction():
            drop_spool_sum(self._execute, node.ino)
        crash_point("sum_dropped.committed")

    @makes_room
    def content_reverted(self, node: Node, copy: Copy, now_ns: int) -> None:
        """The spool has lost what was never synced: the content is what an element has.

        It gets a new version: the lost one's stands in the log, for its spool file to be removed.
        """
        version = node.content + 1
        with self._change(node):
            left = Removal(ino=node.ino, spool=[spool_name(node.ino, node.content)])
            self._log.removal(node.file_id, left, node.uid)
            drop_spool_sum(self._execute, node.ino)
            self._execute(
                "UPDATE copies SET content = ? WHERE ino = ? AND content = ? AND NOT is_record",
                (version, node.ino, copy.content),
            )
            node.content = version
            node.content_state = ContentState.ARCHIVED
            node.size = copy.size
            node.mtime_ns = now_ns
            self._changed(node, now_ns, node.uid)
        crash_point("content_reverted.committed")

    def content_found(self, node: Node, copy: Copy) -> None:
        """The spool has lost content that waited for a further element; `copy` is of it."""
        with self._change(node):
            left = Removal(ino=node.ino, spool=[spool_name(node.ino, node.content)])
            self._log.removal(node.file_id, left, node.uid)
            drop_spool_sum(self._execute, node.ino)
            node.content_state = ContentState.ARCHIVED
            node.element = copy.element
            node.size = copy.size
            self._changed(node, node.ctime_ns, node.uid)
        crash_point("content_found.committed")

    # ----------------------------------------------------------------------------- helpers

    def _change(self, *nodes: Node, is_lone: bool = False) -> NodeTransaction:
        """For `with`: a transaction that leaves `nodes` as they were if it does not commit."""
        return NodeTransaction(self._database.transaction(is_lone=is_lone), self._log, nodes)

    def _changed(self, node: Node, now_ns: int, uid: int) -> None:
        if node.revision == 0:  # an attr.json by others, which gets a posix section now
            require_room(self._index, node, node.custom, node.xattrs)
        node.ctime_ns = now_ns
        node.revision += 1
        self._save(node)
        self._log.node_changed(node.ino, node.file_id, created=False, uid=uid)

    def _save(self, node: Node) -> None:
        values = node.values()
        self._execute(_UPDATE_NODE, (*values[2:], row_sum(values), node.ino))

    def _touch_directory(self, directory: Node, now_ns: int, links: int, uid: int) -> None:
        touch(directory, now_ns, links)
        self.touches.record(directory, uid)


def _changed_keys(before: str | None, after: str | None) -> list[str]:
    """Members that one JSON object has and the other has not, or not with the same value."""
    old, new = json.loads(before or "{}"), json.loads(after or "{}")
    texts = [{key: json.dumps(value) for key, value in both.items()} for both in (old, new)]
    return [key for key in old | new if texts[0].get(key) != texts[1].get(key)]
