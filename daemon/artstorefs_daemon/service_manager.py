"""What systemd is told: that the mount is there, that the daemon lives, what it does, and its end.

The protocol is a datagram of lines to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). Only
the process that systemd has started speaks; what it starts does not even know of the socket. The
watchdog is fed by a task of the loop that serves the mount, so it tells when that hangs.

systemd also keeps a descriptor from the end of a daemon to the start of the next one
(FileDescriptorStoreMax= in systemd.service(5), sd_listen_fds(3)).
"""

import logging
import os
import select
import socket
from collections.abc import Callable, Mapping

import trio

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 10.0
"""Without a watchdog the status is told so often."""

EXTENSION_INTERVAL_S = 5.0
EXTENSION_S = 30.0
"""While the log is drained, so much more time is asked for, again and again."""

BARRIER_LIMIT_S = 5.0
"""How long systemd may take to say that it has what we gave it."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class ServiceManager:
    """`socket_path`: None where nobody listens; every call then does nothing."""

    def __init__(
        self,
        socket_path: str | None,
        watchdog_s: float | None = None,
        stored: Mapping[str, int] | None = None,
    ) -> None:
        self._stored = dict(stored or {})
        self._address: str | None = socket_path
        if socket_path is not None and socket_path.startswith("@"):
            self._address = "\0" + socket_path[1:]  # an abstract one
        self._watchdog_s = watchdog_s

    @classmethod
    def of_environment(cls) -> "ServiceManager":
        """The one that has started this process, if one has. Takes the variables out of the
        environment: who inherits them could speak in our name."""
        path, period_us, watched = (os.environ.pop(name, "") for name in _VARIABLES)
        is_ours = not watched or watched == str(os.getpid())
        watchdog_s = int(period_us) / 1e6 if period_us.isdecimal() and is_ours else None
        return cls(path or None, watchdog_s or None, _stored_descriptors())

    def ready(self) -> None:
        """The mount is there."""
        self.tell(READY="1")

    def stopping(self) -> None:
        """The mount is gone; what is under way is still carried."""
        self.tell(STOPPING="1")

    def store(self, name: str, descriptor: int) -> bool:
        """Have a descriptor kept for the process that follows this one; whether it is. Whoever
        ends right afterwards is still known for certain: systemd has answered."""
        if self._address is None:
            return False
        reading, writing = os.pipe()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(BARRIER_LIMIT_S)
                sender.connect(self._address)
                lines = f"FDSTORE=1\nFDNAME={name}".encode()
                socket.send_fds(sender, [lines], [descriptor])
                socket.send_fds(sender, [b"BARRIER=1"], [writing])
            os.close(writing)
            writing = -1
            return bool(select.select([reading], [], [], BARRIER_LIMIT_S)[0])
        except OSError as exc:
            log.warning("the service manager keeps nothing for the next daemon: %s", exc)
            return False
        finally:
            for end in (reading, writing):
                if end >= 0:
                    os.close(end)

    def take_stored(self, name: str) -> int | None:
        """The descriptor that was kept under this name, if one was. All others are closed, and
        systemd keeps none any more."""
        stored, self._stored = self._stored, {}
        for other in stored:
            self.tell(FDSTOREREMOVE="1", FDNAME=other)
            if other != name:
                os.close(stored[other])
        return stored.get(name)

    def tell(self, **states: str) -> None:
        """Send `KEY=value` lines. A manager that does not listen is its own trouble."""
        if self._address is None:
            return
        message = "\n".join(f"{key}={value}" for key, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message.encode(errors="replace"), self._address)
        except OSError as exc:
            log.warning("the service manager was not told %s: %s", ", ".join(states), exc)

    async def keep_informed(self, status: Callable[[], str]) -> None:
        """Feed the watchdog at half of its period, with the status, until it is cancelled."""
        if self._address is None:
            return
        interval_s = STATUS_INTERVAL_S if self._watchdog_s is None else self._watchdog_s / 2
        while True:
            states = {"STATUS": " ".join(status().splitlines())}
            if self._watchdog_s is not None:
                states["WATCHDOG"] = "1"
            self.tell(**states)
            await trio.sleep(interval_s)

    async def ask_for_time(self) -> None:
        """The end takes its time: have it until this is cancelled."""
        while True:
            self.tell(EXTEND_TIMEOUT_USEC=str(int(EXTENSION_S * 1e6)))
            await trio.sleep(EXTENSION_INTERVAL_S)


def _stored_descriptors() -> dict[str, int]:
    """What was kept for this process, by name (sd_listen_fds_with_names(3)). As with the rest of
    the environment, nobody inherits it."""
    count, pid, names = (os.environ.pop(name, "") for name in _LISTEN_VARIABLES)
    if not count.isdecimal() or pid != str(os.getpid()):
        return {}
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return dict(zip(names.split(":"), descriptors, strict=False))
