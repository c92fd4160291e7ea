"""An archive of its own for a test: made, mounted, killed, mounted again, and cleaned up.

Everything lies below one directory of the test. Daemons are ended by their process id; what is
still mounted at the end is detached, also after a failure.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.errors import NotMounted

from .starter import Starter

COMMAND_LIMIT_S = 60

REPOSITORY = Path(__file__).resolve().parent.parent


class MountedArchive:
    """`element`, `state` and `mount` are directories below `base`; `toml` is the configuration.

    With `place`, such as "s3:BUCKET/PREFIX", the element is there instead; `further`: elements
    beside it, as `init` takes them. `user`: whom its daemon runs as. `new_processes`: its
    commands are processes from the start, for tests of what that takes, and some of each kind.
    `adopts`: `element` is there, and ArtStore has written it; nothing is made but the
    configuration, with which `adopt` goes on.
    """

    def __init__(
        self,
        base: Path,
        *,
        settings: str = "",
        element_arguments: str = "",
        place: str | None = None,
        further: tuple[str, ...] = (),
        user: str | None = None,
        new_processes: bool = False,
        adopts: bool = False,
    ) -> None:
        self.base = base
        self.new_processes = new_processes
        self.on_s3 = (place or "").startswith("s3:")
        self.element = base / "element"
        self.mount = base / "mount"
        self.state = base / "state"
        self.toml = base / "test.toml"
        self.mount.mkdir(parents=True)
        places = "\n".join(
            f'{name}_dir = "{base / name}"' for name in ("state", "cache", "runtime")
        )
        self.element_argument = f"main={place or f'local:{self.element}'}{element_arguments}"
        if adopts:
            keys = [argument.split("=") for argument in element_arguments.split(",")[1:]]
            more = "".join(f'{key} = "{value}"\n' for key, value in keys)
            element = f'[[element]]\nid = "main"\npath = "{self.element}"\nadopted = true\n{more}'
            self.toml.write_text(f"{places}\n{settings}\n{element}")
            return
        self.run(
            "init",
            "test",
            "--element",
            self.element_argument,
            *(word for element in further for word in ("--element", element)),
            *(("--user", user) if user else ()),
            "--config-dir",
            str(base),
        )
        text = self.toml.read_text()
        head, _, tables = text.partition("[[element]]")
        self.toml.write_text(f"{head}\n{places}\n{settings}\n[[element]]{tables}")

    # ------------------------------------------------------------------------ the command line

    def run(
        self, *arguments: str, check: bool = True, limit_s: float = COMMAND_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run `artstorefs`; its output is in the result, and in the error if it fails."""
        done = None if self.new_processes else _loaded().run(arguments, limit_s, s3=self.on_s3)
        if done is None:
            done = subprocess.run(
                [sys.executable, "-m", "artstorefs_tools.command_line", *arguments],
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
        if check and done.returncode:
            raise AssertionError(f"artstorefs {arguments}: {done.returncode}: {done.stderr}")
        return done

    def start(self, *options: str) -> "MountedArchive":
        """Mount; returns when the mount is there."""
        self.run("mount", str(self.toml), str(self.mount), *options)
        return self

    def stop(self) -> None:
        """Unmount and wait for the daemon to end."""
        self.run("umount", str(self.mount))

    def remount(self) -> None:
        self.stop()
        self.start()

    def flush(self) -> None:
        self.run("flush", str(self.toml))

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run("status", str(self.toml), "--json").stdout)
        return answer

    def ask(self, method: str) -> dict[str, Any]:
        """What the control socket answers, without the start of a command: `status`, or `flush`
        with all that it waits for. The daemon may just be starting."""
        deadline = time.monotonic() + COMMAND_LIMIT_S
        while True:
            try:
                with ControlClient(self.base / "runtime", "test", COMMAND_LIMIT_S) as client:
                    return client.call(method)
            except NotMounted:
                assert time.monotonic() < deadline, f"nobody listens: {self.log()[-4000:]}"
                time.sleep(0.01)

    def adopt(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`artstorefs adopt`."""
        element = ("--element", self.element_argument)
        arguments = ("adopt", "test", *element, "--config-dir", str(self.base), *options)
        return self.run(*arguments, check=check)

    # ------------------------------------------------------------------------------ processes

    @property
    def pid(self) -> int:
        """Process id of the daemon, from the lock file."""
        return int((self.state / "lock").read_text().split()[0])

    def kill(self) -> None:
        """kill -9 of the daemon, and the end of it; the dead mount stays."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)

    def kill_what_is_left(self) -> None:
        """The same of a daemon that may have ended by itself."""
        pid = self.pid
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        wait_for_end(pid)

    def log(self) -> str:
        """What the daemon has logged."""
        path = self.state / "daemon.log"
        return path.read_text() if path.exists() else ""

    def clean_up(self) -> None:
        """Unmount whatever is left, end the daemon, whatever state they are in."""
        subprocess.run(["umount", "-l", str(self.mount)], capture_output=True, check=False)
        try:
            pid = self.pid
        except (OSError, ValueError, IndexError):
            return
        if self._is_locked_by(pid):
            others = children(pid)  # the transfer process finishes what it has begun
            os.kill(pid, signal.SIGKILL)
            for process in (pid, *others):
                wait_for_end(process)

    def _is_locked_by(self, pid: int) -> bool:
        """Whether a process has our lock file open: the number may be another's by now."""
        lock = os.path.realpath(self.state / "lock")
        try:
            descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False
        return any(_target(descriptor) == lock for descriptor in descriptors)

    # ------------------------------------------------------------------------------ elements

    def objects(self) -> list[Path]:
        """Objects and sidecars on the element, without what is ours."""
        return sorted(
            path
            for path in self.element.rglob("*")
            if path.is_file() and ".artstorefs" not in path.parts
        )

    def attributes(self, name: str) -> dict[str, Any]:
        """The attr.json of the file that is called `name` (of the first one found)."""
        for path in self.element.rglob("*.attr.json"):
            document: dict[str, Any] = json.loads(path.read_bytes())
            if document["original_filename"] == name:
                return document
        raise AssertionError(f"no attr.json of {name}")


def kernel_has_passthrough() -> bool:
    """Whether it writes the spool by itself, for us (`artstorefs/filesystem/passthrough.py`)."""
    release = os.uname().release.split("-")[0].split(".")
    return os.geteuid() == 0 and (int(release[0]), int(release[1])) >= (6, 9)


def wait_until(is_so: Callable[[], bool], limit_s: float = 60) -> None:
    """Until it is so; a minute is more than anything here takes."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, "it does not get there"
        time.sleep(0.01)


def wait_for_end(pid: int, limit_s: float = 30) -> None:
    """Until a process is gone (or a zombie of somebody else)."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} did not end in {limit_s} s")


def children(pid: int) -> list[int]:
    """Process ids of the children of a process; none when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


_starters: list[Starter] = []


def _loaded() -> Starter:
    """What the commands of this process are forked from."""
    if not _starters:
        _starters.append(Starter())
        atexit.register(_starters[0].close)
    return _starters[0]
