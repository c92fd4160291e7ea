"""A mount namespace of a test's own, in which this release is installed as on a real system.

What `install-units` puts into a system lies there over /sbin and /usr/local/bin, so that mount(8)
finds its helper; /etc/fstab and /etc/passwd are the test's, with an ordinary user; everybody may
open /dev/fuse, as udev has it. The machine outside sees none of it, and nothing is left at the end.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MountEntry, parse_mountinfo

from ..harness import wait_for_end
from .users import ALICE, User

LIMIT_S = 50
PROGRAMS = Path(sys.executable).parent


class PrivateMounts:
    """`home` is that of the ordinary user `anna`; the archive of the test lies below `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.home = base / "home"
        self.fstab = base / "fstab"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, ALICE.uid, ALICE.gid)
        self.fstab.touch()
        person = f"anna:x:{ALICE.uid}:{ALICE.gid}::{self.home}:/bin/sh\n"
        (base / "passwd").write_text(Path("/etc/passwd").read_text() + person)
        self.root.mkdir()
        subprocess.run(
            [PROGRAMS / "artstorefs", "install-units", "--root", self.root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._wait_until_it_is_there()
        try:
            self._furnish()
        except BaseException:
            self.close()
            raise

    def _wait_until_it_is_there(self) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(b"\n")
        self._holder.stdin.flush()
        assert self._holder.stdout.read(1) == b"\n"

    def _furnish(self) -> None:
        self._leave_alone_what_is_mounted()
        devices = self.base / "devices"
        devices.mkdir()
        self.run("mount", "-t", "tmpfs", "devices", devices)
        self.run("mknod", "-m", "0666", devices / "fuse", "c", "10", "229")
        self.run("mount", "--bind", devices / "fuse", "/dev/fuse")
        for name in ("fstab", "passwd"):
            self.run("mount", "--bind", self.base / name, f"/etc/{name}")
        for ours, theirs in (("sbin", "/usr/sbin"), ("usr/local/bin", "/usr/local/bin")):
            layers = f"lowerdir={self.root / ours}:{theirs}"
            self.run("mount", "-t", "overlay", "overlay", "-o", layers, theirs)

    def _leave_alone_what_is_mounted(self) -> None:
        """What other tests have mounted would stay as long as it is mounted in here too."""
        below = f"{tempfile.gettempdir()}/"
        mounts = [one for one in self._mounts() if one.mountpoint.startswith(below)]
        foreign = [one.mountpoint for one in mounts] + self.table()
        if foreign:  # those that are gone by now are no error
            self.attempt("umount", "--lazy", *reversed(foreign))

    # ---------------------------------------------------------------------------- in there

    def command(self, *command: str | Path) -> list[str | Path]:
        """What runs a command in there, as the same process."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", *command]

    def attempt(
        self, *command: str | Path, user: User | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there, whatever comes of it."""
        words: list[str | Path] = self.command()
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
        if user is not None:
            ids = (f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups")
            words += ["setpriv", *ids, "env", f"--chdir={self.home}"]
            environment["HOME"] = str(self.home)
        return subprocess.run(
            [*words, *command],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=environment,
        )

    def run(self, *command: str | Path, user: User | None = None) -> str:
        """What a command in there prints, which has to succeed."""
        done = self.attempt(*command, user=user)
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
        return done.stdout

    def refusal(self, *command: str | Path, code: int, user: User | None = None) -> str:
        """The one line with which a command in there fails."""
        done = self.attempt(*command, user=user)
        assert done.returncode == code, f"{command}: {done.returncode}: {done.stderr}"
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def table(self) -> list[str]:
        """Where archives are mounted in there."""
        return [one.mountpoint for one in self._mounts() if one.filesystem_type == FILESYSTEM_TYPE]

    def _mounts(self) -> list[MountEntry]:
        data = Path(f"/proc/{self._holder.pid}/mountinfo").read_bytes()
        return list(parse_mountinfo(data))

    # ----------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Unmount what is left; the daemons then end, and the namespace with them."""
        for mountpoint in reversed(self.table()):
            self.attempt("umount", "--lazy", mountpoint)
        for lock in self.base.rglob("lock"):
            self._end(int((lock.read_text().split() or ["0"])[0]), lock)
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(LIMIT_S)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def _end(self, pid: int, lock: Path) -> None:
        """The daemon that has this lock file open, if there still is one."""
        try:
            files = [os.path.realpath(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            return
        if str(lock.resolve()) in files:
            os.kill(pid, signal.SIGTERM)
            wait_for_end(pid)
