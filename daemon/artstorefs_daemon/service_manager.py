"""What systemd is told: that the mount is there, that the daemon lives, what it does, and its end.

The protocol is a datagram of lines to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). Only
the process that systemd has started speaks; what it starts does not even know of the socket. The
watchdog is fed by a task of the loop that serves the mount, so it tells when that hangs.
"""

import logging
import os
import socket
from collections.abc import Callable

import trio

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 10.0
"""Without a watchdog the status is told so often."""

EXTENSION_INTERVAL_S = 5.0
EXTENSION_S = 30.0
"""While the log is drained, so much more time is asked for, again and again."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """`socket_path`: None where nobody listens; every call then does nothing."""

    def __init__(self, socket_path: str | None, watchdog_s: float | None = None) -> None:
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
        return cls(path or None, watchdog_s or None)

    def ready(self) -> None:
        """The mount is there."""
        self.tell(READY="1")

    def stopping(self) -> None:
        """The mount is gone; what is under way is still carried."""
        self.tell(STOPPING="1")

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
