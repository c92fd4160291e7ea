"""`artstorefs doctor` where content is archived, or files expire."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from artstorefs.core.offline_record import medium_id
from artstorefs.elements import restore_probe
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import write_layout
from artstorefs_tools import checkup_archived, exit_codes
from artstorefs_tools.checkup import Finding
from artstorefs_tools.command_line import main
from artstorefs_tools.errors import NotMounted

ARCHIVE = uuid4()


def make(path: Path, element: str, archive_id: UUID = ARCHIVE) -> None:
    LocalElement.initialize(str(path))
    opened = LocalElement(element, str(path))
    write_layout(opened, archive_id, "museum")
    opened.close()


def write(base: Path, element: str = "", further: str = "") -> Path:
    """The configuration of museum, with these keys of its element, and tables before it."""
    path = base / "museum.toml"
    places = [f'{name}_dir = "{base / name}"' for name in ("state", "cache", "runtime")]
    table = f'[[element]]\nid = "main"\npath = "{base / "main"}"\n{element}'
    path.write_text("\n".join([*places, further, table]))
    return path


def findings(path: Path, capsys: pytest.CaptureFixture[str], subject: str) -> list[Finding]:
    """What is said of a subject, or of those that begin like it."""
    main(["doctor", str(path), "--json"])
    every = [Finding(**one) for one in json.loads(capsys.readouterr().out)]
    return [one for one in every if one.subject.startswith(subject)]


# -------------------------------------------------------------------------------------- media


@pytest.fixture
def museum(tmp_path: Path) -> Path:
    """Of an element whose medium is there."""
    make(tmp_path / "main", "main")
    make(tmp_path / "medium", medium_id("main"))
    return write(tmp_path, f'offline_path = "{tmp_path}/medium"')


def emptied(medium: Path) -> None:
    shutil.rmtree(medium)
    (medium / "lost+found").mkdir(parents=True)


def with_other_things(medium: Path) -> None:
    emptied(medium)
    (medium / "photo.jpg").touch()


def of_another_archive(medium: Path) -> None:
    shutil.rmtree(medium)
    make(medium, medium_id("main"), uuid4())


def of_another_element(medium: Path) -> None:
    shutil.rmtree(medium)
    make(medium, medium_id("second"))


def element_itself(medium: Path) -> None:
    shutil.rmtree(medium)
    shutil.copytree(medium.with_name("main"), medium)


MEDIA: list[tuple[Callable[[Path], object], str, str, str]] = [
    (lambda _: None, "ok", "is there, ", ""),
    (shutil.rmtree, "warning", "is not there: nothing", "mount the medium there"),
    (emptied, "warning", "is empty: nothing", "artstorefs medium museum main --prepare"),
    (with_other_things, "wrong", "is no medium, and holds other things", "mount the right one"),
    (of_another_archive, "wrong", "is of another archive, museum", "mount the right one"),
    (of_another_element, "wrong", "is second/offline of this archive", "exchanged"),
    (element_itself, "wrong", "is main of this archive", "exchanged"),
]


@pytest.mark.parametrize(
    ("change", "level", "text", "advice"), MEDIA, ids=[one[2] for one in MEDIA]
)
def test_medium(
    change: Callable[[Path], object],
    level: str,
    text: str,
    advice: str,
    museum: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(museum.with_name("medium"))
    before = sorted(museum.parent.rglob("*"))
    (finding,) = findings(museum, capsys, "medium of main")
    assert finding.level == level
    assert f"{museum.parent}/medium {text}" in finding.text
    assert advice in finding.advice
    assert sorted(museum.parent.rglob("*")) == before


def test_medium_of_another_user_or_read_only(
    museum: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = findings(museum, capsys, "medium of main")
    assert (finding.level, "it is for recalls alone" in finding.text) == ("warning", True)
    monkeypatch.setattr(checkup_archived, "uid_of", lambda _: 4711)
    (finding,) = findings(museum, capsys, "medium of main")
    assert (finding.level, finding.advice[:9]) == ("wrong", "chown -R ")


def test_medium_is_known_where_the_element_is_away(
    museum: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(museum.with_name("main"))
    (finding,) = findings(museum, capsys, "medium of main")
    assert finding.level == "ok"


# ------------------------------------------------------------------------ classes, the webhook


@pytest.mark.parametrize(
    ("reason", "level"), [(None, "ok"), ("s3:b: access is denied (AccessDenied 403)", "wrong")]
)
def test_cold_class(
    reason: str | None,
    level: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore_probe, "why_no_restore", lambda _: reason)
    path = write(tmp_path)
    keys = 'kind = "s3"\nbucket = "photos"\nendpoint = "http://127.0.0.1:9"\n'
    table = f'[[element]]\nid = "far"\n{keys}archive_storage_class = "GLACIER"\n'
    path.write_text(path.read_text().partition("[[element]]")[0] + table)
    (finding,) = findings(path, capsys, "class GLACIER of far")
    assert finding.level == level
    assert (reason or "") in finding.text
    assert ("s3:RestoreObject" in finding.advice) == (level == "wrong")


def webhook(base: Path, url: str) -> Path:
    secret = base / "secret"
    table = f'[recall]\nwebhook = "{url}"\nwebhook_secret_file = "{secret}"\n'
    return write(base, further=table)


SECRETS: list[tuple[str | None, int, str, str]] = [
    ("secret", 0o600, "ok", "https://example.org is told of recalls"),
    ("secret", 0o644, "wrong", "may be read by others"),
    ("", 0o600, "wrong", "is empty"),
    (None, 0, "wrong", "cannot be read: No such file"),
]


@pytest.mark.parametrize(("content", "mode", "level", "text"), SECRETS)
def test_secret_of_the_webhook(
    content: str | None,
    mode: int,
    level: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, secret = webhook(tmp_path, "https://example.org/told"), tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
        secret.chmod(mode)
    subject = "webhook" if level == "ok" else str(secret)
    (finding,) = findings(path, capsys, subject)
    assert (finding.level, text in finding.text) == (level, True)
    assert findings(path, capsys, "webhook")[1:] == []


@pytest.mark.parametrize(
    ("url", "level"),
    [("http://example.org/told", "warning"), ("http://127.0.0.1:8000/told", "ok")],
)
def test_webhook_in_clear(
    url: str, level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = webhook(tmp_path, url)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    (finding,) = findings(path, capsys, "webhook")
    assert finding.level == level


@pytest.mark.parametrize("url", ["ftp://example.org", "https://me:word@example.org", "https://"])
def test_webhook_that_is_none_is_a_mistake_in_the_configuration(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(webhook(tmp_path, url))]) == exit_codes.USAGE
    assert "webhook" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- expiry


@pytest.mark.parametrize(
    ("expiring", "level", "text"),
    [
        ({"files": 0, "paused": None}, "ok", "no file has come to its end"),
        (
            {"files": 1200, "first_removal": "2026-01-09T03:04:05Z", "paused": None},
            *("ok", "1,200 files are removed from 2026-01-09T03:04:05Z on"),
        ),
        ({"files": 3, "paused": "the clock says 2038"}, "warning", "the clock says 2038"),
        (None, "", ""),
    ],
)
def test_expiry_as_the_daemon_says(
    expiring: dict[str, object] | None,
    level: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Daemon:
        def __init__(self, *_: object) -> None:
            if expiring is None:
                raise NotMounted("museum is not mounted")

        def __enter__(self) -> "Daemon":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def call(self, method: str) -> dict[str, object]:
            return {"expiring": expiring}

    monkeypatch.setattr(checkup_archived, "ControlClient", Daemon)
    make(tmp_path / "main", "main")
    assert findings(write(tmp_path), capsys, "expiry") == []
    found = findings(write(tmp_path, "expire_after_days = 90"), capsys, "expiry")
    assert [(one.level, text in one.text) for one in found] == ([(level, True)] if level else [])
