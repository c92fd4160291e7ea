"""An archive of a machine, that a service or a line of fstab mounts."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .machine import CommandFailed, Machine, wait_for

LOAD = Path(__file__).with_name("load.py")
START_LIMIT_S = 60.0
CREDENTIALS = "[default]\n"


class Museum:
    """`/srv/NAME`, on the element `/srv/objects-NAME`; its configuration is made if missing. Its
    service is artstorefs@NAME, or artstorefs-root@NAME if it `is_roots`."""

    def __init__(self, machine: Machine, name: str = "museum", *, is_roots: bool = False) -> None:
        self.machine = machine
        self.name = name
        self.unit = f"artstorefs{'-root' if is_roots else ''}@{name}.service"
        self.stub = f"artstorefs-mount@{name}.service"
        self.mount = f"/srv/{name}"
        self.element = f"/srv/objects-{name}"
        self._configure("root" if is_roots else "artstorefs")

    def _configure(self, user: str) -> None:
        machine = self.machine
        machine.write("/root/load.py", LOAD.read_text())
        if machine.path(f"/etc/artstorefs/{self.name}.toml").exists():
            return
        machine.run("mkdir", self.mount)
        element = f"main=local:{self.element}"
        words = ("--element", element, "--mountpoint", self.mount, "--user", user)
        machine.run("artstorefs", "init", self.name, *words)

    def serve(self) -> "Museum":
        """Have the service enabled and running, with a credential as the README shows it."""
        credentials = f"/etc/artstorefs/{self.name}.credentials"
        self.machine.write(credentials, CREDENTIALS, 0o600)
        drop_in = f"/etc/systemd/system/{self.unit}.d/credentials.conf"
        self.machine.write(drop_in, f"[Service]\nLoadCredential=s3:{credentials}\n")
        self.machine.run("systemctl", "reset-failed")
        self.machine.run("systemctl", "enable", "--now", self.unit)
        return self

    @property
    def pid(self) -> int:
        """Of the daemon, in the machine; 0 while there is none."""
        return int(self.show("MainPID"))

    def show(self, name: str, unit: str | None = None) -> str:
        """A property of the service, or of another."""
        return self.machine.run("systemctl", "show", "-P", name, unit or self.unit).strip()

    @contextlib.contextmanager
    def dropped_in(self, name: str, text: str) -> Iterator[None]:
        """With that in its unit, from its next start on."""
        path = f"/run/systemd/system/{self.unit}.d/{name}.conf"
        self.machine.write(path, text)
        self.machine.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.machine.path(path).unlink()
            self.machine.run("systemctl", "daemon-reload")

    def kill(self, signal: str) -> None:
        self.machine.run("kill", f"-{signal}", str(self.pid))

    def is_mounted(self) -> bool:
        """Whether it is, and answers."""
        command = ("findmnt", "-n", "-t", "fuse.artstorefs", self.mount)
        if not self.machine.run(*command, check=False):
            return False
        return self.machine.run("stat", "-f", self.mount, check=False).startswith("  File:")

    def wait_for_other_daemon(self, than: int, limit_s: float = START_LIMIT_S) -> float:
        """Until the archive is mounted by another process; how long that took."""
        return wait_for(
            lambda: self.pid not in (0, than) and self.is_mounted(), limit_s, self.journal
        )

    def journal(self) -> str:
        """What the service has logged."""
        return self.machine.run("journalctl", "--no-pager", "-u", self.unit)

    def new_directory(self, name: str) -> str:
        """An empty one on the mount."""
        path = f"{self.mount}/{name}"
        self.machine.run("rm", "-rf", path)
        self.machine.run("mkdir", path)
        return path

    def load(self, verb: str, *arguments: str) -> str:
        """The last line that load.py says."""
        lines = self.machine.run("python3", "/root/load.py", verb, *arguments).splitlines()
        return lines[-1] if lines else ""

    def is_whole(self, directory: str, original: str) -> bool:
        """Whether a directory of the mount is like one of the machine's."""
        try:
            self.machine.run("diff", "-r", original, directory)
        except CommandFailed:
            return False
        return True
