"""An archive of a directory and a bucket with `copies = 2`, mounted: each has all of it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive, wait_until
from ..mount.awkward_tree import make_awkward_tree
from ..mount.programs import differences, rsync_in
from ..mount.whole_tree import restore, tree_of
from .proxy import Proxy
from .servers import BUCKET, Server
from .test_s3_mount import download

pytestmark = pytest.mark.slow

LARGE_BYTES = 9_000_000
"""More than two blocks."""


@pytest.fixture
def both(
    seaweedfs_server: Server,
    prefix: str,
    bucket_proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MountedArchive]:
    made = MountedArchive(
        tmp_path_factory.mktemp("s3c"),
        settings="settle_s = 0.2\ncopies = 2",
        further=(
            f"far=s3:{BUCKET}/{prefix},priority=2,endpoint={bucket_proxy.url},"
            f"credentials_file={seaweedfs_server.credentials}",
        ),
    )
    yield made.start()
    bucket_proxy.rule = None
    made.clean_up()


@pytest.mark.long
def test_either_has_all_of_an_awkward_tree(
    both: MountedArchive, seaweedfs_server: Server, prefix: str, tmp_path: Path
) -> None:
    """SEMANTICS: ELEM-21"""
    (tmp_path / "local").mkdir()
    make_awkward_tree(tmp_path / "local")
    rsync_in(tmp_path / "local", both.mount)
    assert differences(tmp_path / "local", both.mount) == ""
    (both.mount / "large").write_bytes(os.urandom(LARGE_BYTES))
    wanted = tree_of(both.mount)
    both.flush()
    assert os.getxattr(both.mount / "large", "user.artstore.element") == b"far,main"
    both.stop()
    both.run("fsck", str(both.toml), "--deep")
    download(seaweedfs_server, prefix, tmp_path / "synced")
    for number, element in enumerate((both.element, tmp_path / "synced")):
        done = restore(element, tmp_path / f"restored{number}")
        assert done.returncode == 0, done.stderr
        assert tree_of(tmp_path / f"restored{number}") == wanted
    shutil.rmtree(both.state)
    both.start()
    assert tree_of(both.mount) == wanted
    assert both.status()["pending"]["intents"] == 0


def test_copies_are_made_of_what_the_other_has(both: MountedArchive, bucket_proxy: Proxy) -> None:
    """A local object that is gone comes from the bucket, and while the server is away everything
    can be read, and what is written waits. SEMANTICS: ELEM-21, ELEM-22"""
    large = os.urandom(LARGE_BYTES)
    path = both.mount / "large"
    path.write_bytes(large)
    both.flush()
    key = os.getxattr(path, "user.artstore.key").decode()
    (both.element / key).unlink()
    assert path.read_bytes() == large
    wait_until(lambda: os.getxattr(path, "user.artstore.state") == b"stored")
    both.flush()
    objects = [p for p in both.element.rglob("large_*") if p.suffix not in (".json", ".blocks")]
    assert [p.read_bytes() for p in objects if ".artstorefs" not in p.parts] == [large]
    shutil.rmtree(both.base / "cache")
    bucket_proxy.switch_off()
    both.remount()
    assert path.read_bytes() == large
    (both.mount / "new").write_bytes(b"content")
    assert both.run("flush", str(both.toml), check=False).returncode != 0
    assert os.getxattr(both.mount / "new", "user.artstore.state") == b"pending"
    bucket_proxy.rule = None
    wait_until(lambda: both.run("flush", str(both.toml), check=False).returncode == 0, 60)
    assert os.getxattr(both.mount / "new", "user.artstore.element") == b"far,main"
