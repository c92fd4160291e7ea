"""The audit log as it is read: records in order, and whether their chain holds.

Reads files, nothing else, also while a daemon writes them: the last line of the last file may be
one that is just being written, or that a power cut has left; it is told of and is no fault.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from artstorefs.core.audit_record import GENESIS, Head, head_of, link_of, parse_file_name
from artstorefs.state.audit_files import audit_files

FAULTS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, without its end; `is_whole`: it had one."""

    file: str
    number: int
    data: bytes
    is_whole: bool
    is_first: bool
    """Of its file."""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(slots=True)
class Verdict:
    """What was found of a chain: `faults` are what nobody but a person, or a bug, can have done."""

    records: int = 0
    first_seq: int = 0
    head: Head = field(default_factory=Head)
    faults: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    more_faults: int = 0

    @property
    def is_good(self) -> bool:
        return not self.faults

    def fault(self, line: Line, text: str) -> None:
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"{line.where}: {text}")
        else:
            self.more_faults += 1


def read_lines(directory: str) -> Iterator[Line]:
    """All lines of all files. Raises OSError."""
    for name in audit_files(directory):
        with open(os.path.join(directory, name), "rb") as file:
            for number, data in enumerate(file, start=1):
                is_whole = data.endswith(b"\n")
                yield Line(name, number, data.removesuffix(b"\n"), is_whole, number == 1)


def parse(line: Line) -> dict[str, Any] | None:
    """The record of a line; None if it is none."""
    try:
        record = json.loads(line.data)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and link_of(line.data) is not None else None


def verify(directory: str, on_read: Callable[[int], object] = lambda _: None) -> Verdict:
    """Go through the whole chain; `on_read` is told of each line how many bytes that were. Raises
    OSError."""
    verdict = Verdict()
    unfinished: Line | None = None
    for line in read_lines(directory):
        if unfinished is not None:
            verdict.fault(unfinished, "is cut off, and records follow")
        unfinished = None if line.is_whole else line
        if line.is_whole:
            _check(line, verdict)
        on_read(len(line.data) + 1)
    if unfinished is not None:
        verdict.notices.append(
            f"{unfinished.where}: the last line has no end: it is being written now, or a power"
            " cut has left it, and then the next mount keeps it apart"
        )
    return verdict


def _check(line: Line, verdict: Verdict) -> None:
    link, record = link_of(line.data), parse(line)
    if link is None or record is None:
        verdict.fault(line, "is no record")
        return
    seq, head = link.seq + 1, verdict.head
    if verdict.records == 0:
        _begin(line, link, verdict)
    elif link.seq != head.seq:
        what = f"record {seq} follows record {head.seq}"
        if seq > head.seq:
            verdict.fault(line, f"{what}: {seq - head.seq - 1} are missing")
        else:
            verdict.fault(line, f"{what}: it was put in, or moved")
    elif link != head:
        verdict.fault(
            line, f"record {head.seq} before it was changed, or record {seq} was put in its place"
        )
    parsed = parse_file_name(line.file)
    if line.is_first and parsed is not None and parsed[0] != seq:
        verdict.fault(line, f"the file should begin with record {parsed[0]}, not {seq}")
    if record.get("op") == "torn":
        verdict.notices.append(
            f"{line.where}: a power cut had left {record.get('size')} bytes, kept in"
            f" {record.get('kept')}"
        )
    if record.get("op") == "gap":
        verdict.notices.append(
            f"{line.where}: {record.get('records')} changes have no record, since"
            f" {record.get('since')}: {record.get('error')}"
        )
    verdict.records += 1
    verdict.head = head_of(line.data, seq)


def _begin(line: Line, link: Head, verdict: Verdict) -> None:
    verdict.first_seq = link.seq + 1
    if link.seq == 0 and link.sha256 != GENESIS:
        verdict.fault(line, "record 1 follows nothing, and says that it does")
    elif link.seq:
        verdict.notices.append(
            f"{line.where}: begins with record {link.seq + 1}; what was before it is not here"
        )
