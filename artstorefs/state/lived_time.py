"""The lived time of an archive: for how long it has been mounted, all mounts together; and whether
the machine's clock can be believed beside it. `core/expiry.py` says what for.

Setting `lived` of the index, a JSON object: `lived_ns` of the last look, and `wall_ns`, what the
clock should have said then by what was believed of it last. A kill costs the lived time since then,
and a rebuilt index all of it, which makes grace periods longer and nothing shorter.
"""

import json
import logging
from collections.abc import Callable

from artstorefs.core.crash_points import crash_point
from artstorefs.core.expiry import Moment, ahead_ns
from artstorefs.state.database import Database

log = logging.getLogger(__name__)

LIVED = "lived"
"""The setting."""

Clock = Callable[[], int]
"""Nanoseconds."""


class LivedTime:
    """Not thread-safe.

    The clock is believed as long as it is not further ahead of the lived time than it may be: since
    the last mount when a mount begins, and then since that. Once it is, it is believed again when
    it is set back, when the kernel says that it is synchronised (NTP), or when a person says so. A
    clock that has gone back takes nothing before its time, and what was believed before is kept for
    when it returns.
    """

    def __init__(
        self,
        database: Database,
        wall_ns: Clock,
        boot_ns: Clock,
        is_synchronised: Callable[[], bool],
    ) -> None:
        """`boot_ns` goes on, and cannot be set, as long as the kernel runs."""
        self._database = database
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns
        self._is_synchronised = is_synchronised
        self._before = _read(database.setting(LIVED))
        """When it was believed; at first that of an earlier mount."""
        self._is_of_this_mount = False
        self._begun_ns = boot_ns() - (self._before.lived_ns if self._before else 0)

    def now(self) -> Moment:
        return Moment(self._wall_ns(), self._boot_ns() - self._begun_ns)

    def ahead_ns(self, now: Moment) -> int:
        """How far the machine's clock is ahead of the lived time."""
        return ahead_ns(self._before, now) if self._before else 0

    def is_believed(self, now: Moment, ahead_max_ns: int) -> bool:
        """Whether the clock is, at `now`."""
        ahead_ns = self.ahead_ns(now)
        passed_unmounted = not self._is_of_this_mount and 0 <= ahead_ns <= ahead_max_ns
        if passed_unmounted or self._is_synchronised():
            self.believe(now)
            return True
        return ahead_ns <= ahead_max_ns

    def believe(self, now: Moment) -> None:
        """Somebody who knows says that the clock is right."""
        self._before = now
        self._is_of_this_mount = True

    def save(self, now: Moment) -> None:
        """For the next mount. Raises StateError."""
        wall_ns = now.wall_ns - self.ahead_ns(now)
        text = json.dumps({"wall_ns": wall_ns, "lived_ns": now.lived_ns})
        with self._database.transaction():
            self._database.set_setting(LIVED, text)
        crash_point("lived.saved")


def _read(text: str | None) -> Moment | None:
    """Of what cannot be read nothing was lived, and the clock is believed as in a new archive."""
    if text is None:
        return None
    try:
        values = json.loads(text)
        return Moment(int(values["wall_ns"]), int(values["lived_ns"]))
    except (ValueError, TypeError, KeyError) as exc:
        log.warning("the lived time begins anew, the index does not tell it any more: %s", exc)
        return None
