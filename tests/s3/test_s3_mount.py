"""An archive in a bucket, mounted: the whole way from programs to the server and back."""

import os
import shutil
import signal
import threading
import uuid
from pathlib import Path

import pytest

from ..harness import MountedArchive, children, wait_for_end, wait_until
from ..mount.awkward_tree import make_awkward_tree
from ..mount.programs import differences, rsync_in
from ..mount.whole_tree import restore, tree_of
from .proxy import Hang, Proxy, Request, Spoil
from .servers import BUCKET, Server

pytestmark = pytest.mark.slow

LARGE_BYTES = 23_000_000
"""More than two blocks, and five parts."""


def download(server: Server, prefix: str, target: Path) -> None:
    """What `aws s3 sync` does."""
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for found in page["Contents"]:
            path = target / found["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, found["Key"], str(path))


@pytest.mark.long
def test_awkward_tree_in_a_bucket_remounted_rebuilt_checked_and_restored(
    archive: MountedArchive, seaweedfs_server: Server, prefix: str, tmp_path: Path
) -> None:
    """SEMANTICS: ELEM-1, ELEM-6, ELEM-9, ELEM-13"""
    (tmp_path / "local").mkdir()
    make_awkward_tree(tmp_path / "local")
    rsync_in(tmp_path / "local", archive.mount)
    large = os.urandom(LARGE_BYTES)
    (archive.mount / "large").write_bytes(large)
    wanted = tree_of(archive.mount)
    archive.flush()
    (element,) = archive.status()["elements"]
    assert (element["kind"], element["state"]) == ("s3", "ok")
    assert element["path"] == f"s3:{BUCKET}/{prefix.rstrip('/')}"

    archive.remount()
    assert tree_of(archive.mount) == wanted
    rsync_in(archive.mount, tmp_path / "local")  # with what came
    assert differences(archive.mount, tmp_path / "local") == ""
    with (archive.mount / "large").open("r+b") as file:
        file.seek(9_000_000)
        file.write(b"changed")
    wanted = tree_of(archive.mount)
    archive.flush()
    archive.stop()

    shutil.rmtree(archive.state)
    shutil.rmtree(archive.base / "cache")
    archive.start()
    assert tree_of(archive.mount) == wanted
    archive.stop()
    archive.run("rebuild", str(archive.toml))
    archive.run("fsck", str(archive.toml), "--deep")

    download(seaweedfs_server, prefix, tmp_path / "synced")
    done = restore(tmp_path / "synced", tmp_path / "restored")
    assert done.returncode == 0, done.stderr
    assert tree_of(tmp_path / "restored") == wanted


def test_killed_daemon_goes_on_with_the_parts_that_are_there(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-13"""
    reached = threading.Event()

    def rule(request: Request) -> Hang | None:
        if request.is_part and int(request.query["partNumber"][0]) == 5:
            reached.set()
            return Hang()
        return None

    bucket_proxy.rule = rule
    large = os.urandom(LARGE_BYTES)
    (archive.mount / "large").write_bytes(large)
    assert reached.wait(60), "the fifth part is not sent"
    wait_until(lambda: {1, 2, 3, 4} <= {*bucket_proxy.answered_parts()})
    transfer = children(archive.pid)
    archive.kill()
    for pid in transfer:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    bucket_proxy.rule = None
    bucket_proxy.requests.clear()
    archive.start()
    archive.flush()
    assert bucket_proxy.parts() == [5]
    archive.remount()
    assert (archive.mount / "large").read_bytes() == large


def test_flipped_bit_at_the_server_is_never_served(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-14"""
    small, large = b"x" * 1000, os.urandom(LARGE_BYTES)
    (archive.mount / "small").write_bytes(small)
    (archive.mount / "large").write_bytes(large)
    archive.flush()
    archive.remount()

    def flip_content(request: Request) -> Spoil | None:
        is_content = request.method == "GET" and "/20" in request.path
        return Spoil() if is_content and ".json" not in request.path else None

    bucket_proxy.rule = flip_content
    for name in ("small", "large"):
        with pytest.raises(OSError, match="Input/output error"):
            (archive.mount / name).read_bytes()
    bucket_proxy.rule = None
    assert (archive.mount / "small").read_bytes() == small
    assert (archive.mount / "large").read_bytes() == large


def test_small_files_cost_two_requests_each(archive: MountedArchive, bucket_proxy: Proxy) -> None:
    """One for the object and one for its attr.json; what is tried for the first time is not looked
    for, and what the server has said of a document is not asked again. SEMANTICS: ELEM-1"""
    files = 60
    bucket_proxy.requests.clear()
    for number in range(files):
        (archive.mount / f"f{number}").write_bytes(os.urandom(1000))
    archive.flush()
    asked = [request.method for request in bucket_proxy.requests]
    assert asked.count("PUT") <= 2 * files + 5  # and the record of the root directory
    assert len(asked) <= 2 * files + 40
    bucket_proxy.requests.clear()
    archive.run("rescan", str(archive.toml), check=False)
    archive.flush()
    gets = [one for one in bucket_proxy.requests if "f1" in one.path and one.method == "GET"]
    assert gets == []  # nothing seems changed


def test_fsck_repairs_in_a_bucket(
    archive: MountedArchive, seaweedfs_server: Server, prefix: str
) -> None:
    (archive.mount / "file").write_bytes(b"content")
    archive.flush()
    archive.stop()
    client = seaweedfs_server.client()
    orphan = f"2025/01/02/03/x_anna_20250102T030405_{uuid.uuid4()}.jpg"
    orphan_bytes = os.urandom(100_000)
    client.put_object(Bucket=BUCKET, Key=prefix + orphan, Body=orphan_bytes)
    (stored,) = [
        found["Key"]
        for found in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}20")["Contents"]
        if not found["Key"].endswith(".attr.json") and found["Key"] != prefix + orphan
    ]
    client.create_multipart_upload(Bucket=BUCKET, Key=stored)
    done = archive.run("fsck", str(archive.toml), "--repair", check=False)
    assert "object-without-sidecar" in done.stdout
    assert "given up, and its room with it" in done.stdout
    keys = [
        found["Key"] for found in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    ]
    assert prefix + orphan not in keys
    (kept,) = [key for key in keys if key.endswith(".kept")]
    assert client.get_object(Bucket=BUCKET, Key=kept)["Body"].read() == orphan_bytes
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    archive.run("fsck", str(archive.toml), "--deep")


def test_server_that_goes_away_keeps_what_was_written_and_gets_it_later(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-3"""
    (archive.mount / "before").write_bytes(b"before")
    archive.flush()
    bucket_proxy.switch_off()
    (archive.mount / "meanwhile").write_bytes(b"meanwhile")
    os.rename(archive.mount / "before", archive.mount / "renamed")
    assert sorted(os.listdir(archive.mount)) == ["meanwhile", "renamed"]
    assert (archive.mount / "meanwhile").read_bytes() == b"meanwhile"
    archive.kill()
    bucket_proxy.rule = None
    archive.start()
    archive.flush()
    archive.stop()
    shutil.rmtree(archive.state)
    archive.start()
    assert (archive.mount / "meanwhile").read_bytes() == b"meanwhile"
    assert (archive.mount / "renamed").read_bytes() == b"before"
