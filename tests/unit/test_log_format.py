"""A record of the log becomes one line, whatever is in it, and nothing secret is in the line."""

import json
import logging
import sys
from typing import Any
from uuid import UUID

import pytest

from artstorefs.core import redaction
from artstorefs.core.errors import ElementFull, StateError
from artstorefs.core.log_fields import about
from artstorefs.core.redaction import CUT_OUT, keep_secret, redacted
from artstorefs_daemon.log_format import JournalFormat, LineFormat

FILE_ID = bytes(range(16))
FORGED = "name\n2026-01-01T00:00:00.000000Z CRITICAL mount[1] a: forged\r\x1b[2J\x85\u2028x"


def record(message: str, *values: object, level: int = logging.WARNING, **named: Any) -> Any:
    logger = logging.getLogger("artstorefs.transfer.carrier")
    made = logger.makeRecord(logger.name, level, "", 0, message, values, None, **named)
    made.created = 1764218003.25
    return made


def with_traceback(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError:
        made = record("it failed", level=logging.ERROR)
        made.exc_info = sys.exc_info()
        return made


def line(made: Any) -> str:
    return LineFormat("mount", 12, "museum").line(made)


def journal(made: Any) -> tuple[str, dict[str, Any]]:
    text = JournalFormat("transfer", 12, "museum").line(made)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text[:3], json.loads(text[3:])


def test_line_for_people() -> None:
    full = ElementFull("main", "2026/a.tif", "is full")
    told = about(full, file_id=FILE_ID, path=b"/a b")
    assert line(record("inode %d is not stored yet: %s", 7, full, extra=told)) == (
        "2025-11-27T04:33:23.250000Z WARNING mount[12] artstorefs.transfer.carrier: inode 7 is not"
        " stored yet: element main: 2026/a.tif: is full [file_id=00010203-0405-0607-0809-0a0b0c0d"
        '0e0f path="/a b" error="ElementFull: element main: 2026/a.tif: is full"]\n'
    )


def test_object_for_the_journal() -> None:
    told = about(StateError("/state/state.db", "disk I/O error"), file_id=FILE_ID)
    assert journal(record("carrying waits", extra=told)) == (
        "<4>",
        {
            "time": "2025-11-27T04:33:23.250000Z",
            "level": "WARNING",
            "logger": "artstorefs.transfer.carrier",
            "message": "carrying waits",
            "archive": "museum",
            "process": "transfer",
            "pid": 12,
            "file_id": str(UUID(bytes=FILE_ID)),
            "path": "/state/state.db",
            "error": "StateError: /state/state.db: disk I/O error",
        },
    )


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", "<7>"), ("INFO", "<6>"), ("WARNING", "<4>"), ("ERROR", "<3>"), ("CRITICAL", "<2>")],
)
def test_priority_for_the_journal(level: str, priority: str) -> None:
    assert journal(record("x", level=logging.getLevelNamesMapping()[level]))[0] == priority


def test_names_cannot_forge_a_line() -> None:
    raw = FORGED.encode() + b"\xff"
    told = about(OSError(5, FORGED), path=raw, element=FORGED, key=FORGED)
    made = record("%s", FORGED, extra=told)
    text = line(made)
    assert text.count("\n") == 1
    assert text.removesuffix("\n").isprintable()
    _, values = journal(made)
    assert all(str(value).isprintable() for value in values.values())
    assert values["path"].endswith("\\xff")


def test_traceback_is_a_field_or_indented_and_cannot_forge_a_line() -> None:
    made = with_traceback(FORGED)
    first, *rest = line(made).removesuffix("\n").split("\n")
    assert first.endswith("carrier: it failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(part.startswith("    ") and part.isprintable() for part in rest)
    _, values = journal(made)
    assert values["traceback"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: name" in values["traceback"]


def test_long_text_is_cut_off() -> None:
    assert len(line(record("%s", "x" * 100_000))) < 5000
    _, values = journal(with_traceback("x" * 100_000))
    assert len(values["traceback"]) < 20_000


# ------------------------------------------------------------------------------------- secrets


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_kept", {})


@pytest.mark.parametrize(
    "text",
    [
        "GET https://b.s3.amazonaws.com/a?X-Amz-Credential=HUSH&X-Amz-Signature=HUSH&x=1",
        "GET /a?AWSAccessKeyId=HUSH&Expires=17&Signature=HUSH",
        "{'Authorization': b'AWS4-HMAC-SHA256 Credential=HUSH/eu, Signature=HUSH', 'Host': 'b'}",
        '{"authorization": "Bearer HUSH"}',
        "Authorization: AWS HUSH:HUSH\nHost: b",
        "CanonicalRequest:\nx-amz-security-token:HUSH\nhost:b",
        "Signature:\nHUSH",
        "x-amz-security-token: HUSH",
        "aws_secret_access_key = HUSH",
        "<SecretAccessKey>HUSH</SecretAccessKey>",
        "<SessionToken>HUSH</SessionToken>",
        'secret_access_key="HUSH", session_token: "HUSH"',
        "no connection to http://user:HUSH@proxy:3128/",
        "password=HUSH",
    ],
)
def test_what_looks_secret_is_cut_out(text: str) -> None:
    shown = line(record("%s", text.replace("HUSH", "abcDEF0123456789/+=abc")))
    assert "abcDEF" not in shown
    assert CUT_OUT in shown
    assert redacted(shown) == shown  # what is quoted by another message keeps its end


def test_known_secret_is_cut_out_wherever_it_stands() -> None:
    secret = "wJalrXUtn/FEMI+K7MDENG=bPxRfi"
    keep_secret(secret, None, "")
    quoted = "wJalrXUtn%2FFEMI%2BK7MDENG%3DbPxRfi"
    made = with_traceback(f"{secret} {quoted}")
    made.msg = f"{secret} {quoted}"
    made.about = about(OSError(5, secret), path=secret, key=quoted, element=secret)["about"]
    shown = line(made) + str(journal(made)[1])
    assert "wJalrXUtn" not in shown
    assert shown.count(CUT_OUT) > 8


def test_ordinary_words_stay() -> None:
    for text in (
        "the secret key is wrong; check the access key, or profile and credentials_file",
        "bucket tests at http://127.0.0.1:8333: the signature was refused",
        "no connection: [Errno 111] refused; check endpoint https://s3.example.org:9000",
        "state_dir is set, password file /etc/passwd is read",
    ):
        assert redacted(text) == text
    keep_secret("abc")
    assert redacted("abc") == "abc"


def test_secrets_kept_are_bounded() -> None:
    for number in range(1000):
        keep_secret(f"secret-{number}")
    assert len(redaction._kept) <= 64
    assert redacted("secret-999") == CUT_OUT
