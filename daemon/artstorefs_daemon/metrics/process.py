"""The metrics process: `python -m artstorefs_daemon.metrics.process ORDER`, started by the daemon.

It lives as long as its standard input, of which the daemon has the other end, and no signal that is
meant for the daemon ends it before. What it has to say goes to standard output, a line for each
record of the log, which the daemon logs as its own. It yields to everything else on the machine.
"""

import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import trio

from artstorefs.core.errors import one_line
from artstorefs_daemon.metrics.source import StatusSource

NICENESS: Final = 5
OOM_SCORE: Final = 500
"""proc(5): it goes long before the daemon does."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the daemon wants of it."""

    archive: str
    socket: str
    address: tuple[str, int] | None
    """Where to answer over HTTP."""
    textfile: str | None

    def to_argument(self) -> str:
        """For the argument list, which everybody can read: there is nothing secret in it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> "Order":
        """What `to_argument` has made."""
        fields = json.loads(text)
        if fields["address"] is not None:
            fields["address"] = tuple(fields["address"])
        return cls(**fields)


class _Line(logging.Formatter):
    """`LEVEL message`, in one line with what a traceback has."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname} {one_line(super().format(record))}"


def main(argument: str) -> None:
    """Until standard input ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    _yield_memory()
    trio.run(_serve, Order.from_argument(argument))


def _yield_memory() -> None:
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d\n" % OOM_SCORE)
    except OSError as exc:
        logging.getLogger(__name__).info("oom_score_adj: %s", exc)
    finally:
        os.close(descriptor)


async def _serve(order: Order) -> None:
    source = StatusSource(order.socket)
    async with trio.open_nursery() as nursery:
        if order.textfile is not None:
            from artstorefs_daemon.metrics.textfile import TextFile

            file = TextFile(Path(order.textfile), order.archive, source)
            nursery.start_soon(file.keep)
        if order.address is not None:
            from artstorefs_daemon.metrics.server import Pages, Server

            pages = Pages(order.archive, source)
            nursery.start_soon(Server(pages.application).serve, order.address)
        await _wait_for_end()
        nursery.cancel_scope.cancel()
    await source.aclose()
    if order.textfile is not None:
        file.leave()


async def _wait_for_end() -> None:
    """Until nobody has the other end of standard input."""
    async with trio.lowlevel.FdStream(os.dup(0)) as lifeline:
        while await lifeline.receive_some(1024):
            logging.getLogger(__name__).debug("the daemon has said something")


if __name__ == "__main__":
    main(sys.argv[1])
