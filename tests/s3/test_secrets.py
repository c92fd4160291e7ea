"""Nothing secret is in a log, a message or a file, whatever goes wrong and however much is told."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementError
from artstorefs.core.redaction import CUT_OUT
from artstorefs.elements.s3 import S3Element
from artstorefs_daemon.log_format import JournalFormat, LineFormat

from ..harness import MountedArchive, children, wait_until
from .proxy import Answer, Drop, Fault, Proxy, Request
from .servers import BUCKET, Server

KEY_ID, SECRET, TOKEN = (
    "HUSHKEYID0001",
    "hushXUtnFEMI/K7MDENG+bPxRfi=",
    "hushFwoGZXIvYXdz//tok+en==",
)
KEY = "2026/11/23/22/harbour.tif.attr.json"


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text(
        f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
        f"aws_session_token = {TOKEN}\n"
    )
    return path


class Collected(logging.Handler):
    """Everything that is logged by anybody, in both forms."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""
        self._forms = (LineFormat("transfer", 1, "t"), JournalFormat("transfer", 1, "t"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text += "".join(form.line(record) for form in self._forms)


@pytest.fixture
def collected() -> Iterator[Collected]:
    handler = Collected()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def echo(request: Request) -> str:
    """What servers are known to say: the request as they have seen it."""
    return (
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>{request.headers}</Message>"
        f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        f"<Query>?X-Amz-Security-Token={TOKEN}&amp;X-Amz-Signature=hush</Query></Error>"
    )


FAULTS = {
    "echo": lambda request: Answer(403, body=echo(request)),
    "unknown echo": lambda request: Answer(418, "Teapot", f"{SECRET} {TOKEN} {request.headers}"),
    "server error": lambda request: Answer(500, body=echo(request)),
    "cut off": lambda request: Drop(),
}


def hushed(text: str) -> bool:
    return "hush" not in text.lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_errors_of_boto3_and_obstore_at_the_debug_level(
    name: str, moto_server: Server, credentials: Path, collected: Collected
) -> None:
    proxy = Proxy(moto_server.url)
    settings = moto_server.settings(endpoint=proxy.url, credentials_file=str(credentials))
    element = S3Element("bucket1", settings)
    log = logging.getLogger("artstorefs.test")

    def write() -> None:
        element.replace(KEY, b"{}")
        element.barrier()

    try:
        write()
        proxy.rule = FAULTS[name]
        for call in (write, lambda: element.read(KEY, 0, 10), lambda: list(element.list())):
            try:
                call()
            except ElementError:
                log.exception("refused")
        log.error("the credentials are %s, %s and %s", KEY_ID, SECRET, TOKEN)
    finally:
        proxy.close()
        element.close()
    assert len(proxy.requests) > 6
    assert "boto3 is asked instead" in collected.text
    assert "CanonicalRequest" in collected.text  # botocore's debug level does tell them
    assert collected.text.count(CUT_OUT) > 20
    assert [line for line in collected.text.splitlines() if not hushed(line)] == []


@pytest.mark.slow
def test_everything_that_a_daemon_writes_and_shows(
    moto_server: Server, credentials: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proxy = Proxy(moto_server.url)
    archive = MountedArchive(
        tmp_path_factory.mktemp("hid"),
        settings="settle_s = 0.0\n[audit]\nenabled = true\n",
        place=f"s3:{BUCKET}/{moto_server.new_prefix()}",
        element_arguments=f",endpoint={proxy.url},credentials_file={credentials}",
    )
    try:
        archive.start()
        (archive.mount / "before").write_bytes(b"x")
        archive.flush()

        def rule(request: Request) -> Fault:
            return Answer(418, "Teapot", f"{SECRET} {TOKEN} {request.headers}")

        proxy.rule = rule
        (archive.mount / "refused").write_bytes(b"x")
        wait_until(lambda: bool(archive.ask("status")["errors"]))
        assert "Teapot" in archive.log()
        shown = [archive.run("status", str(archive.toml), *o).stdout for o in ((), ("--json",))]
        shown.append(os.getxattr(archive.mount / "refused", "user.artstore.error").decode())
        for pid in (archive.pid, *children(archive.pid)):
            shown.append(Path(f"/proc/{pid}/cmdline").read_text())
        proxy.rule = None
        archive.flush()
        archive.stop()
        files = [path for path in archive.base.rglob("*") if path.is_file()]
        assert archive.state / "daemon.log" in files
        shown += [path.read_bytes().decode(errors="replace") for path in files]
        assert [text for text in shown if not hushed(text)] == []
    finally:
        proxy.rule = None
        archive.clean_up()
        proxy.close()
