"""What counts as a loss after a power cut, and what does not."""

import copy
import stat

import pytest

from ..crash.load import Node, Step
from .load import History, SyncedModel
from .observed import Observed, match

FILE = stat.S_IFREG | 0o644
OLD, NEW = b"synced content", b""

STEPS: list[Step] = [
    {"call": "create", "path": ".tmp", "mode": 0o644},
    {"call": "rename", "path": "file", "old": ".tmp"},
]


def before() -> SyncedModel:
    model = SyncedModel()
    model.apply({"call": "create", "path": "file", "mode": 0o644})
    model.node("file").data = OLD
    return model


def seen(*files: tuple[str, int, bytes]) -> Observed:
    return Observed({path: (Node(FILE, data), ino, 1) for path, ino, data in files})


def matched(observed: Observed, acknowledged: int, steps: list[Step] = STEPS) -> SyncedModel:
    model = before()
    return match(History(model, copy.deepcopy(steps), acknowledged), observed)


@pytest.mark.parametrize("acknowledged", [0, 1, 2])
def test_replaced_file_may_be_old_or_new(acknowledged: int) -> None:
    """Nothing of the two steps was synced: all, a part, or nothing of them may have survived."""
    assert matched(seen(("file", 1, OLD)), acknowledged).node("file").data == OLD
    assert matched(seen(("file", 2, NEW)), acknowledged).node("file").data == NEW
    assert matched(seen(("file", 1, OLD), (".tmp", 2, NEW)), acknowledged)


def test_synced_content_is_missed() -> None:
    with pytest.raises(AssertionError, match="14 synced"):
        matched(seen(("file", 1, NEW)), 1, [STEPS[0]])
    with pytest.raises(AssertionError, match="14 synced"):
        matched(seen(("file", 1, NEW), (".tmp", 2, NEW)), 2)
    with pytest.raises(AssertionError, match="like none"):
        matched(seen((".tmp", 2, NEW)), 2)
