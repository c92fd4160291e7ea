"""Checksums of content that waits in the spool: the rows of the table `spool_sums`.

Content that an element has is checked against its attr.json; of content that waits nothing else
knows what it was, so it is summed once it has waited for a while. A row is of one version of the
content of one node, and counts only while that version is the node's content and SEALED: then
nobody may change the spool file. Whatever takes the content out of that state removes the row in
the same transaction; one that is left all the same is of a version that never comes again.
"""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from artstorefs.core.block_list import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    BlockList,
    count_blocks,
    has_block_list,
)

Execute = Callable[..., sqlite3.Cursor]
"""`Connection.execute` of the connection of whoever asks."""


@dataclass(frozen=True, slots=True)
class SpoolSum:
    """One row. `blocks`: 32 bytes for each block of 4 MiB, one after the other; None of content of
    one block or less, whose only block has `sha256`."""

    ino: int
    content: int
    size: int
    sha256: bytes
    blocks: bytes | None

    @classmethod
    def of(cls, ino: int, content: int, sha256: bytes, blocks: BlockList) -> "SpoolSum":
        """The row of content that has been hashed."""
        digests = blocks.digests if has_block_list(blocks.object_bytes) else None
        return cls(ino, content, blocks.object_bytes, sha256, digests)

    def block_list(self) -> BlockList | None:
        """What each block must be; None if the row, damaged itself, does not tell."""
        digests = self.sha256 if self.blocks is None else self.blocks
        count = count_blocks(self.size, BLOCK_BYTES)
        if has_block_list(self.size) is (self.blocks is None) or count == 0:
            return None
        if len(self.sha256) != DIGEST_BYTES or len(digests) != count * DIGEST_BYTES:
            return None
        return BlockList(self.size, BLOCK_BYTES, digests)


def spool_sum(execute: Execute, ino: int, content: int) -> SpoolSum | None:
    """The row of this version of the content, if there is one. The caller knows its state."""
    row: tuple[Any, ...] | None = execute(
        "SELECT ino, content, size, sha256, blocks FROM spool_sums WHERE ino = ? AND content = ?",
        (ino, content),
    ).fetchone()
    return SpoolSum(*row) if row else None


def put_spool_sums(execute: Execute, sums: Iterable[SpoolSum]) -> None:
    """Inside a transaction of the caller."""
    for one in sums:
        execute(
            "INSERT OR REPLACE INTO spool_sums VALUES (?, ?, ?, ?, ?)",
            (one.ino, one.content, one.size, one.sha256, one.blocks),
        )


def drop_spool_sum(execute: Execute, ino: int) -> None:
    """Inside a transaction of the caller. Idempotent."""
    execute("DELETE FROM spool_sums WHERE ino = ?", (ino,))
