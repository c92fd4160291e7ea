"""`artstorefs attr`: shows and changes the attributes of files, on any mount that has them.

`user.KEY` of a file is the custom attribute KEY of its attr.json. What is printed has the form of
what is typed: `KEY=TEXT` for a string, `KEY:=JSON` for every other JSON value.
"""

import argparse
import errno
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypedDict

from artstorefs.core.errors import ArtStoreFSError
from artstorefs_tools import exit_codes
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.paths import suggestion

CUSTOM_PREFIX: Final = "user."
READ_ONLY_PREFIX: Final = "user.artstore."
READ_ONLY_KEYS: Final = (
    "file_id",
    "checksum",
    "state",
    "element",
    "key",
    "created_by",
    "sealed",
    "retain_until",
    "expires",
    "error",
)
"""Answers that are never listed (or `cp -a` would copy them), so each is asked for by name."""

# A path may hold "=" if a "/" stands before it: ./a=b
_ASSIGNMENT: Final = re.compile(r"(?P<key>[^/=]+?)(?P<kind>:?=)(?P<value>.*)", re.DOTALL)
_LINE_BREAKERS: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_REASONS: Final = {
    errno.ENODATA: "there is no such attribute",
    errno.ENOSPC: "no room: the attributes of a file share the 4,096 bytes of its attr.json",
    errno.EOPNOTSUPP: "the filesystem has no extended attributes here",
}


class Attributes(TypedDict):
    """What is shown of one file, and the object for it in the output of `--json`."""

    path: str
    custom_attributes: dict[str, Any]
    artstore: dict[str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show the attributes of files, or change them first if a change is given. KEY=TEXT sets a "
        "string, KEY:=JSON a number, a list, true, …; a path with = in it is written ./a=b."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs attr nightwatch.jpg\n"
        '  artstorefs attr *.jpg artist=Rembrandt year:=1642 \'tags:=["oil","canvas"]\'\n'
        "  artstorefs attr nightwatch.jpg --remove tags\n"
        "  artstorefs attr nightwatch.jpg --json"
    )
    parser.add_argument(
        "words", metavar="PATH | KEY=TEXT | KEY:=JSON", nargs="+", help="files and changes"
    )
    parser.add_argument(
        "--remove", metavar="KEY", action="append", default=[], help="remove an attribute"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list, one object for each file")


def run(arguments: argparse.Namespace) -> int:
    """Change and show; the exit code is that of a failure if any file failed, the rest is done."""
    paths, changes = parse_words(arguments.words)
    changes.update(dict.fromkeys(arguments.remove))
    shown = []
    status = exit_codes.OK
    for path in paths:
        try:
            change(path, changes)
            if arguments.json or not changes:
                shown.append(read(path))
        except CommandError as exc:
            print(f"artstorefs: {exc}", file=sys.stderr)
            status = exit_codes.FAILURE
    if arguments.json:
        print(json.dumps(shown, indent=2))
    elif shown:
        print("\n\n".join("\n".join(describe(attributes)) for attributes in shown))
    return status


def parse_words(words: Sequence[str]) -> tuple[list[str], dict[str, bytes | None]]:
    """The paths among `words`, and the bytes to set for each custom attribute.

    Raises `UsageError` for what is not JSON after `:=`, and when there is no path.
    """
    matches = {word: _ASSIGNMENT.fullmatch(word) for word in words}
    paths = [word for word, match in matches.items() if match is None]
    if not paths:
        raise UsageError("no file is given; a path with = in it is written ./a=b")
    return paths, {
        match["key"]: _bytes_to_set(match["key"], match["kind"], match["value"])
        for match in matches.values()
        if match is not None
    }


def _bytes_to_set(key: str, kind: str, text: str) -> bytes:
    from artstorefs.core.xattr_values import value_to_bytes

    if kind == "=":
        return value_to_bytes(text)
    try:
        return value_to_bytes(json.loads(text))
    except (ValueError, RecursionError, ArtStoreFSError) as exc:
        raise UsageError(
            f"{key}:={text} is not JSON ({exc}); for a string write {key}={text}"
        ) from None


def change(path: str, changes: Mapping[str, bytes | None]) -> None:
    """Set, or where the value is `None` remove, custom attributes. Raises `CommandError`."""
    import xattr

    for key, value in changes.items():
        with _explained(path, key):
            if value is None:
                xattr.removexattr(path, CUSTOM_PREFIX + key)
            else:
                xattr.setxattr(path, CUSTOM_PREFIX + key, value)


def read(path: str) -> Attributes:
    """The attributes of `path`, a symlink followed. Raises `CommandError`."""
    import xattr

    from artstorefs.core.xattr_values import value_to_json

    attributes: Attributes = {"path": path, "custom_attributes": {}, "artstore": {}}
    with _explained(path):
        names = [name for name in xattr.listxattr(path) if name.startswith(CUSTOM_PREFIX)]
    for name in sorted(names):
        value = _get(path, name)
        if value is not None:
            attributes["custom_attributes"][name.removeprefix(CUSTOM_PREFIX)] = value_to_json(value)
    for key in READ_ONLY_KEYS:
        value = _get(path, READ_ONLY_PREFIX + key)
        if value is not None:
            attributes["artstore"][key] = value.decode(errors="replace")
    return attributes


def describe(attributes: Attributes) -> Iterator[str]:
    """The lines that show the attributes of one file to a person."""
    yield attributes["path"]
    for key, value in attributes["custom_attributes"].items():
        plain = isinstance(value, str) and not _LINE_BREAKERS.search(value)
        yield f"  {key}={value}" if plain else f"  {key}:={json.dumps(value, ensure_ascii=False)}"
    for key, text in attributes["artstore"].items():
        yield f"  ({key} {text})"


def _get(path: str, name: str) -> bytes | None:
    """The bytes of an attribute; `None` where there is none or the mount has none of its kind."""
    import xattr

    with _explained(path, name):
        try:
            value: bytes = xattr.getxattr(path, name)
        except OSError as exc:
            if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return None
        return value


@contextmanager
def _explained(path: str, key: str = "") -> Iterator[None]:
    """Turn an `OSError` into one line that names the file and the attribute."""
    try:
        yield
    except OSError as exc:
        reason = _REASONS.get(exc.errno or 0, exc.strerror)
        if exc.errno == errno.ENOENT:
            reason = f"{reason}{suggestion(path)}"
        raise CommandError(": ".join(filter(None, [path, key, reason]))) from None
