"""New rows of the index, with their checksums. Inside a transaction of the caller."""

from dataclasses import fields
from operator import attrgetter

from artstorefs.state.index import Copy
from artstorefs.state.node import COLUMNS, Node
from artstorefs.state.row_sums import NAME_COLUMNS, Execute, name_sum, row_sum

_INSERT_NODE = f"INSERT INTO nodes VALUES ({', '.join('?' * len(COLUMNS))}, ?)"
_INSERT_NAME = f"INSERT INTO names ({NAME_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
COPY_COLUMNS = [column.name for column in fields(Copy)]
LEAVING = COPY_COLUMNS.index("leaves_ns")
"""From this column on a row says what no element tells: that the copy is to be removed, and until
when it is locked."""
_PUT_COPY = f"INSERT OR REPLACE INTO copies VALUES ({', '.join('?' * len(COPY_COLUMNS))})"
_copy_values = attrgetter(*COPY_COLUMNS)  # dataclasses.astuple copies them


def insert_node(execute: Execute, node: Node) -> None:
    """A node that the index does not know."""
    values = node.values()
    execute(_INSERT_NODE, (*values, row_sum(values)))


def insert_name(
    execute: Execute, identifier: int, parent: int, name: bytes, ino: int, link_id: bytes | None
) -> None:
    """A directory entry; the name is free."""
    known = name_sum(identifier, parent, name, ino, link_id)
    execute(_INSERT_NAME, (identifier, parent, name, ino, link_id, known))


def put_copy(execute: Execute, copy: Copy) -> None:
    """What an element has of a node, in the place of what it had."""
    execute(_PUT_COPY, _copy_values(copy))
