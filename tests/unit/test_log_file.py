"""daemon.log: two processes and whatever they start write it, and somebody rotates it."""

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs_daemon import logs
from artstorefs_daemon.log_file import FILES_KEPT, FileHandler, LogHandler
from artstorefs_daemon.log_format import JournalFormat, LineFormat

log = logging.getLogger("artstorefs.test")


@pytest.fixture(autouse=True)
def _own_output() -> Iterator[None]:
    """Standard output and error, and how this process logs, are back at the end."""
    root = logging.getLogger()
    handlers, level, srcfile = list(root.handlers), root.level, logging._srcfile
    hook = sys.excepthook
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    yield
    for target, descriptor in enumerate(kept, start=1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging._srcfile = srcfile
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = True
    sys.excepthook = hook


def handler(path: Path, process: str = "mount", limit_bytes: int = 1 << 20) -> FileHandler:
    return FileHandler(LineFormat(process, 1, "museum"), str(path), limit_bytes)


def emit(to: LogHandler, text: str) -> None:
    to.handle(logging.LogRecord("artstorefs", logging.INFO, "", 0, "%s", (text,), None))


def messages(path: Path) -> list[str]:
    return [line.rpartition(": ")[2] for line in path.read_text().splitlines()]


def test_two_processes_lose_no_line_and_mix_none_while_both_rotate(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    children = []
    for process in range(3):
        child = os.fork()
        if child == 0:
            try:
                own = handler(path, f"p{process}", limit_bytes=40_000)
                for number in range(500):
                    emit(own, f"{process}-{number}")
            finally:
                os._exit(0 if number == 499 else 1)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    parts = [tmp_path / f"daemon.log.{n}" for n in range(FILES_KEPT, 0, -1)]
    written = [m for part in (*parts, path) if part.exists() for m in messages(part)]
    assert len(written) == 1500
    assert len([part for part in parts if part.exists()]) >= 2
    for process in range(3):
        assert [m for m in written if m.startswith(f"{process}-")] == [
            f"{process}-{number}" for number in range(500)
        ]


def test_a_few_files_are_kept_and_their_size_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    own = handler(path, limit_bytes=1000)
    for number in range(200):
        emit(own, str(number))
    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["daemon.log", *(f"daemon.log.{n}" for n in range(1, FILES_KEPT + 1))]
    assert all(found.stat().st_size < 1200 for found in tmp_path.iterdir())
    assert messages(path)[-1] == "199"
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_gets_the_lock_second_does_not_rotate_again(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    second = handler(path, limit_bytes=100)
    path.write_bytes(b"x" * 200)
    with path.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        waiting = threading.Thread(target=emit, args=(second, "a line"))
        waiting.start()
        time.sleep(0.05)
        path.rename(tmp_path / "daemon.log.1")
        path.write_bytes(b"y" * 200 + b"\n")
    waiting.join(10)
    assert path.read_bytes().startswith(b"y" * 200)
    second._rotate()
    assert not (tmp_path / "daemon.log.3").exists()
    path.write_bytes(b"small")
    second._rotate()
    assert path.read_bytes() == b"small"


def test_file_that_was_moved_away_is_opened_anew_with_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    own = handler(path)
    emit(own, "before")
    path.rename(tmp_path / "moved")
    emit(own, "after")
    os.write(2, b"of a library\n")
    assert messages(tmp_path / "moved") == ["before"]
    assert messages(path) == ["after", "of a library"]


def test_reopening_is_possible_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    logs.begin("mount", "museum", file=str(path))
    assert logs.file() == str(path)
    path.rename(tmp_path / "moved")
    logs.reopen()
    os.write(1, b"standard output\n")
    assert path.read_text() == "standard output\n"


def test_lines_that_could_not_be_written_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "daemon.log"
    path.parent.mkdir()
    own = handler(path)
    path.parent.rename(tmp_path / "away")
    emit(own, "lost")
    emit(own, "lost too")
    path.parent.mkdir()
    emit(own, "after")
    assert messages(path) == ["2 lines of this log could not be written", "after"]


def test_record_that_cannot_be_shown_is_a_line_too(tmp_path: Path) -> None:
    own = handler(tmp_path / "daemon.log")
    own.handle(logging.LogRecord("artstorefs", logging.INFO, "", 0, "%d", ("x",), None))
    [line] = (tmp_path / "daemon.log").read_text().splitlines()
    assert "a record that cannot be shown" in line


def test_journal_is_known_by_device_and_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = os.open(tmp_path / "journal", os.O_WRONLY | os.O_CREAT, 0o600)
    status = os.fstat(journal)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    logs.begin("mount", "museum")
    assert type(logging.getLogger().handlers[0].form) is LineFormat  # type: ignore[attr-defined]
    os.dup2(journal, 2)
    os.close(journal)
    logs.begin("mount", "museum")
    assert type(logging.getLogger().handlers[0].form) is JournalFormat  # type: ignore[attr-defined]
    log.warning("told")
    assert (tmp_path / "journal").read_text().startswith('<4>{"time":"')


def test_what_nobody_catches_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    logs.begin("mount", "museum", file=str(path))
    try:
        raise ValueError("a bug")
    except ValueError:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    first, *_, last = path.read_text().splitlines()
    assert first.endswith("nobody has caught this")
    assert last == "    ValueError: a bug"
