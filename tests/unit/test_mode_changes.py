"""The table of how an element comes from one mode into another, and what is kept of it."""

import itertools
import json
from dataclasses import replace

import pytest

from artstorefs.core.errors import DocumentError
from artstorefs.core.mode_changes import (
    STEPS,
    Event,
    ModeChangeRefused,
    ModeState,
    Phase,
    as_configured,
    cancelled,
    drained,
    prepared,
    recorded,
)
from artstorefs.core.mode_record import (
    MODE_LIMIT_BYTES,
    WHY_LIMIT_CHARACTERS,
    parse_mode_record,
    render_mode_record,
)
from artstorefs.core.modes import ElementMode

EDIT, RW, RO, AR = ElementMode
SETTLED = ModeState(RW, RW)
NOW_NS = 1_800_000_000_000_000_000

DRAWN = """
settled     prepare   preparing
preparing   cancel    settled
preparing   drained   committing
committing  recorded  settled
"""


def preparing(before: ElementMode = RW, target: ElementMode = RO) -> ModeState:
    state = ModeState(before, before)
    return prepared("main", state, target, now_ns=NOW_NS, uid=7, why="full")


def test_the_table_is_the_one_that_is_drawn() -> None:
    drawn = [line.split() for line in DRAWN.split("\n")[1:-1]]
    assert {(Phase(a), Event(b)): Phase(c) for a, b, c in drawn} == STEPS


def test_from_each_phase_there_is_a_way_to_an_end() -> None:
    for phase in Phase:
        reached = {phase}
        for _ in Phase:
            reached |= {STEPS[a, b] for a, b in STEPS if a in reached}
        assert Phase.SETTLED in reached


@pytest.mark.parametrize(("before", "target"), list(itertools.product(ElementMode, ElementMode)))
def test_only_two_changes_can_be_asked_for(before: ElementMode, target: ElementMode) -> None:
    """SEMANTICS: MODE-8"""
    if (before, target) in {(RW, RO), (RO, AR)}:
        state = preparing(before, target)
        assert (state.mode, state.in_force, state.phase) == (before, target, Phase.PREPARING)
        assert (state.since_ns, state.uid, state.why) == (NOW_NS, 7, "full")
        return
    with pytest.raises(ModeChangeRefused) as caught:
        preparing(before, target)
    assert str(caught.value).startswith(f"element main: is in mode {before}")


def test_a_change_from_its_beginning_to_its_end() -> None:
    """SEMANTICS: MODE-8"""
    state = drained(preparing(), now_ns=NOW_NS + 1)
    assert (state.phase, state.in_force, state.is_recorded) == (Phase.COMMITTING, RO, False)
    state = recorded(state, now_ns=NOW_NS + 2)
    assert state == ModeState(RW, RO, since_ns=NOW_NS + 2, uid=7, why="full")


def test_while_one_is_under_way_there_is_no_other() -> None:
    for state in (preparing(), drained(preparing(), now_ns=NOW_NS)):
        with pytest.raises(ModeChangeRefused, match="on its way from rw to ro"):
            prepared("main", state, RO, now_ns=NOW_NS, uid=0, why="")


def test_what_is_prepared_can_be_cancelled_and_nothing_else() -> None:
    """SEMANTICS: MODE-8"""
    state = cancelled("main", preparing(), now_ns=NOW_NS + 5, uid=8, why="not yet")
    assert state == ModeState(RW, RW, since_ns=NOW_NS + 5, uid=8, why="not yet")
    committing = drained(preparing(), now_ns=NOW_NS)
    for refused, reason in ((SETTLED, "nothing changes"), (committing, "cannot be taken back")):
        with pytest.raises(ModeChangeRefused, match=reason):
            cancelled("main", refused, now_ns=NOW_NS, uid=0, why="")


def test_what_was_cancelled_before_the_element_knew_the_last_is_told_still() -> None:
    state = replace(preparing(), is_recorded=False)
    state = cancelled("main", state, now_ns=NOW_NS, uid=0, why="")
    assert not state.is_recorded
    assert recorded(state, now_ns=NOW_NS).is_recorded
    assert recorded(state, now_ns=NOW_NS).mode is RW


@pytest.mark.parametrize("state", [SETTLED, preparing(), drained(preparing(), now_ns=NOW_NS)])
def test_what_is_kept_of_it(state: ModeState) -> None:
    assert ModeState.from_json(state.to_json()) == state


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"configured": "rw", "mode": "wr"}'])
def test_what_is_no_state(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        ModeState.from_json(text)


def test_a_configuration_that_was_changed_since_counts() -> None:
    """SEMANTICS: MODE-9"""
    reached = ModeState(RW, RO, since_ns=1)
    assert as_configured(None, AR, now_ns=NOW_NS) == ModeState(AR, AR)
    assert as_configured(reached, RW, now_ns=NOW_NS) is reached
    for state in (reached, preparing()):
        changed = as_configured(state, EDIT, now_ns=NOW_NS)
        assert (changed.mode, changed.in_force, changed.phase) == (EDIT, EDIT, Phase.SETTLED)
        assert (changed.configured, changed.is_recorded) == (EDIT, False)


# -------------------------------------------------------------------------------- mode.json


def test_the_element_tells_the_same_as_the_index() -> None:
    """SEMANTICS: MODE-9"""
    committing = drained(preparing(), now_ns=NOW_NS)
    record = parse_mode_record(render_mode_record("main", committing), "mode.json")
    assert record.element_id == "main"
    settled = recorded(committing, now_ns=NOW_NS)
    assert record.state == settled
    by_nobody = ModeState(EDIT, EDIT, since_ns=NOW_NS, why="é" * WHY_LIMIT_CHARACTERS)
    data = render_mode_record("m" * 255, by_nobody)
    assert parse_mode_record(data, "mode.json").state == by_nobody
    assert len(data) <= MODE_LIMIT_BYTES


@pytest.mark.parametrize(
    "change",
    [
        *({"mode": "wr"}, {"configured": None}, {"element_id": ""}, {"changed_at": "yesterday"}),
        *({"why": 5}, {"changed_by_id": 5}, {"why": "x" * (WHY_LIMIT_CHARACTERS + 1)}),
    ],
    ids=str,
)
def test_what_is_no_record(change: dict[str, object]) -> None:
    good = json.loads(render_mode_record("main", preparing()))
    with pytest.raises(DocumentError):
        parse_mode_record(json.dumps(good | change).encode(), "mode.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"x" * 5000])
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_mode_record(data, "mode.json")


def test_keys_by_others_are_nothing_to_us() -> None:
    record = json.loads(render_mode_record("main", preparing())) | {"more": [1]}
    parsed = parse_mode_record(json.dumps(record).encode(), "mode.json")
    assert parsed.unknown() == {"more": [1]}
    assert parsed.state.uid == 7
    odd = parse_mode_record(json.dumps(record | {"changed_by_id": "²"}).encode(), "mode.json")
    assert odd.state.uid is None
