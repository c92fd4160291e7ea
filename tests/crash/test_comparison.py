"""What a call that was under way at a kill may have left, and what it may not."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from .comparison import settle
from .load import Model, Node, payload

LONG_AGO_NS = 10**18


@pytest.fixture
def model(tmp_path: Path) -> Model:
    (tmp_path / "f").write_bytes(b"content")
    (tmp_path / "f").chmod(0o644)
    os.utime(tmp_path / "f", ns=(LONG_AGO_NS, LONG_AGO_NS))
    made = Model()
    node = Node(stat.S_IFREG | 0o644, mtime_ns=LONG_AGO_NS)
    node.data = b"content"
    made._add("f", node)
    return made


WRITE: dict[str, Any] = {"call": "write", "path": "f", "number": 3, "size": 5, "offset": 2}


def test_write_may_have_happened_or_not(model: Model, tmp_path: Path) -> None:
    assert settle(model, WRITE, tmp_path)[1] == "not done"
    with (tmp_path / "f").open("r+b") as file:
        file.seek(2)
        file.write(payload(3, 5))
    assert settle(model, WRITE, tmp_path)[1] == "done"


def test_write_may_have_left_its_time_alone(model: Model, tmp_path: Path) -> None:
    """The kernel sets it, may wait for the disk's journal, and takes no content for a process that
    was killed meanwhile. SEMANTICS: DUR-1"""
    os.utime(tmp_path / "f")
    settle(model, WRITE, tmp_path)
    with pytest.raises(AssertionError):
        settle(model, {**WRITE, "at_least": 1}, tmp_path)


def test_no_other_call_may(model: Model, tmp_path: Path) -> None:
    os.utime(tmp_path / "f")
    with pytest.raises(AssertionError):
        settle(model, {"call": "chmod", "path": "f", "mode": 0o600}, tmp_path)
    with pytest.raises(AssertionError):
        settle(model, None, tmp_path)
