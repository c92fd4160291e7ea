"""What this machine says of its clock."""

import ctypes
import time

_TIMEX_BYTES = 512  # struct timex has 208 on 64-bit Linux
_TIME_ERROR = 5  # <sys/timex.h>: "clock not synchronized"

_libc = ctypes.CDLL(None)


def boot_ns() -> int:
    """Nanoseconds since the kernel was started, the machine's sleep included; nobody can set it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def is_synchronised() -> bool:
    """Whether the kernel says that a time server keeps the clock right (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: it only tells
    code: int = _libc.adjtimex(buffer)
    return 0 <= code != _TIME_ERROR
