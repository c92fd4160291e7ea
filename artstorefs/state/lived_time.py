"""The lived time of an archive: for how long it has been mounted, all mounts together; and whether
the machine's clock can be believed beside it. `core/expiry.py` says what for.

Setting `lived` of the index, a JSON object: `lived_ns` of the last look, and `wall_ns`, what the
clock should have said then by what was believed of it last; and `past`, the fields of a `Past`, if
there is one. A kill costs the lived time since then, and a rebuilt index all of it, which makes
grace periods longer and nothing shorter.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import astuple

from artstorefs.core.crash_points import crash_point
from artstorefs.core.expiry import Moment, Past, ahead_ns, past_at
from artstorefs.state.database import Database

log = logging.getLogger(__name__)

LIVED = "lived"
"""The setting."""

Clock = Callable[[], int]
"""Nanoseconds."""


class LivedTime:
    """Not thread-safe.

    The clock is believed as long as it is not further ahead of the lived time, or behind it, than
    it may be: since the last mount when a mount begins, and then since that. Once it is, it is
    believed again when it is set right, when the kernel says that it is synchronised (NTP), or when
    a person says so.
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
        self._before, self.past = _read(database.setting(LIVED))
        """When it was believed; at first that of an earlier mount. When it was in the past."""
        self._is_of_this_mount = False
        self._begun_ns = boot_ns() - (self._before.lived_ns if self._before else 0)

    def now(self) -> Moment:
        return Moment(self._wall_ns(), self._boot_ns() - self._begun_ns)

    def ahead_ns(self, now: Moment) -> int:
        """How far the machine's clock is ahead of the lived time."""
        return ahead_ns(self._before, now) if self._before else 0

    def is_believed(self, now: Moment, differs_max_ns: int) -> bool:
        """Whether the clock is, at `now`."""
        ahead_ns = self.ahead_ns(now)
        self.past = past_at(self.past, now, ahead_ns, differs_max_ns)
        passed_unmounted = not self._is_of_this_mount and 0 <= ahead_ns <= differs_max_ns
        if passed_unmounted or self._is_synchronised():
            self.believe(now)
            return True
        return abs(ahead_ns) <= differs_max_ns

    def believe(self, now: Moment) -> None:
        """Somebody who knows says that the clock is right."""
        self._before = now
        self._is_of_this_mount = True

    def save(self, now: Moment) -> None:
        """For the next mount. Raises StateError."""
        wall_ns = now.wall_ns - self.ahead_ns(now)
        past = None if self.past is None else astuple(self.past)
        text = json.dumps({"wall_ns": wall_ns, "lived_ns": now.lived_ns, "past": past})
        with self._database.transaction():
            self._database.set_setting(LIVED, text)
        crash_point("lived.saved")

    def changed_ns(self, ctime_ns: int) -> int:
        """When a file of this ctime was changed, as far as its age is concerned."""
        return ctime_ns if self.past is None else self.past.changed_ns(ctime_ns)


def _read(text: str | None) -> tuple[Moment | None, Past | None]:
    """Of what cannot be read nothing was lived, and the clock is believed as in a new archive."""
    if text is None:
        return None, None
    try:
        values = json.loads(text)
        before = Moment(int(values["wall_ns"]), int(values["lived_ns"]))
        if not values.get("past"):
            return before, None
        from_ns, until_ns, counts_as_ns, is_over = values["past"]
        return before, Past(int(from_ns), int(until_ns), int(counts_as_ns), bool(is_over))
    except (ValueError, TypeError, KeyError) as exc:
        log.warning("the lived time begins anew, the index does not tell it any more: %s", exc)
        return None, None
