"""How an `OSError` of a local element becomes an `ElementError`: one table, for `elements` only.

ENOENT is not in it on purpose. Whether a missing name means an absent object or a missing disk is
decided where the question was asked (`directories.py`); anywhere else it is an element that cannot
be worked with now.
"""

import errno
from types import TracebackType

from artstorefs.core.errors import (
    ElementDenied,
    ElementError,
    ElementFull,
    ElementUnavailable,
    KeyInvalid,
)

_CLASS_OF_ERRNO: dict[int | None, type[ElementError]] = {
    errno.ENOSPC: ElementFull,
    errno.EDQUOT: ElementFull,
    errno.EACCES: ElementDenied,
    errno.EPERM: ElementDenied,
    errno.EROFS: ElementDenied,
    # What lies in the way stays there until a person looks at it: a symlink or a file where a
    # directory has to be, a directory where an object has to be, another disk inside this one.
    errno.ELOOP: ElementDenied,
    errno.ENOTDIR: ElementDenied,
    errno.EISDIR: ElementDenied,
    errno.EXDEV: ElementDenied,
    errno.EFBIG: ElementDenied,
    errno.ENAMETOOLONG: KeyInvalid,
    errno.EILSEQ: KeyInvalid,
}


def element_error(element: str, key: str, exc: OSError) -> ElementError:
    """The `ElementError` for `exc`; what the table does not know is `ElementUnavailable`."""
    reason = exc.strerror or str(exc)
    return _CLASS_OF_ERRNO.get(exc.errno, ElementUnavailable)(element, key, reason)


class translated:
    """`with translated(element, key):` raises the `ElementError` for an `OSError` in the block."""

    __slots__ = ("element", "key")

    def __init__(self, element: str, key: str) -> None:
        self.element = element
        self.key = key

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if isinstance(exc, OSError):
            raise element_error(self.element, self.key, exc) from exc
