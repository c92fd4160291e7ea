"""SQLite's own log, `state.db-wal`, checked frame by frame, before anything opens the database.

SQLite ends its recovery, without a word, at the first frame whose checksum is wrong: what comes
after is lost. A process that was killed leaves no such frame, so one that is followed by frames of
the same generation, or is the last one, is damage, or the end that a power cut has left.

Format (sqlite.org/fileformat2.html, section 4): a header of 32 bytes (magic, version, page size,
checkpoint number, two salts, checksum), then frames of 24 bytes (page number, size of the database
at a commit, the two salts, checksum) and a page. The checksums are cumulative, over words of four
bytes in the order that the magic says. Frames of an earlier generation have both salts different.
"""

import struct
from array import array
from sys import byteorder

_MAGIC = 0x377F0682
_VERSION = 3007000
_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MASK = 0xFFFFFFFF


def log_problem(data: bytes) -> str | None:
    """What is wrong with the log `data`; None for one that is whole, or empty."""
    if not data:
        return None
    if len(data) < _HEADER_BYTES:
        return "its header is cut off"
    magic, version, page_bytes, _, salt1, salt2, sum1, sum2 = struct.unpack(">8I", data[:32])
    big_endian = magic == _MAGIC | 1
    if magic & ~1 != _MAGIC or version != _VERSION or page_bytes < 512:
        return "its header is damaged"
    sums = _checksum(data[:24], (0, 0), big_endian)
    if sums != (sum1, sum2):
        return "its header is damaged"
    return _frames_problem(data, page_bytes, (salt1, salt2), sums, big_endian)


def _frames_problem(
    data: bytes, page_bytes: int, salts: tuple[int, int], sums: tuple[int, int], big_endian: bool
) -> str | None:
    step = _FRAME_HEADER_BYTES + page_bytes
    offsets = range(_HEADER_BYTES, len(data) - step + 1, step)
    for number, offset in enumerate(offsets, 1):
        _, _, *found, sum1, sum2 = struct.unpack(">6I", data[offset : offset + 24])
        if found[0] != salts[0] and found[1] != salts[1]:
            break  # an earlier generation, which is no part of the log any more
        sums = _checksum(data[offset : offset + 8], sums, big_endian)
        sums = _checksum(data[offset + 24 : offset + step], sums, big_endian)
        if tuple(found) != salts or sums != (sum1, sum2):
            return f"frame {number} is damaged, and what follows is lost"
    return None


def _checksum(data: bytes, sums: tuple[int, int], big_endian: bool) -> tuple[int, int]:
    words = array("I", data)
    if big_endian != (byteorder == "big"):
        words.byteswap()
    first, second = sums
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & _MASK
        second = (second + words[index + 1] + first) & _MASK
    return first, second
