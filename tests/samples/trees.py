"""A tree, and the files of a sample, as JSON that can be compared."""

import base64
import hashlib
import os
import stat
from pathlib import Path
from typing import Any


def text_of(name: bytes) -> str:
    return os.fsdecode(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe_tree(top: Path) -> dict[str, dict[str, Any]]:
    """Every path below `top`: type, mode, owner, times to the nanosecond, attributes, content."""
    found: dict[str, dict[str, Any]] = {".": describe(os.fsencode(top))}
    for directory, directories, files in os.walk(os.fsencode(top)):
        for name in directories + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, os.fsencode(top))
            found[text_of(relative)] = describe(path)
    groups: dict[int, list[str]] = {}
    for relative, one in sorted(found.items()):
        groups.setdefault(one.pop("ino"), []).append(relative)
    for relatives in groups.values():
        for relative in relatives:
            found[relative]["names"] = relatives
    return dict(sorted(found.items()))


def describe(path: bytes) -> dict[str, Any]:
    one = os.lstat(path)
    made: dict[str, Any] = {
        "ino": one.st_ino,
        "mode": f"{one.st_mode:o}",
        "uid": one.st_uid,
        "gid": one.st_gid,
        "nlink": one.st_nlink,
        "mtime_ns": one.st_mtime_ns,
        "ctime_ns": one.st_ctime_ns,
    }
    if stat.S_ISREG(one.st_mode):
        with open(path, "rb") as file:
            data = file.read()
        made |= {"size": one.st_size, "sha256": hashlib.sha256(data).hexdigest()}
    elif stat.S_ISLNK(one.st_mode):
        made["target"] = text_of(os.readlink(path))
    elif stat.S_ISCHR(one.st_mode) or stat.S_ISBLK(one.st_mode):
        made["rdev"] = [os.major(one.st_rdev), os.minor(one.st_rdev)]
    made["xattrs"] = {
        name: base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()
        for name in sorted(os.listxattr(path, follow_symlinks=False))
    }
    return made


def describe_files(sample: Path) -> dict[str, str]:
    """SHA-256 of every file of a sample but its manifest; SQLite's files among them."""
    return {
        path.relative_to(sample).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(sample.rglob("*"))
        if path.is_file() and path != sample / "manifest.json"
    }
