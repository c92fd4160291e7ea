"""One daemon for an archive, and who it is."""

from pathlib import Path

import pytest

from artstorefs.core.errors import ArchiveInUse
from artstorefs.state.lock import StateLock


@pytest.fixture
def holder(tmp_path: Path) -> StateLock:
    lock = StateLock(str(tmp_path), "photos")
    lock.acquire()
    return lock


def refusal(directory: Path) -> ArchiveInUse:
    with pytest.raises(ArchiveInUse) as caught:
        StateLock(str(directory), "photos").acquire()
    return caught.value


def test_holder_is_named(
    tmp_path: Path, holder: StateLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4242)
    holder.write_holder()
    assert (refusal(tmp_path).holder, refusal(tmp_path).drains) == (4242, False)


def test_holder_that_drains_says_so_until_the_next_has_it(
    tmp_path: Path, holder: StateLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4242)
    holder.note_drain()
    assert (refusal(tmp_path).holder, refusal(tmp_path).drains) == (4242, True)
    holder.release()
    following = StateLock(str(tmp_path), "photos")
    following.acquire()
    assert not refusal(tmp_path).drains


def test_lock_of_a_full_disk_holds_without_a_name(tmp_path: Path, holder: StateLock) -> None:
    (tmp_path / "lock").write_bytes(b"")
    assert (refusal(tmp_path).holder, refusal(tmp_path).drains) == (0, False)
