"""Runs pytest in processes that are forked from one which has loaded all that is not ours.

Loading pytest, trio, pydantic and the like takes longer than most tests of a bug. What is ours is
loaded after the fork, from the copy of the source that is tested. `python interpreter.py` reads a
JSON object for each run, and answers with its process id, and with its exit code when it has ended.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

LOADED = ("boto3", "hypothesis", "pydantic.main", "trio.testing", "xattr")
"""What tests and program need of others beside pytest, but pyfuse3: ours has to load that."""

OURS = ("artstorefs", "artstorefs_daemon", "artstorefs_tools", "tests")


class Interpreter:
    """One run at a time. Ended by `close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_of_a_run(),
        )

    def run(
        self, arguments: list[str], *, path: list[Path], more: dict[str, str], limit_s: float
    ) -> str:
        """Run pytest in `path[0]`, with `path` before all others, and these variables of the
        environment; its output. After `limit_s` it is interrupted, so that fixtures clean up, and
        after as long again killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile() as output:
            run = {"arguments": arguments, "path": list(map(str, path)), "more": more}
            self._process.stdin.write(json.dumps({**run, "output": output.name}) + "\n")
            self._process.stdin.flush()
            child = int(self._process.stdout.readline())
            timers = [
                threading.Timer(limit_s, os.kill, (child, signal.SIGINT)),
                threading.Timer(2 * limit_s, os.kill, (child, signal.SIGKILL)),
            ]
            for timer in timers:
                timer.start()
            ended = self._process.stdout.readline()
            for timer in timers:
                timer.cancel()
            assert ended, "the interpreter has ended"
            return Path(output.name).read_text(errors="replace")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def environment_of_a_run() -> dict[str, str]:
    """That of this process, but for what pytest has put there."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


def main() -> int:
    import importlib

    import pytest

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # answers go to standard output, and nothing else
    with tempfile.TemporaryDirectory() as empty:  # loads the plugins, in the way that pytest does
        pytest.main(["-qq", "-p", "no:cacheprovider", "--rootdir", empty, empty])
    for name in LOADED:
        importlib.import_module(name)
    ours = [name for name in sys.modules if name.partition(".")[0] in OURS]
    assert not ours, f"loaded before there is a copy to load it from: {ours}"
    gc.collect()
    gc.freeze()  # pytest collects at its end, and a child would copy all of this for that

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = run_pytest(json.loads(line))
            finally:
                os._exit(code)
        print(child, file=answers)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers)
    return 0


def run_pytest(run: dict[str, Any]) -> int:
    """In the process that was forked for it."""
    import pytest

    for target, name in ((0, os.devnull), (1, run["output"])):
        descriptor = os.open(name, os.O_RDWR)
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.dup2(1, 2)
    os.environ.update(run["more"], PYTHONPATH=os.pathsep.join(run["path"]))
    tempfile.tempdir = None  # it was found before TMPDIR was what it is now
    sys.path[:0] = run["path"]
    os.chdir(run["path"][0])
    code = int(pytest.main(run["arguments"]))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
