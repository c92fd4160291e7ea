"""Writes NAME.toml: every key with a comment, what equals its default commented out.

`parse_configuration` of what `render_configuration` returns gives the same configuration back; a
test holds both to that.
"""

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from artstorefs.core.configuration import (
    LOCAL_KEYS,
    S3_KEYS,
    ArchiveConfiguration,
    ElementConfiguration,
)
from artstorefs.core.configuration_keys import (
    COMMENTS,
    TABLE_COMMENTS,
    example_of,
    literal,
    table_keys,
    tables,
)
from artstorefs.core.directories import Directories

_QUIET: Final = frozenset({*S3_KEYS, *LOCAL_KEYS, "on_archived_read"})
"""Keys of an element that are not written where they say nothing."""


def render_configuration(configuration: ArchiveConfiguration, defaults: Directories) -> str:
    """`configuration` as the text of a file for people to read and change.

    `defaults` are those that `parse_configuration` will be given for the file.
    """
    lines = [
        f"# Archive {configuration.name} of ArtStoreFS. What is commented out is a default.",
        "",
        f"name = {literal('name', configuration.name)}",
    ]
    presets = _presets(configuration, defaults)
    for key, preset in presets.items():
        value = getattr(configuration, key)
        mark = "# " if value == preset else ""
        shown = literal(key, example_of(key) if value is None else value)
        lines += ["", f"# {COMMENTS[key]}", f"{mark}{key} = {shown}"]
    for element in configuration.elements:
        lines += ["", *_element_lines(element)]
    for table in tables():
        lines += ["", *_table_lines(table, getattr(configuration, table))]
    return "\n".join(lines) + "\n"


def render_element(element: ElementConfiguration) -> str:
    """The table of one element, to be added to such a file; without the end of its last line."""
    return "\n".join(_element_lines(element))


def _presets(configuration: ArchiveConfiguration, defaults: Directories) -> dict[str, object]:
    """What each key is when the file does not say."""
    fields = ArchiveConfiguration.model_fields
    name, state_dir = configuration.name, configuration.state_dir
    return {key: fields[key].default for key in COMMENTS if key != "name"} | {
        "state_dir": defaults.state_dir(name),
        "cache_dir": defaults.cache_dir(name),
        "runtime_dir": defaults.runtime_dir(name, state_dir),
    }


def _table_lines(table: str, values: BaseModel) -> Iterator[str]:
    """The header is a comment too where all below it are: a key of the archive that somebody adds
    at the end would be one of this table."""
    said = set(values.model_dump(exclude_defaults=True))
    yield f"# {TABLE_COMMENTS[table]['']}"
    yield f"[{table}]" if said else f"# [{table}]"
    for key in table_keys(table):
        value = literal(key.name, getattr(values, key.name))
        is_said = key.name in said
        yield f"# {key.comment}"
        yield f"{'' if is_said else '# '}{key.name} = {value if is_said else key.example}"


def _element_lines(element: ElementConfiguration) -> Iterator[str]:
    yield "# New files go to the element with the lowest priority that has room."
    yield "[[element]]"
    for key, value in element:
        is_default = value == ElementConfiguration.model_fields[key].default
        if value is not None and not (key in _QUIET and is_default):
            yield f"{key} = {literal(key, value)}"
