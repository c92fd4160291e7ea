"""What the transfer process does with an element before it uses it."""

import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementError, ElementUnavailable
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import README_KEY, write_layout
from artstorefs_daemon.introductions import REST_S, WAIT_S, Introduction

OURS = uuid4()
LEFT = ".artstorefs/tmp/left"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An element as a transfer process of an earlier release has left it, killed."""
    path = tmp_path / "element"
    LocalElement.initialize(str(path))
    element = LocalElement("main", str(path))
    write_layout(element, OURS, "museum")
    element.close()
    (path / README_KEY).unlink()
    (path / LEFT).write_bytes(b"left")
    return path


def introduction(root: Path, *, archive_id: UUID = OURS, **options: Any) -> Introduction:
    read_only = options.pop("read_only", False)
    configuration = ElementConfiguration(id="main", path=root, **options)
    return Introduction(configuration, archive_id, read_only=read_only)


@pytest.mark.parametrize(
    ("options", "is_written"),
    [({}, True), ({"mode": "rw"}, True), ({"mode": "ro"}, False), ({"read_only": True}, False)],
)
def test_temporaries_go_and_guides_are_written_where_we_may(
    root: Path, options: dict[str, Any], is_written: bool
) -> None:
    made = introduction(root, **options)
    made.run()
    made.require()
    assert not (root / LEFT).exists()
    assert (root / README_KEY).exists() == is_written


@pytest.mark.slow
def test_element_is_asked_until_it_is_there(root: Path) -> None:
    away = root.with_name("away")
    root.rename(away)
    made = introduction(root)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    for _ in range(3):  # at once, while it rests, and when it is asked again
        with pytest.raises(ElementUnavailable, match="is the disk mounted"):
            made.require()
        time.sleep(REST_S / 2)
    away.rename(root)
    time.sleep(2 * REST_S)
    made.require()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("answer_s", [0.0, 2 * WAIT_S])
def test_nobody_who_has_it_tried_is_told_what_it_said_before(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer_s: float
) -> None:
    """A disk is plugged in, and `flush` asks at once: it said that the disk is not there, because
    that had just been asked, or, on a busy machine, because the answer took half a second."""
    away = root.with_name("away")
    root.rename(away)
    made = introduction(root)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    with pytest.raises(ElementUnavailable):
        made.require()
    asking = made._failure_of_asking

    def slowly() -> ElementError | None:
        time.sleep(answer_s)
        return asking()

    while made._is_asked or made._is_wanted:  # until it rests
        time.sleep(0.01)
    monkeypatch.setattr(made, "_failure_of_asking", slowly)
    away.rename(root)
    made._since = time.monotonic()  # it has said so just now
    made.try_now()
    made.require()
    thread.join(30)


@pytest.mark.slow
def test_nothing_is_done_on_what_is_another_archives(root: Path) -> None:
    theirs = (root / ARCHIVE_KEY).read_text()
    wanted = uuid4()
    made = introduction(root, archive_id=wanted)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    with pytest.raises(ElementUnavailable, match="belongs to another archive, museum"):
        made.require()
    assert (root / LEFT).exists()
    assert not (root / README_KEY).exists()
    (root / ARCHIVE_KEY).write_text(theirs.replace(str(OURS), str(wanted)))
    time.sleep(2 * REST_S)
    made.require()
    thread.join(30)
    assert not (root / LEFT).exists()
    assert (root / README_KEY).exists()
