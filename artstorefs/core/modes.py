"""What a storage element's mode allows, as data.

    mode   create   read                    change content       metadata   delete
    edit   yes      yes                     yes                  yes        yes
    rw     yes      yes                     EPERM once sealed    yes        EPERM once sealed
    ro     EROFS    yes                     EROFS                EROFS      EROFS
    ar     EROFS    EREMOTE until recalled  EROFS                EROFS      EROFS

A mode belongs to an element; a file obeys the mode of the element that holds it. `TABLE` is the
definition, `refusal` the only reader of it, and the test writes the table above out again.
"""

import errno
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final


@unique
class ElementMode(StrEnum):
    """The modes of a storage element, by their names in configuration and control protocol."""

    EDIT = "edit"
    RW = "rw"
    RO = "ro"
    AR = "ar"


@unique
class Operation(StrEnum):
    """What a system call wants from a file, as far as modes are concerned."""

    CREATE = "create"
    READ = "read"
    CHANGE_CONTENT = "change_content"
    CHANGE_METADATA = "change_metadata"
    """Also renaming, and setting or removing extended attributes."""
    DELETE = "delete"


TABLE: Final = MappingProxyType(
    {
        (ElementMode.EDIT, Operation.CREATE): 0,
        (ElementMode.EDIT, Operation.READ): 0,
        (ElementMode.EDIT, Operation.CHANGE_CONTENT): 0,
        (ElementMode.EDIT, Operation.CHANGE_METADATA): 0,
        (ElementMode.EDIT, Operation.DELETE): 0,
        (ElementMode.RW, Operation.CREATE): 0,
        (ElementMode.RW, Operation.READ): 0,
        (ElementMode.RW, Operation.CHANGE_CONTENT): errno.EPERM,
        (ElementMode.RW, Operation.CHANGE_METADATA): 0,
        (ElementMode.RW, Operation.DELETE): errno.EPERM,
        (ElementMode.RO, Operation.CREATE): errno.EROFS,
        (ElementMode.RO, Operation.READ): 0,
        (ElementMode.RO, Operation.CHANGE_CONTENT): errno.EROFS,
        (ElementMode.RO, Operation.CHANGE_METADATA): errno.EROFS,
        (ElementMode.RO, Operation.DELETE): errno.EROFS,
        (ElementMode.AR, Operation.CREATE): errno.EROFS,
        (ElementMode.AR, Operation.READ): errno.EREMOTE,
        (ElementMode.AR, Operation.CHANGE_CONTENT): errno.EROFS,
        (ElementMode.AR, Operation.CHANGE_METADATA): errno.EROFS,
        (ElementMode.AR, Operation.DELETE): errno.EROFS,
    }
)
"""The errno with which a mode refuses an operation, 0 where it allows it."""

WHILE_UNSEALED: Final = frozenset(
    {(ElementMode.RW, Operation.CHANGE_CONTENT), (ElementMode.RW, Operation.DELETE)}
)
"""Refusals that begin when a file is sealed: a program may finish writing what it created, and take
away what it has made on the way, as editors and uploads that were cut off do."""

TRANSITIONS: Final = MappingProxyType(
    {
        ElementMode.EDIT: (),
        ElementMode.RW: (ElementMode.RO,),
        ElementMode.RO: (ElementMode.AR,),
        ElementMode.AR: (),
    }
)
"""The modes that an element can be put into while it is mounted. Every other change is one of the
configuration, and takes a restart."""


def refusal(mode: ElementMode, operation: Operation, sealed: bool) -> int:
    """The errno with which `mode` refuses `operation`, 0 if it allows it.

    `sealed`: the file is complete (its last writer closed it, and the time for second thoughts has
    passed). For a read in mode ar, ask only when no recalled copy of the content is at hand.
    """
    if not sealed and (mode, operation) in WHILE_UNSEALED:
        return 0
    return TABLE[mode, operation]
