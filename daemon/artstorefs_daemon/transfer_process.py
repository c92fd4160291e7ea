"""The transfer process: everything that reads, writes or hashes objects in the background.

Begun by `transfer_child`: forked, or as `python -m artstorefs_daemon.transfer_process SOCKET
CONFIGURATION ro|rw [LOG]`; SOCKET is the number of an inherited descriptor, LOG the path of the
file that is standard error, if it is one. It holds nothing that matters: killed at any moment, a
new one is told the same again. It ends when the mount process's end of the socket does.
"""

import gc
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import Any
from uuid import UUID

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementError
from artstorefs.core.log_fields import about
from artstorefs.core.naming import MODE_KEY
from artstorefs.elements.interface import Element
from artstorefs.elements.quarantine import Quarantine
from artstorefs.recovery.survey import Part, survey
from artstorefs.state.audit_files import sync_newest
from artstorefs.state.cache import CacheFiles
from artstorefs.state.fetch import FetchAnswer
from artstorefs.state.reader import Reader
from artstorefs.state.spool import Spool
from artstorefs.transfer.carrier import Carrier
from artstorefs.transfer.fetching import Fetching
from artstorefs.transfer.jobs import (
    RemoveJob,
    StoreJob,
    answer_message,
    decode,
    encode,
    fetch_of,
)
from artstorefs.transfer.log_file import LogFile
from artstorefs_daemon import logs
from artstorefs_daemon.accounts import account
from artstorefs_daemon.auditing import audit_directory
from artstorefs_daemon.introductions import Introductions
from artstorefs_daemon.log_levels import LogLevels
from artstorefs_daemon.offline_work import OfflineWork

log = logging.getLogger("artstorefs_daemon.transfer_process")  # also where this is the program

WORKERS = 2
"""Threads: one may hash a large file while the other goes on with small ones."""

SURVEY_PARTS_UNDER_WAY = 4
"""Parts of a look that the mount process has not taken yet: more would fill its memory."""

NICENESS = 5
"""Programs on the mount come first."""


class TransferProcess:
    """Reads messages on one thread and carries them out on `WORKERS` others; fetches for readers on
    threads of their own."""

    def __init__(
        self,
        connection: socket.socket,
        configuration: ArchiveConfiguration,
        introductions: Introductions,
    ) -> None:
        self._connection = connection
        self._configuration = configuration
        self._introductions = introductions
        self._log_levels = LogLevels()
        self._database = os.path.join(str(configuration.state_dir), "state.db")
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._survey_window = threading.Semaphore()
        self._offlining = OfflineWork(configuration, introductions.archive_id)
        self._fetching = Fetching(
            self._open_for_readers, CacheFiles(str(configuration.cache_dir)), self._fetched
        )

    def run(self, lines: Iterable[bytes]) -> None:
        """Carry out what is told, until the mount process closes its end."""
        self._quarantine().remove_leftovers()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for line in lines:
            message = decode(line)
            if "fetch" in message:
                self._fetching.request(*fetch_of(message))
                continue
            if "log_levels" in message:
                self._log_levels.change_all(message["log_levels"])
                continue
            if "survey_taken" in message:
                self._survey_window.release()
                continue
            if "capacity" in message:
                if message["try_now"]:
                    self._introductions.try_now()
                self._report({})  # at once: the workers may all be waiting for a server
            self._messages.put(message)

    def _open_for_readers(self, element_id: str) -> Element:
        return self._introductions.open(element_id, for_readers=True)

    def _fetched(self, number: int, answer: FetchAnswer) -> None:
        try:
            self._send(answer_message(number, answer))
        except ConnectionError:
            os._exit(0)

    def _work(self) -> None:
        elements = self._introductions.open_all()
        carrier = Carrier(
            self._reader(),
            self._sync(LogFile(self._database)),
            elements,
            Spool(os.path.join(str(self._configuration.state_dir), "spool")),
            account,
            self._quarantine(),
        )
        while message := self._messages.get():
            try:
                self._report(self._answer(message, carrier, elements))
            except ConnectionError:
                os._exit(0)  # the mount process has ended, and nobody waits for an answer
            except OSError as exc:
                told = ("the log cannot be flushed, and nothing is carried without: %s", exc)
                log.error(*told, extra=about(exc))
                os._exit(74)
            except Exception:
                # what is not answered is told again to the next process
                log.exception("the transfer process ends because of this")
                os._exit(70)

    def _sync(self, log_file: LogFile) -> Callable[[], None]:
        """What has to be on the disk before an element may be told of it."""
        if not self._configuration.audit.enabled:
            return log_file.sync
        directory = audit_directory(self._configuration)

        def sync() -> None:
            sync_newest(directory)
            log_file.sync()

        return sync

    def _capacities(self, elements: dict[str, Element]) -> dict[str, Any]:
        with closing(self._reader()) as reader:
            return {
                settings.id: _capacity(elements[settings.id], settings.capacity, reader)
                for settings in self._configuration.elements
            }

    def _quarantine(self) -> Quarantine:
        roots = {one.id: one.path for one in self._configuration.elements if one.path is not None}
        return Quarantine(roots, self._configuration.state_dir)

    def _reader(self) -> Reader:
        return Reader(self._database)

    def _answer(
        self, message: dict[str, Any], carrier: Carrier, elements: dict[str, Element]
    ) -> dict[str, Any]:
        if "capacity" in message:
            return {"capacity": self._capacities(elements), "tried": message["try_now"]}
        if "mode" in message:
            return _record_mode(elements[message["mode"]], message["record"])
        if "offline" in message:
            return self._offlining.take(message, elements)
        if "prepare_medium" in message:
            return self._offlining.prepare(message)
        if "recall" in message:
            return self._offlining.recall(message, elements)
        if "survey" in message:
            return self._look(message["survey"], elements)
        store = [StoreJob(**values) for values in message["store"]]
        remove = [RemoveJob(**values) for values in message["remove"]]
        return carrier.carry(message["batch"], store, remove).to_message()

    def _look(self, number: int, elements: dict[str, Element]) -> dict[str, Any]:
        """A look at the elements; what it finds is told in parts, a few of which are under way."""
        window = self._survey_window = threading.Semaphore(SURVEY_PARTS_UNDER_WAY)

        def tell(part: Part) -> None:
            window.acquire()
            self._send({"survey": number, "part": part.to_message()})

        with closing(self._reader()) as reader:
            found = survey(elements, reader, account, tell)
        return {"survey": number, "end": found.to_message()}

    def _report(self, message: dict[str, Any]) -> None:
        """Send it, with what has been counted by now."""
        with self._sending:  # what is counted later must not arrive earlier
            gauges = self._introductions.report()
            self._connection.sendall(encode({**message, "gauges": gauges}))

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._connection.sendall(encode(message))


def _record_mode(element: Element, record: str) -> dict[str, Any]:
    """The element keeps its mode.json; durable when this returns."""
    error = None
    try:
        element.replace(MODE_KEY, record.encode())
        element.barrier()
        crash_point("mode.recorded")
    except ElementError as exc:
        error = str(exc)
    return {"mode": element.id, "error": error}


def _capacity(element: Element, limit_bytes: int | None, reader: Reader) -> dict[str, Any]:
    """Room on an element; what the configuration allows it counts by what the index knows."""
    try:
        capacity = element.capacity()
    except ElementError as exc:
        return {"error": str(exc)}
    with suppress(ElementError):  # it is asked again with the next question
        element.can_lock()  # what it says is in its gauges
    free_bytes = capacity.free_bytes
    if limit_bytes is not None:
        left = max(0, limit_bytes - reader.stored_bytes(element.id))
        free_bytes = left if free_bytes is None else min(left, free_bytes)
    return {
        "total_bytes": capacity.total_bytes,
        "free_bytes": free_bytes,
        "total_files": capacity.total_files,
        "free_files": capacity.free_files,
    }


def serve_transfer(
    connection: socket.socket,
    configuration: ArchiveConfiguration,
    *,
    read_only: bool,
    log_file: str | None,
) -> int:
    """All that this process does; returns its exit code. `log_file`: as `logs.begin` has it."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's are for the mount process
        signal.signal(number, signal.SIG_IGN)
    logs.begin("transfer", configuration.name, file=log_file)
    os.nice(NICENESS)
    gc.freeze()
    with connection.makefile("rb") as lines, suppress(ConnectionError):
        first = lines.readline()
        if first:
            told = decode(first)
            archive_id = UUID(told["archive"])
            configuration = configuration.with_modes(told["modes"])
            introductions = Introductions(configuration, archive_id, read_only=read_only)
            TransferProcess(connection, configuration, introductions).run(lines)
    return 0


def main(arguments: list[str]) -> int:
    descriptor, configuration, access, *log_file = arguments
    connection = socket.socket(fileno=int(descriptor))
    parsed = ArchiveConfiguration.model_validate(json.loads(configuration))
    return serve_transfer(
        connection,
        parsed,
        read_only=access == "ro",
        log_file=log_file[0] if log_file else None,
    )


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # at once: the next daemon waits for the lock that this one has
