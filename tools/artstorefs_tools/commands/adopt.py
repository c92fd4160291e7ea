"""`artstorefs adopt`: an archive of what ArtStore has written, which stays as it is.

    step  what                                           a crash after it; the same `adopt` again
    1     each element looked at: ArtStore's, and there  begins anew
    2     NAME.toml, durably, never over another         goes on; so would `mount`
    3     the index, as `rebuild` makes it               says that it is adopted already

Nothing is written to an element: that begins with the first change on the mount.
"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from artstorefs.core.crash_points import crash_point
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import Person, read_configuration_file
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.index_making import as_json, make_index
from artstorefs_tools.new_archives import (
    absolute,
    add_place_arguments,
    place_of,
    tell_made,
    user_for,
    write_new_file,
)

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Make an archive of directories that ArtStore has written, as they are: read what is there "
        "and write NAME.toml. Nothing is written to the directories before something is changed on "
        "the mount; each file shows at its storage_path and original_filename. What cannot be read "
        "is reported and left. The same command again goes on where one was ended."
    )
    parser.epilog = (
        "an element is ID=local:PATH[,mode=edit|rw|ro|ar][,priority=1][,capacity=1TiB];\n"
        "a read-only medium needs mode=ro\n\n"
        "the exit code is 1 where something could not be read\n\n"
        "examples:\n"
        "  artstorefs adopt museum --element main=local:/srv/artstore/element_01\n"
        "  artstorefs adopt museum --element cd=local:/media/cdrom,mode=ro"
    )
    parser.add_argument("name", metavar="NAME", help="name of the archive")
    parser.add_argument(
        "--element",
        dest="elements",
        metavar="ID=local:PATH",
        action="append",
        required=True,
        help="a directory that ArtStore has written; can be given several times",
    )
    parser.add_argument(
        "--user",
        help="as root: whom the daemon will run as; the elements have to be theirs (artstorefs, if "
        "there is such an account; root: nobody else)",
    )
    add_place_arguments(parser, "what was found")


def run(arguments: argparse.Namespace) -> int:
    """Adopt; the exit code."""
    from artstorefs.recovery.renew import describe

    person = Person.current()
    path, told = place_of(arguments, person)
    configuration = _configuration(arguments, path, person, told)
    crash_point("adopt.configuration_made")
    report, seconds = make_index(configuration, told)
    if arguments.json:
        print(json.dumps(_as_json(configuration, path) | as_json(report, seconds)))
    else:
        print(f"{describe(report)}, in {seconds:.1f} s")
        tell_made(configuration, path, told)
    return exit_codes.FAILURE if report.unreadable else exit_codes.OK


def _configuration(
    arguments: argparse.Namespace, path: Path, person: Person, told: str
) -> "ArchiveConfiguration":
    """What NAME.toml says after steps 1 and 2."""
    from artstorefs.core.configuration import new_configuration, parse_element_argument
    from artstorefs.core.configuration_text import render_configuration

    elements = [
        _adopted(parse_element_argument(text, absolute), text) for text in arguments.elements
    ]
    if path.exists():
        there = read_configuration_file(path, person)
        if there.elements != tuple(elements):
            raise CommandError(f"{path} is there already, and says something else")
        if _is_done(there):
            raise CommandError(
                f"{arguments.name} is adopted already; mount it with: artstorefs mount {told}"
            )
        return there
    defaults = person.directories(path)
    configuration = new_configuration(
        arguments.name,
        elements,
        absolute(arguments.mountpoint) if arguments.mountpoint else None,
        defaults,
        user=user_for(arguments.user),
    )
    _look(configuration)
    write_new_file(path, render_configuration(configuration, defaults).encode())
    return configuration


def _adopted(element: "ElementConfiguration", text: str) -> "ElementConfiguration":
    if element.kind != "local":
        raise UsageError(f"--element {text}: only a directory can be adopted: {element.id}=local:…")
    return element.model_copy(update={"adopted": True})


def _is_done(configuration: "ArchiveConfiguration") -> bool:
    """Whether there is an index that has something."""
    from artstorefs.state import files

    state = str(configuration.state_dir)
    return files.examine(state) is None and files.root_id(state) is not None


def _look(configuration: "ArchiveConfiguration") -> None:
    """Raise CommandError for an element that is one of an archive already, ElementError for one
    that is not there, or where ArtStore has written nothing."""
    from artstorefs.elements.identified import read_layout
    from artstorefs.elements.opening import open_elements
    from artstorefs_daemon.archive_identity import archive_id

    elements = open_elements(configuration.elements)
    try:
        for element in elements.values():
            record = read_layout(element)
            if record is not None:
                raise CommandError(
                    f"element {element.id} belongs to the archive {record.archive_name} already; "
                    f"artstorefs init {record.archive_name} takes it as it is"
                )
        archive_id(configuration, elements)
    finally:
        for element in elements.values():
            element.close()


def _as_json(configuration: "ArchiveConfiguration", path: Path) -> dict[str, object]:
    return {
        "archive": configuration.name,
        "configuration": str(path),
        "mountpoint": os.fspath(configuration.mountpoint) if configuration.mountpoint else None,
        "elements": [{"id": one.id, "place": one.place} for one in configuration.elements],
    }
