"""RECOVERY.md against the code: every crash point is in a table, and what a table names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "artstorefs" / "RECOVERY.md"
COLUMNS = ["step", "point", "state directory", "element", "the next start", "test"]
SOURCES = [p for folder in ("artstorefs", "daemon", "tools") for p in (ROOT / folder).rglob("*.py")]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def rows() -> Iterator[dict[str, str]]:
    """Every row of every table."""
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells == COLUMNS or set(cells) == {"---"}:
            continue
        assert len(cells) == len(COLUMNS), line
        assert all(cells), line
        yield dict(zip(COLUMNS, cells, strict=True))


def points_of_code() -> list[str]:
    """The argument of every call of `crash_point`; each has to be a text that is written there."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "crash_point":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{path}: {ast.unparse(node)}"
                found.append(str(argument.value))
    return found


def strings_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_bytes())
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str}


def test_every_crash_point_is_in_one_row_and_in_one_place() -> None:
    points = points_of_code()
    assert len(points) == len(set(points))
    told = [row["point"].strip("`") for row in rows()]
    assert len(told) == len(set(told))
    assert set(told) == set(points)


def test_every_crash_point_is_walked() -> None:
    armed = set()
    for path in (ROOT / "tests" / "crash").glob("test_every_*.py"):
        armed |= {text.partition(":")[0] for text in strings_of(path)}
    assert set(points_of_code()) <= armed


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text()))
    assert {row["test"].strip("`") for row in rows()} <= named
    functions = set()
    for path in TESTS:
        tree = ast.parse(path.read_bytes())
        kinds = ast.FunctionDef | ast.AsyncFunctionDef
        functions |= {n.name for n in ast.walk(tree) if isinstance(n, kinds)}
    assert named <= functions
