"""Every reader of documents against the table of `cases.py`: rebuild, survey, observation, rewrite.

All cases lie on one element, beside good files. What is bad is named in the log or in the failure,
is left as it is, byte by byte, and costs nobody else anything.
"""

import json
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from artstorefs.core.naming import record_key
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from ..filesystem.workbench import DIRECTORY, ME, Workbench
from .cases import PLACES, TEXTS, PlaceCase, TextCase, written
from .planting import CANARY, assert_good, forget

TEXTS_BY_KIND = [(case, kind) for case in TEXTS for kind in case.kinds]
PLACES_BY_KIND = [(case, kind) for case in PLACES for kind in ("attr", "directory", "link")]

pytestmark = pytest.mark.slow


@pytest.fixture
async def bench(tmp_path: Path) -> Workbench:
    (tmp_path / "canary").write_bytes(CANARY)
    return Workbench(tmp_path)


@dataclass
class Victim:
    """A node whose document is made bad; of a link, the link's record."""

    case: TextCase | PlaceCase
    kind: str
    node: Node
    path: Path
    name: bytes

    @property
    def label(self) -> str:
        return f"{self.kind}: {self.case.name}"

    def spoil(self) -> None:
        good = self.path.read_bytes()
        if isinstance(self.case, TextCase):
            self.path.write_bytes(self.case.make(json.loads(good)))
        else:
            self.path.unlink()
            self.case.make(self.path)
        self.spoilt = self.state()

    def state(self) -> Any:
        found = os.lstat(self.path)
        if stat.S_ISREG(found.st_mode) and found.st_size < 1 << 30:
            return self.path.read_bytes()
        return found.st_mode, found.st_size, found.st_ino, found.st_rdev


async def make_victims(bench: Workbench) -> list[Victim]:
    """One node for each case, on the element already; good files beside them."""
    await bench.write(b"good", b"good content")
    bench.tree.create(ROOT_INO, b"good directory", DIRECTORY, ME)
    victims = []
    for number, (case, kind) in enumerate([*TEXTS_BY_KIND, *PLACES_BY_KIND]):
        name = b"victim %d" % number
        if kind == "directory":
            node = bench.tree.create(ROOT_INO, name, DIRECTORY, ME)
        else:
            node = await bench.write(name, b"content of %d" % number)
        if kind == "link":
            bench.tree.link(node.ino, ROOT_INO, b"link %d" % number, ME)
        victims.append(Victim(case, kind, node, Path(), name))
    await bench.drain()
    for number, victim in enumerate(victims):
        victim.path = bench.root / key_of(bench, victim, b"link %d" % number)
    return victims


def key_of(bench: Workbench, victim: Victim, link: bytes) -> str:
    if victim.kind == "link":
        entry = bench.archive.index.name(ROOT_INO, link)
        return record_key(UUID(bytes=entry.link_id))
    copy = bench.archive.index.copies(victim.node.ino)[0]
    return copy.key if copy.is_record else f"{copy.key}.attr.json"


def assert_left(victims: list[Victim]) -> None:
    assert [one.label for one in victims if one.state() != one.spoilt] == []


async def test_rebuild_names_each_bad_document_and_goes_on(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    victims = await make_victims(bench)
    for victim in victims:
        victim.spoil()
    forget(bench)
    with caplog.at_level(logging.INFO):
        bench.open()
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert_reported(bench, victims, lines)
    await assert_good(bench)
    shown = {name for _, name, _ in bench.archive.index.children(ROOT_INO, 0, 10_000)}
    lost = {victim.name for victim in victims if victim.kind != "link"}
    assert shown & lost == set()
    await bench.drain()
    assert_left(victims)


def assert_reported(bench: Workbench, victims: list[Victim], lines: list[str]) -> None:
    missing = []
    for victim in victims:
        key = str(victim.path.relative_to(bench.root))
        found = [line for line in lines if key in line]
        reason = victim.case.reason if isinstance(victim.case, TextCase) else ""
        if not found or not any(_says(reason, line) for line in found):
            missing.append((victim.label, reason, found))
    assert missing == []
    assert not any("\n" in line for line in lines)


def _says(reason: str, line: str) -> bool:
    return any(part in line for part in reason.split("|"))


async def test_survey_names_each_bad_document_and_goes_on(bench: Workbench) -> None:
    victims = await make_victims(bench)
    for victim in victims:
        victim.spoil()
    changed = bench.root / key_of_good(bench)
    members = json.loads(changed.read_bytes())
    changed.write_bytes(written({**members, "custom_attributes": {"by": "others"}}))
    found, parts = bench.look()
    assert found.errors == []
    assert {"by": "others"} in [item.custom for part in parts for item in part.observed]
    assert found.quarantined == len(found.unreadable)
    # another file's id, or root, is for the rebuild to see; size and time say that it was changed
    assert_reported_loosely(bench, victims, [reason for _, reason in found.unreadable])
    assert_left(victims)


def key_of_good(bench: Workbench) -> str:
    node = bench.tree.lookup(ROOT_INO, b"good")
    return f"{bench.archive.index.copies(node.ino)[0].key}.attr.json"


def assert_reported_loosely(bench: Workbench, victims: list[Victim], lines: list[str]) -> None:
    keys = {str(victim.path.relative_to(bench.root)): victim for victim in victims}
    for line in lines:
        assert any(key in line for key in keys), line
    unseen = [v.label for key, v in keys.items() if not any(key in line for line in lines)]
    assert unseen == [label for label in unseen if "root of another" in label]


async def test_a_rewrite_never_destroys_what_cannot_be_read(bench: Workbench) -> None:
    victims = await make_victims(bench)
    for victim in victims:
        victim.spoil()
    for number, victim in enumerate(victims):
        if victim.kind == "link":
            bench.rename(b"link %d" % number, b"renamed %d" % number)
        else:
            bench.xattrs.set(victim.node, b"user.changed", b"by us", 0, ME)
    await bench.write(b"new", b"goes on")
    await bench.step()
    await bench.step()
    failures = {failure.ino: failure.error for failure in bench.archive.log.failures(1000)}
    unfailed = [one.label for one in victims if one.node.ino not in failures]
    assert unfailed == [label for label in unfailed if "root of another" in label]
    assert not any("Traceback" in error or "\n" in error for error in failures.values())
    assert_left([one for one in victims if one.node.ino in failures])
    await assert_good(bench)
    new = bench.tree.lookup(ROOT_INO, b"new")
    assert not bench.archive.log.is_waiting(new.ino)
