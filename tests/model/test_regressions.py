"""Failures that the random tests have found, cut down by `shrink.py`, each under its name."""

import os
from pathlib import Path

from .operations import Operation
from .runs import run_on_layer

ARCHIVED: list[Operation] = [
    ("open", 0, "f", os.O_RDWR | os.O_CREAT, 0o644),
    ("pwrite", 0, 10, 1, 0),
    ("setxattr", "f", "user.one", b"1", 0),
    ("close", 0),
    ("rebuild",),
]
"""A file that the element has, with one attribute."""

SETS_ONE, SETS_OTHER = 2, 7
"""Seeds with which somebody else sets `outside0`, to one value and to another."""


def test_attribute_removed_here_stays_removed_when_others_write_meanwhile(tmp_path: Path) -> None:
    """The document of the others still had it, and the removal was not carried yet: it came back.

    SEMANTICS: ELEM-5"""
    operations = [
        *ARCHIVED,
        ("removexattr", "f", "user.one"),
        ("outside", "attribute", "f", SETS_ONE),
        ("rescan",),
    ]
    run_on_layer(tmp_path, operations)


def test_attribute_changed_twice_by_others_while_a_chmod_waits(tmp_path: Path) -> None:
    """Any change of ours that waited, of the mode say, made ours of every attribute: the second
    value of the others was overwritten by their first.

    SEMANTICS: ELEM-5"""
    operations = [
        *ARCHIVED,
        ("outside", "attribute", "f", SETS_ONE),
        ("rescan",),
        ("chmod", "f", 0o600),
        ("outside", "attribute", "f", SETS_OTHER),
        ("rescan",),
    ]
    run_on_layer(tmp_path, operations)
