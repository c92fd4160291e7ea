"""How many clients there may be, and how much of the loop that serves the mount they get.

Root and the user of the daemon (`ours`) and all others have a share each, and of the others no
user can take more than a part: nobody can lock out who has to mend things. Who asks for more than
the share waits, in turn; that is no error.
"""

import math
from collections import Counter
from dataclasses import dataclass

import trio

from artstorefs_daemon.control.roles import Peer


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken for a request, and for every so many bytes, is a unit: receiving, reading and
    answering take some 0.2 ms of the loop, a connection somewhat more."""

    clients: int = 160
    clients_of_others: int = 128
    """The rest is for root and the user of the daemon."""
    clients_of_user: int = 64
    client_units_per_s: float = 100.0
    client_burst: float = 100.0
    share_units_per_s: float = 100.0
    """Of all clients of one share together: a fiftieth of the loop."""
    share_burst: float = 200.0
    connections_per_s: float = 50.0
    connections_burst: float = 100.0
    unit_bytes: int = 4096
    line_s: float = 30.0
    """Within this time a line that has begun is whole: far more than a slow program takes."""
    send_s: float = 10.0
    """Who has not taken a line by then does not read."""


class Pace:
    """So many units a second, after a burst. Who comes first is served first."""

    def __init__(self, units_per_s: float, burst: float) -> None:
        self._unit_s = 1 / units_per_s
        self._burst_s = burst / units_per_s
        self._next_s = -math.inf
        """When, of trio's clock, the next unit would be there if there were no burst."""

    def reserve_s(self, units: float) -> float:
        """Take the next turn for `units`; how long it is until then."""
        now_s = trio.current_time()
        self._next_s = max(self._next_s, now_s - self._burst_s) + units * self._unit_s
        return max(0.0, self._next_s - now_s)

    async def take(self, units: float = 1.0) -> None:
        """Take `units`, as soon as it is their turn."""
        await trio.sleep(self.reserve_s(units))


class Slots:
    """Who is connected."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of_users: Counter[int] = Counter()
        self.taken = 0
        self._of_others = 0

    def take(self, peer: Peer) -> bool:
        """Whether there is room for one more client."""
        if self.taken >= self._limits.clients:
            return False
        if not peer.is_ours:
            if self._of_others >= self._limits.clients_of_others:
                return False
            if self._of_users[peer.uid] >= self._limits.clients_of_user:
                return False
            self._of_others += 1
            self._of_users[peer.uid] += 1
        self.taken += 1
        return True

    def give_back(self, peer: Peer) -> None:
        """A client that had room is gone."""
        self.taken -= 1
        if not peer.is_ours:
            self._of_others -= 1
            self._of_users[peer.uid] -= 1
            if not self._of_users[peer.uid]:
                del self._of_users[peer.uid]
