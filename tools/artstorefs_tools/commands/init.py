"""`artstorefs init`: makes a new archive, on elements that are new or carry this archive already;
to one that there is it adds elements (`further_elements.py`).

    step  what                                           a crash after it; the same `init` again
    1     configuration checked, directories made        makes what is missing
    2     archive.json, README.txt, restore.py on        finds an archive.json with its name,
          one element after the other                    takes its id, writes the rest
    3     NAME.toml, durably, never over another         says that the archive is there already

The id of the archive is in the archive.json of every element and nowhere else.
"""

import argparse
import json
import os
import pwd
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from artstorefs.core.crash_points import crash_point
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import Person, read_configuration_file
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.further_elements import archive_id_of, replace_file, with_further
from artstorefs_tools.new_archives import (
    absolute,
    add_place_arguments,
    place_of,
    tell_made,
    user_for,
    write_new_file,
)

if TYPE_CHECKING:
    from artstorefs.core.archive_record import ArchiveRecord
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
    from artstorefs.elements.interface import Element


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Make a new archive: prepare the elements, which hold its files, and write its NAME.toml. "
        "An element that carries the archive of this name already is taken as it is. To an archive "
        "that there is already, --element adds one more, from its next mount on."
    )
    parser.epilog = (
        "an element is ID=local:PATH or ID=s3:BUCKET[/PREFIX], and then any of\n"
        "  [,mode=edit|rw|ro|ar][,priority=1][,capacity=1TiB]\n"
        "and for s3, whose bucket has to be there, endpoint=URL, region=R, profile=P\n"
        "and the other keys of an [[element]] table (man artstorefs.toml)\n\n"
        "examples:\n"
        "  artstorefs init museum --element main=local:/srv/objects\n"
        "  artstorefs init museum --element a=local:/disk1/objects,capacity=2TiB \\\n"
        "                         --element b=local:/disk2/objects,priority=2\n"
        "  artstorefs init museum --element a=s3:media,endpoint=https://s3.example.org"
    )
    parser.add_argument("name", metavar="NAME", help="name of the archive")
    parser.add_argument(
        "--element",
        dest="elements",
        metavar="ID=KIND:PLACE",
        action="append",
        required=True,
        help="a place for the files; can be given several times",
    )
    parser.add_argument(
        "--copies",
        metavar="N",
        type=int,
        default=1,
        help="how many of the elements have to have each file (1)",
    )
    parser.add_argument(
        "--user",
        help="as root: whom the daemon will run as, and the new elements belong to (artstorefs, "
        "if there is such an account; root: nobody else)",
    )
    add_place_arguments(parser, "what was made")


def run(arguments: argparse.Namespace) -> int:
    """Make the archive; the exit code."""
    from artstorefs.core.configuration import new_configuration, parse_element_argument
    from artstorefs.core.configuration_text import render_configuration

    person = Person.current()
    path, told = place_of(arguments, person)
    defaults = person.directories(path)
    elements = [parse_element_argument(text, absolute) for text in arguments.elements]
    if path.exists():
        return _add(arguments, elements, path, told)
    configuration = new_configuration(
        arguments.name,
        elements,
        absolute(arguments.mountpoint) if arguments.mountpoint else None,
        defaults,
        copies=arguments.copies,
        user=user_for(arguments.user),
    )
    reused = prepare_elements(configuration.elements, configuration)
    crash_point("init.elements_made")
    write_new_file(path, render_configuration(configuration, defaults).encode())
    if arguments.json:
        print(json.dumps(_as_json(configuration, path, reused), indent=2, ensure_ascii=False))
        return exit_codes.OK
    for element_id in reused:
        print(f"element {element_id} carries this archive already, and is used as it is")
    tell_made(configuration, path, told)
    return exit_codes.OK


def _add(
    arguments: argparse.Namespace, elements: "list[ElementConfiguration]", path: Path, told: str
) -> int:
    """To the archive at `path`, those of these elements that it has not."""
    person = Person.current()
    before = read_configuration_file(path, person)
    known = {one.id for one in before.elements}
    further = [one for one in elements if one.id not in known]
    if not further:
        raise CommandError(f"{path} is there already; mount it with: artstorefs mount {told}")
    if arguments.mountpoint or arguments.user or arguments.copies != 1:
        raise UsageError(f"--mountpoint, --user and --copies are for a new archive; change {path}")
    after, text = with_further(path, further, person.directories(path))
    reused = prepare_elements(further, after, archive_id_of(before))
    replace_file(path, text.encode())
    if arguments.json:
        print(json.dumps(_as_json(after, path, reused), indent=2, ensure_ascii=False))
        return exit_codes.OK
    for one in further:
        print(f"element {one.id} is in {path}, and is used from the next mount on")
    return exit_codes.OK


def _as_json(
    configuration: "ArchiveConfiguration", path: Path, reused: list[str]
) -> dict[str, object]:
    elements = [
        {"id": one.id, "kind": one.kind, "place": one.place, "reused": one.id in reused}
        for one in configuration.elements
    ]
    return {
        "archive": configuration.name,
        "configuration": str(path),
        "mountpoint": str(configuration.mountpoint) if configuration.mountpoint else None,
        "elements": elements,
    }


def prepare_elements(
    described: "Sequence[ElementConfiguration]",
    configuration: "ArchiveConfiguration",
    of_archive: uuid.UUID | None = None,
) -> list[str]:
    """Make elements of an archive carry it, all with the same archive id, which is `of_archive` if
    it has one; the ids of those that did already.

    Raises `CommandError` if one carries another archive, before anything is written on any.
    """
    from artstorefs.elements.identified import read_layout
    from artstorefs.elements.opening import initialize_element, open_element
    from artstorefs.recovery.layout import write_layout

    with ExitStack() as opened:
        elements: list[Element] = []
        for one in described:
            initialize_element(one)
            crash_point("init.directories_made")
            elements.append(open_element(one))
            opened.callback(elements[-1].close)
        carried = {element.id: read_layout(element) for element in elements}
        archive_id = choose_archive_id(configuration.name, carried, of_archive)
        for one, element in zip(described, elements, strict=True):
            write_layout(element, archive_id, configuration.name)
            crash_point("init.element_made")
            if carried[element.id] is None:
                _give_away(one, configuration.user)
    return [element_id for element_id, record in carried.items() if record is not None]


def _give_away(element: "ElementConfiguration", user: str | None) -> None:
    """What has just been made on an element, which is root's as yet, to whom it is for."""
    if user is None or element.path is None:
        return
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise CommandError(f"there is no account {user}; make it first") from None
    owner = account.pw_uid, account.pw_gid
    for _, directories, files, folder in os.fwalk(element.path):
        for name in (*directories, *files):
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    os.chown(element.path, *owner)


def choose_archive_id(
    name: str, carried: Mapping[str, "ArchiveRecord | None"], known: uuid.UUID | None = None
) -> uuid.UUID:
    """The id for the archive `name`: `known`, or what elements carry already, else a new one."""
    ids: dict[uuid.UUID, str] = {} if known is None else {known: "that there are"}
    for element_id, record in carried.items():
        if record is None:
            continue
        if record.archive_name != name:
            raise CommandError(
                f"element {element_id} carries the archive {record.archive_name} "
                f"({record.archive_id}); choose that name, or another place"
            )
        ids[record.archive_id] = element_id
    if len(ids) > 1:
        raise CommandError(
            f"elements {' and '.join(ids.values())} carry different archives, both named {name}"
        )
    return next(iter(ids), None) or uuid.uuid4()
