"""Mode by system call by errno, on real mounts: the table of SEMANTICS.md, cell by cell."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import REPOSITORY, MountedArchive
from .conftest import make_archive, remove_archive
from .mode_calls import CALLS, prepare

MODES = ("edit", "rw", "ro", "ar")

_BEGINNING = "| system call | " + " | ".join(MODES) + " |"


def table() -> dict[str, dict[str, str]]:
    """The cells of the document, by the name of the call and the mode."""
    text = (REPOSITORY / "artstorefs" / "SEMANTICS.md").read_text()
    lines = text.partition(_BEGINNING)[2].splitlines()[2:]
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        call, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert call not in found, call
        found[call] = dict(zip(MODES, cells, strict=True))
    return found


TABLE = table()


def change_mode(archive: MountedArchive, mode: str) -> None:
    """In the configuration, and mount again."""
    text = archive.toml.read_text()
    archive.stop()
    text = re.sub(r"^mode = .*\n", "", text, flags=re.MULTILINE)
    archive.toml.write_text(f'{text.rstrip()}\nmode = "{mode}"\n')
    archive.start()


@pytest.fixture(scope="module", params=MODES)
def in_mode(request: pytest.FixtureRequest) -> Iterator[tuple[str, MountedArchive]]:
    """An archive whose element has, in a directory for each call, what `prepare` makes, and is in
    a mode since then."""
    archive = make_archive("settle_s = 0")
    try:
        for number in range(len(CALLS)):
            prepare(archive.mount / str(number))
        archive.flush()
        change_mode(archive, request.param)
        yield request.param, archive
    finally:
        remove_archive(archive)


def test_the_table_has_a_row_for_each_call() -> None:
    """SEMANTICS: MODE-1, MODE-2, MODE-3"""
    assert list(TABLE) == list(CALLS)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("call", CALLS)
def test_call(in_mode: tuple[str, MountedArchive], call: str) -> None:
    """SEMANTICS: MODE-1, MODE-2, MODE-3"""
    mode, archive = in_mode
    directory: Path = archive.mount / str(list(CALLS).index(call))
    try:
        CALLS[call](directory)
        found = "0"
    except OSError as exc:
        found = errno.errorcode[exc.errno or 0]
    assert found == TABLE[call][mode]
