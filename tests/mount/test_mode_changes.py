"""Modes that change while the archive is mounted: by the command, with programs at work."""

import errno
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools.control_client import ControlClient, ControlRefused

from ..harness import MountedArchive, wait_until
from .conftest import make_archive, remove_archive
from .errnos import refused


@pytest.fixture
def changing() -> Iterator[MountedArchive]:
    """An archive of the test's own in mode `rw`."""
    archive = make_archive("settle_s = 0\n", ",mode=rw")
    yield archive
    remove_archive(archive)


def ask(archive: MountedArchive, method: str, **params: Any) -> dict[str, Any]:
    with ControlClient(archive.base / "runtime", "test") as client:
        return client.call(method, params)


def mode(archive: MountedArchive) -> dict[str, Any]:
    """That of the first element."""
    found: dict[str, Any] = ask(archive, "modes")["modes"][0]
    return found


def record(element: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((element / ".artstorefs" / "mode.json").read_bytes())
    return found


def configure(archive: MountedArchive, new: str) -> None:
    """Another mode in the configuration, of the first element."""
    text = archive.toml.read_text()
    text = re.sub(r"^mode = .*$", f'mode = "{new}"', text, count=1, flags=re.MULTILINE)
    archive.toml.write_text(text)


def test_from_rw_to_ro_to_ar_and_back(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-8, MODE-9"""
    archive, name = changing, str(changing.toml)
    file = archive.mount / "f"
    file.write_bytes(b"content")
    done = archive.run("mode", name, "main", "ro", "--why", "the year is over", "--json")
    (answer,) = json.loads(done.stdout)["modes"]
    assert (answer["mode"], answer["phase"], answer["target"]) == ("ro", "settled", None)
    assert (answer["by"], answer["why"]) == (os.geteuid(), "the year is over")
    assert len(archive.objects()) == 2
    assert record(archive.element)["mode"] == "ro"
    for path in (file, archive.mount / "new"):
        with refused(errno.EROFS):
            path.write_bytes(b"other")
    assert file.read_bytes() == b"content"
    assert archive.ask("status")["elements"][0]["mode"] == "ro"
    archive.remount()
    assert mode(archive) == answer | {"since": mode(archive)["since"]}
    archive.run("mode", name, "main", "ar")
    with refused(errno.EREMOTE):
        file.read_bytes()
    assert "configured" in archive.run("mode", name).stdout
    configure(archive, "ro")
    archive.remount()
    assert file.read_bytes() == b"content"
    wait_until(lambda: record(archive.element)["mode"] == "ro")
    configure(archive, "rw")
    archive.remount()
    file.with_name("new").write_bytes(b"new")
    wait_until(lambda: record(archive.element)["mode"] == "rw")


def test_what_is_refused(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-8"""
    archive, name = changing, str(changing.toml)
    for asked, reason in (("ar", "for ro only"), ("edit", "for ro only"), ("rw", "rw already")):
        done = archive.run("mode", name, "main", asked, check=False)
        assert done.returncode == 1
        assert reason in done.stderr
    assert "there are: main" in archive.run("mode", name, "mian", "ro", check=False).stderr
    assert archive.run("mode", name, "--cancel", check=False).returncode == 2
    assert archive.run("mode", name, "main", "or", check=False).returncode == 2
    assert archive.run("mode", name, "mian", check=False).returncode == 2
    with pytest.raises(ControlRefused, match="nothing changes that now"):
        ask(archive, "mode_cancel", element="main")
    assert mode(archive)["since"] is None
    archive.stop()
    archive.start("-o", "ro")
    with pytest.raises(ControlRefused, match="read-only"):
        ask(archive, "mode_change", element="main", mode="ro")


def test_it_waits_for_who_writes_and_lets_nobody_else_begin(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-5, MODE-8"""
    archive = changing
    with open(archive.mount / "f", "wb", buffering=0) as writer:
        writer.write(b"one ")
        (archive.mount / "closed").write_bytes(b"content")
        ask(archive, "mode_change", element="main", mode="ro", wait=False)
        writer.write(b"two ")
        os.fsync(writer.fileno())
        os.ftruncate(writer.fileno(), 7)
        for path in (archive.mount / "new", archive.mount / "closed", archive.mount / "f"):
            with refused(errno.EROFS):
                path.write_bytes(b"other")
        with refused(errno.EROFS):
            os.rename(archive.mount / "f", archive.mount / "g")
        wait_until(lambda: (mode(archive)["intents"], mode(archive)["writers"]) == (1, 1))
        assert (mode(archive)["phase"], mode(archive)["mode"]) == ("preparing", "rw")
        assert "1 open for writing" in archive.run("mode", str(archive.toml)).stdout
        assert not (archive.element / ".artstorefs" / "mode.json").exists()
    wait_until(lambda: mode(archive)["mode"] == "ro")
    assert (archive.mount / "f").read_bytes() == b"one two"
    assert archive.ask("status")["pending"]["intents"] == 0
    assert len(archive.objects()) == 4


def test_it_waits_for_a_file_that_is_open_and_was_not_written(changing: MountedArchive) -> None:
    """Nothing of it is in the log, and yet it may be written. SEMANTICS: MODE-8"""
    archive = changing
    file = archive.mount / "f"
    file.write_bytes(b"content")
    archive.ask("flush")
    with open(file, "r+b", buffering=0) as opened:
        ask(archive, "mode_change", element="main", mode="ro", wait=False)
        time.sleep(1)
        assert (mode(archive)["phase"], mode(archive)["intents"]) == ("preparing", 0)
        opened.write(b"C")
    wait_until(lambda: mode(archive)["mode"] == "ro")
    assert archive.objects()[0].read_bytes() == file.read_bytes() == b"Content"


def test_it_waits_for_shared_mappings(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-8"""
    archive = changing
    file = archive.mount / "f"
    with open(file, "w+b", buffering=0) as opened:
        opened.write(b"content")
        mapped = mmap.mmap(opened.fileno(), 0)
    ask(archive, "mode_change", element="main", mode="ro", wait=False)
    time.sleep(0.6)
    assert mode(archive)["phase"] == "preparing"
    mapped[:1] = b"C"
    mapped.close()
    wait_until(lambda: mode(archive)["mode"] == "ro")
    assert file.read_bytes() == b"Content"
    assert archive.objects()[0].read_bytes() == b"Content"


def test_cancelled_while_it_prepares(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-8"""
    archive, name = changing, str(changing.toml)
    with open(archive.mount / "f", "wb", buffering=0) as writer:
        writer.write(b"content")
        archive.run("mode", name, "main", "ro", "--no-wait")
        archive.run("mode", name, "main", "--cancel", "--why", "not yet")
        (archive.mount / "new").write_bytes(b"new")
        writer.write(b"!")
    assert (archive.mount / "f").read_bytes() == b"content!"
    found = mode(archive)
    assert (found["mode"], found["phase"], found["why"]) == ("rw", "settled", "not yet")
    archive.ask("flush")
    assert archive.ask("status")["pending"]["intents"] == 0


def test_who_waits_is_told_that_it_was_cancelled(changing: MountedArchive) -> None:
    """And the audit log of who wanted what. SEMANTICS: MODE-8, AUDIT-1"""
    archive, name = changing, str(changing.toml)
    archive.stop()
    head, _, tables = archive.toml.read_text().partition("[[element]]")
    archive.toml.write_text(f"{head}\n[audit]\nenabled = true\n[[element]]{tables}")
    archive.start()
    with (
        ThreadPoolExecutor(1) as others,
        open(archive.mount / "f", "wb"),
    ):
        waiting = others.submit(ask, archive, "mode_change", element="main", mode="ro", why="full")
        wait_until(lambda: mode(archive)["phase"] == "preparing")
        ask(archive, "mode_cancel", element="main", why="not yet")
        assert waiting.result()["mode"] == "rw"
        command = [
            sys.executable,
            "-m",
            "artstorefs_tools.command_line",
            "mode",
            name,
            "main",
            "ro",
        ]
        waits = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: mode(archive)["phase"] == "preparing")
        ask(archive, "mode_cancel", element="main")
        assert "is not in mode ro: cancelled" in waits.communicate()[1]
        assert waits.returncode == 1
    shown = archive.run("audit", name, "--json").stdout
    found = [record for record in map(json.loads, shown.splitlines()) if record["op"] == "mode"]
    assert [(one["step"], one["why"]) for one in found[:2]] == [
        *(("prepare", "full"), ("cancel", "not yet")),
    ]
    for one in found:
        assert (one["element"], one["before"], one["target"]) == ("main", "rw", "ro")
        assert one["uid"] == os.geteuid()


def test_it_survives_a_kill_while_it_prepares_and_a_rebuild(changing: MountedArchive) -> None:
    """SEMANTICS: MODE-8, MODE-9"""
    archive = changing
    away = archive.element.with_name("away")
    (archive.mount / "f").write_bytes(b"content")
    archive.ask("flush")
    archive.element.rename(away)
    (archive.mount / "g").write_bytes(b"waits")
    ask(archive, "mode_change", element="main", mode="ro", wait=False, why="it is full")
    time.sleep(0.5)
    archive.kill()
    archive.start()
    assert mode(archive)["phase"] == "preparing"
    with refused(errno.EROFS):
        (archive.mount / "h").write_bytes(b"no more")
    away.rename(archive.element)
    archive.ask("flush")
    wait_until(lambda: mode(archive)["mode"] == "ro")
    assert (archive.mount / "g").read_bytes() == b"waits"
    reached = mode(archive)
    archive.stop()
    shutil.rmtree(archive.state)
    archive.start()
    found = mode(archive)
    assert (found["mode"], found["by"], found["why"]) == ("ro", reached["by"], "it is full")
    with refused(errno.EROFS):
        (archive.mount / "h").write_bytes(b"no more")


def test_new_files_go_to_the_next_element_meanwhile() -> None:
    """SEMANTICS: MODE-4, MODE-7, MODE-8"""
    archive = make_archive("settle_s = 0\n", ",mode=rw", further=",mode=rw,priority=2")
    try:
        directory = archive.mount / "directory"
        directory.mkdir()
        (directory / "first").write_bytes(b"first")
        archive.ask("flush")
        with open(directory / "first", "r+b"):
            ask(archive, "mode_change", element="main", mode="ro", wait=False)
            (directory / "second").write_bytes(b"second")
            archive.ask("flush")
            second = os.getxattr(directory / "second", "user.artstore.element")
            assert (second, mode(archive)["phase"]) == (b"second", "preparing")
        wait_until(lambda: mode(archive)["mode"] == "ro")
        with refused(errno.EROFS):
            os.chmod(directory / "first", 0o600)
        os.chmod(directory / "second", 0o600)
        os.chmod(directory, 0o700)
        os.rename(directory, archive.mount / "renamed")
        assert (archive.mount / "renamed" / "first").read_bytes() == b"first"
        archive.ask("flush")
        assert archive.ask("status")["pending"]["intents"] == 0
    finally:
        remove_archive(archive)


def test_many_programs_write_while_it_prepares(changing: MountedArchive) -> None:
    """What was acknowledged is on the element at the end, and nothing else. SEMANTICS: MODE-8"""
    archive = changing
    written: dict[str, bytes] = {}
    codes: list[int | None] = []

    def work(number: int) -> None:
        for turn in range(10_000):
            name, content = f"{number}-{turn}", os.urandom(2000)
            try:
                descriptor = os.open(archive.mount / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except OSError as exc:
                codes.append(exc.errno)
                return
            os.write(descriptor, content)
            os.close(descriptor)
            written[name] = content

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    ask(archive, "mode_change", element="main", mode="ro")
    for thread in threads:
        thread.join()
    assert codes == [errno.EROFS] * 4
    assert mode(archive)["mode"] == "ro"
    assert archive.ask("status")["pending"]["intents"] == 0
    assert {p.name for p in archive.mount.iterdir()} == set(written)
    assert all((archive.mount / name).read_bytes() == data for name, data in written.items())
    sums = {path.read_bytes() for path in archive.objects() if path.suffix != ".json"}
    assert sums == set(written.values())
