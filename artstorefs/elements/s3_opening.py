"""From the keys of an `[[element]]` table to an S3 element."""

import math
import time
from dataclasses import replace
from typing import Any, Final, Literal

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.elements.breaker import Breaker
from artstorefs.elements.gauges import Gauges
from artstorefs.elements.s3 import S3Element
from artstorefs.elements.s3_settings import S3Settings

FOR_READERS: Final[dict[str, Any]] = {
    "connect_timeout_s": 5.0,
    "read_timeout_s": 15.0,
    "attempts": 3,
}
"""A program that reads has to be told in a bounded time: three attempts, each of which gives up a
connection on which nothing has come for a quarter of a minute."""

BRIEFLY: Final[dict[str, Any]] = {
    "connect_timeout_s": 5.0,
    "read_timeout_s": 5.0,
    "attempts": 2,
}
"""For the question whether it is there, which is asked again soon, or by a person who waits."""


def settings_of(configuration: ElementConfiguration) -> S3Settings:
    """How a table of kind "s3" has its bucket used."""
    assert configuration.bucket is not None
    lock_modes: dict[str, Literal["GOVERNANCE", "COMPLIANCE"]] = {
        "governance": "GOVERNANCE",
        "compliance": "COMPLIANCE",
    }
    credentials, ca_bundle = configuration.credentials_file, configuration.ca_bundle
    return S3Settings(
        bucket=configuration.bucket,
        prefix=f"{configuration.prefix}/" if configuration.prefix else "",
        endpoint=configuration.endpoint,
        region=configuration.region,
        profile=configuration.profile,
        credentials_file=None if credentials is None else str(credentials),
        storage_class=configuration.storage_class,
        # Most servers but Amazon's have no name for each bucket.
        addressing=configuration.addressing or ("path" if configuration.endpoint else "virtual"),
        multipart_threshold=configuration.multipart_threshold,
        part_size=configuration.part_size,
        concurrency=configuration.concurrency,
        verify_tls=configuration.verify_tls,
        ca_bundle=None if ca_bundle is None else str(ca_bundle),
        encryption=configuration.encryption,
        encryption_key=configuration.encryption_key,
        object_lock=lock_modes.get(configuration.object_lock),
    )


def open_s3_element(
    configuration: ElementConfiguration,
    *,
    for_readers: bool = False,
    briefly: bool = False,
    gauges: Gauges | None = None,
) -> S3Element:
    """The element of a table of kind "s3". Asks nothing of the server. `for_readers`: with less
    patience; `briefly`: with next to none, and whatever the breaker of `gauges` says."""
    settings = settings_of(configuration)
    if for_readers or briefly:
        settings = replace(settings, **(BRIEFLY if briefly else FOR_READERS))
    return S3Element(
        configuration.id,
        settings,
        capacity_bytes=configuration.capacity,
        breaker=None if briefly else gauges.breaker if gauges else _breaker_of_a_tool(),
        requested=gauges.counters.requested if gauges else None,
        locks=gauges.locks if gauges else None,
    )


def _breaker_of_a_tool() -> Breaker:
    """Who looks at every object asks for each: those that the server fails at say nothing of the
    others. One that does not answer at all need not be waited for with each."""
    return Breaker(time.monotonic(), failures=math.inf)
