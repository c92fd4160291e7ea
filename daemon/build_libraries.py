"""Build hook of hatchling: compiles what pyfuse3 and SQLite need beside them.

Whoever can build pyfuse3 (a C compiler, pkg-config, libfuse3-dev) can build this.
"""

import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FUSE = Path("daemon/artstorefs_daemon")
SQLITE = Path("artstorefs/state")
LIBRARIES = {
    FUSE / "libartstorefs_fuse.so": (FUSE, "fuse_*.c"),
    SQLITE / "libartstorefs_sqlite.so": (SQLITE, "sqlite_*.c"),
}


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
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
