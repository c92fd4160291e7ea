"""A mounted archive whose server fails: it is left alone, `status` says so, and nothing is lost."""

import errno
import os
from typing import Any

import pytest

from ..harness import MountedArchive, wait_until
from .proxy import Answer, Proxy
from .servers import BUCKET, Server

pytestmark = pytest.mark.slow

CANNOT_BE_CARRIED = 4
RETURN_LIMIT_S = 120.0
"""Half a minute until it is noticed, a minute until what failed is tried, on a busy machine."""


def element(archive: MountedArchive) -> dict[str, Any]:
    (found,) = archive.ask("status")["elements"]
    return found


def wait_open(archive: MountedArchive) -> dict[str, Any]:
    """Until the server is left alone; what `status` says of that."""
    found: list[dict[str, Any]] = []

    def is_open() -> bool:
        found[:] = [element(archive)["breaker"]]
        return found[0]["state"] == "open"

    wait_until(is_open)
    return found[0]


def test_server_that_is_gone_is_left_alone_and_a_flush_asks_it_at_once(
    archive: MountedArchive, bucket_proxy: Proxy, seaweedfs_server: Server, prefix: str
) -> None:
    """SEMANTICS: ELEM-19, ELEM-20"""
    content = os.urandom(100_000)
    (archive.mount / "far").write_bytes(content)
    archive.flush()
    well = element(archive)
    assert (well["breaker"]["state"], well["breaker"]["next_trial"]) == ("closed", None)
    requests = well["counters"]["requests"]
    assert requests["PutObject"] >= 2
    assert requests["HeadObject"] >= 1

    bucket_proxy.switch_off()
    (archive.mount / "new").write_bytes(content)
    breaker = wait_open(archive)
    assert f"at {bucket_proxy.url}: no connection: " in breaker["reason"]
    assert breaker["since"] <= breaker["next_trial"]
    shown = archive.run("status", str(archive.toml)).stdout
    assert "not asked for a while, because it has failed:\n  main: " in shown
    with pytest.raises(OSError, match="Input/output error") as raised:
        (archive.mount / "far").read_bytes()
    assert raised.value.errno == errno.EIO  # never absent
    flushed = archive.run("flush", str(archive.toml), check=False)
    assert flushed.returncode == CANNOT_BE_CARRIED
    wait_until(lambda: element(archive)["state"] == "unavailable")
    assert element(archive)["queue"]["intents"] >= 1
    errors = element(archive)["counters"]["errors"]
    assert errors["ElementUnavailable"] >= 1

    wait_open(archive)
    bucket_proxy.rule = None
    archive.flush()
    told = element(archive)
    assert (told["state"], told["breaker"]["state"]) == ("ok", "closed")
    assert told["queue"]["intents"] == 0
    assert (archive.mount / "far").read_bytes() == content
    assert "not asked for a while" not in archive.run("status", str(archive.toml)).stdout
    found = seaweedfs_server.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    assert len([one for one in found["Contents"] if one["Key"].endswith(".attr.json")]) == 2


def test_server_that_answers_with_errors_is_left_alone_and_used_again_by_itself(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-19"""
    bucket_proxy.rule = lambda request: Answer(500, "InternalError")
    (archive.mount / "new").write_bytes(b"new")
    assert "the server failed" in wait_open(archive)["reason"]
    bucket_proxy.rule = None
    wait_until(
        lambda: os.getxattr(archive.mount / "new", "user.artstore.state") == b"stored",
        RETURN_LIMIT_S,
    )
    assert element(archive)["breaker"]["state"] == "closed"
