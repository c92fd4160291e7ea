"""Whether a disk has, after a cut, what was acknowledged before it."""

import json
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from ..crash.load import Step
from . import disk
from .aftermath import SETTINGS, Aftermath, aftermath
from .load import History, SyncedModel, rehearse
from .observed import Observed, match

AHEAD_STEPS = 100
WRITERS = 2
SQLITE = ("wal", "delete")


@dataclass
class Acknowledged:
    """What has returned, as the lines or marks of `guest.py` tell it."""

    steps: list[int] = field(default_factory=lambda: [0] * WRITERS)
    rows: dict[str, int] = field(default_factory=dict)


def acknowledged(lines: list[str]) -> Acknowledged:
    told = Acknowledged()
    for line in lines:
        name, _, value = line.partition(" " if " " in line else ":")
        if name.isdigit() and value.isdigit() and int(name) < WRITERS:
            told.steps[int(name)] = int(value) + 1
        elif name in SQLITE and value.isdigit():
            told.rows[name] = int(value)
    return told


@dataclass
class Load:
    """What is on the disk when the writers begin, and the seeds that say what they do."""

    models: list[SyncedModel] = field(
        default_factory=lambda: [SyncedModel() for _ in range(WRITERS)]
    )
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SQLITE, 0))
    seeds: list[int] = field(default_factory=list)
    _steps: dict[int, list[Step]] = field(default_factory=dict)

    def steps(self, writer: int, count: int) -> list[Step]:
        """The first steps of a writer. They are worked out once, for there are many states of one
        load."""
        if writer >= len(self.seeds):
            return []
        if len(self._steps.get(writer, ())) < count:
            limit = count + AHEAD_STEPS
            self._steps[writer] = rehearse(self.models[writer], self.seeds[writer], limit)
        return self._steps[writer][:count]

    def order(self, directory: Path, settle_s: float, **orders: Any) -> None:
        """Write down in a directory that the guest sees what it has to do."""
        (directory / "test.toml").write_text(SETTINGS.format(settle_s=settle_s))
        for number, model in enumerate(self.models):
            (directory / f"model{number}").write_bytes(pickle.dumps(model))
        orders = {"seeds": self.seeds, "sqlite": SQLITE, **orders}
        (directory / "orders.json").write_text(json.dumps(orders))


@dataclass
class Verdict:
    """`left` is what the next load begins with."""

    left: Load
    syncs: int
    pending: int
    assigned: int


def judge(
    image: Path, place: Path, load: Load, told: Acknowledged, *, unreported: int, flush: bool
) -> Verdict:
    """Repair the disk as the start of a machine does, copy the archive off it, recover it, compare.

    AssertionError if anything is missing. `unreported` steps of each writer may have happened
    beyond those that were told; `flush`: the elements alone are compared as well. `place` is a
    directory that is made and removed.
    """
    disk.repair(image)
    disk.extract(image, ("state", "element"), place)
    try:
        if (place / "state" / "spool").exists():
            disk.copy_times(image, "state/spool", place / "state" / "spool")
        return trio.run(_judge, place, load, told, unreported, flush)
    finally:
        shutil.rmtree(place)


async def _judge(
    place: Path, load: Load, told: Acknowledged, unreported: int, flush: bool
) -> Verdict:
    with aftermath(place) as found:
        found.check_index()
        verdict = Verdict(Load(), 0, found.pending, found.assigned)
        seen = await _compare_writers(found, load, told, unreported, verdict)
        await _compare_rows(found, load, told, verdict)
        if flush:
            await found.check_elements(seen)
        return verdict


async def _compare_writers(
    found: Aftermath, load: Load, told: Acknowledged, unreported: int, verdict: Verdict
) -> dict[str, Observed]:
    seen = {}
    models = []
    for number, model in enumerate(load.models):
        steps = load.steps(number, told.steps[number] + unreported)
        history = History(model, steps, told.steps[number])
        verdict.syncs += history.syncs
        observed = seen[f"writer{number}"] = await found.observe(f"writer{number}")
        try:
            models.append(match(history, observed))
        except AssertionError as exc:
            raise AssertionError(f"writer{number}: {exc}") from None
    verdict.left.models = models
    return seen


async def _compare_rows(found: Aftermath, load: Load, told: Acknowledged, verdict: Verdict) -> None:
    rows = {}
    for mode in SQLITE:
        rows[mode] = await found.sqlite_rows(mode)
        wanted = max(told.rows.get(mode, 0), load.rows[mode])
        assert rows[mode] >= wanted, f"sqlite-{mode}: {rows[mode]} rows, {wanted} were committed"
    verdict.left.rows = rows
