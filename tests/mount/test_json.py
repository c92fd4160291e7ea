"""What `--json` prints on a real mount is what tools/JSON.md says."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools.command_line import COMMANDS, build_parser, subparsers
from artstorefs_tools.control_client import ControlClient

from ..artstore import write_file
from ..harness import REPOSITORY, MountedArchive
from ..unit.json_document import check, commands, keys_of
from .conftest import make_archive, remove_archive

CONTROL = (REPOSITORY / "daemon" / "CONTROL.md").read_text()


def printed(archive: MountedArchive, *arguments: str, check: bool = True) -> Any:
    return json.loads(archive.run(*arguments, "--json", check=check).stdout)


def test_every_command_that_tells_something_has_json_and_a_section() -> None:
    parsers = subparsers(build_parser())
    with_json = {name for name in COMMANDS if "--json" in parsers[name]._option_string_actions}
    assert with_json == commands()
    assert set(COMMANDS) - with_json == {"mount", "umount", "completion"}


def adoption(archive: MountedArchive, place: Path) -> Any:
    """What `adopt` prints of an element with one file."""
    write_file(place / "artstore", "scan.tif", b"scan")
    path = f'"{place}/artstore"\nadopted = true'
    first, _, _ = archive.toml.read_text().rpartition("[[element]]")
    toml = first.replace(f'"{archive.element}"', path)
    toml = toml.replace(str(archive.base), str(place))
    (place / "adopted.toml").write_text(toml.replace('name = "test"', 'name = "adopted"'))
    element = f"main=local:{place}/artstore"
    made = ("adopt", "adopted", "--element", element, "--config-dir", str(place))
    return printed(archive, *made)


def migrations(archive: MountedArchive) -> Iterator[Any]:
    """What `migrate` prints of a plan, of a migration, and of the way back."""
    migrate = ("migrate", str(archive.toml))
    yield printed(archive, *migrate, "--from", "main", "--to", "second", "--dry-run")
    for source, target in (("main", "second"), ("second", "main")):
        there = ("--from", source, "--to", target, "--keep-source", "0")
        yield printed(archive, *migrate, *there)


def archived(archive: MountedArchive, place: Path, file: Path) -> tuple[Any, Any]:
    """What `medium` and `recall` print of an element that has a medium."""
    text = archive.toml.read_text()
    medium = f'[[element]]\noffline_path = "{place}/medium"\n'
    archive.toml.write_text(text.replace("[[element]]\n", medium, 1))
    archive.start()
    told = printed(archive, "medium", str(archive.toml))
    estimated = printed(archive, "recall", "--estimate", str(file))
    archive.stop()
    archive.toml.write_text(text)
    return told, estimated


@pytest.fixture
def two_elements() -> Iterator[MountedArchive]:
    archive = make_archive(further=",priority=2")
    yield archive
    remove_archive(archive)


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_output_of_every_command_is_as_documented(
    two_elements: MountedArchive, tmp_path: Path
) -> None:
    archive, name = two_elements, str(two_elements.toml)
    path = archive.mount / "f"
    path.write_bytes(b"content")
    seen: dict[str, set[str]] = {}

    def see(command: str, output: Any, **further: bool) -> Any:
        seen.setdefault(command, set()).update(check(command, output, **further))
        return output

    see("flush", printed(archive, "flush", name))
    status = see("status", printed(archive, "status", name), may_have_more=True)
    assert all(f"`{key}`" in CONTROL for key in status if key != "mounted")
    archive.run("attr", str(path), "artist=Rembrandt", "year:=1642")
    see("attr", printed(archive, "attr", str(path)))
    see("mode", printed(archive, "mode", name))
    for migration in migrations(archive):
        see("migrate", migration)
    see("expiring", printed(archive, "expiring", name))
    see("seal", printed(archive, "seal", str(path), check=False))
    see("config", printed(archive, "config", name, "--check"))
    assert all(f"`{key}`" in CONTROL for key in printed(archive, "cache", name))
    see("cache", printed(archive, "cache", name, "--warm", str(path)))
    see("rescan", printed(archive, "rescan", name))
    (tmp_path / "index-20200101T000000Z-test.db").touch()
    see("backup", printed(archive, "backup", name, "--to", str(tmp_path), "--keep", "1"))
    archive.toml.write_text('spool_max = "40GiB"\n' + archive.toml.read_text())
    see("reload", printed(archive, "reload", name))
    see("log", printed(archive, "log", name, "artstorefs.transfer", "debug"))
    with ControlClient(archive.base / "runtime", "test") as client:
        job = client.call("fsck", {"deep": True, "detach": True})["job"]
    archive.run("jobs", name, "--wait", str(job))
    see("jobs", printed(archive, "jobs", name))
    with ThreadPoolExecutor(1) as others:
        top = others.submit(printed, archive, "top", name, "--once", "--interval", "1")
        while not top.done():
            (archive.mount / "g").write_bytes(b"")
            (archive.mount / "g").unlink()
        see("top", top.result())
    (orphan,) = archive.objects()[:1]
    orphan.with_name("foreign").write_bytes(b"")
    see("fsck", printed(archive, "fsck", name, "--deep", check=False))
    see("doctor", printed(archive, "doctor", name, check=False))
    archive.flush()
    archive.stop()
    archive.toml.write_text(archive.toml.read_text() + "\n[audit]\nenabled = true\n")
    medium, recall = archived(archive, tmp_path, path)
    see("medium", medium)
    see("recall", recall)
    see("audit", printed(archive, "audit", name, "--verify"))
    assert printed(archive, "status", name, check=False) == {"archive": "test", "mounted": False}
    see("rebuild", printed(archive, "rebuild", name))
    element = f"main=local:{tmp_path}/objects"
    made = ("init", "new", "--element", element, "--config-dir", str(tmp_path))
    see("init", printed(archive, *made))
    see("adopt", adoption(archive, tmp_path))
    lost = ("--to", "1.0", "--into", str(tmp_path / "v1"))
    see("migrate-schema", printed(archive, "migrate-schema", name, "main", *lost))
    see("install-units", printed(archive, "install-units", "--root", str(tmp_path)))
    assert set(seen) == commands()
    # what only a failure has, or only one element
    rare = re.compile(
        r"(errors|failures|damaged|slowest|expiring|archived)\[\]|incomplete|problems|faults|notices"
        r"|media\[\]\.errors|jobs\[\]\.(progress|result)$|migration$"
    )
    for command, keys in seen.items():
        missing = {key for key in keys_of(command) if not rare.match(key)} - keys
        assert missing == set(), command
