"""A daemon whose elements fail as a file says, for tests; so does its transfer process.

Run in the place of the command line: `faulty_daemon.py mount CONFIGURATION MOUNTPOINT`, with the
path of the file in `ASFS_TEST_FAULTS`. It holds {"seed": 7, "plan": {"error": 0.2}, "unreachable":
false} and is read again whenever it is another one. No daemon but this knows that variable.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from artstorefs.elements import opening
from artstorefs.elements.faults import FaultPlan, Faults, FaultyElement
from artstorefs.elements.local import LocalElement
from artstorefs_daemon import transfer_child, transfer_process
from artstorefs_tools.command_line import main

VARIABLE = "ASFS_TEST_FAULTS"
TRANSFER = ["-m", "artstorefs_daemon.transfer_process"]


class SwitchedFaults(Faults):
    """Faults that are switched from another process."""

    def __init__(self, path: Path) -> None:
        super().__init__(0)
        self._path = path
        self._refreshing = threading.Lock()
        self._known = (0, 0)

    def strikes(self, name: str) -> bool:
        self._refresh()
        return super().strikes(name)

    @property
    def is_unreachable(self) -> bool:
        self._refresh()
        return super().is_unreachable

    def _refresh(self) -> None:
        with self._refreshing:  # else a thread that was held up brings back what is over
            found = os.stat(self._path)
            if (found.st_ino, found.st_mtime_ns) == self._known:
                return
            told = json.loads(self._path.read_text())
            self.reseed(told["seed"], FaultPlan(**told["plan"]))
            self.unreachable_for(1e9 if told["unreachable"] else 0)
            self._known = (found.st_ino, found.st_mtime_ns)


def faulty_element(id: str, root: str, **options: Any) -> FaultyElement:
    """In the place of `LocalElement`."""
    faults = SwitchedFaults(Path(os.environ[VARIABLE]))
    return FaultyElement(lambda: LocalElement(id, root, **options), faults)


def start_transfer(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """In the place of `Popen`: this file again, as the transfer process. The first one is forked,
    with the faulty elements in it."""
    assert command[1:3] == TRANSFER, command
    return subprocess.Popen([command[0], __file__, "transfer", *command[3:]], **options)


if __name__ == "__main__":
    opening.LocalElement = faulty_element  # type: ignore[misc, assignment]
    if sys.argv[1] == "transfer":
        sys.exit(transfer_process.main(sys.argv[2:]))
    transfer_child.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=start_transfer, DEVNULL=subprocess.DEVNULL
    )
    sys.exit(main())
