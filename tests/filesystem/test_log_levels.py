"""A level that is set while the daemon runs holds in the transfer process too."""

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from artstorefs.transfer.jobs import encode
from artstorefs_daemon import logs
from artstorefs_daemon.transfer_child import TransferChild
from artstorefs_daemon.transfer_process import WORKERS, TransferProcess

from .workbench import Workbench


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    yield
    logs.set_levels({})


class NoElements:
    """In the place of the elements, of which nothing is asked here."""

    def open_all(self) -> dict[str, Any]:
        return {}


async def test_running_process_is_told_and_sets_it(bench: Workbench) -> None:
    logs.set_level("artstorefs.test_log_levels", "DEBUG")
    await bench.link.tell_log_levels()
    message = bench.sent.popleft()
    logs.set_levels({})
    logger = logging.getLogger("artstorefs.test_log_levels")
    assert not logger.isEnabledFor(logging.DEBUG)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = TransferProcess(ours, bench.configuration, NoElements())  # type: ignore[arg-type]
        process.run([encode(message)])
        for _ in range(WORKERS):
            process._messages.put(None)
    assert logger.isEnabledFor(logging.DEBUG)


async def test_new_process_is_told_when_it_is_introduced(bench: Workbench) -> None:
    logs.set_level("artstorefs.elements", "DEBUG")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        TransferChild(None, ours).introduce(bench.archive.id)  # type: ignore[arg-type]
        greeting = json.loads(theirs.recv(10_000))
    assert greeting["log_levels"] == {"root": "INFO", "artstorefs.elements": "DEBUG"}
