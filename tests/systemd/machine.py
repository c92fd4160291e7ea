"""A machine with a real systemd: a container on this host's own file tree, booted in seconds.

Its root is an overlay, this host's / below and memory above (root.sh); process 1 is systemd in
namespaces of its own (boot.sh), without a network, and without anything that this host has enabled.
Nothing of it lies outside of its namespaces but control groups, which are named after the process
that has started it: whoever is next removes those of processes that are gone.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
CGROUP = "artstorefs-machine-"
BOOT_LIMIT_S = 90.0
COMMAND_LIMIT_S = 120.0

NEEDED = {
    "/lib/systemd/systemd": "systemd",
    "/usr/bin/dbus-daemon": "dbus",
    "/usr/bin/loginctl": "systemd",
    "/usr/bin/nsenter": "util-linux",
    "/usr/share/pam-configs/systemd": "libpam-systemd",
}

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # ends with whoever has started it
_RUNNING = ("running", "degraded")


class CommandFailed(AssertionError):
    """A command in the machine has failed; the text is what it said."""


class Machine:
    """Off at first; `boot` switches it on. `directory` is an empty one of this host; `init` is the
    id that the machine's process 1 has on this host, 0 while it is off."""

    def __init__(self, directory: Path, shown: list[Path]) -> None:
        remove_groups_of_the_dead()
        self._directory = directory
        self._group = f"{CGROUP}{os.getpid()}"
        self.init = 0
        self._booted: subprocess.Popen[bytes] | None = None
        self._holder = subprocess.Popen(
            [
                *_WITH_US,
                *("unshare", "--mount", "--propagation", "private"),
                *(str(HERE / "root.sh"), str(directory), *map(str, shown)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PATH": _PATH},
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        assert said == b"made\n", "the file tree of the machine could not be made, see above"

    # ---------------------------------------------------------------------------- on and off

    def boot(self) -> float:
        """Switch it on; how long it took until everything that starts at boot had started."""
        begun = time.monotonic()
        script = (
            f'mkdir -p "$1/cgroup/{self._group}" && echo 0 > "$1/cgroup/{self._group}/cgroup.procs"'
            " && exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup"
            ' "$2" "$1"'
        )
        self._booted = subprocess.Popen(
            [
                *("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *_WITH_US),
                *("sh", "-c", script, "sh", str(self._directory), str(HERE / "boot.sh")),
            ],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": _PATH},
        )
        self.init = 0
        wait_for(lambda: self._find_init() and self.state() in _RUNNING, BOOT_LIMIT_S, self._why)
        return time.monotonic() - begun

    def _find_init(self) -> bool:
        """Whether process 1 is systemd by now, and not what prepares its namespaces."""
        assert self._booted is not None
        assert self._booted.poll() is None, "the machine has ended while it booted"
        pid = self._booted.pid
        with contextlib.suppress(OSError, ValueError):
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                self.init = int(child)
        return self.init != 0

    def state(self) -> str:
        """What `systemctl is-system-running` says: starting, running, degraded, …"""
        return self.run("systemctl", "is-system-running", check=False).strip()

    def _why(self) -> str:
        if not self.init:
            return "the machine has no process 1"
        asked = ("systemctl list-jobs", "systemctl --failed", "journalctl -b --no-pager -n 60")
        return "\n".join(self.run("sh", "-c", command, check=False) for command in asked)

    def reboot(self) -> float:
        """By `systemctl reboot`; how long until it is up again."""
        begun = time.monotonic()
        self.run("systemctl", "reboot", check=False)
        self._wait_for_end()
        self.boot()
        return time.monotonic() - begun

    def _wait_for_end(self) -> None:
        assert self._booted is not None
        self._booted.wait(BOOT_LIMIT_S)

    def close(self) -> None:
        """The power is cut, and all that was in it is gone."""
        for process in (self._booted, self._holder):
            if process is not None:
                process.kill()
                process.wait(30)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        _remove_group(self._group)

    # ------------------------------------------------------------------------------- inside

    def run(
        self,
        *command: str,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        limit_s: float = COMMAND_LIMIT_S,
    ) -> str:
        """What a command says, run as root in the machine; CommandFailed if it fails."""
        done = subprocess.run(
            self.words(*command, environment=environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise CommandFailed(f"{' '.join(command)}: {done.returncode}\n{text}")
        return text

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A command that goes on beside the test; it ends with the machine."""
        return subprocess.Popen(
            self.words(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )

    def words(self, *command: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command of this host that runs one in the machine."""
        variables = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **(environment or {})}
        assignments = [f"{name}={value}" for name, value in variables.items()]
        entered = ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*entered, "env", "-i", *assignments, "nice", "-n", "-10", *command]

    def path(self, inside: str) -> Path:
        """A file of the machine as this host reaches it. Symlinks on the way are the host's."""
        return Path(f"/proc/{self.init}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Make a file in the machine, and the directories to it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def wait_for(
    is_so: Callable[[], object], limit_s: float, why: Callable[[], str] = lambda: ""
) -> float:
    """Until it is so; how long that took. AssertionError with `why()` when it takes too long."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < limit_s, f"not so after {limit_s} s\n{why()}"
        time.sleep(0.02)
    return time.monotonic() - begun


def check_tools() -> None:
    """AssertionError that names what is missing: nothing is left out in silence."""
    missing = {package for path, package in NEEDED.items() if not os.path.exists(path)}
    assert not missing, f"a machine needs these packages: {' '.join(sorted(missing))}"


@contextlib.contextmanager
def machine(shown: list[Path]) -> Iterator[Machine]:
    """A machine that is on, with these directories of the host in it, read-only."""
    check_tools()
    directory = Path(tempfile.mkdtemp(prefix="asfs-machine-"))
    made = None
    try:
        made = Machine(directory, shown)
        print(f"booted in {made.boot():.1f} s")
        yield made
    finally:
        if made is not None:
            made.close()
        directory.rmdir()


# ------------------------------------------------------------------------------ control groups


def remove_groups_of_the_dead() -> None:
    """What machines have left whose tests were killed."""
    for name in groups():
        if not os.path.exists(f"/proc/{name.removeprefix(CGROUP)}"):
            _remove_group(name)


def groups() -> list[str]:
    """Of all machines, also those of other tests."""
    return _with_groups(f'ls "$1" | sed -n "/^{CGROUP}/p"').split()


def _remove_group(name: str) -> None:
    """With all below it; its processes are dead or dying."""
    script = (
        f'group="$1/{name}"; for _ in $(seq 100); do [ -d "$group" ] || exit 0;'
        ' find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && exit; sleep 0.05; done;'
        f' echo "the control group {name} is still in use" >&2; exit 1'
    )
    _with_groups(script)


def _with_groups(script: str) -> str:
    """What a script says to whom $1 is the root of all control groups, of version 2."""
    place = tempfile.mkdtemp(prefix="asfs-groups-")
    try:
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-euc"),
                f'mount -t cgroup2 none "$1"; {script}',
                *("sh", place),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    finally:
        os.rmdir(place)


def kernel() -> tuple[int, ...]:
    """The version of the kernel that the host and all machines have, as far as it decides."""
    return tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])


def interpreter_paths() -> list[Path]:
    """What a Python program of this environment needs and a machine may not have: the virtual
    environment, and an interpreter that is not the distribution's."""
    places = [Path(sys.prefix)]
    if Path(sys.base_prefix) != Path("/usr"):
        places.append(Path(sys.base_prefix))
    return places
