"""A new mount in the place of another: what is seen at the mountpoint, and what is left over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In namespaces of their own, with mounts that propagate as systemd has them. The watcher sees a
# name that is in the old and in the new mount, and not in the directory below them.
SCRIPT = """
import os, subprocess, sys, threading
from artstorefs_daemon import mount_replacement, stub_system
if sys.argv[2] == "old kernel":
    stub_system._BENEATH = 1 << 31  # no flag: EINVAL, as where it is not known yet
base = sys.argv[1]
os.chdir(base)
os.mkdir("there")
def mount(place):
    subprocess.run(["mount", "-t", "tmpfs", "memory", place], check=True)
    os.mkdir(f"{place}/name")
mount("there")
os.mkdir("there/old")
missed, done = [], threading.Event()
def watch():
    while not done.is_set():
        missed.append(not os.path.exists("there/name"))
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(20):
    with mount_replacement.replaced_mount(f"{base}/there", f"{base}/aside") as place:
        mount(place)
done.set()
watcher.join()
assert os.listdir("there") == ["name"], os.listdir("there")
assert sys.argv[2] == "old kernel" or not any(missed), f"{sum(missed)} of {len(missed)}"
assert not os.path.exists("aside")
lines = [line for line in open("/proc/self/mountinfo") if base in line]
assert len(lines) == 1, lines
os.mkdir("aside")  # what an attempt that was killed has left
mount("aside")
mount_replacement.remove_aside(f"{base}/aside")
assert not os.path.exists("aside")
"""

# The same for the stub, whose mounts have no daemon here: each is dead once its device is closed.
# What is asked of one before that waits until then.
STUB_SCRIPT = """
import os, sys, threading
from artstorefs.core.mount_options import parse_mount_options
from artstorefs_daemon import stub_mount, stub_system
if sys.argv[2] == "old kernel":
    stub_system._BENEATH = 1 << 31
base = sys.argv[1]
os.makedirs(f"{base}/there/bare")
place = stub_mount.Place("museum", f"{base}/there", base, 1, parse_mount_options("nosuid"))
def mount():
    device = os.open("/dev/fuse", os.O_RDWR)
    stub_mount.mount(place, device, read_only=False)
    return device
os.close(mount())
seen, done = [], threading.Event()
def watch():
    while not done.is_set():
        seen.append(os.path.exists(f"{base}/there/bare"))
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(50):
    os.close(mount())
done.set()
watcher.join()
assert sys.argv[2] == "old kernel" or not any(seen), f"{sum(seen)} of {len(seen)}"
assert stub_mount.is_dead(place)
(line,) = [line for line in open("/proc/self/mountinfo") if base in line]
assert " fuse.artstorefs museum " in line and "nosuid" in line, line
"""


def attaches_below() -> bool:
    """MOVE_MOUNT_BENEATH is of Linux 6.5."""
    release = os.uname().release.split("-")[0].split(".")
    return (int(release[0]), int(release[1])) >= (6, 5)


@pytest.mark.parametrize("script", [SCRIPT, STUB_SCRIPT], ids=["ours", "of the stub"])
@pytest.mark.parametrize("kernel", ["new kernel"] * attaches_below() + ["old kernel"])
def test_mount_takes_the_place_of_another(
    tmp_path: Path, root: None, kernel: str, script: str
) -> None:
    command = [sys.executable, "-c", script, str(tmp_path), kernel]
    unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    shell = 'mount --make-rshared / && exec "$@"'
    done = subprocess.run(
        [*unshared, shell, "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
