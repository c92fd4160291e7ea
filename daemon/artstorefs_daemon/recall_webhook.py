"""Tells a web address when what was asked for of archived content is there (`[recall] webhook`).

    POST, Content-Type: application/json
    X-ArtStoreFS-Delivery: the id of the request, the same in each attempt
    X-ArtStoreFS-Timestamp: seconds since 1970, of this attempt
    X-ArtStoreFS-Signature: sha256=HEX, HMAC-SHA256 of "TIMESTAMP.BODY" with the secret

    {"event": "recall.done", "id", "archive", "path", "files", "bytes", "failed",
     "asked_at", "asked_by", "done_at"}

Whoever receives it computes the same, compares in constant time, and refuses what is older than a
few minutes, so that nobody can send it again. Any answer of 2xx is taken for good; a redirection is
none, for the secret is meant for this address. Attempts go on after growing pauses for `GIVE_UP_S`,
also after a restart, in a thread: nothing else waits for them.
"""

import hashlib
import hmac
import http.client
import json
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import StateError, one_line
from artstorefs.core.log_fields import about
from artstorefs.core.redaction import keep_secret
from artstorefs.elements.secrets import why_no_secret
from artstorefs.state.recall_requests import RecallRequests, Request
from artstorefs_daemon.element_reports import timestamp

log = logging.getLogger(__name__)

PAUSE_FIRST_S, PAUSE_LIMIT_S = 5.0, 3600.0

GIVE_UP_S = 3 * 86_400.0
"""After a weekend somebody has seen that the receiver is down, or nobody reads it any more."""

TIMEOUT_S = 10.0
"""Of each wait for the receiver."""

ATTEMPT_LIMIT_S = 30.0
"""Of one that answers a byte at a time; its thread ends when it likes."""

STATE_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where it is told, and the file that has the secret."""

    url: str
    secret_file: str

    def tell(self, request: Request, archive: str, now_s: int) -> str | None:
        """One attempt; why it has failed, or None. Blocks."""
        try:
            secret = self._secret()
            body = json.dumps(body_of(request, archive), ensure_ascii=False).encode()
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "artstorefs",
                "X-ArtStoreFS-Delivery": request.id,
                "X-ArtStoreFS-Timestamp": str(now_s),
                "X-ArtStoreFS-Signature": signature(secret, now_s, body),
            }
            status = self._post(body, headers)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            return one_line(str(exc)) or repr(exc)
        return None if 200 <= status < 300 else f"answers with {status}"

    def _secret(self) -> bytes:
        reason = why_no_secret(self.secret_file)
        if reason is not None:
            raise ValueError(f"webhook_secret_file: {reason}")
        with open(self.secret_file, "rb") as file:
            secret = file.read(4096).strip()
        if not secret:
            raise ValueError(f"webhook_secret_file: {self.secret_file} is empty")
        keep_secret(secret.decode(errors="replace"))
        return secret

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        try:
            path = parts.path or "/"
            connection.request(
                "POST", f"{path}?{parts.query}" if parts.query else path, body, headers
            )
            return connection.getresponse().status
        finally:
            connection.close()


def signature(secret: bytes, now_s: int, body: bytes) -> str:
    """Of a body that is sent at this second."""
    digest = hmac.new(secret, f"{now_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def body_of(request: Request, archive: str) -> dict[str, object]:
    """What the receiver is told."""
    return {
        "event": "recall.done",
        "id": request.id,
        "archive": archive,
        "path": request.path.decode(errors="backslashreplace"),
        "files": request.files,
        "bytes": request.bytes,
        "failed": request.failed,
        "asked_at": timestamp(request.asked_ns / 1e9),
        "asked_by": request.uid,
        "done_at": timestamp((request.done_ns or 0) / 1e9),
    }


class RecallWebhook:
    """`run` tells what is done, until cancelled; `wake` when there may be something."""

    def __init__(
        self,
        configuration: ArchiveConfiguration,
        requests: RecallRequests,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._archive = configuration.name
        self._requests = requests
        self._clock_ns = clock_ns
        recall = configuration.recall
        self._receiver: Receiver | None = None
        if recall.webhook is not None and recall.webhook_secret_file is not None:
            self._receiver = Receiver(recall.webhook, str(recall.webhook_secret_file))
        self._wake = trio.Event()

    @property
    def is_on(self) -> bool:
        """Whether anybody is to be told."""
        return self._receiver is not None

    def wake(self) -> None:
        """Something has come, or was let go of."""
        self._wake.set()

    async def run(self) -> None:
        """Where nobody is to be told, nothing."""
        if self._receiver is None:
            return
        is_begun = False
        while True:
            self._wake = trio.Event()
            try:
                if not is_begun:
                    self._requests.are_whole()
                    is_begun = True
                pause_s = await self._tell_next(self._receiver)
            except StateError as exc:
                log.warning("the webhook is told later: %s", exc, extra=about(exc))
                pause_s = STATE_PAUSE_S
            with trio.move_on_after(pause_s):
                await self._wake.wait()

    async def _tell_next(self, receiver: Receiver) -> float:
        """One attempt, if one is due; seconds until the next."""
        now_ns = self._clock_ns()
        self._requests.note_done(now_ns)
        request = self._requests.next()
        if request is None:
            return float("inf")
        if request.due_ns > now_ns:
            return (request.due_ns - now_ns) / 1e9
        problem = await self._attempt(receiver, request)
        if problem is None:
            self._requests.drop(request.id)
            return 0.0
        age_s = (now_ns - (request.done_ns or now_ns)) / 1e9
        if age_s > GIVE_UP_S:
            log.error("the webhook is not told of recall %s any more: %s", request.id, problem)
            self._requests.drop(request.id)
            return 0.0
        if request.tries == 0:
            log.warning("the webhook is told of recall %s later: %s", request.id, problem)
        pause_s = min(PAUSE_LIMIT_S, PAUSE_FIRST_S * 2 ** min(request.tries, 16))
        self._requests.postpone(request.id, self._clock_ns() + int(pause_s * 1e9))
        return 0.0

    async def _attempt(self, receiver: Receiver, request: Request) -> str | None:
        now_s = self._clock_ns() // 10**9
        with trio.move_on_after(ATTEMPT_LIMIT_S):
            return await trio.to_thread.run_sync(
                receiver.tell, request, self._archive, now_s, abandon_on_cancel=True
            )
        return f"has not answered in {ATTEMPT_LIMIT_S:.0f} s"
