"""tools/JSON.md as a schema: the keys and types of what a command prints."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "tools" / "JSON.md"
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def commands() -> set[str]:
    """Those that have a section."""
    return set(re.findall(r"^## `([a-z-]+)`$", DOCUMENT.read_text(), re.MULTILINE))


def keys_of(command: str) -> dict[str, str]:
    """Type of every key in the section of a command."""
    section = DOCUMENT.read_text().partition(f"\n## `{command}`\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|", section, re.MULTILINE))


def leaves(value: Any, known: set[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no container, with its path as the document writes it."""
    if isinstance(value, list):
        for one in value:
            yield from leaves(one, known, f"{path}[]")
    elif isinstance(value, dict):
        is_open = any(key.startswith(f"{path}.*") for key in known)
        for key, one in value.items():
            if is_open:
                yield f"{path}.*", one
            else:
                yield from leaves(one, known, f"{path}.{key}".lstrip("."))
    else:
        yield path, value


def check(command: str, printed: Any, *, may_have_more: bool = False) -> set[str]:
    """Compare what a command has printed with its section: nothing else, and of these types.
    The documented keys that were there."""
    documented = keys_of(command)
    assert documented, f"JSON.md says nothing of {command}"
    seen = set()
    for path, value in leaves(printed, set(documented)):
        if path not in documented:
            assert may_have_more, f"{command}: {path} is not in JSON.md"
            continue
        kinds = documented[path].split(" or ")
        good = kinds == ["any"] or any(_is(value, kind) for kind in kinds)
        assert good, f"{command}: {path} is {value!r}, not {documented[path]}"
        seen.add(path)
    return seen


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])
