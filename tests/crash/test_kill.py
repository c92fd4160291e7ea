"""kill -9 of the daemon at any moment: everything that had returned is there (issue, acceptance 6).

The archive is kept from kill to kill, so that log and elements are always in the middle of
something. `ASFS_KILLS` is the number of kills (50), `ASFS_SEED` the seed; both are printed. A run
that acknowledged nothing, or with nothing pending at one kill in ten, fails: it has shown nothing.
"""

import copy
import errno
import json
import os
import pickle
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..filesystem.element_tree import Found, read_element
from ..harness import MountedArchive, wait_for_end
from . import load
from .load import Model, Node, Step

KILLS = int(os.environ.get("ASFS_KILLS", "50"))
SEED = int(os.environ.get("ASFS_SEED", str(random.SystemRandom().randrange(2**32))))
WRITERS = 4
SETTLE_S = (0, 0, 0.1, 0.1, 5)
"""0 keeps the transfer process busy, 5 lets what is pending pile up."""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[MountedArchive]:
    made = MountedArchive(tmp_path, settings="settle_s = 0")
    try:
        yield made
    finally:
        made.clean_up()


class Run:
    """The writers' models, and what has been counted."""

    def __init__(self, archive: MountedArchive) -> None:
        self.archive = archive
        self.random = random.Random(SEED)
        self.models = [Model() for _ in range(WRITERS)]
        self.acknowledged = 0
        self.calls: dict[str, int] = {}
        self.pending_kills = 0
        self.busy_kills = 0
        self.under_way = {"done": 0, "not done": 0}

    def path(self, number: int) -> Path:
        return self.archive.mount / f"writer{number}"

    def set_settling(self) -> None:
        text = self.archive.toml.read_text()
        settle = f"settle_s = {self.random.choice(SETTLE_S)}"
        self.archive.toml.write_text(re.sub(r"settle_s = .*", settle, text))

    def start_writers(self, actions: int) -> tuple[list[Path], list[subprocess.Popen[bytes]]]:
        """Journals and processes; all writers have begun."""
        journals, writers = [], []
        for number, model in enumerate(self.models):
            model_path = self.archive.base / f"model{number}"
            journal = self.archive.base / f"journal{number}"
            model_path.write_bytes(pickle.dumps(model))
            journal.unlink(missing_ok=True)
            journals.append(journal)
            arguments = [self.path(number), model_path, journal]
            arguments += [str(self.random.randrange(2**32)), str(actions)]
            command = [sys.executable, "-S", "-E", str(Path(load.__file__))]
            writers.append(subprocess.Popen([*command, *map(str, arguments)]))
        deadline = time.monotonic() + 10
        while not all(journal.exists() for journal in journals):
            assert time.monotonic() < deadline, "the writers did not start"
            time.sleep(0.005)
        return journals, writers

    def kill_under_load(self) -> list[Path]:
        """Start the writers, kill the daemon; the journals."""
        journals, writers = self.start_writers(10**9)
        time.sleep(self.random.uniform(0.02, 0.6))
        self.archive.kill()
        wait_for_writers(journals, writers)
        self._look_at_log()
        return journals

    def load_without_a_kill(self) -> list[Path]:
        """What a start does not set right, must be right without one."""
        journals, writers = self.start_writers(30)
        wait_for_writers(journals, writers)
        return journals

    def _look_at_log(self) -> None:
        database = sqlite3.connect(f"file:{self.archive.state}/state.db?mode=ro", uri=True)
        pending = database.execute("SELECT count(*) FROM log").fetchone()[0]
        assigned = database.execute(
            "SELECT count(*) FROM log WHERE data IS NOT NULL AND ino IS NOT NULL"
        ).fetchone()[0]
        database.close()
        self.pending_kills += pending > 0
        self.busy_kills += assigned > 0

    def check(self, journals: list[Path]) -> None:
        """Bring the models up to date and compare each with its directory."""
        for number, journal in enumerate(journals):
            model = self.models[number]
            under_way = self._replay(model, journal)
            seen = read_directory(self.path(number))
            outcomes = [(m, "done") for m in possible(model, under_way)]
            if under_way is None or "at_least" not in under_way:
                outcomes.insert(0, (model, "not done"))
            matches = [(m, how) for m, how in outcomes if differences(m, seen) is None]
            if not matches:
                told = [f"{how}: {differences(m, seen)}" for m, how in outcomes[:2]]
                raise AssertionError(f"writer{number}, under way: {under_way}\n" + "\n".join(told))
            self.models[number], how = matches[0]
            if under_way is not None:
                self.under_way[how] += 1

    def _replay(self, model: Model, journal: Path) -> Step | None:
        """Apply what was acknowledged; what was under way, if anything."""
        under_way: Step | None = None
        for line in journal.read_text().splitlines():
            if line.startswith("ok"):
                assert under_way is not None
                assert "at_least" not in under_way, f"a write fell short: {under_way}"
                written = int(line[3:]) if line[3:] else None
                if written is not None and written < under_way["size"]:
                    # cut off between two requests: the rest of it was under way
                    under_way["at_least"] = written
                    continue
                model.apply(under_way, written=written)
                self.calls[under_way["call"]] = self.calls.get(under_way["call"], 0) + 1
                self.acknowledged += 1
                under_way = None
            elif under_way is None or "at_least" not in under_way:
                under_way = json.loads(line)
        return under_way

    def summary(self) -> str:
        return (
            f"seed {SEED}: {KILLS} kills, {self.acknowledged} acknowledgements,"
            f" {self.pending_kills} kills with work pending, {self.busy_kills} with work assigned;"
            f" calls under way at a kill: {self.under_way}; acknowledged: {self.calls}"
        )


def wait_for_writers(journals: list[Path], writers: list[subprocess.Popen[bytes]]) -> None:
    for writer, journal in zip(writers, journals, strict=True):
        assert writer.wait(30) == 0, journal.read_text()[-1000:]


def possible(model: Model, step: Step | None) -> Iterator[Model]:
    """What the call that was under way may have left, beside nothing."""
    if step is None:
        return
    sizes: Iterator[int | None] = iter([None])
    if step["call"] == "write":
        first = step.get("at_least", 4096)  # a killed write may stop at a page
        sizes = iter([None, *range(first, step["size"], 4096)])
    for written in sizes:
        changed = copy.deepcopy(model)
        changed.apply(step, written=written)
        yield changed


def read_directory(root: Path) -> dict[str, tuple[Node, int, int]]:
    """Path to node, inode number and number of links."""
    seen: dict[str, tuple[Node, int, int]] = {}
    for path in root.rglob("*"):
        found = path.lstat()
        node = Node(found.st_mode, mtime_ns=found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode):
            node.data = path.read_bytes()
            node.xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            assert found.st_size == len(node.data), path
        elif path.is_symlink():
            node.target = str(path.readlink())
        seen[str(path.relative_to(root))] = (node, found.st_ino, found.st_nlink)
    return seen


def differences(model: Model, seen: dict[str, tuple[Node, int, int]]) -> str | None:
    """The first thing in which a directory is not what the model says."""
    if seen.keys() != model.names.keys():
        return f"names missing or too many: {sorted(seen.keys() ^ model.names.keys())}"
    inodes: dict[int, int] = {}
    for path, (node, ino, links) in seen.items():
        wanted = model.node(path)
        for name in ("mode", "target", "xattrs"):
            if getattr(node, name) != getattr(wanted, name):
                return f"{path}: {name} {getattr(node, name)!r}, not {getattr(wanted, name)!r}"
        if node.data != wanted.data:
            return f"{path}: {len(node.data)} bytes, {len(wanted.data)} wanted, or they differ"
        if wanted.mtime_ns is not None and node.mtime_ns != wanted.mtime_ns:
            return f"{path}: mtime {node.mtime_ns}, not {wanted.mtime_ns}"
        if not stat.S_ISDIR(node.mode) and links != model.links(path):
            return f"{path}: {links} links, not {model.links(path)}"
        if inodes.setdefault(model.names[path], ino) != ino:
            return f"{path}: not the same file as its other links"
    if len(set(inodes.values())) != len(inodes):
        return "two files have one inode number"
    return None


def check_element(run: Run, tree: dict[bytes, Found]) -> None:
    """The element says the same as the models, and holds nothing else."""
    paths = {b"/"} | {f"/writer{number}".encode() for number in range(WRITERS)}
    for number, model in enumerate(run.models):
        for path, node_number in model.names.items():
            full = f"/writer{number}/{path}".encode()
            paths.add(full)
            wanted, found = model.nodes[node_number], tree[full]
            assert found.mode & 0o7777 == wanted.mode & 0o7777 or wanted.target, full
            assert found.content == wanted.data, full
            assert (found.target or b"") == wanted.target.encode(), full
            assert {"user." + key for key in found.custom} == wanted.xattrs.keys(), full
            if not stat.S_ISDIR(wanted.mode):
                assert len(found.paths) == model.links(path), full
    assert set(tree) == paths


@pytest.mark.slow
def test_killed_at_any_moment_everything_acknowledged_is_there(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-1, MOUNT-1"""
    run = Run(archive)
    print(f"seed {SEED}, {KILLS} kills")
    archive.start()
    for number in range(WRITERS):
        run.path(number).mkdir()
    started = time.monotonic()
    for kill in range(KILLS):
        run.set_settling()
        journals = run.kill_under_load()
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.statvfs(archive.mount)
        archive.start()
        assert Path("/proc/self/mountinfo").read_text().count(f" {archive.mount} ") == 1
        try:
            run.check(journals)
        except AssertionError as exc:
            told = f"kill {kill}: {exc}\n{run.summary()}\n{archive.log()[-4000:]}"
            raise AssertionError(told) from None
    print(f"{run.summary()}; {time.monotonic() - started:.1f} s")
    assert run.acknowledged > KILLS
    assert run.pending_kills >= 0.9 * KILLS
    run.check(run.load_without_a_kill())
    archive.flush()
    status = archive.status()
    assert (status["pending"]["intents"], status["errors"]) == (0, [])
    assert status["spool"]["bytes"] == 0
    archive.stop()
    left = [path for path in (archive.state / "spool").rglob("*") if path.is_file()]
    assert [path for path in left if path.parent.name != "lost"] == []
    check_element(run, read_element(archive.element))
    assert "Traceback" not in archive.log(), archive.log()[-4000:]


@pytest.mark.slow
def test_death_of_the_transfer_process_is_not_noticed(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-7"""
    archive.start()
    wanted = {}
    for number in range(8):
        first = archive.status()["transfer_pid"]
        for index in range(20):
            name, data = f"f{number}-{index}", os.urandom(5000)
            (archive.mount / name).write_bytes(data)
            wanted[name.encode()] = data
        os.kill(first, signal.SIGKILL)
        wait_for_end(first)
        (archive.mount / "between").write_bytes(b"x")
        deadline = time.monotonic() + 20
        while archive.status()["transfer_pid"] == first:
            assert time.monotonic() < deadline, "no new transfer process"
            time.sleep(0.05)
    archive.flush()
    assert archive.status()["errors"] == []
    assert "starting another" in archive.log()
    assert "Traceback" not in archive.log()
    archive.stop()
    tree = read_element(archive.element)
    found = {path[1:]: node.content for path, node in tree.items() if path.startswith(b"/f")}
    assert found == wanted


@pytest.mark.slow
def test_a_second_daemon_says_who_holds_the_archive(archive: MountedArchive) -> None:
    """SEMANTICS: MOUNT-2"""
    archive.start()
    other = archive.base / "other"
    other.mkdir()
    done = archive.run("mount", str(archive.toml), str(other), check=False)
    assert done.returncode != 0
    assert f"in use by process {archive.pid}" in done.stderr
    assert not os.path.ismount(other)
    (archive.mount / "f").write_text("still works")
