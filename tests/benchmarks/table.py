"""The results as a table in Markdown, and what it says about the goals.

A cell is the median of the rounds with half of the range in which they lay. A ratio is the median
of the ratios of the rounds: both sides of a round were measured one after the other, so what slows
the machine for a while slows both.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.benchmarks.workloads import Workload

HEADINGS = ("operation", "ArtStoreFS", "local filesystem", "ratio", "goal", "met")
NOTHING = "–"


@dataclass
class Row:
    """A workload and its seconds, one number for each round; there may be no local ones."""

    workload: Workload
    mount_s: list[float] = field(default_factory=list)
    local_s: list[float] = field(default_factory=list)
    carried_s: list[float] = field(default_factory=list)
    """From the end of the run on the mount until the elements had everything."""

    @property
    def ratio(self) -> float | None:
        """Time on the mount by time on the local filesystem."""
        pairs = list(zip(self.mount_s, self.local_s, strict=False))
        return median(mount / local for mount, local in pairs) if pairs else None

    @property
    def is_met(self) -> bool | None:
        """`None`: there is no goal."""
        goal = self.workload
        if goal.goal_per_s is not None:
            return goal.count / median(self.mount_s) >= goal.goal_per_s
        if goal.goal_ratio is not None and self.ratio is not None:
            return self.ratio <= goal.goal_ratio
        return None

    def lines(self) -> Iterator[tuple[str, ...]]:
        """The lines of the table, each with as many cells as there are headings."""
        goal = NOTHING
        if self.workload.goal_per_s is not None:
            goal = f"≥ {self.workload.goal_per_s:,.0f}/s"
        elif self.workload.goal_ratio is not None:
            goal = f"≤ {self.workload.goal_ratio}"
        yield (
            self.workload.operation,
            self._amount(self.mount_s),
            self._amount(self.local_s),
            NOTHING if self.ratio is None else f"{self.ratio:.2f}",
            goal,
            {True: "yes", False: "no", None: NOTHING}[self.is_met],
        )
        if self.workload.carried:
            after = "… until the elements have it"
            yield (after, amount(self.carried_s), *[NOTHING] * 4)

    def _amount(self, seconds: list[float]) -> str:
        return amount(seconds, self.workload.count, self.workload.size_bytes)

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured, for programs that compare runs."""
        return {
            "operation": self.workload.operation,
            "count": self.workload.count,
            "size_bytes": self.workload.size_bytes,
            "mount_s": self.mount_s,
            "local_s": self.local_s,
            "carried_s": self.carried_s,
            "ratio": self.ratio,
            "goal_per_s": self.workload.goal_per_s,
            "goal_ratio": self.workload.goal_ratio,
            "met": self.is_met,
        }


def markdown(rows: list[Row]) -> str:
    """The table of what was measured beside the local filesystem."""
    return aligned([HEADINGS, *(line for row in rows for line in row.lines())])


def exit_code(missed: Sequence[str], *, check: bool) -> int:
    """1 if goals were missed and that is to fail the run; they are named on standard error."""
    if not (check and missed):
        return 0
    print(f"goals missed: {'; '.join(missed)}", file=sys.stderr)
    return 1


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """A table of `lines`, the headings first, its columns aligned for whoever reads it as text."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    marks = tuple("-" * width for width in widths)
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in [lines[0], marks, *lines[1:]]
    )


def amount(seconds: list[float], count: int = 0, size_bytes: int = 0) -> str:
    """The rate where operations or bytes are counted, the time, and the spread."""
    if not seconds:
        return NOTHING
    middle = median(seconds)
    if count:
        return f"{count / middle:,.0f}/s, {time_and_spread([total / count for total in seconds])}"
    if size_bytes:
        return f"{size_bytes / middle / 1e6:,.0f} MB/s, {time_and_spread(seconds)}"
    return time_and_spread(seconds)


def time_and_spread(seconds: list[float]) -> str:
    """The median, with half of the range in per cent of it."""
    middle = median(seconds)
    if len(seconds) == 1:
        return _time(middle)
    return f"{_time(middle)} ±{(max(seconds) - min(seconds)) / 2 / middle * 100:.0f} %"


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
