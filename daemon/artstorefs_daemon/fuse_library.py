"""pyfuse3, bound to libfuse through `fuse_session.c`. Import pyfuse3 from here, never directly."""

import ctypes
import sys
from pathlib import Path

_EXTENSION = Path(__file__).with_name("libartstorefs_fuse.so")

if "pyfuse3" in sys.modules:
    raise ImportError("pyfuse3 was imported before artstorefs_daemon.fuse_library")
ctypes.CDLL(str(_EXTENSION), mode=ctypes.RTLD_GLOBAL)

import pyfuse3  # noqa: E402

__all__ = ["pyfuse3"]
