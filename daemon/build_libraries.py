"""Build hook of hatchling: compiles what pyfuse3 and SQLite need beside them, and writes the man
pages and completions from the parsers of the program.

Whoever can build pyfuse3 (a C compiler, pkg-config, libfuse3-dev) can build this.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FUSE = Path("daemon/artstorefs_daemon")
SQLITE = Path("artstorefs/state")
LIBRARIES = {
    FUSE / "libartstorefs_fuse.so": (FUSE, "fuse_*.c"),
    SQLITE / "libartstorefs_sqlite.so": (SQLITE, "sqlite_*.c"),
}

SHARED = Path("build/share")
"""For man, bash-completion, zsh and fish; below `share` of where the wheel is installed."""


WRITE_SHARED_FILES = """
import runpy, sys
folders, sys.argv[1:] = sys.argv[2:], sys.argv[1:2]
sys.path[:0] = folders
runpy.run_module("artstorefs_tools.shared_files", run_name="__main__")
"""
"""Not by PYTHONPATH: pip's build environment takes every folder out of it that an editable install
of the environment around it has, which is where these are when it is made anew."""


def write_shared_files(root: Path) -> Iterator[Path]:
    """Have the program write them anew; their paths."""
    folders = [str(root / folder) for folder in (".", "daemon", "tools")]
    shutil.rmtree(root / SHARED, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-c", WRITE_SHARED_FILES, str(root / SHARED), *folders],
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    yield from sorted(file for file in (root / SHARED).rglob("*") if file.is_file())


class LibrariesHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "fuse3"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for library, (folder, pattern) in LIBRARIES.items():
            subprocess.run(
                [
                    *("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"),
                    *("-Wl,--no-as-needed", "-o", str(root / library)),
                    *(str(source) for source in sorted((root / folder).glob(pattern))),
                    *(shlex.split(flags) if folder == FUSE else ()),
                    "-ldl",
                ],
                check=True,
            )
            build_data["artifacts"].append(str(library))
        for path in write_shared_files(root):
            shared = Path("share", path.relative_to(root / SHARED))
            build_data["shared_data"][str(path)] = str(shared)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
