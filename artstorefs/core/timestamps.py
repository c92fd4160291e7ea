"""ISO 8601 text in documents and nanoseconds in the tree."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp(text: str) -> datetime:
    """The moment that ISO 8601 `text` names; without a timezone it is UTC, as ArtStore writes it.

    Raises ValueError.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not an ISO 8601 time") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def timestamp_ns(text: str) -> int:
    """Nanoseconds since the epoch of ISO 8601 `text` (to its microsecond). Raises ValueError."""
    return (parse_timestamp(text) - EPOCH) // timedelta(microseconds=1) * 1000


def format_timestamp(moment: datetime) -> str:
    """`moment` as we write it, 2025-01-02T03:04:05.678901Z: UTC, always with microseconds.

    The only form that the strictest readers of RFC 3339 take too.
    """
    if moment.tzinfo is None:
        raise ValueError("moment must know its timezone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
