"""The spool against the index: is there what waits for an element, and is it what was closed?

Content that has waited for a while has a sum in the index (`artstorefs.state.spool_sums`), which is
all that tells of it: there is no copy elsewhere to compare it with, or to mend it from.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.elements.hashing import BlockHasher
from artstorefs.recovery.fsck_deep import Throttle, Watch
from artstorefs.recovery.fsck_findings import Finding, FindingClass
from artstorefs.state.image import Image
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool import LOST, parse_spool_name, spool_name
from artstorefs.state.spool_sums import SpoolSum


def check_spool(image: Image, state_dir: Path, mounted: bool) -> Iterator[Finding]:
    """Whether the spool has what the index says that it has. While the archive is mounted files
    are written and removed there without the index; then only what is missing is looked for."""
    spool = state_dir / "spool"
    named = set(image.intents.spool)
    for node in image.spooled():
        name = spool_name(node.ino, node.content)
        named.add(name)
        problem = _spool_problem(spool / name, node, mounted) or _row_problem(image, node)
        if problem is not None:
            yield Finding(FindingClass.SPOOL, problem, None, f"spool/{name}", node.file_id)
    if mounted or not spool.is_dir():
        return
    for name in sorted(os.listdir(spool)):
        if name != LOST and name not in named and _is_spool_name(name):
            detail = "nothing in the index means this spool file"
            yield Finding(FindingClass.LEFTOVER, detail, None, f"spool/{name}")


def _spool_problem(path: Path, node: Node, mounted: bool) -> str | None:
    """OPEN content is what its file has, and may have none yet; SEALED content has its size."""
    is_open = node.content_state == ContentState.OPEN
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        if mounted or (is_open and node.size == 0):
            return None
        return "is not there"
    except OSError as exc:  # a disk that fails, a directory without permission
        return f"cannot be read: {exc.strerror or exc}"
    if is_open or mounted or size == node.size:
        return None
    return f"has {size} bytes, {node.size} were written"


def _row_problem(image: Image, node: Node) -> str | None:
    known = image.spool_sum(node)
    if known is None or (known.size == node.size and known.block_list() is not None):
        return None
    return f"the index has a sum of {known.size} bytes for it, {node.size} were written"


def _is_spool_name(name: str) -> bool:
    try:
        parse_spool_name(name)
    except ValueError:
        return False
    return True


def check_sums(
    image: Image,
    state_dir: Path,
    throttle: Throttle,
    watch: Watch,
    unreadable: Callable[[str], None],
) -> Iterator[Finding]:
    """Hash what waits and has been summed. While the archive is mounted it may have been carried,
    or be written, by now: a finding counts if the index says the same afterwards. `unreadable` is
    told, with the file's name, why one could not be read."""
    for node, known in image.summed():
        name = spool_name(node.ino, node.content)
        try:
            problem = _sum_problem(state_dir / "spool" / name, known, throttle)
        except OSError as exc:
            unreadable(f"spool/{name}: {exc.strerror or exc}")
            problem = None
        watch(1, node.size)
        if problem is not None:
            yield Finding(
                *(FindingClass.SPOOL_HASH, problem, None, f"spool/{name}", node.file_id),
                concerns=frozenset([node.file_id]),
            )


def _sum_problem(path: Path, known: SpoolSum, throttle: Throttle) -> str | None:
    """What is wrong with the content; None if nothing is. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "is not there"
    try:
        size = os.fstat(descriptor).st_size
        hasher = BlockHasher(known.size)
        buffer = bytearray(min(known.size, BLOCK_BYTES))
        while hasher.size_bytes < known.size and (count := hasher.add(descriptor, buffer)):
            throttle.take(count)
    finally:
        os.close(descriptor)
    if size != known.size or hasher.size_bytes != known.size:
        return f"has {size} bytes, {known.size} were written"
    sha256, blocks = hasher.result()
    if sha256 != known.sha256:
        return f"has SHA-256 {sha256.hex()}, {known.sha256.hex()} is right"
    if blocks != known.block_list():
        return "has not the SHA-256 of each block that the index has"
    return None
