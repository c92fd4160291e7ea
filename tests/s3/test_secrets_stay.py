"""Where secrets are not: logs, argument lists, environments, status, sidecars, state."""

import json
from pathlib import Path

import pytest

from ..harness import MountedArchive, children
from .servers import BUCKET, SECRET_KEY, Server

pytestmark = pytest.mark.slow


def test_secret_is_nowhere_but_in_its_file(
    archive: MountedArchive, seaweedfs_server: Server, prefix: str
) -> None:
    """A file is carried and one cannot be, which is logged and told."""
    secret = SECRET_KEY.encode()
    assert secret in seaweedfs_server.credentials.read_bytes()
    (archive.mount / "photo.jpg").write_bytes(b"content")
    archive.flush()
    processes = (archive.pid, *children(archive.pid))
    assert len(processes) > 1
    for pid in processes:
        for name in ("cmdline", "environ", "status", "comm"):
            assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()
    for method in ("status", "cache"):
        assert secret not in json.dumps(archive.ask(method)).encode()
    for words in (["status", "--json"], ["config"], ["doctor"]):
        done = archive.run(words[0], str(archive.toml), *words[1:], check=False)
        assert SECRET_KEY not in done.stdout + done.stderr

    client = seaweedfs_server.client()
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    assert any(found["Key"].endswith(".attr.json") for found in listed)
    for found in listed:
        answer = client.get_object(Bucket=BUCKET, Key=found["Key"])
        assert secret not in answer["Body"].read()

    archive.stop()
    looked = [path for path in archive.base.rglob("*") if path.is_file()]
    assert {"daemon.log", "state.db", "test.toml"} <= {path.name for path in looked}
    assert all(secret not in path.read_bytes() for path in looked)


def test_secret_that_others_can_read_is_not_used_until_it_is_mended(
    archive: MountedArchive, seaweedfs_server: Server, tmp_path: Path
) -> None:
    archive.stop()
    mine = tmp_path / "credentials"
    mine.write_bytes(seaweedfs_server.credentials.read_bytes())
    mine.chmod(0o644)
    text = archive.toml.read_text()
    archive.toml.write_text(text.replace(str(seaweedfs_server.credentials), str(mine)))
    archive.start()
    (archive.mount / "f").write_bytes(b"content")
    done = archive.run("flush", str(archive.toml), check=False)
    assert done.returncode != 0
    (element,) = archive.status()["elements"]
    assert element["state"] == "unavailable"
    assert f"may be read by others (0644); chmod 600 {mine}" in element["error"]
    mine.chmod(0o600)
    archive.flush()
    assert archive.status()["pending"]["intents"] == 0
