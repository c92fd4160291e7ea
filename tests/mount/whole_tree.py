"""Everything about a tree, to compare one with another, and the script that restores one."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any


def tree_of(top: Path) -> dict[bytes, Any]:
    """Everything about a tree but inode numbers and ctime: names, kinds, modes, owners, times to
    the nanosecond, hard links, attributes with access lists, targets, content."""
    found: dict[bytes, Any] = {}
    first: dict[int, bytes] = {}
    base = os.fsencode(top)
    for directory, below, files in os.walk(base):
        below.sort()  # the first name of a hard link is the first on this walk
        for name in sorted([*below, *files]):
            path = os.path.join(directory, name)
            s = os.lstat(path)
            relative = os.path.relpath(path, base)
            content: Any = None
            if stat.S_ISREG(s.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            names = set(os.listxattr(path, follow_symlinks=False))
            found[relative] = (
                *(oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, s.st_mtime_ns),
                None if stat.S_ISDIR(s.st_mode) else (s.st_nlink, s.st_size),
                first.setdefault(s.st_ino, relative) if s.st_nlink > 1 else None,
                [(n, os.getxattr(path, n, follow_symlinks=False)) for n in sorted(names)],
                content,
            )
    return found


def restore(element: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The element's own copy of the script, by an interpreter that finds nothing of ours."""
    script = element / ".artstorefs" / "restore.py"
    program = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
