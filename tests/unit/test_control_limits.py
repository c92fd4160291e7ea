"""How many clients there are, and how much of the loop they get: in a time that does not pass."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from artstorefs_daemon.control import shared
from artstorefs_daemon.control.limits import Limits, Pace, Slots
from artstorefs_daemon.control.protocol import LINE_LIMIT_BYTES, TOO_MANY, ControlError
from artstorefs_daemon.control.roles import Peer
from artstorefs_daemon.control.shared import SharedAnswer

from .control_server import UNLIMITED, Server, serving

ROOT, ALICE, BOB = (Peer(1, uid, frozenset()) for uid in (0, 4001, 4002))


# ---------------------------------------------------------------------------------------- slots


def test_users_leave_room_for_root_and_for_each_other() -> None:
    slots = Slots(Limits(clients=10, clients_of_others=8, clients_of_user=5))
    assert [slots.take(ALICE) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [slots.take(BOB) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [slots.take(ROOT) for _ in range(3)] == [True] * 2 + [False]
    slots.give_back(ALICE)
    assert not slots.take(ALICE) or slots.taken == 10
    slots.give_back(ROOT)
    assert slots.take(ROOT)


def test_slots_that_are_given_back_are_free() -> None:
    slots = Slots(Limits(clients=4, clients_of_others=3, clients_of_user=2))
    for _ in range(5):
        for peer in (ALICE, ALICE, BOB, ROOT):
            assert slots.take(peer)
        for peer in (ALICE, ALICE, BOB, ROOT):
            slots.give_back(peer)
    assert slots.taken == 0


async def test_too_many_clients_are_told_so(tmp_path: Path) -> None:
    limits = replace(UNLIMITED, clients=2)
    async for server in serving(tmp_path, limits):
        clients = [await server.connect() for _ in range(2)]
        for client in clients:
            assert await client.call("modes")
        one_more = await server.connect()
        assert ((await one_more.line()) or {})["error"]["code"] == TOO_MANY
        assert await one_more.line() is None
        await clients[0].stream.aclose()
        await server.clients_are(1)
        assert await (await server.connect()).call("modes")


# ----------------------------------------------------------------------------------------- pace


async def test_pace_lets_a_burst_through_and_then_so_many_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(10.0, 5.0)
    begun_s = trio.current_time()
    times = []
    for _ in range(25):
        await pace.take()
        times.append(trio.current_time() - begun_s)
    assert times[:5] == [0.0] * 5
    assert times[-1] == pytest.approx(2.0)
    await trio.sleep(100)
    begun_s = trio.current_time()
    for _ in range(15):
        await pace.take()
    assert trio.current_time() - begun_s == pytest.approx(1.0), "what was not used is not saved up"


async def test_pace_serves_in_turn(autojump_clock: trio.testing.MockClock) -> None:
    pace, served = Pace(10.0, 1.0), []

    async def take(name: str) -> None:
        for _ in range(3):
            await pace.take()
            served.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(take, name)
    assert sorted(served[:3]) == sorted(served[3:6]) == sorted(served[6:]) == ["a", "b", "c"]


@pytest.fixture
async def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server with limits that show in tenths of a second."""
    limits = replace(
        UNLIMITED,
        client_units_per_s=100.0,
        client_burst=1.0,
        share_units_per_s=200.0,
        share_burst=1.0,
        line_s=0.1,
        send_s=0.1,
    )
    async for made in serving(tmp_path, limits):
        yield made


async def test_requests_of_one_client_wait_and_are_all_answered(slow: Server) -> None:
    client = await slow.connect()
    begun_s = trio.current_time()
    await client.stream.send_all(b'{"id":1,"method":"modes"}\n' * 20)
    for _ in range(20):
        assert "result" in (await client.line() or {})
    assert trio.current_time() - begun_s > 0.15


async def test_flood_of_users_takes_no_turn_of_root(
    slow: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, uids = socket.socket.getsockopt, [4711] * 20

    def getsockopt(self: Any, level: int, option: int, *more: int) -> Any:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", 1, uids.pop() if uids else 0, 0)
        return real(self, level, option, *more)

    monkeypatch.setattr(socket.socket, "getsockopt", getsockopt)
    flooding = [await slow.connect() for _ in range(20)]
    await slow.clients_are(20)
    for client in flooding:
        await client.stream.send_all(b'{"id":1,"method":"modes"}\n' * 100)
    await trio.sleep(0.05)
    root = await slow.connect()
    begun_s = trio.current_time()
    for _ in range(3):
        await root.call("modes")
    taken_s = trio.current_time() - begun_s
    begun_s = trio.current_time()
    for _ in range(3):
        await flooding[0].line()
    assert taken_s < 0.3, "root has a share of its own"
    assert trio.current_time() - begun_s < 30


@pytest.mark.parametrize("line", [b"x" * 30_000, b"\n" * 15], ids=["bytes", "lines"])
async def test_bytes_and_empty_lines_cost_as_requests_do(line: bytes, slow: Server) -> None:
    client = await slow.connect()
    begun_s = trio.current_time()
    for _ in range(3):
        await client.stream.send_all(line + b"\n")
    for _ in range(3 * (line.count(b"\n") + 1)):
        assert ((await client.line()) or {})["error"]["code"] == -32700
    assert trio.current_time() - begun_s > 0.15


async def test_line_that_does_not_end_in_time_is_dropped(slow: Server) -> None:
    half_open, idle = await slow.connect(), await slow.connect()
    await half_open.stream.send_all(b'{"id":1,')
    await slow.clients_are(2)
    assert await half_open.line() is None
    assert await idle.call("modes"), "a client that sends nothing at all may stay"


async def test_client_that_does_not_read_is_dropped(slow: Server) -> None:
    errors = [{"path": "x" * 300_000, "file_id": "", "error": "e", "since": None}]
    slow.service.errors = errors
    client = await slow.connect()
    await slow.clients_are(1)
    await client.stream.send_all(b'{"id":1,"method":"flush"}\n' * 3)
    await slow.clients_are(0)


async def test_client_that_never_ends_its_line_is_dropped(slow: Server) -> None:
    client = await slow.connect()
    with suppress(trio.BrokenResourceError), trio.move_on_after(5):
        while True:
            await client.stream.send_all(b"x" * LINE_LIMIT_BYTES)
    await slow.clients_are(0)


# --------------------------------------------------------------------------------------- shared


class Maker:
    """Takes `cost_s` for each answer, and numbers them."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.begun_s: list[float] = []

    async def make(self) -> bytes:
        self.begun_s.append(trio.current_time())
        await trio.sleep(self.cost_s)
        return b"%d" % len(self.begun_s)


async def test_all_who_wait_share_an_answer_that_was_begun_after_they_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    maker = Maker(0.05)
    answer = SharedAnswer("status", maker.make)
    late: list[tuple[float, float]] = []

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        asked_s = trio.current_time()
        number = int(await answer.get())
        late.append((asked_s, maker.begun_s[number - 1]))

    async with trio.open_nursery() as nursery:
        for step in range(100):
            nursery.start_soon(ask, step * 0.001)
    assert len(late) == 100
    assert all(asked_s <= begun_s for asked_s, begun_s in late)
    assert len(maker.begun_s) <= 4


async def test_asking_again_and_again_takes_a_part_of_the_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    maker = Maker(0.02)
    answer = SharedAnswer("status", maker.make)
    begun_s = trio.current_time()
    for _ in range(100):
        await answer.get()
    worked_s = 100 * maker.cost_s - shared.CREDIT_S
    assert trio.current_time() - begun_s == pytest.approx(worked_s / shared.PART, rel=0.1)
    assert maker.begun_s[20] - begun_s < 0.5, "the first are not delayed"


async def test_answer_that_took_long_is_not_paid_for_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    maker = Maker(60.0)
    answer = SharedAnswer("cache", maker.make)
    for _ in range(3):
        await answer.get()
    assert maker.begun_s[2] - maker.begun_s[1] == pytest.approx(70.0)


async def test_answer_that_fails_fails_for_all_who_wait(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    failures = 0

    async def make() -> bytes:
        await trio.sleep(1)
        raise RuntimeError("secret")

    answer = SharedAnswer("status", make)

    async def ask() -> None:
        nonlocal failures
        with pytest.raises(ControlError, match="internal error"):
            await answer.get()
        failures += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert failures == 5
    assert caplog.text.count("the control method status failed") == 1


async def test_whoever_makes_it_may_go_away(autojump_clock: trio.testing.MockClock) -> None:
    maker = Maker(1.0)
    answer = SharedAnswer("status", maker.make)
    found = []

    async def ask() -> None:
        found.append(await answer.get())

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def ask_and_leave() -> None:
            with first:
                await answer.get()

        nursery.start_soon(ask_and_leave)
        await trio.sleep(0.5)
        first.cancel()
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert len(found) == 2


async def test_flood_of_status_makes_few_of_them(tmp_path: Path) -> None:
    async for server in serving(tmp_path):
        server.service.status_s = 0.05
        clients = [await server.connect() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.call, "status")
        assert server.service.statuses <= 3
