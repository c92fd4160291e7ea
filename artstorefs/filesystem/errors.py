"""The refusals of POSIX, by name; each carries the errno that the system call answers with."""

import errno
from typing import ClassVar

from artstorefs.core.errors import ArtStoreFSError


class FilesystemError(ArtStoreFSError):
    """A system call is refused. `subject` is a name, an inode number or an attribute's name."""

    reason: ClassVar[str] = "refused"

    def __init__(self, subject: bytes | str | int) -> None:
        shown = subject.decode(errors="replace") if isinstance(subject, bytes) else str(subject)
        super().__init__(f"{shown}: {self.reason}")
        self.subject = subject


class NoSuchName(FilesystemError):
    errno_code = errno.ENOENT
    reason = "is not there"


class NodeGone(FilesystemError):
    errno_code = errno.ESTALE
    reason = "no longer exists"


class NameExists(FilesystemError):
    errno_code = errno.EEXIST
    reason = "exists already"


class NameTooLong(FilesystemError):
    errno_code = errno.ENAMETOOLONG
    reason = "is longer than 255 bytes"


class NotADirectory(FilesystemError):
    errno_code = errno.ENOTDIR
    reason = "is not a directory"


class IsADirectory(FilesystemError):
    errno_code = errno.EISDIR
    reason = "is a directory"


class DirectoryNotEmpty(FilesystemError):
    errno_code = errno.ENOTEMPTY
    reason = "is not empty"


class InvalidArgument(FilesystemError):
    errno_code = errno.EINVAL
    reason = "does not make sense here"


class LinkNotPermitted(FilesystemError):
    errno_code = errno.EPERM
    reason = "directories have one name"


class AttributeAbsent(FilesystemError):
    errno_code = errno.ENODATA
    reason = "is not set"


class AttributeReserved(FilesystemError):
    errno_code = errno.EPERM
    reason = "can be read, not set"


class AttributeUnsupported(FilesystemError):
    errno_code = errno.EOPNOTSUPP
    reason = "attributes of this namespace are not kept"


class FileTooLarge(FilesystemError):
    errno_code = errno.EFBIG
    reason = "would be larger than 16 TiB"


class NotAllocatable(FilesystemError):
    errno_code = errno.EOPNOTSUPP
    reason = "cannot be allocated ahead"


class SpoolFull(FilesystemError):
    errno_code = errno.ENOSPC
    reason = "there is no room in the spool; see artstorefs status"


class ContentDamaged(FilesystemError):
    errno_code = errno.EIO
    reason = "nothing that holds the content has its right size and SHA-256"


class CopyDamaged(FilesystemError):
    """What one element holds is not right; `subject` says how. Other copies are tried."""

    errno_code = errno.EIO
    reason = "one copy of the content is damaged"


class ContentUnreachable(FilesystemError):
    errno_code = errno.EIO
    reason = "no element that holds the content can be reached"


class ContentArchived(FilesystemError):
    errno_code = errno.EREMOTE
    reason = "is archived; artstorefs recall brings its content back"


class CacheFull(FilesystemError):
    """Of what people order; a read does without the cache."""

    errno_code = errno.ENOSPC
    reason = "there is no room in the cache; raise cache_max, or --unpin something"


class ForbiddenByMode(FilesystemError):
    """What the mode of the element, or of the whole archive, does not allow (EROFS or EPERM)."""

    reason = "the mode of its element forbids this"

    def __init__(self, subject: bytes | str | int, code: int) -> None:
        super().__init__(subject)
        self.errno_code = code  # type: ignore[misc]


class Retained(FilesystemError):
    """Content that is kept until a time must not be changed or removed before."""

    errno_code = errno.EPERM

    def __init__(self, subject: bytes | str | int, until: str) -> None:
        self.reason = f"is retained until {until}"  # type: ignore[misc]
        super().__init__(subject)


class RetentionShortened(FilesystemError):
    errno_code = errno.EPERM
    reason = "is retained longer already; a time can only be made later"


class BeingWritten(FilesystemError):
    errno_code = errno.EBUSY
    reason = "is open for writing; it can be sealed when it is closed"


class NotSealable(FilesystemError):
    errno_code = errno.EOPNOTSUPP
    reason = "is on an element of a mode that seals nothing"
