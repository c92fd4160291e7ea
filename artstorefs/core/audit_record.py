"""A line of the audit log: its form, and the chain that the lines make. AUDIT.md describes both.

    {"prev":"<SHA-256 of the line before>","seq":17,"time":"…Z","op":"create",…}

`prev` is over the bytes of the line before, without its end; of the first record it is 64 zeros.
Each line is one record, so a line that is changed, taken out, put in or moved shows in the next.
"""

import hashlib
import re
from typing import Final, NamedTuple

GENESIS: Final = "0" * 64
"""`prev` of the first record that there ever was."""

_BEGINNING: Final = re.compile(rb'\{"prev":"([0-9a-f]{64})","seq":(\d{1,18}),"time":"')

_NAME: Final = re.compile(r"audit-(\d{12})-(\d{8})\.jsonl")


class Head(NamedTuple):
    """The end of a chain: the number of its last record, and its SHA-256."""

    seq: int = 0
    sha256: str = GENESIS


def record_line(head: Head, rest: str) -> bytes:
    """The record that follows `head`, without the end of its line; `rest` is from `"time"` on."""
    return f'{{"prev":"{head.sha256}","seq":{head.seq + 1},{rest}}}'.encode()


def head_of(line: bytes, seq: int) -> Head:
    """The head of a chain that ends with `line`, which is record number `seq`."""
    return Head(seq, hashlib.sha256(line).hexdigest())


def link_of(line: bytes) -> Head | None:
    """What a line says that it follows; None if it is no record."""
    found = _BEGINNING.match(line)
    if found is None or not line.endswith(b"}"):
        return None
    return Head(int(found[2]) - 1, found[1].decode())


def file_name(seq: int, day: str) -> str:
    """Of a file whose first record is number `seq`, of the UTC `day` YYYYMMDD. In order of names
    is in order of records."""
    return f"audit-{seq:012}-{day}.jsonl"


def parse_file_name(name: str) -> tuple[int, str] | None:
    """Number of the first record, and day; None for what is no file of the log."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), found[2]) if found else None
