"""A record of the log as the one line that it becomes; LOGS.md describes both forms.

For the journal it is a JSON object behind the priority that journald takes from it (sd-daemon(3)),
for a terminal and for `daemon.log` a line for people, a traceback indented below it. Nothing that a
name of a file, an answer of a server or an exception holds ends a line or begins one, and nothing
secret is in it (`redaction.py`).
"""

import json
import logging
import re
import time
import traceback
from typing import Final

from artstorefs.core.errors import one_line
from artstorefs.core.log_fields import ATTRIBUTE
from artstorefs.core.redaction import redacted

TEXT_LIMIT: Final = 4096
"""Characters of a message or a field; what a program is to be told has room in it."""

TRACEBACK_LIMIT: Final = 16_384
"""The last of a traceback, where the reason is: journald splits lines of more than 48 KiB."""

INDENTATION: Final = "    "

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4))
_INFO, _DEBUG = 6, 7  # syslog(3)

_BARE: Final = re.compile(r"[\w./:+@-]+")


class LineFormat:
    """For people. Used by one thread at a time, as the lock of a handler has it."""

    def __init__(self, process: str, pid: int, archive: str) -> None:
        self.process = process
        self.pid = pid
        self.archive = archive
        self._second = -1
        self._second_text = ""

    def line(self, record: logging.LogRecord) -> str:
        """The record, with the end of its line. Raises what a wrong `%` in it raises."""
        message, fields = self.said(record)
        shown = [
            f"{name}={_quoted(value)}" for name, value in fields.items() if value not in message
        ]
        line = (
            f"{self.time(record)} {record.levelname} {self.process}[{self.pid}]"
            f" {record.name}: {message}{' [' + ' '.join(shown) + ']' if shown else ''}\n"
        )
        if record.exc_info and record.exc_info[0] is not None:
            line += "".join(f"{INDENTATION}{part}\n" for part in self.traceback(record))
        return line

    def time(self, record: logging.LogRecord) -> str:
        """UTC, to the microsecond."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((record.created - second) * 1e6):06d}Z"

    def said(self, record: logging.LogRecord) -> tuple[str, dict[str, str]]:
        """The message, and what the record is about as far as it is known."""
        message = record.getMessage()
        fields: dict[str, str] = getattr(record, ATTRIBUTE, {})
        everything = " ".join((message, *fields.values())) if fields else message
        if len(everything) < TEXT_LIMIT and _clean(everything) == everything:
            return message, fields
        return _clean(message), {name: _clean(value) for name, value in fields.items()}

    def traceback(self, record: logging.LogRecord) -> list[str]:
        """Its lines."""
        assert record.exc_info
        text = redacted("".join(traceback.format_exception(*record.exc_info)))
        return [one_line(part) for part in text[-TRACEBACK_LIMIT:].rstrip("\n").split("\n")]


class JournalFormat(LineFormat):
    """For the journal."""

    def line(self, record: logging.LogRecord) -> str:
        message, fields = self.said(record)
        values: dict[str, str | int] = {
            "time": self.time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            "archive": self.archive,
            "process": self.process,
            "pid": self.pid,
            **fields,
        }
        if record.exc_info and record.exc_info[0] is not None:
            values["traceback"] = "\n".join(self.traceback(record))
        return f"<{_priority(record.levelno)}>{_encode(values)}\n"


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _clean(text: str) -> str:
    """Without secrets, in one line, and not too long."""
    text = redacted(text)
    if not text.isprintable():
        text = one_line(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…"


def _quoted(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _priority(level: int) -> int:
    for least, priority in _PRIORITIES:
        if level >= least:
            return priority
    return _INFO if level >= logging.INFO else _DEBUG
