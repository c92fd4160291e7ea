"""Makes a format sample: `python -m tests.samples.make_sample DIRECTORY`, as root, with /dev/fuse.

A sample is what one release leaves behind, frozen: `element/` as it lies on a disk, `state/` of an
archive with work pending, and `manifest.json` with the hash of every file of the sample and the
tree that has to come out. It is made once for each format and never again in place: this script
refuses a directory that is there. A later format gets a directory of its own beside it.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from artstorefs.core.block_list import BLOCK_BYTES

from ..harness import MountedArchive
from .trees import describe_files, describe_tree

SECOND_NS = 10**9

SEALED_AFTER_S = 1.0
"""What was closed just before a kill is OPEN: its times are those of the spool file, and a copy of
that has others."""

ODD_NAMES = [b"new\nline", b"\xff\xfe not utf-8", b"-rf", "絵画 🎨.jpg".encode(), b"n" * 255]
ODD_NAMES += [b"x.attr.json", b".artstorefs", b"$b64", b"con\x1b[31mtrol"]
XATTRS = {
    "user.text": b"Rembrandt",
    "user.number": b"42",
    "user.float": b"1.50",
    "user.json": b'{"a":[1,2.5,null]}',
    "user.binary": bytes(range(32)) + b"\xff",
    "user.quoted": b'"42"',
    "user.empty": b"",
    "trusted.kept": b"by root\0",
    "trusted.null": b"null",
    "security.test": b"\x01\x02",
}
ACCESS = bytes.fromhex(
    "02000000010007000000000002000600e9030000040005000000000008000400ea0300001000070000000000"
    "2000000000000000"
)


def fill(top: Path) -> None:
    """Everything that a tree can hold, small."""
    for name in ODD_NAMES:
        (top / os.fsdecode(name)).write_bytes(name)
    (top / "directory" / "deeper" / "bottom").mkdir(parents=True)
    (top / "directory" / "empty").touch()
    (top / "first").write_text("linked")
    os.link(top / "first", top / "directory" / "second")
    os.link(top / "first", top / "directory" / os.fsdecode(b"third \xff"))
    os.link(top / "directory" / "empty", top / "empty too")
    os.symlink("first", top / "symlink")
    os.symlink(b"\xff\n target", os.fsencode(top / "odd symlink"))
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "zero", 0o020666, os.makedev(1, 5))
    os.mknod(top / "disk", 0o060660, os.makedev(4095, 0xFFFFF))
    (top / "attributes").write_text("of a file")
    (top / "listed").mkdir()
    for name, value in XATTRS.items():
        os.setxattr(top / "attributes", name, value)
        os.setxattr(top / "directory", name, value)
    os.setxattr(top / "attributes", "system.posix_acl_access", ACCESS)
    os.setxattr(top / "listed", "system.posix_acl_default", ACCESS)
    (top / "listed" / "child").write_text("of a default access list")
    for mode in (0o000, 0o4755, 0o1777):
        (top / f"mode {mode:o}").write_text("modes")
        os.chown(top / f"mode {mode:o}", 1000 + mode, 2**32 - 3)
        (top / f"mode {mode:o}").chmod(mode)
    (top / "zeros").write_bytes(bytes(20_000))
    (top / "large").write_bytes(b"sample\n\0" * (BLOCK_BYTES // 8) + b"in two blocks")
    (top / "foreign keys").write_text("others have written here")


def set_times(top: Path) -> None:
    """Times that do not depend on when the sample was made, children first."""
    moments = [-1_234_567_890_123_456_789, 0, 1_000_000_000_123_456_789, 7_258_118_400_999_999_999]
    paths = sorted(os.fsencode(top / path) for path in top.rglob("*"))
    for number, path in enumerate(reversed(paths)):
        moment = moments[number % len(moments)] + number * SECOND_NS
        os.utime(path, ns=(moment, moment + 1), follow_symlinks=False)
    os.utime(top, ns=(SECOND_NS, 2 * SECOND_NS))


def add_foreign(element: Path) -> None:
    """Keys by others in a document of ours, and two documents of ArtStore itself."""
    for path in element.rglob("foreign_keys_*.attr.json"):
        document = json.loads(path.read_bytes())
        document |= {"catalogue": {"number": 10**30, "é": [1.5, None, True]}, "curator": "Anna"}
        document["posix"]["later"] = {"than": "this release"}
        document["custom_attributes"] = {"rating": 5, "tags": ["a", "b"], "by": "others"}
        path.write_text(json.dumps(document, ensure_ascii=False))
    hour = element / "2023/04/05/06"
    hour.mkdir(parents=True)
    for number, version in enumerate(("1.0", "2.0")):
        name = f"scan_otto_20230405T06070{number}_{UUID(int=number + (4 << 76))}.tif"
        (hour / name).write_bytes(b"of ArtStore")
        document = {
            "file_id": str(UUID(int=number + (4 << 76))),
            "original_filename": "scan.tif",
            "storage_filename": name,
            "file_size": 11,
            "storage_path": "2023/04/05/06",
            "checksum": hashlib.sha256(b"of ArtStore").hexdigest(),
        }
        if version == "2.0":
            document |= {"schema_version": "2.0", "custom_attributes": {"of": "ArtStore"}}
        (hour / f"{name}.attr.json").write_text(json.dumps(document))


def add_pending(top: Path) -> None:
    """Work that no element has yet: new, overwritten, renamed, removed, changed."""
    (top / "pending").write_text("in the spool")
    (top / "zeros").write_text("overwritten")
    os.rename(top / "symlink", top / "directory" / "symlink moved")
    os.remove(top / "directory" / "second")
    (top / "attributes").chmod(0o600)
    os.setxattr(top / "attributes", "user.text", b"changed")
    (top / "pending directory").mkdir()
    (top / "pending directory" / "empty").touch()
    os.link(top / "pending", top / "pending directory" / "linked")


def main(arguments: list[str]) -> int:
    target = Path(arguments[0])
    if target.exists():
        print(f"{target} is there: a frozen sample is never made anew", file=sys.stderr)
        return 1
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    archive = MountedArchive(base / "a", settings="settle_s = 0")
    try:
        archive.start()
        fill(archive.mount)
        set_times(archive.mount)
        archive.flush()
        archive.stop()
        add_foreign(archive.element)
        archive.start()  # takes the keys by others over
        archive.flush()
        trees = {"element": describe_tree(archive.mount)}
        archive.stop()
        target.mkdir(parents=True)
        shutil.copytree(archive.element, target / "element")
        text = archive.toml.read_text().replace("settle_s = 0", "settle_s = 3600")
        archive.toml.write_text(text)
        archive.start()
        add_pending(archive.mount)
        time.sleep(SEALED_AFTER_S)
        set_times(archive.mount)
        trees["state"] = describe_tree(archive.mount)
        archive.kill()
        (target / "state").mkdir()
        for name in ("state.db", "state.db-wal"):
            shutil.copy(archive.state / name, target / "state" / name)
        shutil.copytree(archive.state / "spool", target / "state" / "spool")
        shutil.copytree(archive.element, target / "state" / "element")
    finally:
        archive.clean_up()
        shutil.rmtree(base)
    manifest = {"format": "artstorefs/1", "files": describe_files(target), "trees": trees}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
