"""An element is used once it has proved to be the one that it should be, and not before."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementError, ElementOfAnother, ElementUnavailable
from artstorefs.elements.interface import ARCHIVE_KEY, Element
from artstorefs.elements.local import LocalElement
from artstorefs.elements.opening import identified_element
from artstorefs.recovery.layout import write_layout

OURS = uuid4()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the element of the tests is to be; nothing is there."""
    return tmp_path / "element"


def make_element(root: Path) -> None:
    LocalElement.initialize(str(root))
    element = LocalElement("main", str(root))
    write_layout(element, OURS, "museum")
    element.close()


def identified(root: Path) -> Element:
    return identified_element(ElementConfiguration(id="main", path=root), OURS)


def use(element: Element) -> None:
    """Every call but `close`, each of which has to fail."""
    for call in (
        lambda: element.put("2026/11/26/13/x", __file__, size_bytes=1),
        lambda: element.replace("2026/11/26/13/x", b""),
        lambda: element.remove("2026/11/26/13/x"),
        element.barrier,
        lambda: element.read(ARCHIVE_KEY, 0, 1),
        lambda: element.open_read(ARCHIVE_KEY),
        lambda: element.stat(ARCHIVE_KEY),
        element.list,
        element.leftovers,
        element.capacity,
    ):
        with pytest.raises(ElementUnavailable) as raised:
            call()
    raise raised.value


def test_element_that_is_not_there_is_opened_once_it_is(root: Path) -> None:
    element = identified(root)
    assert (element.id, element.kind) == ("main", "local")
    assert element.capabilities == LocalElement.capabilities
    with pytest.raises(ElementUnavailable, match="is the disk mounted"):
        use(element)
    root.mkdir()
    with pytest.raises(ElementUnavailable, match="is the disk mounted"):
        use(element)
    root.rmdir()
    make_element(root)
    element.replace("2026/11/26/13/x", b"x")
    element.barrier()
    assert element.read("2026/11/26/13/x", 0, 10) == b"x"
    element.close()


WRONG = {
    "archive": ({"archive_id": str(uuid4())}, ElementOfAnother, "belongs to another archive, mus"),
    "element": ({"element_id": "second"}, ElementUnavailable, "is element second of this archive"),
    "format": ({"format": "artstorefs/2"}, ElementUnavailable, "put back the one of this archive"),
    "nothing": (None, ElementUnavailable, "no .artstorefs/archive.json is there"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_the_element(root: Path, wrong: str) -> None:
    changes, error, words = WRONG[wrong]
    make_element(root)
    path = root / ARCHIVE_KEY
    right = path.read_bytes()
    path.unlink()
    if changes is not None:
        path.write_text(json.dumps({**json.loads(right), **changes}))
    element = identified(root)
    with pytest.raises(error, match=words) as raised:
        use(element)
    assert str(raised.value).startswith(f"element main: {root}: ")
    path.write_bytes(right)
    assert element.stat(ARCHIVE_KEY).size_bytes == len(right)
    element.close()


def test_what_is_known_of_it_comes_first(root: Path) -> None:
    """`require` is asked before each call, and what it raises is the answer."""
    make_element(root)
    told: list[ElementError] = [ElementUnavailable("main", "", "not yet")]

    def require() -> None:
        for error in told:
            raise error

    element = identified_element(ElementConfiguration(id="main", path=root), OURS, require)
    with pytest.raises(ElementUnavailable, match="not yet"):
        use(element)
    told.clear()
    element.barrier()
    told.append(ElementUnavailable("main", "", "not any more"))
    with pytest.raises(ElementUnavailable, match="not any more"):
        use(element)
    element.close()
