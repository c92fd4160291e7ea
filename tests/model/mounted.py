"""The calls of `reference.py` made on a mount, with all that may happen to one: remounts, kill -9
of the daemon and of the transfer process, an element that fails, others who write on it."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from ..harness import COMMAND_LIMIT_S, MountedArchive, children, wait_for_end
from ..starter import Starter
from . import faulty_daemon
from .outside import check_element, write_outside
from .reference import Reference
from .system_calls import Seen, SystemCalls

PLANS: tuple[dict[str, float], ...] = (
    {"error": 0.2},
    {"lost_reply": 0.3},
    {"failed_barrier": 0.4, "torn_barrier": 0.1},
    {"slow": 0.5, "slow_s": 0.01, "timeout": 0.1, "timeout_s": 0.02},
    {"wrong_bytes": 0.5},
    {"error": 0.05, "lost_reply": 0.1, "failed_barrier": 0.1, "torn_barrier": 0.1},
)


class FaultyArchive(MountedArchive):
    """An archive that is served by `faulty_daemon.py`."""

    def __init__(self, base: Path, copies: int) -> None:
        self.switch = base / "faults.json"
        further = [base / f"element{number}" for number in range(1, copies)]
        super().__init__(
            base,
            settings=f"settle_s = 0\ncopies = {copies}",
            further=tuple(f"{path.name}=local:{path}" for path in further),
        )
        self.places = [self.element, *further]
        self.set_faults(0, {})
        environment = {faulty_daemon.VARIABLE: str(self.switch)}
        self.starter = Starter(environment, program=faulty_daemon.__file__)

    def clean_up(self) -> None:
        self.starter.close()
        super().clean_up()

    def set_faults(self, seed: int, plan: dict[str, float], *, unreachable: bool = False) -> None:
        told = {"seed": seed, "plan": plan, "unreachable": unreachable}
        temporary = self.switch.with_suffix(".new")
        temporary.write_text(json.dumps(told))
        temporary.rename(self.switch)

    def start(self, *options: str) -> "FaultyArchive":
        command = ("mount", str(self.toml), str(self.mount), *options)
        done = self.starter.run(command, COMMAND_LIMIT_S)
        assert done is not None, "the environment has changed under a test"
        assert done.returncode == 0, f"mount: {done.stderr}"
        assert os.path.ismount(self.mount), "not mounted"
        return self


class Mounted(SystemCalls):
    """One archive below `base`, mounted."""

    def __init__(self, base: Path, copies: int) -> None:
        self.archive = FaultyArchive(base, copies)
        super().__init__(self.archive.mount)
        self.at_fault = False
        self._unseen = False
        try:
            self.archive.start()
        except BaseException:
            self.archive.clean_up()
            raise

    def end(self) -> None:
        self.lose_descriptors()
        self.archive.clean_up()

    def snapshot(self) -> dict[str, Seen]:
        """What others wrote is taken over before; the element is well from then on."""
        self.rescan_unseen()
        return super().snapshot()

    def rescan_unseen(self) -> None:
        self.calm()
        if self._unseen:
            self.archive.run("rescan", str(self.archive.toml))
            self._unseen = False

    # ------------------------------------------------------------------------- environment

    def calm(self) -> None:
        if self.at_fault:
            self.archive.set_faults(0, {})
            self.at_fault = False

    def faults(self, seed: int) -> None:
        number = seed % (len(PLANS) + 1)
        if number == len(PLANS):
            self.archive.set_faults(seed, {}, unreachable=True)
        else:
            self.archive.set_faults(seed, PLANS[number])
        self.at_fault = True

    def remount(self) -> None:
        self.lose_descriptors()
        self.calm()
        self.archive.remount()

    def kill(self) -> None:
        self.archive.kill()
        self.lose_descriptors()
        self.calm()
        self.archive.start()

    def kill_transfer(self) -> None:
        for process in children(self.archive.pid):
            os.kill(process, signal.SIGKILL)
            wait_for_end(process)

    def flush(self) -> None:
        self.calm()
        self.archive.flush()

    def rebuild(self) -> None:
        """The state directory is lost after everything has been carried."""
        self.lose_descriptors()
        self.flush()
        self.archive.stop()
        assert "Traceback" not in self.archive.log(), self.archive.log()[-4000:]
        shutil.rmtree(self.archive.state)
        self.archive.start()

    def outside(self, kind: str, path: str, seed: int) -> dict[str, bytes]:
        """Somebody writes on the element, of a file that is not being carried."""
        self.flush()
        try:
            state = os.getxattr(self.path(path), "user.artstore.state")
            key = os.getxattr(self.path(path), "user.artstore.key").decode()
        except OSError:
            return {}  # empty, open, …
        if state != b"stored" or key.startswith(".artstorefs"):
            return {}
        self._unseen = True
        places = self.archive.places
        return write_outside(places[seed % len(places)], key, kind, seed)

    def final_checks(self, model: Reference) -> list[Callable[[], None]]:
        def flushed() -> None:
            self.rescan_unseen()  # what others wrote on one element comes to the other, too
            self.flush()
            for place in self.archive.places:
                check_element(place, model)

        return [flushed, self.remount, self.rebuild]
