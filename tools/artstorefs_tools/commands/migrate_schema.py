"""`artstorefs migrate-schema`: v1.0 on an element becomes v2.0, or is copied out as v1.0."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from artstorefs.core.errors import one_line
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.new_archives import absolute
from artstorefs_tools.progress import ProgressBar

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
    from artstorefs.elements.interface import Element
    from artstorefs.recovery.schema_migration import Migration

OURS = "posix"
"""The section that every document of ours has, and loses as a whole."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Make the attr.json of schema v1.0 on an element v2.0, while the archive is not mounted. "
        "Each is replaced whole, and nothing else is changed; the same again goes on where one was "
        "ended. With --to 1.0 nothing is changed there: v1.0 copies of all attr.json are written "
        "to another directory, and what v1.0 has no place for is listed."
    )
    parser.epilog = (
        "what cannot be read, or lacks what v2.0 has to have, is named and left,\n"
        "and the exit code is 1\n\n"
        "examples:\n"
        "  artstorefs migrate-schema museum main\n"
        "  artstorefs migrate-schema museum main --to 1.0 --into /srv/v1 > lost.txt"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("element", metavar="ELEMENT", help="id of one of its elements")
    parser.add_argument("--to", choices=("2.0", "1.0"), default="2.0", help="which version (2.0)")
    parser.add_argument("--into", metavar="DIR", help="with --to 1.0: where the copies go")
    parser.add_argument("--dry-run", action="store_true", help="with --to 2.0: only count")
    parser.add_argument("--json", action="store_true", help="the numbers, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Migrate, or export; the exit code."""
    if (arguments.to == "1.0") != (arguments.into is not None):
        raise UsageError("--to 1.0 needs --into DIR, and only that")
    if arguments.dry_run and arguments.to == "1.0":
        raise UsageError("--dry-run is for --to 2.0; the copies of --to 1.0 change nothing")
    configuration = read_configuration(arguments.name)
    known = {element.id: element for element in configuration.elements}
    if arguments.element not in known:
        those = ", ".join(known)
        raise CommandError(f"{arguments.name} has no element {arguments.element}, but {those}")
    element = known[arguments.element]
    with ProgressBar(f"schema v{arguments.to}") as bar:
        if arguments.to == "1.0":
            done = _export(configuration, element, Path(absolute(arguments.into)), arguments, bar)
        else:
            done = _migrate(configuration, element, arguments, bar)
    for problem in done.problems:
        print(f"artstorefs: {one_line(problem)}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(_as_json(done, arguments.to)))
    else:
        _tell(done, arguments)
    return exit_codes.FAILURE if done.left else exit_codes.OK


def _migrate(
    configuration: "ArchiveConfiguration",
    described: "ElementConfiguration",
    arguments: argparse.Namespace,
    bar: ProgressBar,
) -> "Migration":
    from artstorefs.core.modes import ElementMode, Operation, refusal
    from artstorefs.recovery.schema_migration import Rewritten, to_v2
    from artstorefs.state.database import Database
    from artstorefs.state.files import INDEX
    from artstorefs.state.mending import note_seen
    from artstorefs_daemon.privileges import become_owner

    if refusal(ElementMode(described.mode), Operation.CHANGE_METADATA, True):
        raise CommandError(f"element {described.id} is {described.mode}: nothing is changed there")
    become_owner(configuration)
    path = configuration.state_dir / INDEX
    with ExitStack() as opened:
        opened.enter_context(_locked(configuration))
        element = opened.enter_context(_element_to_change(configuration, described))
        database = None
        if path.exists() and not arguments.dry_run:
            database = Database(str(path))
            opened.callback(database.close)

        def note(rewritten: list[Rewritten]) -> None:
            if database is not None:
                rows = [(one.key, one.before, one.after) for one in rewritten]
                note_seen(database, element.id, rows)

        return to_v2(element, note, partial(_show, bar), dry_run=arguments.dry_run)


@contextmanager
def _locked(configuration: "ArchiveConfiguration") -> Iterator[None]:
    """Raises ArchiveInUse while the archive is mounted."""
    from artstorefs.elements.durable import make_directories_durably
    from artstorefs.state.lock import StateLock

    make_directories_durably(configuration.state_dir)
    lock = StateLock(str(configuration.state_dir), configuration.name)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _element_to_change(
    configuration: "ArchiveConfiguration", described: "ElementConfiguration"
) -> Iterator["Element"]:
    """The element, once it has proved to be the one; an adopted one gets its archive.json before
    the first change, as on the mount. Of the others only the id of the archive may be needed."""
    from artstorefs.elements.opening import identified_element, open_elements
    from artstorefs.recovery.layout import write_layout
    from artstorefs.state.files import INDEX
    from artstorefs.state.witnesses import witnesses_of
    from artstorefs_daemon.archive_identity import archive_id

    every = open_elements(configuration.elements)
    try:
        identity = archive_id(configuration, every)
    finally:
        for one in every.values():
            one.close()
    path = str(configuration.state_dir / INDEX)
    there = os.path.exists(path)

    def join(element: "Element") -> None:
        write_layout(element, identity, configuration.name)

    element = identified_element(
        *(described, identity),
        witnesses=lambda: witnesses_of(path, described.id) if there else (),
        join=join,
    )
    try:
        yield element
    finally:
        element.close()


def _export(
    configuration: "ArchiveConfiguration",
    described: "ElementConfiguration",
    target: Path,
    arguments: argparse.Namespace,
    bar: ProgressBar,
) -> "Migration":
    from artstorefs.elements.adoption import Adoption
    from artstorefs.elements.durable import make_directories_durably
    from artstorefs.elements.local import LocalElement
    from artstorefs.elements.opening import open_element
    from artstorefs.elements.staging import TEMPORARY_DIRECTORY
    from artstorefs.recovery.schema_migration import to_v1

    for one in configuration.elements:
        if one.path is not None and (one.path == target or one.path in target.parents):
            raise CommandError(f"{target} lies on element {one.id}; the copies go somewhere else")
    make_directories_durably(target)
    with ExitStack() as opened:
        element = open_element(described)
        opened.callback(element.close)
        copies = LocalElement("copies", str(target), adoption=Adoption())
        opened.callback(_remove_if_empty, target / TEMPORARY_DIRECTORY)
        opened.callback(copies.close)
        lost = _ignore if arguments.json else _tell_lost
        return to_v1(element, copies, lost, partial(_show, bar))


def _remove_if_empty(directory: Path) -> None:
    for path in (directory, directory.parent):
        try:
            path.rmdir()
        except OSError:  # not there, or of somebody else
            return


def _ignore(key: str, fields: list[str]) -> None:
    """The numbers of all fields are in the JSON."""


def _tell_lost(key: str, fields: list[str]) -> None:
    print(one_line(f"{key}: {', '.join(dict.fromkeys(_section(field) for field in fields))}"))


def _section(field: str) -> str:
    return OURS if field.startswith(f"{OURS}.") else field


def _show(bar: ProgressBar, done: "Migration") -> None:
    bar.show(done.documents, None, f"{done.documents:,} documents, {done.migrated:,} written")


def _tell(done: "Migration", arguments: argparse.Namespace) -> None:
    if arguments.to == "1.0":
        written, before = "copies written", "there already"
    else:
        written = "would become v2.0" if arguments.dry_run else "have become v2.0"
        before = "were v2.0"
    parts = [f"{done.documents:,} documents", f"{done.migrated:,} {written}"]
    parts += [f"{done.before:,} {before}", f"{done.left:,} left as they are"]
    print(", ".join(parts), file=sys.stderr if arguments.to == "1.0" else sys.stdout)


def _as_json(done: "Migration", to: str) -> dict[str, object]:
    return {
        "to": to,
        "documents": done.documents,
        "migrated": done.migrated,
        "before": done.before,
        "left": done.left,
        "problems": done.problems,
        "lost": done.lost,
    }
