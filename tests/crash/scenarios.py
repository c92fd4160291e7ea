"""What is done on the mount while a crash point is armed, one kind of change each.

A directory is prepared, flushed, and then a scenario makes journalled calls in it until the daemon
dies under it, or to its end.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from .load import Writer

Scenario = Callable[[Writer], None]


def prepare(writer: Writer) -> None:
    """What every scenario finds, on the element: files, two names of one, a directory."""
    for path in ("archived", "other", "linked", "third"):
        create(writer, path, 20_000)
    writer.call("link", "linked2", old="linked")
    writer.call("link", "third2", old="third")
    create(writer, "empty", 0)
    writer.call("mkdir", "directory")
    create(writer, "directory/inside", 100)


def create(writer: Writer, path: str, size: int) -> None:
    writer.call("create", path, mode=0o640)
    if size:
        write(writer, path, size)
    writer.close()


def write(writer: Writer, path: str, size: int, offset: int | None = None) -> None:
    writer.call("write", path, number=writer.random.randrange(2**40), size=size, offset=offset)


def new(writer: Writer) -> None:
    create(writer, "new1", 30_000)
    create(writer, "new2", 70_000)
    create(writer, "new3", 0)
    writer.call("mkdir", "new4")
    writer.call("symlink", "new4/new5", target="../new1")


def large(writer: Writer) -> None:
    """With a block list; see core/block_list.py."""
    create(writer, "large", 5_000_000)


def overwrite(writer: Writer) -> None:
    for path in ("archived", "linked"):
        overwrite_one(writer, path)


def overwrite_one(writer: Writer, path: str) -> None:
    writer.descriptor = os.open(os.path.join(writer.directory, path), os.O_RDWR)
    write(writer, path, 5000, offset=10_000)
    writer.close()


def write_on(writer: Writer) -> None:
    """Into what `new` has made."""
    overwrite_one(writer, "new1")


def truncate(writer: Writer) -> None:
    writer.call("truncate", "archived", size=0)
    writer.call("truncate", "other", size=700)
    writer.call("truncate", "empty", size=700)


def metadata(writer: Writer) -> None:
    for path in ("archived", "empty", "directory"):
        writer.call("chmod", path, mode=0o711)
        writer.call("utime", path, mtime_ns=1_234_567_890_123_456_789)
    writer.call("setxattr", "archived", name="user.k", number=7, size=50)


def delete(writer: Writer) -> None:
    for path in ("archived", "empty", "directory/inside"):
        writer.call("unlink", path)
    writer.call("rmdir", "directory")


def deleted_while_open(writer: Writer) -> None:
    writer.call("create", "brief", mode=0o600)
    write(writer, "brief", 10_000)
    writer.call("unlink", "brief")
    os.write(writer.descriptor, b"nobody will miss this")
    writer.close()


def replace(writer: Writer) -> None:
    create(writer, "temporary", 40_000)
    writer.call("rename", "archived", old="temporary")


def replace_first_of_two_links(writer: Writer) -> None:
    create(writer, "temporary", 40_000)
    writer.call("rename", "linked", old="temporary")


def link(writer: Writer) -> None:
    writer.call("link", "directory/further", old="archived")
    writer.call("rename", "moved2", old="linked2")


def unlink_first_of_two_links(writer: Writer) -> None:
    writer.call("unlink", "linked")


def unlink_second_of_two_links(writer: Writer) -> None:
    writer.call("unlink", "linked2")


def exchange(writer: Writer) -> None:
    writer.call("exchange", "archived", old="directory")


def others(writer: Writer) -> None:
    """Somebody else writes an attribute into attr.json, then one is set here."""
    element = Path(writer.directory).parents[1] / "element"
    for path in element.rglob("archived*.attr.json"):
        document = json.loads(path.read_bytes())
        document["custom_attributes"]["other"] = "theirs"
        path.write_text(json.dumps(document))
    writer.call("chmod", "archived", mode=0o711)
