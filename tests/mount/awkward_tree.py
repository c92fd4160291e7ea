"""A tree with one of everything that copying programs stumble over.

`make_awkward_tree(top)` needs root for devices and `trusted.*`. What is made is the same each time,
but for the times of the directories that it is put into.
"""

import os
import socket
import stat
import subprocess
from pathlib import Path

ODD_NAMES = [
    b"new\nline",
    b"'single' \"double\" `back` \\ slash",
    b"-rf",
    b" ",
    b"*",
    b"\xff\xfe\x01 not utf-8",
    b"n" * 255,
    b"\xff" * 255,
    "絵画 \U0001f3a8.jpg".encode(),
    b"x.attr.json",
    b"y.node.json",
    b".artstorefs",
]

MOMENTS_NS = {
    "pre-1970": -1_234_567_890_123_456_789,
    "epoch": 0,
    "nanoseconds": 1_000_000_000_123_456_789,
    "far future": 7_258_118_400_999_999_999,
}

XATTRS: dict[str, bytes] = {
    "user.text": b"Rembrandt",
    "user.binary": bytes(range(256)),
    "user.empty": b"",
    "user.number": b"42",
    "user.quoted": b'"42"',
    "user.json": b'{"a":[1,2.5,null]}',
    "user.dublincore.title": "Die Nachtwache é".encode(),
    "user.DOSATTRIB": b"\0\0\x04\0\x04\0\0\0\x51",
    "trusted.kept": b"by root\0",
    "security.test": b"\x01\x02",
    "security.capability": b"\x01\0\0\x02\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
}


def make_awkward_tree(top: Path) -> None:
    """Fill the existing, empty directory `top`."""
    _names(top / "names")
    _links(top / "links")
    _special_files(top / "special")
    _modes_and_owners(top / "modes")
    _attributes(top / "attributes")
    _content(top / "content")
    _times(top / "times")


def _names(top: Path) -> None:
    base = os.fsencode(top)
    os.mkdir(base)
    for name in ODD_NAMES:
        with open(os.path.join(base, name), "wb") as file:
            file.write(name)
    os.mkdir(os.path.join(base, b"d" * 255))
    os.mkdir(os.path.join(base, b"\xfe directory\n"))
    with open(os.path.join(base, b"\xfe directory\n", b"\xfd"), "wb") as file:
        file.write(b"inside")
    deep = top / "deep"
    for number in range(40):
        deep = deep / f"level {number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")


def _links(top: Path) -> None:
    for name in ("one", "two", "two/three"):
        (top / name).mkdir(parents=True)
    (top / "one" / "first").write_text("linked")
    os.setxattr(top / "one" / "first", "user.shared", b"by all names")
    os.link(top / "one" / "first", top / "two" / "second")
    os.link(top / "one" / "first", top / "two" / "three" / os.fsdecode(b"third \xff"))
    (top / "one" / "empty").touch()
    os.link(top / "one" / "empty", top / "two" / "empty too")
    os.symlink("one/first", top / "good")
    os.symlink("nowhere/at/all", top / "dangling")
    os.symlink("loop", top / "loop")
    os.symlink("t" * 4000, top / "long")
    os.symlink(b"\xff\n target", os.fsencode(top / "odd target"))
    os.link(top / "good", top / "hard link of a symlink", follow_symlinks=False)


def _special_files(top: Path) -> None:
    top.mkdir()
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(4095, 0xFFFFF))
    descriptor = os.open(top, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{descriptor}/socket")
    os.close(descriptor)


def _modes_and_owners(top: Path) -> None:
    top.mkdir()
    for mode in (0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1644):
        (top / f"file {mode:o}").write_text(oct(mode))
        os.chown(top / f"file {mode:o}", 1000 + mode, 2**32 - 3)
        (top / f"file {mode:o}").chmod(mode)
    for mode in (0o700, 0o1777, 0o2775, 0o3770):
        (top / f"directory {mode:o}").mkdir()
        (top / f"directory {mode:o}").chmod(mode)
    os.symlink("x", top / "symlink of another")
    os.chown(top / "symlink of another", 1234, 4321, follow_symlinks=False)


def _attributes(top: Path) -> None:
    top.mkdir()
    (top / "file").write_text("with attributes")
    (top / "empty").touch()
    (top / "directory").mkdir()
    for name, value in XATTRS.items():
        os.setxattr(top / "file", name, value)
        if name != "security.capability":
            os.setxattr(top / "empty", name, value)
            os.setxattr(top / "directory", name, value)
    os.symlink("file", top / "symlink")
    os.setxattr(top / "symlink", "trusted.of_symlink", b"x", follow_symlinks=False)
    (top / "listed").write_text("with an access list")
    _setfacl("-m", "u:1001:rw,g:1002:r,m:rw", top / "listed")
    (top / "handing down").mkdir()
    _setfacl("-m", "u:1001:rwx", top / "handing down")
    _setfacl("-d", "-m", "u:1003:rx,g:1004:rwx,o::-", top / "handing down")
    (top / "handing down" / "child").write_text("of a default access list")
    (top / "handing down" / "grandchild").mkdir()


def _setfacl(*arguments: str | Path) -> None:
    subprocess.run(["setfacl", *arguments], check=True, timeout=20)


def _content(top: Path) -> None:
    (top / "no entries" / "none either").mkdir(parents=True)
    (top / "empty").touch()
    (top / "one byte").write_bytes(b"\0")
    (top / "a page").write_bytes(b"p" * 4096)
    (top / "more than a block").write_bytes(os.urandom(5 << 20))
    with open(top / "with a hole", "wb") as file:
        file.write(b"start")
        file.seek(3 << 20)
        file.write(b"end")
    with open(top / "hole only", "wb") as file:
        file.truncate(1 << 20)


def _times(top: Path) -> None:
    top.mkdir()
    for name, moment_ns in MOMENTS_NS.items():
        (top / name).write_text(name)
        (top / f"directory {name}").mkdir()
        os.symlink("x", top / f"symlink {name}")
        for prefix in ("", "directory ", "symlink "):
            path = top / f"{prefix}{name}"
            os.utime(path, ns=(moment_ns, moment_ns), follow_symlinks=False)
