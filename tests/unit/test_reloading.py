"""The configuration read again: what changes at once, and what is refused as a whole."""

import grp
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from artstorefs.core.configuration import ArchiveConfiguration, parse_configuration
from artstorefs.core.directories import SYSTEM_DIRECTORIES
from artstorefs.core.errors import ConfigurationError
from artstorefs.filesystem.errors import SpoolFull
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs_daemon.control.protocol import FAILED
from artstorefs_daemon.control.roles import Rights
from artstorefs_daemon.reloading import RELOADABLE, RestartNeeded

from .control_server import Server, configured, serving

GROUP = grp.getgrall()[0]


class Cache:
    limit_bytes = 0

    async def change_limit(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async for made in serving(tmp_path):
        made.service.budget = SpoolBudget(1000, wait_s=30.0)
        made.service.read_cache = Cache()
        yield made


CHANGES: dict[str, tuple[Any, str]] = {
    "settle_s": (2.5, "settle_s = 2.5"),
    "seal_after_s": (4.5, "seal_after_s = 4.5"),
    "expire_grace_days": (3, "expire_grace_days = 3"),
    "spool_max": (4096, "spool_max = 4096"),
    "spool_full": ("fail", 'spool_full = "fail"'),
    "spool_wait_s": (3.5, "spool_wait_s = 3.5"),
    "cache_max": (8192, "cache_max = 8192"),
    "index_backup_interval_s": (0.0, "index_backup_interval_s = 0"),
    "rescan_interval_s": (60.0, "rescan_interval_s = 60"),
    "control_change_group": (GROUP.gr_name, f'control_change_group = "{GROUP.gr_name}"'),
    "control_admin_group": (GROUP.gr_name, f'control_admin_group = "{GROUP.gr_name}"'),
}


def test_each_key_is_tried() -> None:
    assert CHANGES.keys() == RELOADABLE


@pytest.mark.parametrize("key", CHANGES)
async def test_what_can_change_changes_at_once(key: str, server: Server) -> None:
    value, text = CHANGES[key]
    client = await server.connect()
    server.next_configuration = lambda: configured(text)
    assert await client.call("reload") == {"changed": [key]}
    assert getattr(server.service.archive.configuration, key) == value
    assert await client.call("reload") == {"changed": []}
    service = server.service
    seen = {
        "settle_s": service.link.settle_s == 2.5,
        "spool_max": service.budget.limit_bytes == 4096,
        "cache_max": service.read_cache.limit_bytes == 8192,
        "expire_grace_days": service.expiring.asked == [True],
        "rescan_interval_s": service.link.surveys.asked == 1,
        "control_change_group": server.reloading.rights == Rights(GROUP.gr_gid, None),
        "control_admin_group": server.reloading.rights == Rights(None, GROUP.gr_gid),
    }
    assert {name for name, is_changed in seen.items() if is_changed} == seen.keys() & {key}


REFUSED = {
    'durability = "element"': 'durability: "log" → "element"',
    "name = 'other'\nstate_dir = '/s'": 'name: "museum" → "other"; state_dir: "/var/lib/',
    "[metrics]\nlisten = '127.0.0.1:9464'": 'metrics.listen: null → "127.0.0.1:9464"',
    'mountpoint = "/m"': 'mountpoint: null → "/m"',
    'settle_s = 9\ncache_dir = "/c"': 'cache_dir: "/var/cache/artstorefs/museum" → "/c"',
}


@pytest.mark.parametrize("text", REFUSED)
async def test_anything_else_is_refused_as_a_whole(text: str, server: Server) -> None:
    before = server.service.archive.configuration
    client = await server.connect()
    server.next_configuration = lambda: configured(text)
    code, message = await client.error("reload")
    assert code == FAILED
    assert message.startswith(REFUSED[text])
    assert "needs a restart" in message
    assert "\n" not in message
    assert server.service.archive.configuration is before
    assert server.service.link.settle_s == 1.0


def with_elements(*tables: str) -> ArchiveConfiguration:
    text = "\n".join(f"[[element]]\n{table}" for table in tables)
    return parse_configuration(text, "museum.toml", SYSTEM_DIRECTORIES)


MAIN, SECOND = 'id = "main"\npath = "/objects"\n', 'id = "b"\npath = "/b"\n'


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ((MAIN + 'mode = "ro"',), 'element[main].mode: "edit" → "ro"'),
        (
            (MAIN + 'priority = 2\ncapacity = "1KiB"',),
            "element[main].priority: 1 → 2; element[main].capacity: null → 1024",
        ),
        ((MAIN, SECOND), 'element: ["main"] → ["main", "b"]'),
        (('id = "main"\npath = "/other"',), 'element[main].path: "/objects" → "/other"'),
    ],
)
async def test_change_of_an_element_names_the_key(
    after: tuple[str, ...], told: str, server: Server
) -> None:
    server.next_configuration = lambda: with_elements(*after)
    with pytest.raises(RestartNeeded) as raised:
        await server.reloading.reload()
    assert str(raised.value).startswith(f"{told}: this needs a restart")


async def test_file_that_is_wrong_changes_nothing(server: Server) -> None:
    client = await server.connect()
    before = server.service.archive.configuration
    server.next_configuration = lambda: configured("settle_s = -1")
    code, message = await client.error("reload")
    assert (code, message[:22]) == (FAILED, "museum.toml: settle_s:")
    server.next_configuration = lambda: configured('control_admin_group = "no such"')
    assert "no such" in (await client.error("reload"))[1]
    assert server.service.archive.configuration is before


async def test_group_that_is_gone_at_the_start_grants_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.reloading.rights = Rights(1, 2)
    server.service.archive.configuration = configured('control_admin_group = "no such"')
    await server.reloading.load()
    assert "nobody may use the control socket by a group" in caplog.text
    assert await (await server.connect()).call("modes")


async def test_two_reloads_at_a_time_do_not_mix(server: Server) -> None:
    texts = iter(["settle_s = 5", "settle_s = 6"])
    server.next_configuration = lambda: configured(next(texts))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.reloading.reload)
        nursery.start_soon(server.reloading.reload)
    configuration = server.service.archive.configuration
    assert server.service.link.settle_s == configuration.settle_s == 6


async def test_writers_that_wait_get_the_room_of_a_larger_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = SpoolBudget(100, wait_s=30.0)
    assert budget.take(100)
    begun_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.wait, 50, 7)
        await trio.sleep(1)
        budget.change_limit(200)
    assert trio.current_time() - begun_s == pytest.approx(1.0)
    budget.change_wait(0.0)
    with pytest.raises(SpoolFull):
        await budget.wait(500, 7)
    assert trio.current_time() - begun_s == pytest.approx(1.0)


def test_group_that_is_not_there_is_no_name_of_one() -> None:
    with pytest.raises(ConfigurationError, match="the name of a group"):
        configured('control_admin_group = "a:b"')
