"""The forked transfer process, as the threads of the mount process see it."""

import os
import threading
import time

from artstorefs_daemon.transfer_child import _Forked


def forked() -> _Forked:
    """Any child will do."""
    return _Forked(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))


def test_status_is_told_to_everybody_who_waits() -> None:
    """One thread waits still when another has given up on it, kills the process and waits too."""
    process = forked()
    told: list[int] = []
    waiting = [threading.Thread(target=lambda: told.append(process.wait())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert process.poll() is None
    process.kill()
    assert os.WTERMSIG(process.wait()) == 9
    for thread in waiting:
        thread.join(30)
    assert told == [9, 9, 9]
    assert process.poll() == 9
    process.kill()  # it has ended: nobody is hit


def test_end_that_nobody_waited_for_is_seen() -> None:
    process = forked()
    process.kill()
    deadline = time.monotonic() + 30
    while process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert process.wait() == 9
