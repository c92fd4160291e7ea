"""The table "A mount that goes to the next daemon" of RECOVERY.md, step by step."""

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ..harness import kernel_has_passthrough
from ..mount.keeper import Keeper, keeper_of_new_archive

LEAVING = ("handover.noted", "handover.written", "handover.kept")
TAKING = ("handover.taken",)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with keeper_of_new_archive() as keeper:
        yield keeper


@pytest.mark.parametrize("point", [*LEAVING, *TAKING])
def test_kill_at_every_step_of_a_handover(keeper: Keeper, point: str) -> None:
    archive = keeper.archive
    if point in LEAVING:
        keeper.start_armed(point)
    else:
        keeper.start()
    (archive.mount / "closed").write_bytes(b"closed")
    device = archive.mount.stat().st_dev
    file = os.open(archive.mount / "open", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"before")
    keeper.end()
    if point in TAKING:
        keeper.start_armed(point)
    is_kept = point == "handover.kept"
    assert bool(keeper.stored) == is_kept
    keeper.start()
    assert (archive.mount.stat().st_dev == device) == is_kept
    whole = b"before"
    if is_kept or kernel_has_passthrough():
        os.write(file, b" after")
        whole += b" after"
    with suppress(OSError):  # of a mount that is dead
        os.close(file)
    assert not keeper.stored
    assert not (archive.state / "handover.json").exists()
    archive.flush()
    assert (archive.mount / "open").read_bytes() == whole
    assert (archive.mount / "closed").read_bytes() == b"closed"
    archive.stop()
    archive.run("fsck", str(archive.toml), "--deep")
