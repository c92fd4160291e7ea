"""Which mode each element is in, as the index keeps it: a row of `settings` for each element whose
mode was ever changed while it was mounted. `core/mode_changes.py` says what may follow what.
"""

import logging
import time
from collections.abc import Callable, Sequence

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.core.marks import moment_text
from artstorefs.core.mode_changes import ModeState, Phase, as_configured
from artstorefs.core.modes import ElementMode, Operation, refusal
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.state.database import Database

log = logging.getLogger(__name__)

_SETTING = "mode:"
"""Before the id of the element: the key of its row."""


def setting_of(element: str) -> str:
    """Key of the row of an element."""
    return f"{_SETTING}{element}"


class ElementModes:
    """`states` by the ids of the elements, in the order of the configuration. Not thread-safe."""

    def __init__(
        self, database: Database, configured: Sequence[ElementConfiguration], frozen: set[str]
    ) -> None:
        """`frozen` is kept to be those whose modes allow no change."""
        self._database = database
        self._frozen = frozen
        self._configured = tuple(configured)
        self.states: dict[str, ModeState] = {}
        self.in_force: dict[str, ElementMode] = {}
        """What system calls are judged by."""
        self.elements: tuple[ElementConfiguration, ...] = ()
        """The configuration with the modes that are in force."""
        self.accepting: tuple[ElementConfiguration, ...] = ()
        """Those of them that new files may go to, as far as their mode lets them."""
        self.draining: tuple[ElementConfiguration, ...] = ()
        """Those that prepare for another mode, with the one that they leave: they still take what
        was accepted before, where nobody else does."""
        self.takers: list[str] = []
        """The elements that take new files by their mode, in the order in which they are filled."""
        self.moving: frozenset[str] = frozenset()
        """Elements between which files are being moved."""
        self.emptied: str | None = None
        """The one that all files are moved from: it takes no new ones, as if it prepared."""
        self.changed: Callable[[], None] = lambda: None
        """Told after each change."""
        self.forbids_nothing = self.seals = False
        """Whether all elements are in mode edit and retain nothing; whether any seals files."""
        for one in self._configured:
            self.states[one.id] = self._at_start(one)
        self._derive()

    def _at_start(self, one: ElementConfiguration) -> ModeState:
        mode, told = ElementMode(one.mode), about(element=one.id)
        text = self._database.setting(setting_of(one.id))
        before = _read(one.id, text, mode) if text else None
        until_ns = timestamp_ns(one.retain_until) if one.retain_until else None
        state = as_configured(before, mode, until_ns, now_ns=time.time_ns())
        if before is not None and state.configured is not before.configured:
            reason = "that counts, and what it was put into before does not"
            log.warning("element %s: %s; %s", one.id, state.why, reason, extra=told)
        if state.retain_until_ns is not None and state.retain_until_ns != until_ns:
            until = moment_text(state.retain_until_ns)
            line = "element %s: what is there is retained until %s, whatever the configuration says"
            log.warning(line, one.id, until, extra=told)
        if state.to_json() != (text or ModeState(mode, mode).to_json()):
            try:
                self._write(one.id, state)
            except StateError as exc:  # a start needs no room; the next one comes to the same
                line = "the mode of element %s is kept by a later start: %s"
                log.warning(line, one.id, exc, extra=told)
        return state

    def put(self, element: str, state: ModeState) -> None:
        """From now on. One transaction; raises StateError, and then nothing has changed."""
        self._write(element, state)
        self.states[element] = state
        self._derive()
        self.changed()

    def migrates(self, moving: frozenset[str], emptied: str | None) -> None:
        """Files are moved between these elements from now on, and everything from one of them."""
        self.moving, self.emptied = moving, emptied
        self._derive()

    def _write(self, element: str, state: ModeState) -> None:
        with self._database.transaction():
            self._database.set_setting(setting_of(element), state.to_json())

    def _derive(self) -> None:
        self.in_force = {element: state.in_force for element, state in self.states.items()}
        self.elements = tuple(
            one.model_copy(update={"mode": str(self.in_force[one.id])}) for one in self._configured
        )
        self.accepting = tuple(one for one in self.elements if one.id != self.emptied)
        self.draining = tuple(
            one.model_copy(update={"mode": str(self.states[one.id].mode)})
            for one in self._configured
            if self.states[one.id].phase is Phase.PREPARING or one.id == self.emptied
        )
        able = [
            one
            for one in self.accepting
            if not refusal(self.in_force[one.id], Operation.CREATE, False)
        ]
        self.takers = [one.id for one in sorted(able, key=lambda one: one.priority)]
        self._frozen.clear()
        for element, mode in self.in_force.items():
            if refusal(mode, Operation.CHANGE_METADATA, False):
                self._frozen.add(element)
        self.seals = any(state.seals for state in self.states.values())
        self.forbids_nothing = not self.seals and set(self.in_force.values()) == {ElementMode.EDIT}


def _read(element: str, text: str, configured: ElementMode) -> ModeState:
    """Doubt about it means that nothing may be changed until a person has decided."""
    try:
        return ModeState.from_json(text)
    except (ValueError, TypeError, KeyError) as exc:
        log.error(
            "the index does not tell the mode of element %s any more (%s); until the configuration "
            "says another one than %s, nothing is changed there",
            *(element, exc, configured),
            extra=about(exc, element=element),
        )
    mode = ElementMode.AR if configured is ElementMode.AR else ElementMode.RO
    return ModeState(configured, mode, why="the index does not tell")
