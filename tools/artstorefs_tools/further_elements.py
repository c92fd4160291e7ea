"""A further element for an archive that there is already: for more room, or to move files to it.

    step  what                                          a crash after it; the same again
    1     its directories made                          makes what is missing
    2     archive.json, README.txt, restore.py on it    finds them, and goes on
    3     NAME.toml with its table, over the old one    says that the element is there already

The elements that there are have to say which archive it is, and nothing is made or written on them:
where a disk is not mounted now, its empty mount point must not become the element.
"""

import os
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from artstorefs.core.errors import ElementError
from artstorefs_tools.errors import CommandError

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
    from artstorefs.core.directories import Directories


def with_further(
    path: Path, further: "Sequence[ElementConfiguration]", defaults: "Directories"
) -> "tuple[ArchiveConfiguration, str]":
    """The configuration at `path` with these elements, and its text. Raises ConfigurationError
    where they do not go together."""
    from artstorefs.core.configuration import parse_configuration
    from artstorefs.core.configuration_text import render_element

    parts = [path.read_text().rstrip("\n"), *map(render_element, further)]
    text = "\n\n".join(parts) + "\n"
    return parse_configuration(text, str(path), defaults), text


def archive_id_of(configuration: "ArchiveConfiguration") -> uuid.UUID:
    """What the elements of an archive say that its id is; those that do not answer say nothing.
    Raises CommandError where none does, or not all the same."""
    from artstorefs.elements.identified import read_layout
    from artstorefs.elements.opening import open_element

    found: dict[uuid.UUID, str] = {}
    reasons: list[str] = []
    with ExitStack() as opened:
        for described in configuration.elements:
            try:
                element = open_element(described)
                opened.callback(element.close)
                record = read_layout(element)
            except ElementError as exc:
                reasons.append(str(exc))
                continue
            if record is None or record.archive_name != configuration.name:
                reasons.append(f"element {described.id} does not carry it")
            else:
                found[record.archive_id] = described.id
    if not found:
        why = "; ".join(reasons)
        raise CommandError(f"no element says which archive {configuration.name} is: {why}")
    if len(found) > 1:
        raise CommandError(f"elements {' and '.join(found.values())} carry different archives")
    return next(iter(found))


def replace_file(path: Path, data: bytes) -> None:
    """Durably and whole; whose it is, and who may read it, stays."""
    from artstorefs.elements import durable

    before = path.stat()
    durable.write_file_durably(path, data, mode=before.st_mode & 0o777)
    os.chown(path, before.st_uid, before.st_gid)
