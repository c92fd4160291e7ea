"""From the log to an element over a network: what would wait for one answer after the other."""

import threading
from pathlib import Path
from typing import Any

from artstorefs.core.errors import ElementUnavailable
from artstorefs.elements.interface import Capabilities

from .element_tree import read_element
from .workbench import Workbench


class FarAway:
    """Answers a put, and a stat of an attr.json, only while another one is asked as well."""

    capabilities = Capabilities(local_path=False, links=False, at_once=4)

    def __init__(self, element: Any) -> None:
        self._element = element
        self._meeting = threading.Barrier(2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._element, name)

    def put(self, *arguments: Any, **named: Any) -> None:
        self._meeting.wait(timeout=10)
        self._element.put(*arguments, **named)

    def stat(self, key: str) -> Any:
        if key.endswith(".attr.json"):
            self._meeting.wait(timeout=10)
        return self._element.stat(key)


async def test_small_files_go_over_a_network_together(bench: Workbench) -> None:
    """One after the other each would wait two round trips by itself."""
    await bench.drain()
    for number in range(4):
        await bench.write(b"%d" % number, b"content %d" % number)
    element = bench.carrier._elements["main"]
    bench.carrier._elements = {"main": FarAway(element)}
    await bench.send()
    bench.answer(bench.carry())
    bench.carrier._elements = {"main": element}
    await bench.drain()
    tree = read_element(bench.root)
    assert [tree[b"/%d" % number].content for number in range(4)] == [
        b"content %d" % number for number in range(4)
    ]


async def test_a_failure_concerns_one_of_those_that_go_together(bench: Workbench) -> None:
    """SEMANTICS: ELEM-3"""
    await bench.drain()
    nodes = [await bench.write(b"%d" % number, b"%d" % number) for number in range(4)]
    element = bench.carrier._elements["main"]

    class OneFails(FarAway):
        def put(self, key: str, source: str, **named: Any) -> None:
            if Path(source).read_bytes() == b"2":
                raise ElementUnavailable("main", key, "no answer")
            self._element.put(key, source, **named)

        def stat(self, key: str) -> Any:
            return self._element.stat(key)

    bench.carrier._elements = {"main": OneFails(element)}
    await bench.send()
    bench.answer(bench.carry())
    failures = [bench.archive.log.failure(node.ino) for node in nodes]
    assert [failure is not None for failure in failures] == [False, False, True, False]
    assert "no answer" in (failures[2] or "")
    bench.carrier._elements = {"main": element}
