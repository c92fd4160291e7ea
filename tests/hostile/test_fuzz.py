"""Every parser takes its input or refuses it by name: 110,000 inputs (ASFS_INPUTS, ASFS_SEED)."""

import contextlib
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artstorefs.core.configuration import new_configuration, parse_element_argument
from artstorefs.core.configuration_text import render_configuration
from artstorefs.core.errors import ConfigurationError, one_line
from artstorefs.state.spool import Spool

from .fuzz import fuzz
from .parsers import DEFAULTS, TARGETS, Target, check_configuration, check_request

INPUTS = int(os.environ.get("ASFS_INPUTS", "110000"))
SEED = int(os.environ.get("ASFS_SEED", str(random.SystemRandom().randrange(2**32))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_parser_takes_or_refuses_by_name(target: Target) -> None:
    print(f"seed {SEED}")
    outcome = fuzz(target, SEED, 0, INPUTS // len(TARGETS))
    assert not outcome.bugs, f"seed {SEED}\n" + "\n\n".join(outcome.bugs)
    assert outcome.taken > outcome.inputs // 200, "hardly an input came through: nothing was shown"
    assert target.name == "xattr value" or outcome.refused, "nothing was refused"


def test_the_fuzzer_finds_a_planted_bug() -> None:
    """One input in some hundreds, an error without a name, an endless parser, a line too many."""

    def careless(data: bytes) -> bool:
        return bool(data.decode("ascii", "ignore").split('"posix"')[1])

    good = TARGETS[0]
    planted = Target(good.name, good.make, careless, good.refuses)
    assert "IndexError" in fuzz(planted, 1, 0, 2000).bugs[0]
    chatty = Target("chatty", good.make, lambda data: _refuse("two\nlines"), (ValueError,))
    assert "more than one line" in fuzz(chatty, 1, 0, 2000).bugs[0]
    slow = Target("slow", good.make, lambda data: sum(range(30_000_000)) > 0, ())
    assert "took" in fuzz(slow, 1, 0, 1).bugs[0]


def _refuse(text: str) -> bool:
    raise ValueError(text)


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_bytes_and_values_that_hypothesis_thinks_of(data: st.DataObject) -> None:
    target = data.draw(st.sampled_from([one for one in TARGETS if one.name in HYPOTHESIS]))
    made = data.draw(HYPOTHESIS[target.name])
    with contextlib.suppress(*target.refuses):
        target.check(made)


HYPOTHESIS = {
    **dict.fromkeys(["attr.json", "node record", "archive.json", "mode.json"], st.binary()),
    "control request": st.binary(),
    "xattr value": st.binary(),
    "access list": st.binary(),
    "transfer message": st.binary(),
    "configuration": st.binary(),
    "names": JSON | st.binary(),
    "keys": st.text(),
    "spool name": st.text(),
}


# ------------------------------------------------------------------------- what was found by it


@pytest.mark.parametrize("text", ["x = " + "[" * 3000, "x = " + "9" * 5000, "x = {" * 2000])
def test_a_configuration_that_overflows_the_parser_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        check_configuration(text.encode())


@pytest.mark.parametrize("size", ["100GB", "97.8125TiB", 1, 10**13 + 1, "0.5KiB"])
def test_a_size_that_has_no_short_form_is_written_in_bytes(size: str | int) -> None:
    element = parse_element_argument(f"main=local:/objects,capacity={size}")
    configuration = new_configuration("museum", [element], None, DEFAULTS)
    assert check_configuration(render_configuration(configuration, DEFAULTS).encode())


@pytest.mark.parametrize("identifier", ["NaN", "-Infinity", "[Infinity]", "1e999", "[-1e999]"])
def test_an_id_that_no_answer_can_carry_is_refused(identifier: str) -> None:
    with pytest.raises(Exception, match="JSON"):
        check_request(b'{"method": "status", "id": %s}' % identifier.encode())


@pytest.mark.parametrize("name", ["0a.1", "0xa.1", "A.1", "a.01", "+a.1", "a.1 ", "a.1_0", "١.1"])
def test_a_stray_file_in_the_spool_is_not_taken_for_another(name: str, tmp_path) -> None:
    """It would be moved aside in place of the content of inode 10."""
    spool = Spool(str(tmp_path))
    (tmp_path / "a.1").write_text("content")
    (tmp_path / name).write_text("stray")
    for move in (spool.put_aside, spool.remove):
        with pytest.raises(ValueError, match="spool file"):
            move(name)
    assert (tmp_path / "a.1").read_text() == "content"


def test_what_others_have_named_cannot_forge_a_line() -> None:
    assert one_line("a\nERROR b\x1b[31m\udcff\u2028\x9b") == (
        "a\\nERROR b\\x1b[31m\\udcff\\u2028\\x9b"
    )
    assert one_line("é 絵画") == "é 絵画"
