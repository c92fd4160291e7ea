"""What a daemon without privileges and its stub say to each other.

A sequenced-packet Unix socket (unix(7)), so a message is whole or is not there; descriptors come
along as SCM_RIGHTS. The daemon asks, the stub answers with the number of the question, in order.
Results are 0 or more, or an errno below 0, with the reason as text behind it where there is one.

    question   argument        descriptors            results
    MOUNT      1: read-only    –                      0, with a descriptor of /dev/fuse
    ADOPT      –               /dev/fuse              0: a mount of another stub is this one's now
    SETTLE     –               –                      0: the kernel reads ahead; after INIT
    BIND       –               spool files, 1 to 8    of each the kernel's id, as a backing file
    CLOSE      –               –                      no answer
    UNMOUNT    –               –                      0: it is being unmounted
    LEAVE      a number        –                      0: /dev/fuse waits for the next daemon
    RESUME     that number     –                      0, with that descriptor of /dev/fuse

Behind BIND and CLOSE stand ids that are not used any more, up to 64.

The end of the connection is the end of the daemon.
"""

import struct
from typing import Final

QUESTION: Final = struct.Struct("=cxxxII")
"""Kind, number, argument; ids of four bytes may follow."""
ANSWER: Final = struct.Struct("=Ii")
"""Number, result; more results, or text, may follow."""

CLOSED_MAX: Final = 64
QUESTION_BYTES: Final = QUESTION.size + 4 * CLOSED_MAX

MOUNT, ADOPT, SETTLE, BIND, CLOSE, UNMOUNT = b"M", b"A", b"S", b"B", b"C", b"U"
LEAVE, RESUME = b"L", b"R"

READ_ONLY: Final = 1

DESCRIPTORS_MAX: Final = 8
"""The kernel closes what is beyond it."""

PROGRAM: Final = "artstorefs-mount"


def socket_path(archive: str) -> str:
    """Where the stub of an archive listens that systemd has started."""
    return f"/run/{PROGRAM}/{archive}/stub.sock"
