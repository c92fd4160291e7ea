"""Every error that ArtStoreFS raises on purpose, with the errno it becomes.

A class that ends up as the answer to a system call carries `errno_code`; `errno_of` is the one
table that turns an exception into an errno, and `tests/unit/test_errors.py` goes through all of it.
Messages are one line: the thing, the reason and, where there is one, the next step.
"""

import errno
import re
from typing import ClassVar, Final

# Names and keys that others made may hold line feeds, escape sequences and bytes that are no text.
_NOT_IN_A_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ArtStoreFSError(Exception):
    """Base of every error that is expected to happen; `str()` is one line for a person."""

    errno_code: ClassVar[int] = errno.EIO

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` with control characters and what is not Unicode as escapes: it can be logged."""
    return _NOT_IN_A_LINE.sub(lambda found: ascii(found[0])[1:-1], text)


# ------------------------------------------------------------------------------- for people


class ConfigurationError(ArtStoreFSError):
    """A configuration file, key or value is not usable."""

    errno_code = errno.EINVAL

    def __init__(self, path: str, key: str, reason: str) -> None:
        super().__init__(f"{path}: {key}: {reason}" if key else f"{path}: {reason}")
        self.path = path
        self.key = key
        self.reason = reason


class ArchiveInUse(ArtStoreFSError):
    """Another process serves this archive, or is unmounted and `drains`, after which it ends by
    itself; `holder` is its process id, 0 when not known."""

    errno_code = errno.EBUSY

    def __init__(self, name: str, holder: int, *, drains: bool = False) -> None:
        by = f"process {holder}" if holder else "another process"
        super().__init__(f"archive {name} is in use by {by}; unmount it there first")
        self.name = name
        self.holder = holder
        self.drains = drains


# ------------------------------------------------------------------------- the state directory


class StateError(ArtStoreFSError):
    """The state directory cannot keep a change now; nothing of it has been kept."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class StateFull(StateError):
    """Its disk has no room for the record of a change."""

    errno_code = errno.ENOSPC


# --------------------------------------------------------------------- attr.json, node records


class DocumentError(ArtStoreFSError):
    """An attr.json, node record or archive.json cannot be used as it is."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class DocumentInvalid(DocumentError):
    """Not JSON, not an object, or a field breaks a rule of its schema."""


class DocumentTooLarge(DocumentError):
    """The document would exceed, or exceeds, the size that its format allows."""

    errno_code = errno.ENOSPC

    def __init__(self, where: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(where, f"{size_bytes} bytes, at most {limit_bytes} are allowed")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


# --------------------------------------------------------------------------------- elements


class ElementError(ArtStoreFSError):
    """A storage element did not do what it was asked for."""

    def __init__(self, element: str, key: str, reason: str) -> None:
        super().__init__(f"element {element}: {key}: {reason}" if key else f"{element}: {reason}")
        self.element = element
        self.key = key
        self.reason = reason


class ObjectAbsent(ElementError):
    """The element answered that there is nothing under this key: a positive answer."""

    def __init__(self, element: str, key: str) -> None:
        super().__init__(element, key, "is not there")


class ObjectExists(ElementError):
    """A create found something under this key already."""

    def __init__(self, element: str, key: str) -> None:
        super().__init__(element, key, "exists already")


class ObjectDamaged(ElementError):
    """Size or SHA-256 of what the element holds is not what it must be."""


class ElementUnavailable(ElementError):
    """The element cannot be asked now; says nothing about what it holds. Worth a retry."""


class ElementOfAnother(ElementUnavailable):
    """What is in the element's place belongs to another archive; nothing is done there."""


class MediumWanted(ElementUnavailable):
    """The content of an element lies on a medium that is not there; somebody has to bring it."""


class ElementFull(ElementError):
    """The element has no room for this. Worth a retry later, or another element."""

    errno_code = errno.ENOSPC


class ElementDenied(ElementError):
    """The element refuses (permissions, credentials, read-only media); a person must act."""


class KeyInvalid(ElementError):
    """A key that could lead out of the element, or that it cannot hold."""


# ------------------------------------------------------------------------------- the errno table


def errno_of(exc: BaseException) -> int:
    """The errno that a system call answers with when `exc` ended its work.

    An `OSError` keeps its own code, our errors have theirs, everything else is EIO: POSIX's
    "physical input or output error", the one code that every program takes as a failure.
    """
    if isinstance(exc, ArtStoreFSError):
        return exc.errno_code
    if isinstance(exc, OSError) and exc.errno:
        return exc.errno
    return errno.EIO
