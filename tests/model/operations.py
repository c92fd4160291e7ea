"""Random operations as plain tuples: a name and arguments that are literals, so that a sequence can
be printed, cut down and run again. The names are those of `Reference`'s methods, and of the
environment's: what happens to the archive from outside, which changes nothing that is right.

A sequence is made beforehand, from a seed and with a `Reference` running along, so that most calls
make sense and some are refused. Left out of one, a call makes later ones fail; never nonsense.
"""

import os
import random
from contextlib import suppress
from typing import Any

from .reference import RENAME_EXCHANGE, RENAME_NOREPLACE, Reference

Operation = tuple[Any, ...]

CALLS = {
    "create": 12,
    "open": 8,
    "pwrite": 16,
    "pread": 6,
    "close": 12,
    "ftruncate": 4,
    "truncate": 5,
    "fsync": 1,
    "mkdir": 4,
    "mkfifo": 1,
    "symlink": 2,
    "link": 4,
    "unlink": 7,
    "rmdir": 2,
    "rename": 12,
    "chmod": 3,
    "lchown": 2,
    "utime": 4,
    "setxattr": 6,
    "getxattr": 1,
    "removexattr": 2,
}
"""How often each call comes, relatively."""

ENVIRONMENT = {
    "transfer": 16,
    "restart": 2,
    "rebuild": 1,
    "faults": 2,
    "calm": 2,
    "unreachable": 1,
    "wait": 2,
    "sum_waiting": 4,
    "outside": 5,
    "rescan": 2,
    "transfer_dies": 1,
    "compare": 1,
}
MOUNT_ENVIRONMENT = {
    "remount": 2,
    "kill": 2,
    "kill_transfer": 3,
    "flush": 2,
    "faults": 2,
    "calm": 2,
    "compare": 2,
    "outside": 2,
}
ENVIRONMENT_SHARE = 0.2
MOUNT_ENVIRONMENT_SHARE = 0.02

OUTSIDE = ("attribute", "attribute", "attribute", "unknown", "touch", "foreign")
DESCRIPTORS = 5
NAMES = ("a", "b", "c.tif", "d", "ü", "x" * 250)
SIZES = (0, 1, 100, 4096, 5000, 70_000, 300_000)
NAME_LIMIT = 40
"""Names in the tree: few enough for calls to meet one another."""


def content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def perform(system: Any, operation: Operation) -> Any:
    """Make the call; content that an operation describes is made first."""
    name, *arguments = operation
    if name == "pwrite":
        number, size, seed, offset = arguments
        arguments = [number, content(size, seed), offset]
    return getattr(system, name)(*arguments)


class Generator:
    """Makes one sequence; `model` is where it has got to."""

    def __init__(
        self, seed: int, environment: dict[str, int], share: float = ENVIRONMENT_SHARE
    ) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.environment = environment
        self.model = Reference()
        self.attributed = ""
        """The file whose attributes were changed last: where others meet us."""

    def sequence(self, length: int) -> list[Operation]:
        return [self.next() for _ in range(length)]

    def next(self) -> Operation:
        table = CALLS
        if self.random.random() < self.share and self.environment:
            table = self.environment
        name = self.random.choices(list(table), list(table.values()))[0]
        operation: Operation = (name, *getattr(self, f"_{name}", lambda: ())())
        if name == "create":
            operation = ("open", *operation[1:])
        if operation[0] in {"restart", "rebuild", "remount", "kill"}:
            self.model.lose_descriptors()
        elif table is CALLS and is_applicable(self.model, operation):
            with suppress(OSError):  # refused here, refused there
                perform(self.model, operation)
        return operation

    # ---------------------------------------------------------------------------- choices

    def some(self, what: str = "any") -> str:
        """A path that is there (most often): of a "file", a "directory", or any."""
        if self.random.random() < 0.1:
            return self.fresh()
        wanted = {"file": "is_file", "directory": "is_directory"}.get(what)
        paths = [p for p, node in self.model.walk() if wanted is None or getattr(node, wanted)]
        return self.random.choice(paths) if paths else self.fresh()

    def fresh(self) -> str:
        """A path that may be free."""
        directories = ["", *(p + "/" for p, node in self.model.walk() if node.is_directory)]
        shallow = [path for path in directories if path.count("/") < 4 and len(path) < 2000]
        name = self.random.choice(NAMES) + self.random.choice(("", "1", "2"))
        if self.random.random() < 0.05:
            shallow = [path + "/" for path, _ in self.model.walk()] or shallow  # of a file, say
        return self.random.choice(shallow) + name

    def number(self) -> int:
        taken = sorted(self.model.open_files)
        if taken and self.random.random() < 0.95:
            return self.random.choice(taken)
        return self.random.randrange(DESCRIPTORS)

    def mode(self) -> int:
        return self.random.choice((0o600, 0o644, 0o755, 0o700, 0o1777, 0o400))

    def size(self) -> int:
        if self.random.random() < 0.03:
            return self.random.randrange(2_000_000)
        return self.random.choice(SIZES)

    def bits(self) -> int:
        return self.random.randrange(2**32)

    # ------------------------------------------------------------------------------ calls

    def _create(self) -> Operation:
        number = next((n for n in range(DESCRIPTORS) if n not in self.model.open_files), 0)
        flags = os.O_CREAT | self.random.choice((os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_RDONLY))
        flags |= self.random.choice((0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND))
        path = self.fresh()
        if len(list(self.model.walk())) > NAME_LIMIT:
            path = self.some("file")
        return number, path, flags, self.mode()

    def _open(self) -> Operation:
        number = next((n for n in range(DESCRIPTORS) if n not in self.model.open_files), 0)
        flags = self.random.choice((os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_RDONLY))
        flags |= self.random.choice((0, 0, 0, os.O_TRUNC, os.O_APPEND))
        return number, self.some("file"), flags, 0

    def _pwrite(self) -> Operation:
        offset = self.random.choice((0, 0, 0, 1, 4096, 5000, 100_000, self.size()))
        return self.number(), self.size(), self.bits(), offset

    def _pread(self) -> Operation:
        return self.number(), self.size() + 1, self.random.choice((0, 0, 4096, self.size()))

    def _close(self) -> Operation:
        return (self.number(),)

    def _fsync(self) -> Operation:
        return (self.number(),)

    def _ftruncate(self) -> Operation:
        return self.number(), self.size()

    def _truncate(self) -> Operation:
        return self.some("file"), self.size()

    def _mkdir(self) -> Operation:
        return self.fresh(), self.mode() | 0o700

    def _mkfifo(self) -> Operation:
        return self.fresh(), self.mode()

    def _symlink(self) -> Operation:
        return f"nowhere/{self.random.randrange(99)}", self.fresh()

    def _link(self) -> Operation:
        return self.some("file"), self.fresh()

    def _unlink(self) -> Operation:
        return (self.some(),)

    def _rmdir(self) -> Operation:
        return (self.some("directory"),)

    def _rename(self) -> Operation:
        flags = self.random.choice((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
        new = self.fresh() if self.random.random() < 0.5 else self.some()
        return self.some(), new, flags

    def _chmod(self) -> Operation:
        return self.some(), self.mode()

    def _lchown(self) -> Operation:
        return self.some(), self.random.choice((0, 1000, 65534)), self.random.choice((0, 100))

    def _utime(self) -> Operation:
        return self.some(), self.random.randrange(2**61), self.random.randrange(-(2**60), 2**62)

    def _setxattr(self) -> Operation:
        value = self.random.choice((b"1", b'"1"', b"", b"\xff\x00", b"text", b'{"a":1}'))
        flags = self.random.choice((0, 0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
        return self._attributed(), self._attribute(), value, flags

    def _getxattr(self) -> Operation:
        return self.some(), self._attribute()

    def _removexattr(self) -> Operation:
        return self._attributed(), self._attribute()

    def _attributed(self) -> str:
        self.attributed = self.some("file" if self.random.random() < 0.6 else "any")
        return self.attributed

    def _attribute(self) -> str:
        return self.random.choice(("user.one", "user.two", "user.three", "trusted.four"))

    # ------------------------------------------------------------------------ environment

    def _transfer(self) -> Operation:
        return (self.bits(),)

    def _faults(self) -> Operation:
        return (self.bits(),)

    def _unreachable(self) -> Operation:
        return (3600,)

    def _wait(self) -> Operation:
        return (self.random.choice((1, 5, 100)),)

    def _outside(self) -> Operation:
        path = self.attributed if self.random.random() < 0.5 else self.some("file")
        return self.random.choice(OUTSIDE), path or self.some("file"), self.bits()


def is_applicable(model: Reference, operation: Operation) -> bool:
    """Whether the descriptor that a call names is open, or for open(2) free; and the call cannot
    block, as opening a FIFO would."""
    name, *arguments = operation
    if name == "open":
        try:
            node = model.find(arguments[1])
        except OSError:
            node = None
        fifo = node is not None and not (node.is_file or node.is_directory or node.is_symlink)
        return arguments[0] not in model.open_files and not fifo
    if name in {"pwrite", "pread", "close", "ftruncate", "fsync"}:
        return arguments[0] in model.open_files
    return True
