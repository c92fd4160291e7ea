"""`artstorefs seal`: files are complete from now on, without waiting for `seal_after_s`."""

import argparse
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Final

from artstorefs.core.errors import one_line
from artstorefs.core.marks import SEALED
from artstorefs_tools import exit_codes
from artstorefs_tools.paths import suggestion
from artstorefs_tools.progress import ProgressBar

_REASONS: Final = {
    errno.EBUSY: "somebody has it open for writing; close it first",
    errno.EROFS: "nothing is changed there any more: its element is in mode ro or ar",
    errno.EOPNOTSUPP: "its element is in mode edit, which seals nothing",
    errno.EINVAL: "only ordinary files are sealed",
    errno.ENODATA: "it is in no archive that is mounted here",
}
_SHOWN: Final = 10
_OF_AN_ARCHIVE: Final = "user.artstore.file_id"
"""An attribute that every file of a mounted archive has; elsewhere anything can be set."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Seal files of an archive whose element is in mode rw: from now on nobody can change their "
        "content or remove them. Otherwise that comes by itself, seal_after_s after the last "
        "close. Of a directory all files below it are meant. Sealing cannot be taken back."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs seal /srv/museum/2026/nightwatch.tif\n"
        "  artstorefs seal /srv/museum/2026 --json"
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="files or directories on the mount"
    )
    parser.add_argument("--json", action="store_true", help="what was done, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Seal; the exit code is that of a failure if any file failed, the rest is done."""
    sealed = 0
    errors: list[dict[str, str]] = []
    with ProgressBar("sealing") as bar:
        for path, problem in _files(arguments.paths):
            try:
                if problem is not None:
                    raise problem
                _seal(path)
                sealed += 1
            except OSError as exc:
                errors.append({"path": path, "error": _reason(path, exc)})
            bar.show(sealed, None, f"{sealed:,} files")
    if arguments.json:
        print(json.dumps({"sealed": sealed, "errors": errors}, indent=2))
    else:
        print(f"{sealed:,} {'file is' if sealed == 1 else 'files are'} sealed")
        for error in errors[:_SHOWN]:
            print(f"artstorefs: {one_line(error['path'])}: {error['error']}", file=sys.stderr)
        if len(errors) > _SHOWN:
            print(f"artstorefs: and {len(errors) - _SHOWN:,} more, see --json", file=sys.stderr)
    return exit_codes.FAILURE if errors else exit_codes.OK


def _files(paths: list[str]) -> Iterator[tuple[str, OSError | None]]:
    """The files that are meant; with an error those that cannot be looked at."""
    problems: list[OSError] = []
    for given in paths:
        if not os.path.isdir(given):
            yield os.path.realpath(given), None
            continue
        for directory, _, names in os.walk(given, onerror=problems.append):
            for name in sorted(names):
                path = os.path.join(directory, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path, None
        while problems:
            problem = problems.pop()
            yield str(problem.filename), problem


def _seal(path: str) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):  # of what is none the kernel says anything
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    try:
        os.getxattr(path, _OF_AN_ARCHIVE, follow_symlinks=False)
    except OSError as exc:
        if exc.errno != errno.EOPNOTSUPP:
            raise
        raise OSError(errno.ENODATA, "no attributes", path) from None
    os.setxattr(path, SEALED, b"now", follow_symlinks=False)


def _reason(path: str, exc: OSError) -> str:
    reason = _REASONS.get(exc.errno or 0, exc.strerror or str(exc))
    return f"{reason}{suggestion(path)}" if exc.errno == errno.ENOENT else reason
