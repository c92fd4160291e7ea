"""Build hook of hatchling: compiles what pyfuse3 needs beside it, `fuse_*.c`.

Whoever can build pyfuse3 (a C compiler, pkg-config, libfuse3-dev) can build this.
"""

import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("daemon/artstorefs_daemon")
LIBRARY = PACKAGE / "libartstorefs_fuse.so"


class FuseSessionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "fuse3"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        subprocess.run(
            [
                *("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"),
                *("-Wl,--no-as-needed", "-o", str(root / LIBRARY)),
                *(str(source) for source in sorted((root / PACKAGE).glob("fuse_*.c"))),
                *shlex.split(flags),
                "-ldl",
            ],
            check=True,
        )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(LIBRARY))
