"""What lies below a `share` folder for other programs: man pages, and completions for the shells.

The wheel has them in its `share`, for an installation into a prefix of the system; `install-units`
writes the same where a program in a virtual environment is not looked for.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from artstorefs.elements.durable import write_file_durably
from artstorefs_tools.completion import completion_script
from artstorefs_tools.man_pages import man_pages

COMPLETIONS: Final = {
    "bash": Path("bash-completion/completions/artstorefs"),
    "zsh": Path("zsh/site-functions/_artstorefs"),
    "fish": Path("fish/vendor_completions.d/artstorefs.fish"),
}
"""Where bash-completion, zsh and fish look, below /usr/share and /usr/local/share."""


def shared_files() -> Iterator[tuple[Path, str]]:
    """Path below `share`, and text, of every file."""
    for name, text in man_pages():
        yield Path(f"man/man{name[-1]}", name), text
    for shell, path in COMPLETIONS.items():
        yield path, completion_script(shell)


def install_shared_files(folder: Path) -> Iterator[Path]:
    """Write all of them below `folder`; their paths."""
    for relative, text in shared_files():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file_durably(path, text.encode(), mode=0o644)
        yield path


def remove_shared_files(folder: Path) -> Iterator[Path]:
    """Remove those that are there below `folder`; their paths."""
    for relative, _ in shared_files():
        path = folder / relative
        if path.exists():
            path.unlink()
            yield path


if __name__ == "__main__":  # the build of a wheel, see daemon/build_libraries.py
    list(install_shared_files(Path(sys.argv[1])))
