"""SQLite's log, written with one system call for each transaction: see `sqlite_log.c`."""

import ctypes
import importlib
import logging
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

_LIBRARY = Path(__file__).with_name("libartstorefs_sqlite.so")
_NAME = b"artstorefs"
"""SQLite keeps the address of it."""


@cache
def gathering_vfs() -> str | None:
    """Name of the VFS for the connection that writes an index. None where Python has an SQLite
    whose functions cannot be reached: its log is then written page by page, which is slower."""
    try:
        sqlite = ctypes.CDLL(importlib.import_module("_sqlite3").__file__)
        ours = ctypes.CDLL(str(_LIBRARY))
        functions = [
            ctypes.cast(function, ctypes.c_void_p)
            for function in (sqlite.sqlite3_vfs_find, sqlite.sqlite3_vfs_register)
        ]
    except (OSError, AttributeError) as exc:
        log.info("SQLite writes its log page by page: %s", exc)
        return None
    result = ours.artstorefs_register_vfs(*functions, ctypes.c_char_p(_NAME))
    if result:
        log.info("SQLite writes its log page by page: result code %d", result)
        return None
    return _NAME.decode()
