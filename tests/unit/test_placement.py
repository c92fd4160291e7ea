"""Which element takes a new file."""

import pytest

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.elements.interface import Capacity
from artstorefs.transfer.placement import RESERVE_LIMIT_BYTES, Room, choose_element, room_of


def element(name: str, priority: int = 1, mode: str = "edit") -> ElementConfiguration:
    return ElementConfiguration(id=name, path=f"/{name}", priority=priority, mode=mode)  # type: ignore[arg-type]


def free(size: int | None) -> Capacity:
    return Capacity(None if size is None else 1 << 40, size, None, None)


def test_lowest_priority_number_first() -> None:
    """SEMANTICS: MODE-4"""
    elements = [element("b", 2), element("a", 1), element("c", 3)]
    assert choose_element(elements, {}, 1) == "a"


def test_equal_priority_goes_by_the_configuration() -> None:
    assert choose_element([element("b"), element("a")], {}, 1) == "b"


@pytest.mark.parametrize("mode", ["ro", "ar"])
def test_modes_that_take_nothing_are_passed_over(mode: str) -> None:
    """SEMANTICS: MODE-4"""
    assert choose_element([element("a", mode=mode), element("b", 9, "rw")], {}, 1) == "b"
    assert choose_element([element("a", mode=mode)], {}, 1) is None


def test_room() -> None:
    """SEMANTICS: MODE-4"""
    elements = [element("a", 1), element("b", 2)]
    size = 1000
    enough = size + RESERVE_LIMIT_BYTES
    for free_bytes, chosen in ((enough, "a"), (enough - 1, "b")):
        assert choose_element(elements, {"a": free(free_bytes)}, size) == chosen
    assert choose_element(elements, {"a": free(0), "b": free(0)}, size) is None
    assert choose_element(elements, {"a": free(None)}, size) == "a"


def test_an_element_without_inodes_takes_nothing() -> None:
    """SEMANTICS: MODE-4"""
    elements = [element("a", 1), element("b", 2)]
    capacities = {"a": Capacity(1 << 40, 1 << 40, 1000, 2), "b": Capacity(1 << 40, 1 << 40, 9, 9)}
    assert choose_element(elements, capacities, 1) == "b"
    assert choose_element(elements[:1], capacities, 1) is None


TIB, GIB, MIB = 1 << 40, 1 << 30, 1 << 20


@pytest.mark.parametrize(
    ("total", "free_bytes", "room"),
    [
        (10 * TIB, 2 * TIB, Room.OK),
        (10 * TIB, TIB - 1, Room.WARNING),
        (10 * TIB, TIB // 5, Room.WARNING),
        (10 * TIB, TIB // 5 - 1, Room.CRITICAL),
        (10 * TIB, 65 * MIB, Room.CRITICAL),
        (10 * TIB, 64 * MIB, Room.FULL),
        (100 * GIB, 21 * GIB, Room.OK),  # a tenth is less than 20 GiB
        (100 * GIB, 20 * GIB - 1, Room.WARNING),
        (GIB, GIB, Room.OK),
        (GIB, GIB // 4, Room.OK),
        (GIB, GIB // 4 - 1, Room.WARNING),
        (GIB, GIB // 20 - 1, Room.CRITICAL),
        (None, None, Room.UNKNOWN),
    ],
)
def test_levels_of_room(total: int | None, free_bytes: int | None, room: Room) -> None:
    """SEMANTICS: MODE-4"""
    assert room_of(Capacity(total, free_bytes, None, None)) is room


@pytest.mark.parametrize(
    ("files", "room"),
    [(1000, Room.OK), (99, Room.WARNING), (19, Room.CRITICAL), (7, Room.FULL)],
)
def test_levels_of_room_for_names(files: int, room: Room) -> None:
    assert room_of(Capacity(TIB, TIB, 1000, files)) is room


def test_room_that_is_not_known() -> None:
    assert room_of(None) is Room.UNKNOWN
