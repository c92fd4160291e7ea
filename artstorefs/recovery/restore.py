#!/usr/bin/env python3
"""Gives the files of an ArtStoreFS archive back, without ArtStoreFS: Python 3.8 and nothing else.

    python3 restore.py TARGET                    the tree of the element that this script lies on
    python3 restore.py TARGET -e DIR -e DIR …    of an archive with several elements: all of them
    python3 restore.py TARGET --offline DIR      archived content of it is on a medium: in DIR
    python3 restore.py --verify-only             read everything, compare sizes and SHA-256
    python3 restore.py --list                    what there is

TARGET is a new or empty directory. Run as root to get owners and device files back. Nothing is ever
written outside of TARGET or over anything, and nothing on an element. What cannot be restored is
told line by line, and the rest is; the exit code is 0 only if everything was whole.

How it works: each object has a NAME.attr.json beside it; directories, links and empty files have a
record in .artstorefs/nodes. `posix.parent` of each is the `file_id` of its directory; of several
with one `file_id` the highest `posix.revision` counts. FORMAT.md of ArtStoreFS says the rest.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

NAMES = ("directory", "symlink", "file", "fifo", "socket", "char", "block")
TYPES = (stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)
KINDS = dict(zip(NAMES, (*TYPES, stat.S_IFCHR, stat.S_IFBLK)))
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
LOST_AND_FOUND = b"lost+found"
FIRST_OF_NON_STRING = "-0123456789tfn[{"

problems = 0


def problem(where: Any, why: Any) -> None:
    """Something is not whole: say so and go on."""
    global problems
    problems += 1
    print(f"{shown(where)}: {why}", file=sys.stderr)


def shown(name: Any) -> str:
    """A name or path for a terminal, whatever bytes it has."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe.encode("utf-8", "backslashreplace").decode()


class Node:
    """A file, directory or link: its newest document, and where its name is."""

    def __init__(self, document: dict[str, Any], kind: int, element: str, path: str) -> None:
        self.id = str(uuid.UUID(document["file_id"]))
        self.kind, self.element, self.path = kind, element, path
        self.document, self.posix = document, document.get("posix")
        self.objects: list[str] = []
        self.size, self.sha256, self.device, self.times = 0, "", 0, (0, 0)
        if path.endswith(".attr.json"):
            self.objects = [path[: -len(".attr.json")]]
            self.size, self.sha256 = int(document["file_size"]), document["checksum"].lower()
        self.xattrs: dict[bytes, bytes] = {}
        self.take_xattrs("user.", document.get("custom_attributes") or {})
        self.target = name_bytes(document["target"]) if kind == stat.S_IFLNK else b""
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            major, minor = document["rdev"]["major"], document["rdev"]["minor"]
            if major not in range(1 << 12) or minor not in range(1 << 20):
                raise ValueError("is no device of Linux")
            self.device = os.makedev(major, minor)
        self.parent, self.name, self.folder = "", b"", ""
        self.revision, self.mode, self.uid, self.gid = 0, 0o644, -1, -1  # -1: as the root has it
        self.take_place()

    def take_place(self) -> None:
        if self.posix is None:
            text = self.document["original_filename"].rstrip("/").rpartition("/")[2]
            self.name = text.replace("\0", "_").encode()[:255]
            folder = os.path.dirname(os.path.relpath(self.path, self.element))
            self.folder = (self.document.get("storage_path") or folder).replace("\0", "_")
            moment = os.stat(self.path).st_mtime_ns
            if self.document.get("updated_at"):
                when = datetime.fromisoformat(self.document["updated_at"].replace("Z", "+00:00"))
                when = when.replace(tzinfo=when.tzinfo or timezone.utc)
                since = when - datetime(1970, 1, 1, tzinfo=timezone.utc)
                moment = since // timedelta(microseconds=1) * 1000
            self.times = (moment, moment)
            return
        posix = self.posix
        self.revision, self.mode = int(posix["revision"]), int(posix["mode"], 8) & 0o7777
        self.uid, self.gid = int(posix["uid"]), int(posix["gid"])
        self.times = (int(posix["atime_ns"]), int(posix["mtime_ns"]))
        self.parent = str(uuid.UUID(posix["parent"]))
        if self.parent != self.id:
            self.name = checked_name(name_bytes(posix["name"]))
        elif self.kind != stat.S_IFDIR:
            raise ValueError("is its own directory")
        self.take_xattrs("", posix.get("xattrs") or {})

    def rank(self) -> tuple[int, bool, str]:
        """The highest counts, of two documents of one node, and for a name that two nodes have."""
        key = self.path[len(self.element) :]
        is_object = key.endswith(".attr.json")
        return self.revision, is_object, key[: -len(".attr.json")] if is_object else key

    def take_xattrs(self, prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            name = key_bytes(key)
            if name is not None and (prefix or not name.startswith(b"user.")):  # others are marks
                self.xattrs[prefix.encode() + name] = value_bytes(value)


# ------------------------------------------------------------------- names and values in JSON


def name_bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return base64.b64decode(value["$b64"], validate=True)
    return str(value).encode()


def checked_name(name: bytes) -> bytes:
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > 255:
        raise ValueError(f"{shown(name)!r} is no name")
    return name


def key_bytes(key: str) -> bytes | None:
    """The name of an attribute; None for a key that stands for none."""
    if key.startswith("$b64:"):
        return base64.b64decode(key[5:])
    return key.encode() if key and all(c >= " " and c != "\x7f" for c in key) else None


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def value_bytes(value: Any) -> bytes:
    """The bytes of an attribute, by the rules of FORMAT.md."""
    if isinstance(value, str):
        return (compact(value) if is_ambiguous(value) else value).encode()
    return carried_bytes(value) or compact(value).encode()


def carried_bytes(value: Any) -> bytes | None:
    if not isinstance(value, dict) or set(value) != {"$b64"} or not isinstance(value["$b64"], str):
        return None
    try:
        raw = base64.b64decode(value["$b64"], validate=True)
        if base64.b64encode(raw).decode() != value["$b64"]:
            return None
        raw.decode()
    except UnicodeDecodeError:
        return raw
    except ValueError:
        pass
    return None


def is_ambiguous(text: str) -> bool:
    """Whether bytes of this text would be read as something else than a string of this text."""
    while text:
        if text[0] in FIRST_OF_NON_STRING:
            try:
                value = parse(text.encode())
                same = depth_of(value) <= 29 and compact(value) == text
                return same and not isinstance(value, str) and carried_bytes(value) is None
            except (ValueError, RecursionError):
                return False
        try:
            inner = json.loads(text) if len(text) > 2 and text[0] == text[-1] == '"' else None
            text = inner if isinstance(inner, str) and compact(inner) == text else ""
        except ValueError:
            return False
    return False


def depth_of(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    members = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, members), default=0)


def parse(data: bytes) -> Any:
    """JSON in which nothing is ambiguous: no key twice, no NaN, no endless numbers."""

    def check(good: bool, value: Any) -> Any:
        if not good:
            raise ValueError("is not JSON, or not clear")
        return value

    value = json.loads(
        data.decode(),
        object_pairs_hook=lambda pairs: check(len(dict(pairs)) == len(pairs), dict(pairs)),
        parse_int=lambda text: int(check(len(text.lstrip("-")) <= 128, text)),
    )
    compact(value).encode()  # refuses NaN, infinity, halves of surrogate pairs
    return value


# ------------------------------------------------------------------------- reading the elements


def open_ordinary(path: str) -> int:
    """A descriptor of an ordinary file. Nothing else is opened: a device may take it ill."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError("is no ordinary file")
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def read_small(path: str, limit: int) -> bytes:
    with os.fdopen(open_ordinary(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"has more than {limit} bytes")
    return data


class Archive:
    """All nodes of the elements, put together to a tree."""

    def __init__(self, elements: list[str], media: list[str]) -> None:
        self.nodes: dict[str, Node] = {}
        self.links: dict[str, dict[str, Any]] = {}
        self.tree: dict[str, dict[bytes, Node]] = {}  # directory's id to its entries
        ids = set()
        for element in elements:
            data = read_small(os.path.join(element, ".artstorefs", "archive.json"), 4096)
            ids.add(str(uuid.UUID(parse(data)["archive_id"])))
            for path in self.documents(element):
                try:
                    self.read(element, path, media)
                except Exception as exc:  # whatever one document has, the rest goes on
                    problem(path, f"cannot be used: {exc!r}")
        if len(ids) != 1:
            sys.exit("restore.py: these elements belong to different archives")
        self.root = ids.pop()
        self.plant()

    def documents(self, element: str) -> Iterator[str]:
        def failed(exc: OSError) -> None:
            problem(exc.filename, exc.strerror)

        own = os.path.join(element, ".artstorefs")
        for directory, below, files in os.walk(element, onerror=failed):
            below[:] = sorted(n for n in below if os.path.join(directory, n) != own)
            yield from (os.path.join(directory, n) for n in files if n.endswith(".attr.json"))
        for directory, _, files in os.walk(os.path.join(own, "nodes"), onerror=failed):
            yield from (os.path.join(directory, n) for n in files if n.endswith(".node.json"))

    def read(self, element: str, path: str, media: list[str]) -> None:
        is_file = path.endswith(".attr.json")
        document = parse(read_small(path, 4096 if is_file else 16_384))
        if not is_file and document["type"] == "link":
            link_id = str(uuid.UUID(document["file_id"]))
            known_link = self.links.get(link_id)
            revision = int(document["posix"]["revision"])
            checked_name(name_bytes(document["posix"]["name"]))
            uuid.UUID(document["target_id"]), uuid.UUID(document["posix"]["parent"])
            if known_link is None or int(known_link["posix"]["revision"]) < revision:
                self.links[link_id] = document
            return
        node = Node(document, stat.S_IFREG if is_file else KINDS[document["type"]], element, path)
        for key in node.objects[:1]:  # archived content is on a medium
            others = (os.path.join(medium, os.path.relpath(key, element)) for medium in media)
            node.objects = [next(filter(os.path.lexists, (key, *others)), key)]
        known = self.nodes.setdefault(node.id, node)
        if known is node:
            return
        newest, other = (node, known) if node.rank() > known.rank() else (known, node)
        if node.revision == known.revision and node.sha256 == known.sha256:
            newest.objects += other.objects  # a copy on another element
        self.nodes[node.id] = newest

    # ------------------------------------------------------------------------------ the tree

    def plant(self) -> None:
        """Find the place of every node; what has none is in lost+found."""
        if self.root not in self.nodes:
            problem("/", "the root directory has no record")
            self.make_directory(self.root, self.root, b"")
        self.tree.setdefault(self.root, {})
        others = []
        lost: list[tuple[Node, bytes]] = []
        for node in sorted(self.nodes.values(), key=Node.rank, reverse=True):
            if node.posix is None:
                others.append(node)
            elif node.id != self.root:
                self.enter(node.parent, node.name, node, lost)
        for node in sorted(others, key=lambda node: node.path):
            name = b"_" if node.name in (b"", b".", b"..") else node.name
            self.enter(self.directory_of(node.folder), name, node, lost)
        for _, document in sorted(self.links.items()):
            target = self.nodes.get(str(uuid.UUID(document["target_id"])))
            name = name_bytes(document["posix"]["name"])
            if target is None or target.kind == stat.S_IFDIR:
                problem(name, "a hard link whose file is not there")
                continue
            self.enter(str(uuid.UUID(document["posix"]["parent"])), name, target, lost)
        for node, name in [*lost, *self.unreached()]:
            problem(name, "its directory is not there; in lost+found")
            self.enter(self.lost_and_found(), name, node, [])

    def enter(self, parent: str, name: bytes, node: Node, lost: list[tuple[Node, bytes]]) -> None:
        directory = self.nodes.get(parent)
        if directory is None or directory.kind != stat.S_IFDIR:
            lost.append((node, name))
            return
        entries = self.tree.setdefault(parent, {})
        number, original = 0, name
        while name in entries:
            stem, extension = os.path.splitext(original)
            mark = f" ({node.id[:8]}{f' {number}' if number else ''})".encode()
            name = stem[: 255 - len(mark) - len(extension[:64])] + mark + extension[:64]
            number += 1
        entries[name] = node

    def make_directory(self, identifier: str, parent: str, name: bytes) -> Node:
        """A directory that no record tells of, with the owner and times of the root."""
        posix = {"revision": 1, "parent": identifier, "mode": "755", "uid": 0, "gid": 0}
        posix.update(atime_ns=0, mtime_ns=0)
        node = Node({"file_id": identifier, "posix": posix}, stat.S_IFDIR, "", "")
        root = self.nodes.get(self.root, node)
        node.uid, node.gid, node.times = root.uid, root.gid, root.times
        self.nodes[node.id] = node
        if identifier != self.root:
            self.enter(parent, name, node, [])
        return node

    def directory_of(self, path: str) -> str:
        """Id of the directory of a file without `posix` section; made if no record tells of it."""
        parent, walked = self.root, ""
        for part in path.split("/"):
            if part in ("", ".", "..") or len(part.encode()) > 255:
                continue
            walked = f"{walked}/{part}" if walked else part
            identifier = str(uuid.uuid5(uuid.UUID(self.root), walked))
            entry = self.tree.get(parent, {}).get(part.encode())
            if identifier not in self.nodes:
                if entry is not None and entry.kind == stat.S_IFDIR:
                    identifier = entry.id
                else:
                    self.make_directory(identifier, parent, part.encode())
            parent = identifier
        return parent

    def lost_and_found(self) -> str:
        entry = self.tree[self.root].get(LOST_AND_FOUND)
        if entry is not None and entry.kind == stat.S_IFDIR:
            return entry.id
        return self.make_directory(str(uuid.uuid4()), self.root, LOST_AND_FOUND).id

    def unreached(self) -> list[tuple[Node, bytes]]:
        """Directories that are their own ancestors, taken out where the circle was entered."""
        found: list[tuple[Node, bytes]] = []
        reached = {node.id for _, node in self.walk()} | {self.root}
        for entries in self.tree.values():
            for name, node in list(entries.items()):
                if node.kind == stat.S_IFDIR and node.id not in reached:
                    below = {inner.id for _, inner in self.walk(node.id)}
                    if node.id in below:  # part of the circle, not only below it
                        del entries[name]
                        found.append((node, name))
                        reached |= below
        return found

    def walk(self, top: str | None = None) -> Iterator[tuple[tuple[bytes, ...], Node]]:
        """Path and node of everything below a directory, directories before what is in them."""
        waiting: list[tuple[tuple[bytes, ...], str]] = [((), top or self.root)]
        seen = {top or self.root}
        while waiting:
            path, identifier = waiting.pop()
            for name, node in self.tree.get(identifier, {}).items():
                yield (*path, name), node
                if node.kind == stat.S_IFDIR and node.id not in seen:
                    seen.add(node.id)
                    waiting.append(((*path, name), node.id))


# ------------------------------------------------------------------------------------ restoring


def copy_object(path: str, node: Node, target: int | None) -> str:
    """Read an object whole, into `target` if given; "" or what is wrong with it."""
    try:
        descriptor = open_ordinary(path)
    except (OSError, ValueError) as exc:
        return f"{path}: {getattr(exc, 'strerror', None) or exc}"
    digest, left, size = hashlib.sha256(), max(node.size, 0), os.fstat(descriptor).st_size
    with os.fdopen(descriptor, "rb") as file:
        try:
            while data := file.read(min(left, 1 << 20)):
                digest.update(data)
                left -= len(data)
                rest = memoryview(data)
                while target is not None and rest:
                    rest = rest[os.write(target, rest) :]
        except OSError as exc:
            return f"{path}: {exc.strerror}"
    if size != node.size:
        return f"{path} has {size} bytes, not {node.size}"
    return "" if digest.hexdigest() == node.sha256 else f"{path} has another SHA-256"


class Restore:
    """The tree of an archive into an empty directory, reached by descriptors only."""

    def __init__(self, archive: Archive, target: str) -> None:
        self.archive = archive
        os.makedirs(target, mode=0o700, exist_ok=True)
        if os.listdir(target):
            sys.exit(f"restore.py: {target} is not empty")
        self.top = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        self.opened: tuple[tuple[bytes, ...], int] = ((), self.top)
        self.first: dict[str, tuple[bytes, ...]] = {}

    def directory(self, path: tuple[bytes, ...]) -> int:
        """A descriptor, good until the next call."""
        if self.opened[0] != path:
            descriptor = os.open(".", DIRECTORY_FLAGS, dir_fd=self.top)
            for name in path:
                inner = os.open(name, DIRECTORY_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            if self.opened[1] != self.top:
                os.close(self.opened[1])
            self.opened = (path, descriptor)
        return self.opened[1]

    def run(self) -> None:
        root: tuple[tuple[bytes, ...], Node] = ((), self.archive.nodes[self.archive.root])
        directories = [root]
        for path, node in self.archive.walk():
            try:
                if node.kind == stat.S_IFDIR:
                    os.mkdir(path[-1], 0o700, dir_fd=self.directory(path[:-1]))
                    directories.append((path, node))
                elif node.id in self.first:
                    self.link(path, node)
                else:
                    self.make(path, node)
                    self.first[node.id] = path
            except (OSError, ValueError, OverflowError) as exc:
                problem(b"/".join(path), getattr(exc, "strerror", None) or exc)
        for path, node in reversed(directories):
            try:
                self.dress(node, self.directory(path), path)
            except OSError as exc:
                problem(b"/".join(path), exc.strerror)

    def link(self, path: tuple[bytes, ...], node: Node) -> None:
        first = self.first[node.id]
        source = os.dup(self.directory(first[:-1]))
        target = self.directory(path[:-1])
        try:
            names = (first[-1], path[-1])
            os.link(*names, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(source)

    def make(self, path: tuple[bytes, ...], node: Node) -> None:
        name, parent = path[-1], self.directory(path[:-1])
        if node.kind == stat.S_IFREG:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
            try:
                if not self.fill(descriptor, node):
                    damaged = name[:247] + b".damaged"
                    os.link(name, damaged, src_dir_fd=parent, dst_dir_fd=parent)
                    os.unlink(name, dir_fd=parent)
                    problem(b"/".join(path), f"what is left of it is in {shown(damaged)}")
                self.dress(node, descriptor, path)
            finally:
                os.close(descriptor)
            return
        if node.kind == stat.S_IFLNK:
            os.symlink(node.target, name, dir_fd=parent)
        else:
            os.mknod(name, node.kind | 0o600, node.device, dir_fd=parent)
        self.dress(node, f"/proc/self/fd/{parent}/".encode() + name, path)

    def fill(self, descriptor: int, node: Node) -> bool:
        for number, path in enumerate(node.objects):
            if number:
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.ftruncate(descriptor, 0)
            wrong = copy_object(path, node, descriptor)
            if not wrong:
                return True
            problem(path, wrong)
        return not node.objects

    def dress(self, node: Node, place: Any, path: tuple[bytes, ...]) -> None:
        """Owner, attributes, mode, times; in this order, for each undoes a part of the next."""
        options: dict[str, Any] = {} if isinstance(place, int) else {"follow_symlinks": False}
        root = self.archive.nodes[self.archive.root]
        uid, gid = (node.uid, node.gid) if node.uid >= 0 else (root.uid, root.gid)
        steps: list[tuple[str, Any]] = [("owner", lambda: os.chown(place, uid, gid, **options))]
        for key, value in node.xattrs.items():
            setting = functools.partial(os.setxattr, place, key, value, **options)
            steps.append((f"attribute {shown(key)}", setting))
        if node.kind != stat.S_IFLNK:
            steps.append(("mode", lambda: os.chmod(place, node.mode)))
        steps.append(("times", lambda: os.utime(place, ns=node.times, **options)))
        for what, step in steps:
            try:
                step()
            except (OSError, OverflowError, AttributeError) as exc:
                problem(b"/".join(path), f"{what} cannot be set: {exc}")


def main() -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("target", metavar="TARGET", nargs="?", help="a new or empty directory")
    parser.add_argument("-e", "--element", action="append", metavar="DIR", help="an element")
    parser.add_argument("--offline", action="append", metavar="DIR", help="a medium with content")
    parser.add_argument("--list", action="store_true", help="show the tree")
    parser.add_argument("--verify-only", action="store_true", help="check every object")
    arguments = parser.parse_args()
    if not (arguments.target or arguments.list or arguments.verify_only):
        parser.error("TARGET is missing")
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    archive = Archive(arguments.element or [own], arguments.offline or [])
    if arguments.list:
        for path, node in archive.walk():
            mode = stat.filemode(node.kind | node.mode)
            print(f"{mode} {node.size:>12} {shown(b'/'.join(path))}")
    elif arguments.verify_only:
        for path, node in archive.walk():
            for wrong in filter(None, (copy_object(path, node, None) for path in node.objects)):
                problem(b"/".join(path), wrong)
    else:
        Restore(archive, arguments.target).run()
    print(f"{len(archive.nodes)} nodes, {problems} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
