"""The tables of the start: one row, and no more than one, for whatever can be found."""

import itertools
from typing import Any

import pytest

from artstorefs.recovery.decisions import (
    NODES,
    SPOOL,
    FoundNode,
    FoundSpoolFile,
    NodeAction,
    SpoolAction,
    SpoolFile,
    decide_node,
    decide_spool_file,
    rows_that_fit,
)
from artstorefs.state.node import ContentState

BOOLEANS = (False, True)
EVERY_NODE = [
    FoundNode(*values)
    for values in itertools.product(BOOLEANS, ContentState, SpoolFile, BOOLEANS, BOOLEANS)
]
EVERY_SPOOL_FILE = [FoundSpoolFile(*values) for values in itertools.product(BOOLEANS, repeat=3)]


@pytest.mark.parametrize(("table", "inputs"), [(NODES, EVERY_NODE), (SPOOL, EVERY_SPOOL_FILE)])
def test_exactly_one_row_fits_whatever_is_found(table: Any, inputs: list[Any]) -> None:
    used = set()
    for found in inputs:
        (row,) = rows_that_fit(table, found)
        used.add(row)
    assert used == set(table)


def test_a_table_with_a_gap_or_two_answers_is_found() -> None:
    """The check above, on tables that are wrong."""
    for wrong in (NODES[:-1], (*NODES, NODES[0])):
        assert any(len(rows_that_fit(wrong, found)) != 1 for found in EVERY_NODE)


def test_content_is_never_given_up_while_there_is_some() -> None:
    for found in EVERY_NODE:
        action = decide_node(found)
        if found.named and found.spool_file is SpoolFile.WHOLE:
            assert action in (NodeAction.KEEP, NodeAction.SEAL)
        if found.named and found.on_an_element and found.state is ContentState.SEALED:
            assert action is not NodeAction.SHORTEN
        if found.handed and found.state is ContentState.OPEN:
            assert action is NodeAction.KEEP
    for spool_file in EVERY_SPOOL_FILE:
        if spool_file.is_content:
            assert decide_spool_file(spool_file) is SpoolAction.KEEP
