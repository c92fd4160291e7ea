"""Writes NAME.toml: every key with a comment, what equals its default commented out.

`parse_configuration` of what `render_configuration` returns gives the same configuration back; a
test holds both to that.
"""

import json
from collections.abc import Iterator
from typing import Final

from artstorefs.core.configuration import S3_KEYS, ArchiveConfiguration, ElementConfiguration
from artstorefs.core.directories import Directories
from artstorefs.core.sizes import format_size, parse_size

_SIZES: Final = ("spool_max", "cache_max", "capacity", "multipart_threshold", "part_size")

_COMMENTS: Final[dict[str, str]] = {
    "mountpoint": "Where `artstorefs mount NAME` mounts the archive.",
    "state_dir": "The index, the log, and content that no element has yet. Keep it on a good disk.",
    "cache_dir": "Local copies of content that an element has; may be thrown away.",
    "runtime_dir": "The control socket of the running archive.",
    "durability": "log: fsync waits for the local disk; element: it waits for an element.",
    "settle_s": "How many seconds a closed file rests before it is carried to an element.",
    "spool_max": "How much content may wait for the elements.",
    "spool_full": "What writing does then. wait: it waits for room; fail: ENOSPC at once.",
    "spool_wait_s": "How many seconds it waits before it is ENOSPC all the same.",
    "cache_max": "How large cache_dir may grow.",
    "copies": "How many elements have to have each file before it counts as safe.",
    "index_backup_interval_s": "How often the index is copied to state_dir/backup; 0: never.",
}


def render_configuration(configuration: ArchiveConfiguration, defaults: Directories) -> str:
    """`configuration` as the text of a file for people to read and change.

    `defaults` are those that `parse_configuration` will be given for the file.
    """
    lines = [
        f"# Archive {configuration.name} of ArtStoreFS. What is commented out is a default.",
        "",
        f"name = {_literal(configuration.name)}",
    ]
    presets = _presets(configuration, defaults)
    for key, comment in _COMMENTS.items():
        value = _value(key, getattr(configuration, key))
        preset = _value(key, presets[key])
        mark = "# " if value == preset else ""
        shown = _literal("/srv/NAME") if value is None else _literal(value)
        lines += ["", f"# {comment}", f"{mark}{key} = {shown}"]
    for element in configuration.elements:
        lines += ["", *_element_lines(element)]
    return "\n".join(lines) + "\n"


def _presets(configuration: ArchiveConfiguration, defaults: Directories) -> dict[str, object]:
    """What each key is when the file does not say."""
    fields = ArchiveConfiguration.model_fields
    name, state_dir = configuration.name, configuration.state_dir
    return {key: fields[key].default for key in _COMMENTS} | {
        "state_dir": defaults.state_dir(name),
        "cache_dir": defaults.cache_dir(name),
        "runtime_dir": defaults.runtime_dir(name, state_dir),
    }


def _element_lines(element: ElementConfiguration) -> Iterator[str]:
    yield "# New files go to the element with the lowest priority that has room."
    yield "[[element]]"
    for key, value in element:
        is_default = value == ElementConfiguration.model_fields[key].default
        if value is not None and not (key in S3_KEYS and is_default):
            yield f"{key} = {_literal(_value(key, value))}"


def _value(key: str, value: object) -> str | int | float | None:
    """The value as the file has it: sizes with a unit where that is exact, paths as text."""
    if key in _SIZES and isinstance(value, int):
        size = format_size(value)
        return size if _says(size, value) else value
    return value if value is None or isinstance(value, int | float) else str(value)


def _says(size: str, size_bytes: int) -> bool:
    try:
        return parse_size(size) == size_bytes
    except ValueError:  # 97.8TiB is no whole number of bytes
        return False


def _literal(value: str | float | None) -> str:
    """`value` in TOML, whose basic strings are those of JSON but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
