"""Runs a function as an ordinary user, in a child process.

The child enters the directory before it gives up its rights, so it works in it by relative names
although it may not be allowed to come there by the path.
"""

import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class User(NamedTuple):
    uid: int
    gid: int
    groups: Sequence[int] = ()
    umask: int = 0o022


ALICE = User(65_001, 65_001)
BOB = User(65_002, 65_002)
TEAM = 65_100
ROOT = User(0, 0)


def run_as(user: User, directory: Path, function: Callable[[], Result]) -> Result:
    """What `function` returns; its OSError is raised here, other exceptions as AssertionError."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the timer's thread holds no lock
        child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, pickle.dumps(_outcome(user, directory, function)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(child, 0)
    kind, value = pickle.loads(raw)
    if kind == "errno":
        raise OSError(value, os.strerror(value))
    assert kind == "value", value
    result: Result = value
    return result


def _outcome(user: User, directory: Path, function: Callable[[], Result]) -> tuple[str, object]:
    try:
        os.chdir(directory)
        os.setgroups(list(user.groups))
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        os.umask(user.umask)
        return "value", function()
    except OSError as exc:
        return "errno", exc.errno
    except BaseException:
        return "traceback", traceback.format_exc()
