"""Which elements the transfer process may use: those that have said what they are.

Each element has a thread that asks it, until it answers as the element of this archive that it
should be (`elements/identified.py`), then takes away what an earlier process had staged there, lets
everybody use it, and brings README.txt and restore.py up to date. Until then whoever needs the
element is told at once why it cannot be used; only the first answer is waited for.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementError, ElementUnavailable
from artstorefs.core.log_fields import about
from artstorefs.core.modes import ElementMode, Operation, refusal
from artstorefs.elements.adoption import Witnesses, nothing_known
from artstorefs.elements.gauges import Gauges
from artstorefs.elements.identified import Join, check_identity, read_layout
from artstorefs.elements.interface import Element
from artstorefs.elements.offline import WithMedium, medium_of
from artstorefs.elements.opening import (
    adoption_of,
    capabilities_of,
    identified_element,
    open_element,
)
from artstorefs.recovery.layout import refresh_guides, write_layout
from artstorefs.recovery.leftovers import remove_leftovers
from artstorefs.state.files import INDEX
from artstorefs.state.witnesses import witnesses_of

log = logging.getLogger(__name__)

PAUSE_S = 5.0
"""Between two questions to an element that nobody needs."""

REST_S = 0.2
"""Between two at least: the files of a batch ask one after the other."""

WAIT_S = 0.5
"""How long somebody waits for the answer of an element that has failed before."""

FIRST_WAIT_S = 30.0
"""And of one that has not, which is to be used as soon as it can be: as long as that may take on a
busy machine. One that does not answer has failed after some seconds."""


class Introduction:
    """What is known of one element. `run` is its thread, `require` for everybody."""

    def __init__(
        self,
        configuration: ElementConfiguration,
        archive_id: UUID,
        *,
        read_only: bool,
        witnesses: Witnesses = nothing_known,
        join: Join | None = None,
    ) -> None:
        """`witnesses` and `join`: for one that was adopted."""
        self._configuration = configuration
        self._archive_id = archive_id
        self._witnesses = witnesses
        self._join = join
        self.gauges = Gauges()
        mode = ElementMode(configuration.mode)
        self._takes_guides = not read_only and not refusal(mode, Operation.CREATE, False)
        self._changed = threading.Condition()
        self._is_done = False
        self._failure: ElementError | None = None
        self._is_wanted = False
        self._tries = 0
        """How often somebody has asked to have it tried at once."""
        self._tried = 0
        """How many of these the last answer is newer than."""
        self._is_asked = True
        self._since = time.monotonic()
        """When it was asked, or else has failed."""

    def run(self) -> None:
        """Until the element is introduced."""
        try:
            element = self.open()
            while not self._ask(element):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_wanted, PAUSE_S)
            self._refresh_guides(element)
            element.close()
        except Exception:
            log.exception("the transfer process ends because of this")
            os._exit(70)

    def open(
        self, require: Callable[[], None] | None = None, *, for_readers: bool = False
    ) -> Element:
        """The element, if it proves to be that and `require` lets it be used; without `require` by
        the introduction, which makes no element one of the archive."""
        return identified_element(
            self._configuration,
            self._archive_id,
            require,
            for_readers=for_readers,
            gauges=self.gauges,
            witnesses=self._witnesses,
            join=None if require is None else self._join,
        )

    def report(self) -> dict[str, Any]:
        """What has been counted, the state of the breaker, None for one that has no use for it, and
        whether objects are locked there; for `ElementReports.take_gauges`."""
        is_near = capabilities_of(self._configuration).local_path
        view = None if is_near else asdict(self.gauges.breaker.view(time.monotonic()))
        return {
            "counters": self.gauges.counters.counts().to_message(),
            "breaker": view,
            "locks": self.gauges.locks.is_there,
        }

    def require(self) -> None:
        """Raise ElementUnavailable unless the element may be used; waits for a moment where its
        answer may come in that."""
        with self._changed:
            passed_s = time.monotonic() - self._since
            if not self._is_done and self._tried < self._tries:
                self._changed.wait_for(
                    lambda: self._is_done or self._tried >= self._tries, FIRST_WAIT_S
                )
            elif not self._is_done and (self._is_asked or passed_s > REST_S):
                self._is_wanted = True
                self._changed.notify_all()
                before = self._failure
                limit_s = FIRST_WAIT_S if before is None else WAIT_S
                self._changed.wait_for(
                    lambda: self._is_done or self._failure is not before,
                    max(0.0, limit_s - passed_s) if self._is_asked else limit_s,
                )
            if self._is_done:
                return
            failure = self._failure
        if failure is None:
            reason = "has not answered yet; it is asked until it does"
            raise ElementUnavailable(self._configuration.id, self._configuration.place, reason)
        raise ElementUnavailable(failure.element, failure.key, failure.reason)

    def try_now(self) -> None:
        """Somebody asks: what it said before counts no more, and nobody is told that."""
        self.gauges.breaker.try_now(time.monotonic())
        with self._changed:
            self._tries += 1
            self._is_wanted = True
            self._changed.notify_all()

    def _ask(self, element: Element) -> bool:
        """Ask once; whether it is introduced now."""
        with self._changed:
            self._is_wanted = False
            tries = self._tries
            self._is_asked, self._since = True, time.monotonic()
        failure = self._failure_of_asking()
        if failure is None:
            remove_leftovers([element])
        if failure is None and self._failure is not None:
            log.info("element %s is there", element.id, extra=about(element=element.id))
        elif str(failure) != str(self._failure):
            log.warning("%s", failure, extra=about(failure, element=element.id))
        with self._changed:
            self._is_asked, self._since = False, time.monotonic()
            self._failure = failure
            self._tried = tries
            self._is_done = failure is None
            self._changed.notify_all()
        return self._is_done

    def _failure_of_asking(self) -> ElementError | None:
        configuration = self._configuration
        adoption = adoption_of(configuration, self._archive_id, self._witnesses)
        try:
            asked = open_element(configuration, briefly=True, gauges=self.gauges, adoption=adoption)
            try:
                check_identity(asked, self._archive_id, configuration.place, adoption)
            finally:
                asked.close()
        except ElementError as exc:
            return exc
        return None

    def _refresh_guides(self, element: Element) -> None:
        """README.txt and restore.py as this release has them, where we may write, and have."""
        if not self._takes_guides:
            return
        try:
            if not self._configuration.adopted or read_layout(element) is not None:
                refresh_guides(element)
        except ElementError as exc:
            log.warning("README.txt and restore.py are not written: %s", exc, extra=about(exc))


def _join(lock: threading.Lock, archive_id: UUID, name: str, element: Element) -> None:
    """Make an adopted element one of the archive. One thread at a time: of two archive.json, which
    tell when they were written, one would be another than the one that was seen."""
    with lock:
        if write_layout(element, archive_id, name):
            crash_point("join.layout_written")
            told = ("element %s is one of this archive from now on", element.id)
            log.info(*told, extra=about(element=element.id))


class Introductions:
    """Those of all elements of an archive, begun at once."""

    def __init__(
        self, configuration: ArchiveConfiguration, archive_id: UUID, *, read_only: bool
    ) -> None:
        self.archive_id = archive_id
        path = os.path.join(str(configuration.state_dir), INDEX)
        media = {one.id: medium_of(one, archive_id) for one in configuration.elements}
        self._media = {name: medium for name, medium in media.items() if medium is not None}
        self._of = {
            one.id: Introduction(
                *(one, archive_id),
                read_only=read_only,
                witnesses=partial(witnesses_of, path, one.id),
                join=partial(_join, threading.Lock(), archive_id, configuration.name),
            )
            for one in configuration.elements
        }
        for introduction in self._of.values():
            threading.Thread(target=introduction.run, daemon=True).start()

    def open(self, name: str, *, for_readers: bool = False) -> Element:
        """An element that can be used once it is introduced; `for_readers` with its medium."""
        introduction = self._of[name]
        opened = introduction.open(introduction.require, for_readers=for_readers)
        medium = self._media.get(name) if for_readers else None
        return opened if medium is None else WithMedium(opened, medium)

    def open_all(self) -> dict[str, Element]:
        """All of them, by their ids."""
        return {name: self.open(name) for name in self._of}

    def try_now(self) -> None:
        """Somebody asks: whatever is left alone is asked again at once."""
        for introduction in self._of.values():
            introduction.try_now()

    def report(self) -> dict[str, dict[str, Any]]:
        """Of each element what `Introduction.report` says."""
        return {name: introduction.report() for name, introduction in self._of.items()}
