"""SEMANTICS.md and the tests belong together: each clause is shown, each id that is named exists.

A test names clauses in its docstring, after the word SEMANTICS and a colon.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "artstorefs" / "SEMANTICS.md"
ID = r"[A-Z]+-\d+"


def clauses() -> list[str]:
    return re.findall(rf"^- \*\*({ID})\*\* ", DOCUMENT.read_text(), re.MULTILINE)


def named_by_tests() -> dict[str, list[str]]:
    """Id to the tests that name it."""
    named: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            _, colon, ids = (ast.get_docstring(node) or "").partition("SEMANTICS:")
            for identifier in re.findall(ID, ids) if colon else []:
                named.setdefault(identifier, []).append(f"{path.name}::{node.name}")
    return named


def test_ids_are_there_once() -> None:
    assert len(clauses()) > 20
    assert sorted(set(clauses())) == sorted(clauses())


def test_every_clause_is_named_by_a_test() -> None:
    assert sorted(set(clauses()) - named_by_tests().keys()) == []


def test_every_id_that_a_test_names_is_a_clause() -> None:
    unknown = {name: tests for name, tests in named_by_tests().items() if name not in clauses()}
    assert unknown == {}
