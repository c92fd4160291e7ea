"""The metrics in a file, for the textfile collector of node_exporter, which reads it now and then.

The file appears whole or not at all. Whatever becomes of the daemon, the last of it says that it is
down: a file that stood there unchanged would say that all is as it was.
"""

import logging
import time
from pathlib import Path
from typing import Final

import trio
from prometheus_client.exposition import generate_latest

from artstorefs.elements.durable import write_file_durably
from artstorefs_daemon.metrics.families import StatusCollector
from artstorefs_daemon.metrics.source import StatusSource

log = logging.getLogger(__name__)

INTERVAL_S, SILENT_S = 15.0, 1.0
"""Between two files; while the daemon does not answer, as in the moment in which both start."""

MODE: Final = 0o644
"""node_exporter is somebody else."""


class TextFile:
    """`keep` writes it until it is cancelled; `leave` writes it for the last time."""

    def __init__(self, path: Path, archive: str, source: StatusSource) -> None:
        self._path = path
        self._archive = archive
        self._source = source
        self._told = ""

    async def keep(self) -> None:
        while True:
            answer = await self._source.latest()
            collector = StatusCollector(self._archive, answer.status, answer.asked_s)
            await trio.to_thread.run_sync(self._write, generate_latest(collector))
            await trio.sleep(SILENT_S if answer.status is None else INTERVAL_S)

    def leave(self) -> None:
        """The daemon has ended."""
        self._write(generate_latest(StatusCollector(self._archive, None, time.time())))

    def _write(self, text: bytes) -> None:
        """What is wrong with the place is told once, and may be mended by the next time."""
        try:
            write_file_durably(self._path, text, MODE)
            self._told = ""
        except OSError as exc:
            reason = exc.strerror or str(exc)  # without the name of the temporary file
            if reason != self._told:
                log.warning("the metrics cannot be written to %s: %s", self._path, reason)
            self._told = reason
