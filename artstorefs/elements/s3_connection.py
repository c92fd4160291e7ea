"""Requests to one bucket: how it is reached, with what patience, and what its failures mean.

The one place that retries: botocore's own retries are off, because they do not honour Retry-After
and do not cover the body of an answer. A server that does not answer in spite of them is left alone
for a while, as the breaker of the element says (`breaker.py`). Safe to use from many threads, and
after a fork: each process has a client of its own, since two must not share a connection.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import create_loader

from artstorefs.core.redaction import keep_secret
from artstorefs.elements.breaker import Breaker, CallRefused
from artstorefs.elements.s3_errors import (
    EXPECTED,
    RETRIED,
    UNAVAILABLE,
    S3Trouble,
    Trouble,
    trouble_of,
)
from artstorefs.elements.s3_quick import NotThisWay, QuickWay
from artstorefs.elements.s3_settings import S3Settings
from artstorefs.elements.secrets import why_no_secret

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_s3.client import S3Client

_Answer = TypeVar("_Answer")

DEFAULT_REGION: Final = "us-east-1"
"""What servers of one region, which most are that are not Amazon's, take for theirs."""

_MODELS: Final = create_loader()
"""What botocore knows of S3, read from its files once: that is most of the making of a client."""


class S3Connection:
    """Requests to the bucket of one element."""

    def __init__(
        self,
        settings: S3Settings,
        breaker: Breaker | None = None,
        requested: Callable[[str], None] | None = None,
    ) -> None:
        """Without a breaker every request is made. `requested` is told the name of the operation
        of each attempt at a request, as the S3 API reference has it."""
        self.settings = settings
        self._breaker = breaker
        self._requested = requested
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._quick: QuickWay | None = None
        self._credentials: Credentials | None = None
        self._pid = 0
        self._random = random.Random()

    def run(
        self,
        request: Callable[["S3Client"], _Answer],
        quick: Callable[[QuickWay], _Answer] | None = None,
    ) -> _Answer:
        """The answer to a request that may be repeated; blocks. Raises `S3Trouble`.

        The first attempt goes the `quick` way, if one is given and open (`s3_quick.py`).

        `request` reads the body as well, if it wants one, so that a body that is cut off is asked
        for again. Pauses grow, with as much chance in them as there is pause, so that many clients
        that failed together do not come back together. What an open breaker refuses fails at once,
        as `Trouble.LEFT_ALONE`; its trial is one attempt, for which nobody waits long.
        """
        breaker = self._breaker
        if breaker is None:
            return self._attempt(request, quick, self.settings.attempts)
        try:
            permit = breaker.begin(time.monotonic())
        except CallRefused as exc:
            raise S3Trouble(Trouble.LEFT_ALONE, str(exc)) from None
        try:
            attempts = 1 if permit.trial else self.settings.attempts
            answer = self._attempt(request, quick, attempts)
        except S3Trouble as exc:
            if exc.trouble in UNAVAILABLE:
                breaker.failed(
                    permit,
                    time.monotonic(),
                    exc.reason,
                    is_silent=exc.trouble is Trouble.SILENT,
                    not_before_s=exc.retry_after_s,
                )
            else:
                breaker.answered(time.monotonic())
            raise
        except BaseException:
            breaker.abandoned(permit)
            raise
        breaker.answered(time.monotonic())
        return answer

    def _attempt(
        self,
        request: Callable[["S3Client"], _Answer],
        quick: Callable[[QuickWay], _Answer] | None,
        attempts: int,
    ) -> _Answer:
        settings = self.settings
        pause_s = settings.pause_s
        way = self._quick_way() if quick is not None and attempts > 1 else None
        if way is not None and quick is not None:
            try:
                return quick(way)
            except NotThisWay as exc:
                if exc.tried:
                    attempts -= 1
                    self._pause(exc.pause_s, pause_s)
        for left in range(attempts - 1, -1, -1):
            try:
                return request(self._get_client())
            except EXPECTED as exc:
                trouble = trouble_of(exc, settings.where)
                if trouble.trouble is Trouble.CREDENTIALS:
                    self._forget_client()  # the next request reads the credentials anew
                if trouble.trouble not in RETRIED or left == 0:
                    raise trouble from exc
            self._pause(trouble.retry_after_s, pause_s)
            pause_s = min(pause_s * 2, settings.pause_limit_s)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, least_s: float, pause_s: float) -> None:
        time.sleep(max(least_s, pause_s * self._random.uniform(0.5, 1.0)))

    def close(self) -> None:
        """Let the connections of this process go."""
        with self._lock:
            client, self._client, self._quick = self._client, None, None
            if client is not None and self._pid == os.getpid():
                client.close()

    def _tell_request(self, event_name: str, **_: Any) -> None:
        if self._requested is not None:
            self._requested(event_name.rpartition(".")[2])

    def _keep_secrets(self, **_: Any) -> None:
        """Before each request is signed: they may have been renewed."""
        if self._credentials is not None:
            frozen = self._credentials.get_frozen_credentials()
            keep_secret(frozen.access_key, frozen.secret_key, frozen.token)

    def _forget_client(self) -> None:
        # Not closed: other threads may be using it.
        with self._lock:
            self._client = None

    def _get_client(self) -> "S3Client":
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                session, self._client = _make_client(self.settings)
                self._credentials = session.get_credentials()
                self._client.meta.events.register("choose-signer.s3", self._keep_secrets)
                self._client.meta.events.register("before-send.s3", self._tell_request)
                self._quick = self._open_quick_way(self._client)
                self._pid = os.getpid()
            return self._client

    def _quick_way(self) -> QuickWay | None:
        try:
            self._get_client()
        except EXPECTED:
            return None  # boto3 says it again
        way = self._quick
        return None if way is None or way.is_tired else way

    def _open_quick_way(self, client: "S3Client") -> QuickWay | None:
        credentials = self._credentials
        if credentials is None or not QuickWay.is_open():
            return None
        try:
            return QuickWay(self.settings, client, credentials, self._requested)
        except NotThisWay:
            return None


def load_models() -> None:
    """Read what botocore knows of S3 now: a process that is forked from this one has it then."""
    _make_client(S3Settings(bucket="unused"))


def _make_client(settings: S3Settings) -> "tuple[botocore.session.Session, S3Client]":
    if settings.credentials_file is not None:
        reason = why_no_secret(settings.credentials_file)
        if reason is not None:
            raise S3Trouble(Trouble.CREDENTIALS, f"credentials_file {reason}")
    session = botocore.session.Session(profile=settings.profile)
    session.register_component("data_loader", _MODELS)
    if settings.credentials_file is not None:
        session.set_config_variable("credentials_file", settings.credentials_file)
        if settings.profile is None:
            # Else variables of the environment would win over the file that was asked for.
            session.set_config_variable("profile", "default")
    config = Config(
        s3={"addressing_style": settings.addressing},
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=settings.concurrency + 1,
        # We send checksums of our own; the extra ones are not understood by every server.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="artstorefs",
    )
    verify: bool | str = settings.verify_tls
    if settings.verify_tls and settings.ca_bundle is not None:
        verify = settings.ca_bundle
    return session, boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region or session.get_config_variable("region") or DEFAULT_REGION,
        verify=verify,
        config=config,
    )
