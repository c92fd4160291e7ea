"""What is to be fetched into the read cache, and what became of it, as both processes know it."""

import enum
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from typing import Any, Self

from artstorefs.state.cache import Place


class Urgency(enum.IntEnum):
    """Whose turn is next at an element."""

    READ = 0
    """A program waits for it."""
    AHEAD = 1
    """A program will probably want it."""
    WARM = 2
    """Somebody wants it in the cache."""


class FetchKind(enum.StrEnum):
    """What is fetched."""

    BLOCK = "block"
    """`length` bytes from `offset`, whose SHA-256 is `digest`."""
    LIST = "list"
    """The block list beside the object, whose SHA-256 is `digest`."""
    HASH = "hash"
    """The whole object, to make the block list that it does not have; with its blocks unless
    `length` is 0."""
    CHECK = "check"
    """Nothing: what the cache has of the content, all of it, is hashed whole."""


@dataclass(frozen=True, slots=True)
class FetchJob:
    """Of the content with SHA-256 `content` (hex digits) and `size` bytes, which `element` has as
    object `key`. `keep`: there is room for it in the cache; otherwise it is answered as it is.
    Of a block: it is number `index` of `blocks`."""

    kind: FetchKind
    element: str
    key: str
    content: str
    size: int
    index: int = 0
    offset: int = 0
    length: int = 0
    digest: str = ""
    keep: bool = True
    blocks: int = 1

    @property
    def name(self) -> tuple[str, str, int]:
        """Who wants the same shares it, whichever element it then comes from."""
        return self.kind, self.content, self.index

    @property
    def place(self) -> Place:
        """Where a block or a list belongs in the cache."""
        index = self.index if self.kind is FetchKind.BLOCK else None
        is_single = self.kind is FetchKind.BLOCK and self.length == self.size
        return Place(bytes.fromhex(self.content), index, is_single)

    def to_message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what is no job."""
        return cls(**{**message, "kind": FetchKind(message["kind"])})


class Failure(enum.StrEnum):
    """Why there is nothing."""

    UNAVAILABLE = "unavailable"
    """The element cannot be asked now, or refuses."""
    ABSENT = "absent"
    """The element says that it has no such object."""
    DAMAGED = "damaged"
    """What the element has is not right."""
    NO_ROOM = "no room"
    """The cache has no room for what nobody waits for; the element was not asked."""


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """`stored`: bytes that are in the cache now, as its files count. `data`: what could not be
    stored, or was not to be; `is_full` if the disk had no room. Or a failure with its reason."""

    stored: int = 0
    data: bytes | None = None
    is_full: bool = False
    failure: Failure | None = None
    reason: str = ""

    def to_message(self) -> dict[str, Any]:
        data = None if self.data is None else b64encode(self.data).decode()
        return {**asdict(self), "data": data}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what is no answer."""
        data, failure = message["data"], message["failure"]
        return cls(
            int(message["stored"]),
            None if data is None else b64decode(data, validate=True),
            bool(message["is_full"]),
            None if failure is None else Failure(failure),
            str(message["reason"]),
        )
