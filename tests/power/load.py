"""The load under which the power is cut: random system calls, some of which sync, and what must
then be there.

The calls follow from a model and a seed alone (`crash/load.py`), so the machine that dies only says
how far it has come: the same calls are worked out outside of it by `Rehearsal`. `History` keeps
what every step may leave after a cut:

    the tree      as it was after some step from the last sync that returned to the last step that
                  can have begun (SEMANTICS: DUR-2, DUR-3)
    content       of a file as it was synced, but for what later steps have written or cut off

Standard library only: this runs in the guest as well.
"""

import copy
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..crash.load import Model, Step, Writer

UNREPORTED_STEPS = 3
"""Steps that the guest may have made and not yet told when it died."""

SYNCS = ("fsync", "fdatasync", "fsync_directory", "sync")


class End(Exception):
    """The rehearsal has come to the last step that is asked for."""


class SyncedModel(Model):
    """A directory as it has to be if nothing is lost; syncs change nothing in it."""

    def _fsync(self, step: Step, written: int | None) -> None:
        pass

    _fdatasync = _fsync_directory = _sync = _fsync


class SyncedWriter(Writer):
    """Random calls and syncs; `report` is told the number of each step that has returned."""

    def __init__(
        self, directory: str, model: SyncedModel, seed: int, report: Callable[[int], None]
    ) -> None:
        super().__init__(directory, model, -1, seed)
        self.report = report
        self.steps = 0
        self.synchronous = False

    def call(self, call: str, path: str, **more: object) -> None:
        step: Step = {"call": call, "path": path, **more}
        if call == "write":
            step["synchronous"] = self.synchronous
        self.perform(step)
        self.model.apply(step)
        self.steps += 1

    def perform(self, step: Step) -> None:
        path = os.path.join(self.directory, step["path"])
        written = getattr(self, "_" + step["call"])(path, step)
        if written is not None and written != step["size"]:
            raise OSError(f"a write of {step['size']} bytes did {written}")
        self.report(self.steps)

    def open(self, path: str, flags: int) -> None:
        """Open a file that is there as the one that is written."""
        self.synchronous = bool(flags & os.O_DSYNC)
        self.descriptor = os.open(os.path.join(self.directory, path), flags)

    def _fsync(self, path: str, step: Step) -> None:
        os.fsync(self.descriptor)

    def _fdatasync(self, path: str, step: Step) -> None:
        os.fdatasync(self.descriptor)

    def _fsync_directory(self, path: str, step: Step) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(self, path: str, step: Step) -> None:
        os.sync()

    # ------------------------------------------------------------------------ what is done

    def run(self, count: int) -> None:
        actions = [self.create, self.append, self.overwrite, self.write_inside, self.rename]
        actions += [self.attributes, self.link, self.symlink, self.mkdir, self.truncate]
        actions += [self.sync_something, self.append, self.create]
        for _ in range(count):
            if len(self.model.names) > 40:
                self.remove()
            self.random.choice(actions)()

    def close(self) -> None:
        """Half of the files are synced before they are closed."""
        if self.random.random() < 0.5:
            self.call(self.random.choice(("fsync", "fdatasync")), self.path)
        super().close()
        self.synchronous = False

    def create(self, path: str | None = None) -> None:
        self.path = path or self.new_path()
        super().create(self.path)

    def append(self) -> None:
        self._write_to_some(os.O_WRONLY | os.O_APPEND, lambda length: None)

    def write_inside(self) -> None:
        self._write_to_some(os.O_RDWR, lambda length: self.random.randrange(length + 1000))

    def _write_to_some(self, flags: int, offset: Callable[[int], int | None]) -> None:
        path = self.some_file()
        if path is not None:
            self.path = path
            self.open(path, flags | self.random.choice((0, 0, os.O_SYNC, os.O_DSYNC)))
            for _ in range(self.random.choice((1, 2))):
                self.write(path, offset(len(self.model.node(path).data)))
            self.close()

    def sync_something(self) -> None:
        """Of a file that has been closed, of a directory, of everything."""
        path = self.some_file()
        chosen = self.random.random()
        if chosen < 0.1:
            self.call("sync", "")
        elif chosen < 0.4 or path is None:
            directories = ["", *self.model.of_kind(stat.S_IFDIR)]
            self.call("fsync_directory", self.random.choice(directories))
        else:
            self.path = path
            self.open(path, self.random.choice((os.O_RDONLY, os.O_RDWR)))
            self.call("fsync", path)
            super().close()


class Rehearsal(SyncedWriter):
    """The same steps without any system call: `made` is the list of them."""

    def __init__(self, model: SyncedModel, seed: int, limit: int) -> None:
        super().__init__("", model, seed, lambda number: None)
        self.made: list[Step] = []
        self.limit = limit

    def perform(self, step: Step) -> None:
        if len(self.made) == self.limit:
            raise End
        self.made.append(step)

    def open(self, path: str, flags: int) -> None:
        self.synchronous = bool(flags & os.O_DSYNC)
        self.descriptor = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        if self.descriptor < 0:
            self.descriptor = os.open(os.devnull, os.O_RDONLY)
        super().close()


def rehearse(model: SyncedModel, seed: int, limit: int) -> list[Step]:
    """The first `limit` steps that a `SyncedWriter` makes from this model and seed."""
    rehearsal = Rehearsal(copy.deepcopy(model), seed, limit)
    try:
        rehearsal.run(10**9)
    except End:
        pass
    finally:
        if rehearsal.descriptor >= 0:
            os.close(rehearsal.descriptor)
    return rehearsal.made


@dataclass
class Content:
    """What is known of a file's bytes: those of the last sync outside of what came later."""

    synced: bytes | None = None
    touched: list[tuple[int, int]] = field(default_factory=list)
    floor: int = 0
    """Shortest length since the sync; what lies beyond is open."""

    def sync(self, data: bytes) -> None:
        self.synced, self.touched, self.floor = data, [], len(data)

    @property
    def is_exact(self) -> bool:
        return self.synced is not None and not self.touched and self.floor == len(self.synced)

    def difference(self, found: bytes) -> str | None:
        """What of the synced content is not in `found`."""
        if self.synced is None:
            return None
        if self.is_exact:
            same = found == self.synced
            return (
                None if same else f"{len(found)} bytes, {len(self.synced)} synced, or they differ"
            )
        if len(found) < self.floor:
            return f"{len(found)} bytes, {self.floor} were synced and never cut off"
        rest = bytearray(self.synced[: self.floor])
        for start, end in self.touched:
            rest[start:end] = found[start : min(end, len(rest))]
        same = bytes(rest) == found[: len(rest)]
        return None if same else "synced bytes differ that nothing has written to since"


class History:
    """What may be there after steps of which `acknowledged` are known to have returned."""

    def __init__(self, model: SyncedModel, steps: list[Step], acknowledged: int) -> None:
        self.base = model
        self.steps = steps
        self.contents: dict[int, Content] = {}
        self.synced_steps = 0
        """Steps up to the last sync that has returned: the tree is at least so far."""
        self.syncs = 0
        for number, node in model.nodes.items():
            self.contents[number] = Content(node.data, [], len(node.data))
        current = copy.deepcopy(model)
        for index, step in enumerate(steps):
            self._take(current, index, step, returned=index < acknowledged)

    def _take(self, model: SyncedModel, index: int, step: Step, *, returned: bool) -> None:
        call = step["call"]
        number = model.names.get(step["path"])
        before = len(model.nodes[number].data) if number is not None else 0
        model.apply(step)
        if call == "create":
            number = model.names[step["path"]]
            self.contents[number] = Content()
        elif call == "write" and number is not None:
            content = self.contents[number]
            start = before if step["offset"] is None else step["offset"]
            content.touched.append((min(start, before), start + step["size"]))
        elif call == "truncate" and number is not None:
            content = self.contents[number]
            content.floor = min(content.floor, step["size"])
            content.touched.append((step["size"], max(before, step["size"])))
        if not returned:
            return
        if call in SYNCS or step.get("synchronous"):
            self.synced_steps = index + 1
            self.syncs += 1
        if call == "sync":
            for number, node in model.nodes.items():
                self.contents.setdefault(number, Content()).sync(node.data)
        elif number is not None and (call in ("fsync", "fdatasync") or step.get("synchronous")):
            self.contents[number].sync(model.nodes[number].data)

    def trees(self) -> Iterator[SyncedModel]:
        """Every tree that may be there, that of the last sync first; each is good until the next
        is asked for."""
        current = copy.deepcopy(self.base)
        for step in self.steps[: self.synced_steps]:
            current.apply(step)
        yield current
        for step in self.steps[self.synced_steps :]:
            current.apply(step)
            yield current


def new_seed() -> int:
    return random.SystemRandom().randrange(2**32)
