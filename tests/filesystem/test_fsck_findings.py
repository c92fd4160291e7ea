"""Every class of finding: made on purpose, found, repaired where that is safe, clean after.

A case is what is done to an archive at rest, and what a check then has to say. `clean` cases are
repaired by `--repair` and the next mount together; of the others everything is left as it is.
"""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from artstorefs.core.naming import record_key
from artstorefs.recovery.fsck_findings import FindingClass as F
from artstorefs.state.index import ROOT_INO

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench

CONTENT = b"content of the file"


async def fill(bench: Workbench) -> None:
    """A directory, files in it and outside, a further link, a symlink, attributes; all carried."""
    directory = bench.make(b"d", mode=DIRECTORY)
    inner = bench.make(b"inner", directory.ino, DIRECTORY)
    file = await bench.write(b"f", CONTENT)
    await bench.write(b"g", b"another", inner.ino)
    bench.tree.link(file.ino, directory.ino, b"link", ME)
    bench.tree.symlink(ROOT_INO, b"s", b"target", ME)
    bench.xattrs.set(file, b"user.k", b"v", 0, ME)
    bench.make(b"empty", directory.ino)
    await bench.drain()


def object_of(bench: Workbench, name: bytes = b"f") -> Path:
    node = bench.tree.lookup(ROOT_INO, name)
    assert node is not None
    return bench.root / bench.archive.index.copies(node.ino)[0].key


def sidecar_of(bench: Workbench, name: bytes = b"f") -> Path:
    path = object_of(bench, name)
    return path.with_name(path.name + ".attr.json")


def record_of(bench: Workbench, name: bytes, parent: int = ROOT_INO) -> Path:
    node = bench.tree.lookup(parent, name)
    assert node is not None
    return bench.root / record_key(UUID(bytes=node.file_id))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document as somebody would who hides it: with the times that it had."""
    found = path.stat()
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def patch(path: Path, old: bytes, new: bytes) -> None:
    """As a disk does it: nothing else changes, not even a time."""
    found = path.stat()
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


_REST = "NULL, NULL, NULL, 0, 0, 0, NULL"
"""Of an intent: columns that say nothing of what it is."""


def sql(text: str) -> Callable[[Workbench], None]:
    def change(bench: Workbench) -> None:
        bench.archive.database.execute(text)

    return change


def set_posix(record: bytes, /, **members: Any) -> Callable[[Workbench], None]:
    def change(bench: Workbench) -> None:
        edit(record_of(bench, record), lambda document: document["posix"].update(members))

    return change


def cycle(bench: Workbench) -> None:
    """`d/inner` is the parent of `d`, as far as the documents tell."""
    directory = bench.tree.lookup(ROOT_INO, b"d")
    assert directory is not None
    inner = bench.tree.lookup(directory.ino, b"inner")
    assert inner is not None
    set_posix(b"d", parent=str(UUID(bytes=inner.file_id)))(bench)


def older_revision(bench: Workbench) -> None:
    """What an overwrite that was cut off before its last step leaves."""
    path = object_of(bench)
    old = path.with_name(path.name.replace("f_", "old_", 1))
    old.write_bytes(b"the content before")
    document = json.loads(sidecar_of(bench).read_bytes())
    document |= {"storage_filename": old.name, "file_size": 18}
    document["posix"]["revision"] -= 1
    old.with_name(old.name + ".attr.json").write_text(json.dumps(document))


def orphan(bench: Workbench) -> None:
    path = object_of(bench)
    name = "x_root_20250101T000000_0f8fad5b-d9cb-469f-a165-70867728950e.txt"
    path.with_name(name).write_bytes(b"nobody's")


def lose(path: Callable[[Workbench], Path]) -> Callable[[Workbench], None]:
    return lambda bench: path(bench).unlink()


def write(path: Callable[[Workbench], Path], data: bytes) -> Callable[[Workbench], object]:
    return lambda bench: path(bench).write_bytes(data)


def link_record_of(bench: Workbench) -> Path:
    row = bench.archive.database.execute("SELECT link_id FROM names WHERE link_id NOT NULL")
    return bench.root / record_key(UUID(bytes=row.fetchone()[0]))


def leave_symlink(bench: Workbench) -> None:
    (bench.root / "2025").symlink_to("/etc")


def leave_block_list(bench: Workbench) -> None:
    path = object_of(bench)
    path.with_name(path.name + ".blocks").write_text("artstorefs-blocks/1\n")


def miss_block_list(bench: Workbench) -> None:
    edit(sidecar_of(bench), lambda document: document["posix"].update(blocks="0" * 64))
    bench.archive.database.execute("UPDATE copies SET blocks = zeroblob(32) WHERE sha256 NOT NULL"
                                   " AND size = 19")  # fmt: skip


def other_archive(bench: Workbench) -> None:
    path = bench.root / ".artstorefs/archive.json"
    edit(path, lambda document: document.update(archive_id=str(UUID(int=1))))


def no_posix(bench: Workbench) -> None:
    path = bench.root / "2025/01/02/03"
    path.mkdir(parents=True)
    (path / "x.txt").write_bytes(b"by others")
    document = {
        "file_id": str(UUID(int=5)),
        "original_filename": "x.txt",
        "storage_filename": "x.txt",
        "file_size": 9,
        "checksum": "0" * 64,
    }
    (path / "x.txt.attr.json").write_text(json.dumps(document))


def by_others(bench: Workbench) -> None:
    path = sidecar_of(bench)
    document = json.loads(path.read_bytes())
    document["custom_attributes"]["new"] = 5
    path.write_text(json.dumps(document))


@dataclass(frozen=True)
class Case:
    damage: Callable[[Workbench], object]
    kind: F
    clean: bool = False
    deep: bool = False
    also: frozenset[F] = frozenset()
    """Other classes that the same damage makes."""


DRIFT = F.INDEX_DRIFT
TEMPORARY = Path(".artstorefs/tmp/12-ab-0")
CASES = {
    "object without sidecar, known": Case(lose(sidecar_of), F.OBJECT_WITHOUT_SIDECAR, True,
                                          also=frozenset({F.MISSING_PARENT})),
    "object without sidecar, unknown": Case(orphan, F.OBJECT_WITHOUT_SIDECAR, True),
    "sidecar without object": Case(lose(object_of), F.SIDECAR_WITHOUT_OBJECT),
    "wrong size": Case(write(object_of, CONTENT + b"x"), F.WRONG_SIZE),
    "cut to nothing": Case(write(object_of, b""), F.WRONG_SIZE),
    "wrong hash": Case(write(object_of, CONTENT.upper()), F.WRONG_HASH, deep=True),
    "block list of nothing": Case(leave_block_list, F.BLOCK_LIST, True),
    "block list missing": Case(miss_block_list, F.BLOCK_LIST,
                               also=frozenset({F.CHANGED_BY_OTHERS})),
    "two revisions": Case(older_revision, F.TWO_REVISIONS, True),
    "unreadable sidecar": Case(write(sidecar_of, b"{"), F.UNREADABLE, True,
                               also=frozenset({F.MISSING_PARENT})),
    "empty sidecar": Case(write(sidecar_of, b""), F.UNREADABLE, True,
                          also=frozenset({F.MISSING_PARENT})),
    "sidecar without its posix section": Case(
        lambda b: edit(sidecar_of(b), lambda d: d.pop("posix")), F.UNREADABLE, True,
        also=frozenset({F.MISSING_PARENT})),
    "unreadable record": Case(write(lambda b: record_of(b, b"s"), b"\xff"), F.UNREADABLE, True),
    "record of another id": Case(
        lambda b: edit(record_of(b, b"s"), lambda d: d.update(file_id=str(UUID(int=9)))),
        *(F.UNREADABLE, True),
    ),
    "missing record": Case(lose(lambda b: record_of(b, b"s")), F.MISSING_DOCUMENT, True),
    "missing record of a directory": Case(lose(lambda b: record_of(b, b"d")), F.MISSING_DOCUMENT,
                                          True, also=frozenset({F.MISSING_PARENT})),
    "missing record of the root": Case(
        lambda b: (b.root / record_key(UUID(bytes=b.tree.node(ROOT_INO).file_id))).unlink(),
        *(F.MISSING_DOCUMENT, True),
        also=frozenset({F.MISSING_PARENT}),
    ),
    "missing link record": Case(lose(link_record_of), F.MISSING_DOCUMENT, True),
    "missing parent": Case(set_posix(b"s", parent=str(UUID(int=7))), F.MISSING_PARENT,
                           also=frozenset({DRIFT})),
    "name clash": Case(set_posix(b"s", name="f"), F.NAME_CLASH, also=frozenset({DRIFT})),
    "cycle": Case(cycle, F.CYCLE, also=frozenset({DRIFT})),
    "leftover temporary": Case(write(lambda b: b.root / TEMPORARY, b"half"), F.LEFTOVER, True),
    "spool file of nothing": Case(write(lambda b: b.base / "state/spool/99.1", b"x"), F.LEFTOVER),
    "symlink": Case(leave_symlink, F.NOT_ORDINARY),
    "archive.json missing": Case(lose(lambda b: b.root / ".artstorefs/archive.json"),
                                 F.ARCHIVE_RECORD),
    "archive.json unreadable": Case(write(lambda b: b.root / ".artstorefs/archive.json", b"[]"),
                                    F.ARCHIVE_RECORD),
    "archive.json of another": Case(other_archive, F.ARCHIVE_RECORD),
    "foreign file": Case(write(lambda b: b.root / "notes.txt", b"x"), F.FOREIGN),
    "attr.json of ArtStore": Case(no_posix, F.FOREIGN),
    "changed by others": Case(by_others, F.CHANGED_BY_OTHERS),
    "document has another mode": Case(set_posix(b"d", mode="0700"), DRIFT, True),
    "document has another time": Case(set_posix(b"d", mtime_ns=7), DRIFT, True),
    "document has another name": Case(set_posix(b"d", name="renamed"), DRIFT, True),
    "document has another revision": Case(set_posix(b"d", revision=99), DRIFT, True),
    "document has another attribute": Case(
        lambda b: patch(sidecar_of(b), b'"k": "v"', b'"k": "w"'), DRIFT, True
    ),
    "index has another mode": Case(sql("UPDATE nodes SET mode = mode | 1 WHERE ino = 18"),
                                   DRIFT, True),
    "index has another size": Case(sql("UPDATE nodes SET size = 18 WHERE size = 19"), DRIFT, True),
    "index has another hash": Case(sql("UPDATE copies SET sha256 = zeroblob(32) WHERE size = 19"),
                                   DRIFT, True),
    "index has another name": Case(sql("UPDATE names SET name = x'66FF' WHERE name = x'66'"),
                                   DRIFT, True),
    "index has another attribute": Case(sql("""UPDATE nodes SET custom = '{"k":"w"}'
                                            WHERE custom NOT NULL"""), DRIFT, True),
    "index has another revision": Case(sql("UPDATE nodes SET revision = 99 WHERE ino = 18"),
                                       DRIFT, True),
    "index has no node": Case(sql("DELETE FROM nodes WHERE size = 19"), DRIFT, True),
    "index has no name": Case(sql("DELETE FROM names WHERE name = x'66'"), DRIFT, True),
    "index has no copy": Case(sql("DELETE FROM copies WHERE size = 19"), DRIFT, True),
    "index has no link": Case(sql("DELETE FROM names WHERE link_id NOT NULL"), DRIFT, True),
    "wrong link count": Case(sql("UPDATE nodes SET nlink = 5 WHERE size = 19"), DRIFT, True),
    "wrong link count of a directory": Case(sql("UPDATE nodes SET nlink = 9 WHERE ino = 1"),
                                            DRIFT, True),
    "name of nothing": Case(sql("INSERT INTO names VALUES (99, 1, x'78', 99, NULL, 1, NULL)"),
                            DRIFT, True),
    "index has a cycle": Case(sql("UPDATE names SET parent = 17 WHERE ino = 16"), DRIFT, True),
    "log of nothing": Case(
        sql(f"INSERT INTO log VALUES (9, 'file_update', 'pending', 99, {_REST})"),
        DRIFT,
    ),
    "log that is none": Case(
        sql(f"INSERT INTO log VALUES (9, 'dance', 'pending', 18, {_REST})"),
        DRIFT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_made_found_and_repaired(bench: Workbench, name: str) -> None:
    case = CASES[name]
    bench.is_sound = case.clean
    await fill(bench)
    assert bench.fsck(deep=True).findings == []
    tree = read_element(bench.root)
    case.damage(bench)
    bench.close()
    before = keys_with_content(bench)
    found = bench.fsck(deep=case.deep)
    assert case.kind in {finding.kind for finding in found.findings}
    assert {finding.kind for finding in found.findings} <= {case.kind, *case.also}
    assert bool(found.left) == case.kind.is_error
    assert keys_with_content(bench) == before, "a check changes nothing"
    repaired = bench.fsck(deep=case.deep, repair=True)
    check_nothing_is_lost(bench, before)
    if not case.clean:
        assert keys_with_content(bench) == before, "what is not safe is not touched"
        return
    assert repaired.repaired
    bench.open()
    await bench.drain()
    bench.close()
    assert bench.fsck(deep=True, repair=True).left == []
    assert bench.fsck(deep=True).findings == []
    if "document has" not in name:
        assert set(read_element(bench.root)) == set(tree)
    bench.open()
    assert bench.tree.lookup(ROOT_INO, b"f") is not None


def keys_with_content(bench: Workbench) -> dict[str, bytes]:
    return {key: (bench.root / key).read_bytes() for key in [*bench.keys()]}


def check_nothing_is_lost(bench: Workbench, before: dict[str, bytes]) -> None:
    """Every content is there, under its key or in quarantine with a report."""
    after = keys_with_content(bench)
    for key, data in before.items():
        if after.get(key) == data:
            continue
        (moved,) = (
            k for k in after if k.startswith(".artstorefs/quarantine") and k.endswith(key + ".kept")
        )
        assert after[moved] == data
        report = json.loads(after[moved.removesuffix(".kept") + ".report.json"])
        assert report["original_key"] == key
        assert report["class"]
        assert report["why"]


async def test_damage_is_shown_until_the_content_is_another(bench: Workbench) -> None:
    """SEMANTICS: FSCK-5"""
    await fill(bench)
    object_of(bench).write_bytes(CONTENT.upper())
    bench.close()
    report = bench.fsck(deep=True, repair=True)
    assert [finding.repaired for finding in report.findings] == ["marked as damaged"]
    bench.open()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert b"SHA-256" in bench.xattrs.get(node, b"user.artstore.error")
    await bench.write(b"f", b"new content")
    await bench.drain()
    with pytest.raises(Exception, match=r"user\.artstore\.error"):
        bench.xattrs.get(node, b"user.artstore.error")


async def test_damaged_database_is_found(bench: Workbench) -> None:
    """Of a page of the index nothing is left."""
    bench.is_sound = False
    await fill(bench)
    bench.close()
    path = bench.base / "state/state.db"
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    report = bench.fsck(repair=True)
    assert {finding.kind for finding in report.left} == {F.INDEX_DAMAGED}
    path.write_bytes(b"this is no database, not at all" * 200)
    assert {finding.kind for finding in bench.fsck().left} == {F.INDEX_DAMAGED}


async def test_text_that_is_none_is_found(bench: Workbench) -> None:
    """A start gives the index up for it, with what waits, and fsck had nothing to say. Found by
    5,000 flips."""
    bench.is_sound = False
    await bench.write(b"f", b"content")
    await bench.drain()
    bench.archive.database.execute(
        "UPDATE settings SET key = CAST(x'62ff6f74' AS TEXT) WHERE key = 'boot'"
    )
    bench.close()
    (finding,) = bench.fsck().left
    assert finding.kind is F.INDEX_DAMAGED
    assert finding.detail == "1 rows of settings have no text as key"


@pytest.mark.parametrize("column", ["type", "name", "tbl_name", "sql"])
async def test_table_described_by_something_else_than_text_is_found(
    bench: Workbench, column: str
) -> None:
    """A flipped bit made text a blob, and fsck ended with a traceback. Found by 5,000 flips."""
    bench.is_sound = False
    await bench.write(b"f", b"content")
    await bench.drain()
    bench.close()
    with closing(sqlite3.connect(bench.base / "state/state.db")) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            f"UPDATE sqlite_schema SET {column} = CAST({column} AS BLOB) WHERE name = 'names'"
        )
        connection.commit()
    report = bench.fsck()
    assert report.left
    assert {finding.kind for finding in report.left} == {F.INDEX_DAMAGED}


async def test_spool_that_lost_content_is_found(bench: Workbench) -> None:
    bench.is_sound = False
    node = await bench.write(b"f", CONTENT)
    path = Path(bench.archive.spool.path(node.ino, node.content))
    assert bench.fsck().findings == []
    write(lambda _: path, CONTENT + b"x")(bench)
    assert [finding.kind for finding in bench.fsck().left] == [F.SPOOL]
    lose(lambda _: path)(bench)
    assert [finding.kind for finding in bench.fsck().left] == [F.SPOOL]
    os.symlink(path.name, path)  # stat(2) is ELOOP; a failing disk says EIO
    (finding,) = bench.fsck().left
    assert (finding.kind, "cannot be read" in finding.detail) == (F.SPOOL, True)


async def test_index_is_kept_while_changes_wait(bench: Workbench) -> None:
    """What only log and spool know is never given up for what the elements know.
    SEMANTICS: FSCK-3"""
    bench.is_sound = False
    await fill(bench)
    await bench.write(b"new", b"not yet on an element")
    bench.archive.database.execute("UPDATE nodes SET mode = mode | 1, sum = NULL WHERE size = 19")
    bench.close()
    report = bench.fsck(repair=True)
    assert [finding.kind for finding in report.left] == [F.INDEX_DRIFT]
    assert "wait for the elements" in report.left[0].detail
    bench.open()
    node = bench.tree.lookup(ROOT_INO, b"new")
    assert node is not None
    assert await bench.content(node) == b"not yet on an element"


async def test_row_that_no_element_has_tells_when_it_was_changed(bench: Workbench) -> None:
    """SEMANTICS: FSCK-4"""
    bench.is_sound = False
    await fill(bench)
    node = await bench.write(b"new", b"not yet on an element")
    for column in ("mtime_ns = mtime_ns + 1", "uid = 9", "size = 22", "custom = '{}'", "sum = 7"):
        before = bench.archive.database.execute(
            "SELECT mtime_ns, uid, size, custom, sum FROM nodes WHERE ino = ?", (node.ino,)
        ).fetchone()
        bench.archive.database.execute(f"UPDATE nodes SET {column} WHERE ino = ?", (node.ino,))
        details = [finding.detail for finding in bench.fsck().left]
        assert f"a row of inode {node.ino} is not as it was written" in details, column
        bench.archive.database.execute(
            "UPDATE nodes SET mtime_ns = ?, uid = ?, size = ?, custom = ?, sum = ? WHERE ino = ?",
            (*before, node.ino),
        )
        assert bench.fsck().left == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE names SET ino = {second} WHERE ino = {first}",
        "UPDATE names SET parent = {second} WHERE ino = {first}",
        "UPDATE names SET link_id = zeroblob(16) WHERE ino = {first}",
        "DELETE FROM log WHERE ino = {first}",
    ],
)
async def test_index_that_contradicts_itself_is_found_while_changes_wait(
    bench: Workbench, damage: str
) -> None:
    """Names have no sum of their own: a flipped bit gave a file the content of another, and fsck
    left it alone because both were to be carried. Found by 5,000 flips."""
    bench.is_sound = False
    first = await bench.write(b"first", b"waits")
    second = await bench.write(b"second", b"waits, too")
    assert not bench.fsck().left
    bench.archive.database.execute(damage.format(first=first.ino, second=second.ino))
    bench.close()
    assert {finding.kind for finding in bench.fsck().left} == {F.INDEX_DRIFT}


async def test_index_put_aside_is_kept(bench: Workbench) -> None:
    await fill(bench)
    bench.archive.database.execute("UPDATE nodes SET mode = mode | 1 WHERE size = 19")
    bench.close()
    assert bench.fsck(repair=True).left == []
    (aside,) = (bench.base / "state" / "aside").glob("*/state.db")
    connection = sqlite3.connect(aside)
    assert connection.execute("SELECT count(*) FROM nodes WHERE size = 19").fetchone() == (1,)
    connection.close()
    bench.open()


async def test_without_an_index_the_elements_are_checked(bench: Workbench) -> None:
    bench.is_sound = False
    await fill(bench)
    bench.close()
    for path in (bench.base / "state").glob("state.db*"):
        path.unlink()
    assert bench.fsck(deep=True).findings == []
    (sidecar, _) = (bench.root / key for key in keys_with_content(bench) if "attr.json" in key)
    sidecar.write_bytes(b"")
    assert F.UNREADABLE in {finding.kind for finding in bench.fsck().findings}
