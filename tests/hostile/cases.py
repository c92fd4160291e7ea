"""What a hostile or damaged element may hold: one table of cases for every reader of documents.

A `TextCase` turns a good attr.json or node record into a bad one; a `PlaceCase` puts something else
than an ordinary file where a document belongs. `reason` is what the named error has to say.
"""

import json
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Members = dict[str, Any]


@dataclass(frozen=True)
class TextCase:
    """A document that cannot be used; `make` is given a good one."""

    name: str
    make: Callable[[Members], bytes]
    reason: str
    kinds: tuple[str, ...] = ("attr", "directory", "link")


@dataclass(frozen=True)
class PlaceCase:
    """Something that is no ordinary file, made at a path that holds nothing."""

    name: str
    make: Callable[[Path], None]


def written(members: Any) -> bytes:
    return json.dumps(members).encode()


def _with(**changes: Any) -> Callable[[Members], bytes]:
    return lambda good: written({**good, **changes})


def _with_posix(**changes: Any) -> Callable[[Members], bytes]:
    return lambda good: written({**good, "posix": {**good["posix"], **changes}})


def _text(change: Callable[[str], str]) -> Callable[[Members], bytes]:
    return lambda good: change(json.dumps(good)).encode()


def _inserted(member: str) -> Callable[[Members], bytes]:
    return _text(lambda text: "{" + member + ", " + text[1:])


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


NODES = ("attr", "directory")
ATTR = ("attr",)
DIRECTORY = ("directory",)

TEXTS = [
    TextCase("nothing", lambda good: b"", "not usable JSON"),
    TextCase("zeros", lambda good: bytes(4096), "not usable JSON"),
    TextCase("random", lambda good: bytes(range(256)), "not UTF-8|not usable JSON"),
    TextCase("truncated", lambda good: written(good)[:-9], "not usable JSON"),
    TextCase("trailing", lambda good: written(good) + b"{}", "not usable JSON"),
    TextCase("two documents", lambda good: written(good) * 2, "not usable JSON|at most"),
    TextCase("BOM", lambda good: b"\xef\xbb\xbf" + written(good), "not usable JSON"),
    TextCase("UTF-16", lambda good: json.dumps(good).encode("utf-16"), "not UTF-8"),
    TextCase(
        "not UTF-8", _text(lambda text: text) and (lambda g: written(g)[:-1] + b"\xff}"), "UTF-8"
    ),
    TextCase("huge", lambda good: written({**good, "x": "x" * (1 << 20)}), "at most"),
    TextCase("deep", _inserted('"x": ' + _nested(1500)), "nests deeper"),
    TextCase("deeper than a stack", lambda good: b"[" * 4000, "nests deeper"),
    TextCase("an array", lambda good: b"[1]", "not an object"),
    TextCase("a string", lambda good: b'"x"', "not an object"),
    TextCase("null", lambda good: b"null", "not an object"),
    TextCase("NaN", _inserted('"x": NaN'), "NaN"),
    TextCase("Infinity", _inserted('"x": -Infinity'), "Infinity"),
    TextCase("a number without end", _inserted('"x": 1e999'), "too large"),
    TextCase("an integer of 2,000 digits", _inserted('"x": ' + "9" * 2000), "digits"),
    TextCase("a key twice", _inserted('"x": 1, "x": 2'), "twice"),
    TextCase("file_id twice", lambda g: b'{"file_id": "x", ' + written(g)[1:], "twice"),
    TextCase("half a surrogate pair", _inserted('"x": "\\ud800"'), "surrogate"),
    TextCase("a surrogate as key", _inserted('"\\udfff": 1'), "surrogate"),
    TextCase("no file_id", lambda g: written({k: v for k, v in g.items() if k != "file_id"}), "id"),
    TextCase("file_id a number", _with(file_id=5), "file_id"),
    TextCase("file_id with a path", _with(file_id="../../etc/passwd"), "file_id"),
    TextCase("posix a list", _with(posix=[]), "posix"),
    TextCase("posix null", _with(posix=None), "posix", ("directory", "link")),
    TextCase("parent missing", _with_posix(parent=None), "parent"),
    TextCase("parent a path", _with_posix(parent="/"), "parent"),
    TextCase("name empty", _with_posix(name=""), "name"),
    TextCase("name .", _with_posix(name="."), "must not be"),
    TextCase("name ..", _with_posix(name=".."), "must not be"),
    TextCase("name with a slash", _with_posix(name="a/b"), "slash"),
    TextCase("name absolute", _with_posix(name="/etc/passwd"), "slash"),
    TextCase("name with a path up", _with_posix(name="../../etc/passwd"), "slash"),
    TextCase("name with NUL", _with_posix(name="a\0b"), "NUL"),
    TextCase("name with NUL in base64", _with_posix(name={"$b64": "YQBi"}), "NUL"),
    TextCase("name with a slash in base64", _with_posix(name={"$b64": "YS9i"}), "slash"),
    TextCase("name of 256 bytes", _with_posix(name="x" * 256), "256 bytes"),
    TextCase("name of 128 two-byte letters", _with_posix(name="é" * 128), "256 bytes"),
    TextCase("name bad base64", _with_posix(name={"$b64": "YR=="}), "base64"),
    TextCase("name a number", _with_posix(name=5), "name"),
    TextCase("revision 0", _with_posix(revision=0), "revision"),
    TextCase("revision negative", _with_posix(revision=-1), "revision"),
    TextCase("revision true", _with_posix(revision=True), "revision"),
    TextCase("revision text", _with_posix(revision="7"), "revision"),
    TextCase("revision without a successor", _with_posix(revision=2**63 - 1), "revision"),
    TextCase("revision huge", _with_posix(revision=10**100), "revision"),
    TextCase("mode with type bits", _with_posix(mode="100644"), "mode", NODES),
    TextCase("mode with type bits of a link", _with_posix(mode="120777"), "mode", NODES),
    TextCase("mode a number", _with_posix(mode=420), "mode", NODES),
    TextCase("mode not octal", _with_posix(mode="0888"), "mode", NODES),
    TextCase("mode with a line feed", _with_posix(mode="0644\n"), "mode", NODES),
    TextCase("uid negative", _with_posix(uid=-1), "uid", NODES),
    TextCase("uid none", _with_posix(uid=2**32 - 1), "uid", NODES),
    TextCase("gid huge", _with_posix(gid=2**70), "gid", NODES),
    TextCase("uid a float", _with_posix(uid=0.0), "uid", NODES),
    TextCase("mtime out of range", _with_posix(mtime_ns=2**63), "mtime_ns", NODES),
    TextCase("atime out of range", _with_posix(atime_ns=-(2**63) - 1), "atime_ns", NODES),
    TextCase("ctime text", _with_posix(ctime_ns="now"), "ctime_ns", NODES),
    TextCase("xattrs a list", _with_posix(xattrs=[1]), "xattrs", NODES),
    TextCase("xattrs with NUL", _with_posix(xattrs={"a\0b": "x"}), "xattrs", NODES),
    TextCase(
        "xattrs with a deep value",
        _with_posix(xattrs={"trusted.x": json.loads(_nested(30))}),
        "nests deeper",
        NODES,
    ),
    TextCase("xattrs of 64 KiB", _with_posix(xattrs={"trusted.x": "x" * 65536}), "at most", NODES),
    TextCase("custom_attributes a list", _with(custom_attributes=[]), "custom_attributes", NODES),
    TextCase("created_at no time", _with(created_at="yesterday"), "created_at"),
    TextCase("schema of the future", _with(schema_version="3.0"), "not known here", ATTR),
    TextCase("schema an object", _with(schema_version={}), "not known here", ATTR),
    TextCase("file_size 0", _with(file_size=0), "file_size", ATTR),
    TextCase("file_size negative", _with(file_size=-5), "file_size", ATTR),
    TextCase("file_size beyond 64 bits", _with(file_size=2**63), "file_size", ATTR),
    TextCase("file_size a float", _with(file_size=5.0), "file_size", ATTR),
    TextCase("checksum short", _with(checksum="0" * 63), "checksum", ATTR),
    TextCase("checksum of another kind", _with(checksum="md5:" + "0" * 60), "checksum", ATTR),
    TextCase("checksum with a line feed", _with(checksum="0" * 64 + "\n"), "checksum", ATTR),
    TextCase(
        "storage_filename leads out",
        _with(storage_filename="../../etc/passwd"),
        "storage_filename",
        ATTR,
    ),
    TextCase("storage_filename ..", _with(storage_filename=".."), "storage_filename", ATTR),
    TextCase("storage_filename empty", _with(storage_filename=""), "storage_filename", ATTR),
    TextCase("original_filename a list", _with(original_filename=["a"]), "original_filename", ATTR),
    TextCase(
        "record of the future", _with(record_version="2.0"), "record_version", ("directory", "link")
    ),
    TextCase("type unknown", _with(type="door"), "type", DIRECTORY),
    TextCase("type a list", _with(type=["directory"]), "type", DIRECTORY),
    TextCase("a directory with a target", _with(target="x"), "target", DIRECTORY),
    TextCase("a symlink without a target", _with(type="symlink"), "target", DIRECTORY),
    TextCase("a symlink to NUL", _with(type="symlink", target="a\0"), "target", DIRECTORY),
    TextCase("a symlink to nothing", _with(type="symlink", target=""), "target", DIRECTORY),
    TextCase(
        "a symlink of 4,096 bytes", _with(type="symlink", target="x" * 4096), "target", DIRECTORY
    ),
    TextCase("a device without a number", _with(type="char"), "rdev", DIRECTORY),
    TextCase(
        "a device of a negative number",
        _with(type="char", rdev={"major": -1, "minor": 0}),
        "rdev",
        DIRECTORY,
    ),
    TextCase(
        "a device of a large major",
        _with(type="char", rdev={"major": 4096, "minor": 0}),
        "rdev",
        DIRECTORY,
    ),
    TextCase(
        "a device of a large minor",
        _with(type="block", rdev={"major": 0, "minor": 2**20}),
        "rdev",
        DIRECTORY,
    ),
    TextCase(
        "a device of a huge number",
        _with(type="block", rdev={"major": 2**32 - 1, "minor": 2**32 - 1}),
        "rdev",
        DIRECTORY,
    ),
    TextCase(
        "a directory with a device number", _with(rdev={"major": 1, "minor": 3}), "rdev", DIRECTORY
    ),
    TextCase(
        "parent is itself",
        lambda g: _with_posix(parent=g["file_id"])(g),
        "posix|another",
        DIRECTORY,
    ),
    TextCase(
        "the root of another archive",
        lambda g: _with_posix(parent=g["file_id"], name="")(g),
        "root directory of another archive",
        DIRECTORY,
    ),
    TextCase(
        "the id of another",
        _with(file_id="00000000-0000-4000-8000-000000000000"),
        "file_id",
        ("directory", "link"),
    ),
]


# ----------------------------------------------------------------------- not an ordinary file


def _symlink(target: str) -> Callable[[Path], None]:
    return lambda path: os.symlink(target, path)


def _socket(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{descriptor}/{path.name[-40:]}")
        os.rename(path.parent / path.name[-40:], path)
    finally:
        os.close(descriptor)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 42)


PLACES = [
    PlaceCase("a symlink out", _symlink("../../../../../canary")),
    PlaceCase("an absolute symlink", _symlink("/etc/passwd")),
    PlaceCase("a symlink to itself", lambda path: os.symlink(path.name, path)),
    PlaceCase("a symlink to nothing", _symlink("nothing")),
    PlaceCase("a symlink to a directory", _symlink("..")),
    PlaceCase("a symlink into /proc", _symlink("/proc/self/fd/0")),
    PlaceCase("a FIFO", lambda path: os.mkfifo(path)),
    PlaceCase("a socket", _socket),
    PlaceCase("a device", lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))),
    PlaceCase(
        "a disk that is not there", lambda p: os.mknod(p, stat.S_IFBLK | 0o666, os.makedev(4095, 1))
    ),
    PlaceCase("sparse and gigantic", _sparse),
]
"""Each needs root for devices; `a device` would give zeros for ever."""
