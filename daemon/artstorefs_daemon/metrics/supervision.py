"""The metrics process as the mount process has it: started, heard, started again, ended."""

import logging
import os
import subprocess
import sys
from typing import Final

import trio

from artstorefs.core.configuration import ArchiveConfiguration, split_address
from artstorefs.core.errors import one_line
from artstorefs_daemon.metrics.process import Order
from artstorefs_daemon.restart_pause import RestartPause

log = logging.getLogger(__name__)

RESTART_PAUSE_S, RESTART_PAUSE_LIMIT_S = 1.0, 60.0
"""Twice as long each time, until one has lived for as long as the limit."""

END_LIMIT_S: Final = 2.0
"""It has a file to write, durably, on a disk that may be slow."""

LINE_LIMIT_BYTES: Final = 64 << 10

_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_ALL")
"""The others are none of its business: there may be credentials among them."""


async def keep_metrics(configuration: ArchiveConfiguration, socket_path: str) -> None:
    """Have a metrics process while the mount lasts, if the configuration wants one. Nothing that
    becomes of it ends the mount."""
    metrics = configuration.metrics
    if not metrics.is_on:
        return
    order = Order(
        archive=configuration.name,
        socket=socket_path,
        address=None if metrics.listen is None else split_address(metrics.listen),
        textfile=None if metrics.textfile is None else str(metrics.textfile),
    )
    pause = RestartPause(RESTART_PAUSE_S, RESTART_PAUSE_LIMIT_S)
    while True:
        began_s = trio.current_time()
        try:
            code = await _run(order)
            log.warning("the metrics process ended with %d; starting another", code)
        except OSError as exc:
            log.warning("the metrics process could not be started: %s", exc)
        if trio.current_time() - began_s > RESTART_PAUSE_LIMIT_S:
            pause.was_of_use()
        await trio.sleep(pause.take_s())


async def _run(order: Order) -> int:
    """Start one and log what it says, until it ends; its exit code. Raises OSError."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "artstorefs_daemon.metrics.process", order.to_argument()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        await _log_lines(process.stdout)
        return await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.aclose()
    with trio.move_on_after(END_LIMIT_S):
        await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
    await process.stdout.aclose()


async def _log_lines(stream: trio.abc.ReceiveStream) -> None:
    unread = b""
    while data := await stream.receive_some(LINE_LIMIT_BYTES):
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            _log_line(line)
        if len(unread) > LINE_LIMIT_BYTES:
            _log_line(unread)
            unread = b""


def _log_line(line: bytes) -> None:
    """`LEVEL message`; what is none is of Python itself, and nothing good."""
    text = one_line(line.decode(errors="backslashreplace"))
    word, _, message = text.partition(" ")
    level = logging.getLevelNamesMapping().get(word)
    if level is None:
        log.error("metrics: %s", text)
    else:
        log.log(level, "metrics: %s", message)
