"""The cache and runtime directories are full, read-only or cannot be made: the mount does not care.

Nothing fills `cache_dir` yet; what counts is that nothing needs it.
"""

import os
from collections.abc import Callable

import pytest

from ..harness import MountedArchive
from .conftest import SETTINGS, Limits, eventually
from .disks import Disk


def use(archive: MountedArchive, name: str) -> None:
    (archive.mount / name).write_bytes(name.encode())
    assert (archive.mount / name).read_bytes() == name.encode()
    path = archive.mount / name
    eventually(lambda: os.getxattr(path, "user.artstore.state"), lambda s: s == b"stored")


SPOILED: dict[str, Callable[[Disk], None]] = {
    "full": Disk.fill,
    "no inodes": Disk.use_up_inodes,
    "read-only": lambda disk: disk.remount("ro"),
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", SPOILED)
def test_full_cache_and_runtime_directories_do_no_harm(limits: Limits, spoil: str) -> None:
    """SEMANTICS: FULL-5"""
    cache = limits.disk("tmpfs", "cache", 4, inodes=50)
    runtime = limits.disk("tmpfs", "runtime", 4, inodes=50)
    archive = limits.archive()
    use(archive, "a")
    for disk in (cache, runtime):
        SPOILED[spoil](disk)
    use(archive, "b")
    # The directory above follows with its times.
    eventually(lambda: archive.status()["pending"]["intents"], lambda count: count == 0)
    archive.stop()
    if spoil != "read-only":
        (archive.base / "runtime" / "control.sock").unlink(missing_ok=True)
        SPOILED[spoil](runtime)
    archive.start()
    use(archive, "c")
    if spoil == "read-only":
        runtime.remount("rw")
    elif spoil == "full":
        runtime.empty()
    else:
        runtime.free_inodes()
    eventually(
        lambda: archive.run("status", str(archive.toml), check=False).returncode, lambda c: c == 0
    )
    archive.stop()


@pytest.mark.slow
def test_directories_that_cannot_be_made_do_no_harm(limits: Limits) -> None:
    """SEMANTICS: FULL-5"""
    blocked = limits.disk("tmpfs", "blocked", 1)
    archive = MountedArchive(limits.base, settings=SETTINGS)
    limits.archives.append(archive)
    text = archive.toml.read_text()
    for name in ("cache", "runtime"):
        text = text.replace(str(archive.base / name), f"{blocked.path}/{name}")
    archive.toml.write_text(text)
    blocked.remount("ro")
    archive.start()
    use(archive, "a")
    blocked.remount("rw")
    eventually(
        lambda: archive.run("status", str(archive.toml), check=False).returncode, lambda c: c == 0
    )
    archive.stop()
