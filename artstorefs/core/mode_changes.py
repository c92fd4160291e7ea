"""How an element comes from one mode into another while it is mounted: a table. Pure.

    settled ──prepare──► preparing ──drained──► committing ──recorded──► settled, in the new mode
       ▲                     │
       └───────cancel────────┘

    settled     the element is in `mode`
    preparing   the element takes nothing new, and what is under way is carried to it; programs find
                the new mode already, but for what they have open
    committing  nothing is under way any more, and the element is told of the new mode (MODE_KEY);
                nobody can take it back, because a kill may have come after the element knew

Each phase is committed to the index before anything is done in it, so a start goes on where a kill
has ended. What is not in `STEPS` is refused, and so is a mode that `TRANSITIONS` does not lead to.

`configured` is the mode that the configuration had when this began: a configuration that says
another one since is newer, and counts (`as_configured`).
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.modes import TRANSITIONS, ElementMode


@unique
class Phase(StrEnum):
    """Where the change of a mode is."""

    SETTLED = "settled"
    PREPARING = "preparing"
    COMMITTING = "committing"


@unique
class Event(StrEnum):
    """What takes it further."""

    PREPARE = "prepare"
    CANCEL = "cancel"
    DRAINED = "drained"
    RECORDED = "recorded"


STEPS: Final = MappingProxyType(
    {
        (Phase.SETTLED, Event.PREPARE): Phase.PREPARING,
        (Phase.PREPARING, Event.CANCEL): Phase.SETTLED,
        (Phase.PREPARING, Event.DRAINED): Phase.COMMITTING,
        (Phase.COMMITTING, Event.RECORDED): Phase.SETTLED,
    }
)


class ModeChangeRefused(ArtStoreFSError):
    """An element cannot come into a mode from where it is."""

    def __init__(self, element: str, reason: str) -> None:
        super().__init__(f"element {element}: {reason}")
        self.element = element
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ModeState:
    """What is kept of one element. `since_ns`, `uid` and `why`: when, by whom and what for it came
    into the phase that it is in. `is_recorded`: the element's own record says the same. Until
    `retain_until_ns` nothing that is sealed there is changed or removed."""

    configured: ElementMode
    mode: ElementMode
    phase: Phase = Phase.SETTLED
    target: ElementMode | None = None
    since_ns: int | None = None
    uid: int | None = None
    why: str = ""
    is_recorded: bool = True
    retain_until_ns: int | None = None

    @property
    def in_force(self) -> ElementMode:
        """What system calls are judged by."""
        return self.target or self.mode

    @property
    def seals(self) -> bool:
        """Whether being sealed means anything for a file there."""
        return self.mode is ElementMode.RW or self.retain_until_ns is not None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModeState":
        """Raises ValueError, TypeError or KeyError for what is none."""
        values = json.loads(text)
        values["configured"] = ElementMode(values["configured"])
        values["mode"] = ElementMode(values["mode"])
        values["phase"] = Phase(values["phase"])
        values["target"] = ElementMode(values["target"]) if values["target"] else None
        return cls(**values)


def prepared(
    element: str, state: ModeState, target: ElementMode, *, now_ns: int, uid: int, why: str
) -> ModeState:
    """`state` once `target` has been asked for. Raises ModeChangeRefused."""
    if state.target is not None:
        reason = f"is on its way from {state.mode} to {state.target} ({state.phase})"
        raise ModeChangeRefused(element, reason)
    if target not in TRANSITIONS[state.mode]:
        raise ModeChangeRefused(element, _why_not(state.mode, target))
    phase = STEPS[state.phase, Event.PREPARE]
    return replace(state, phase=phase, target=target, since_ns=now_ns, uid=uid, why=why)


def cancelled(element: str, state: ModeState, *, now_ns: int, uid: int, why: str) -> ModeState:
    """`state` once the change is taken back. Raises ModeChangeRefused."""
    phase = STEPS.get((state.phase, Event.CANCEL))
    if phase is None and state.target is not None:
        reason = f"is being put into mode {state.target}, which cannot be taken back any more"
        raise ModeChangeRefused(element, reason)
    if phase is None:
        raise ModeChangeRefused(element, f"is in mode {state.mode}; nothing changes that now")
    return replace(state, phase=phase, target=None, since_ns=now_ns, uid=uid, why=why)


def drained(state: ModeState, *, now_ns: int) -> ModeState:
    """`state` once nothing is under way any more."""
    phase = STEPS[state.phase, Event.DRAINED]
    return replace(state, phase=phase, since_ns=now_ns, is_recorded=False)


def recorded(state: ModeState, *, now_ns: int) -> ModeState:
    """`state` once the element's own record says the mode that it is to be in."""
    if state.phase is Phase.SETTLED:
        return replace(state, is_recorded=True)
    phase, mode = STEPS[state.phase, Event.RECORDED], state.in_force
    return replace(state, phase=phase, mode=mode, target=None, since_ns=now_ns, is_recorded=True)


def as_configured(
    state: ModeState | None,
    configured: ElementMode,
    retain_until_ns: int | None = None,
    *,
    now_ns: int,
) -> ModeState:
    """What counts at a start: what was reached from this configuration, else the configuration.
    Then the element's record, if it has one, is of another time. Retention only ever becomes
    longer, whatever the configuration says."""
    if state is None:
        state = ModeState(configured, configured)
    elif state.configured is not configured:
        why = f"the configuration says {configured}, and said {state.configured} before"
        state = ModeState(
            *(configured, configured, Phase.SETTLED, None, now_ns, None, why, False),
            retain_until_ns=state.retain_until_ns,
        )
    if retain_until_ns is None or retain_until_ns <= (state.retain_until_ns or 0):
        return state
    since_ns = now_ns if state.since_ns is None else state.since_ns
    return replace(state, retain_until_ns=retain_until_ns, since_ns=since_ns, is_recorded=False)


def _why_not(mode: ElementMode, target: ElementMode) -> str:
    if mode is target:
        return f"is in mode {mode} already"
    ways = " or ".join(TRANSITIONS[mode]) or "no other mode"
    return (
        f"is in mode {mode}, which a mounted archive leaves for {ways} only; "
        f"for {target} change the configuration, and mount again"
    )
