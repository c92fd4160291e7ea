"""`artstorefs backup`: a backup of the index now, and a copy of it on another disk."""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import (
    ArchiveLocation,
    locate_archive,
    read_configuration,
)
from artstorefs_tools.control_client import ControlClient, JsonObject, understood
from artstorefs_tools.errors import CommandError, NotMounted, UsageError
from artstorefs_tools.paths import suggestion
from artstorefs_tools.progress import ProgressBar


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Make a backup of the index of an archive, mounted or not, beside those that the daemon "
        "makes by itself. If nothing has changed since the newest one, that is it. With --to a "
        "copy of it goes to a directory on another disk. Put into backup/ of a new state directory "
        "it is what the next mount takes, and brings up to date from the elements."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs backup museum\n"
        "  artstorefs backup museum --to /mnt/backup --keep 7"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--to", metavar="DIR", help="copy it there, for its user alone to read")
    keep = "with --to: remove all copies of this archive there but the last N"
    parser.add_argument("--keep", type=int, metavar="N", help=keep)
    parser.add_argument("--json", action="store_true", help="what was made, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make it; the exit code."""
    if arguments.keep is not None and (arguments.to is None or arguments.keep < 1):
        raise UsageError("--keep is at least 1, and is for --to; give that too")
    if arguments.to is not None and not os.path.isdir(arguments.to):
        nearest = suggestion(arguments.to, "make it, or mount the disk that has it")
        raise UsageError(f"{arguments.to} is no directory that is there{nearest}")
    location = locate_archive(arguments.name)
    made = _make(location, is_copied=arguments.to is not None)
    with understood(location.argument, "backup"):
        made = {"archive": location.name, **made, "removed": []}
        if arguments.to is not None:
            made = _copy(location, made, os.path.abspath(arguments.to), arguments.keep)
        lines = _lines(made)
    print(json.dumps(made, indent=2) if arguments.json else "\n".join(lines))
    return exit_codes.OK


def _lines(made: JsonObject) -> list[str]:
    since = "" if made["is_new"] else ", since which nothing has changed"
    told = f"{made['path']}, {format_size(made['bytes'])}, of {made['made_at']}{since}"
    return [told, *(f"removed {path}" for path in made["removed"])]


# ------------------------------------------------------------------------------------- making


def _make(location: ArchiveLocation, *, is_copied: bool) -> JsonObject:
    """The answer of the daemon, or what it would say if there is none."""
    try:
        with (
            ControlClient(location.runtime_dir, location.argument) as client,
            ProgressBar("backup") as bar,
        ):
            return client.call_with_progress("backup", partial(_show_progress, bar))
    except NotMounted:
        return _made_by_another(location) if is_copied else _made_here(location)


def _show_progress(bar: ProgressBar, progress: JsonObject) -> None:
    _show(bar, progress.get("bytes", 0), progress.get("bytes_total", 0))


def _show(bar: ProgressBar, done: int, total: int) -> None:
    bar.show(done, total, f"{format_size(done)} of {format_size(total)}")


def _made_here(location: ArchiveLocation) -> JsonObject:
    """Of an archive that is not mounted, as the user whom it belongs to, which root becomes."""
    from artstorefs.state.backup import make_backup, unchanged_since_backup
    from artstorefs.state.database import RUNNING_SUFFIX
    from artstorefs.state.files import INDEX
    from artstorefs.state.lock import StateLock
    from artstorefs_daemon.element_reports import timestamp
    from artstorefs_daemon.privileges import become_owner

    configuration = read_configuration(location.argument)
    become_owner(configuration)
    state, name = str(configuration.state_dir), location.argument
    index = os.path.join(state, INDEX)
    try:
        if not os.path.exists(index):
            raise CommandError(f"{name} has no index yet; artstorefs mount {name} makes it")
        lock = StateLock(state, location.name)
        lock.acquire()
        try:
            if os.path.exists(index + RUNNING_SUFFIX):
                advice = f"artstorefs mount {name} brings its index in order"
                raise CommandError(f"{name} was not unmounted the last time; {advice}")
            path = unchanged_since_backup(state)
            is_new = path is None
            path = path or make_backup(index, state)
            status = os.stat(path)
        finally:
            lock.release()
    except OSError as exc:
        raise CommandError(f"{exc.filename or state}: {exc.strerror}") from None
    return {
        "path": path,
        "bytes": status.st_size,
        "made_at": timestamp(status.st_mtime),
        "is_new": is_new,
    }


def _made_by_another(location: ArchiveLocation) -> JsonObject:
    """The same by a process of its own: who becomes the owner of the state directory may not write
    to where the copy goes."""
    program = [sys.executable, "-I", "-m", "artstorefs_tools.command_line"]
    words = ["backup", str(location.configuration), "--json"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(done.stderr.strip().removeprefix("artstorefs: "))
    made: JsonObject = json.loads(done.stdout)
    return made


# ------------------------------------------------------------------------------------- copying


def _copy(
    location: ArchiveLocation, made: JsonObject, directory: str, keep: int | None
) -> dict[str, Any]:
    """Of what is made a copy in the directory; what `made` says, of that one."""
    from artstorefs.state.backup import copy_backup, prune_copies

    state = str(read_configuration(location.argument).state_dir)
    with ProgressBar("copying") as bar:
        path = copy_backup(
            *(state, Path(made["path"]).name, directory, location.name), partial(_show, bar)
        )
    try:
        removed = prune_copies(directory, location.name, keep)
    except OSError as exc:
        raise CommandError(f"{exc.filename}: {exc.strerror}") from None
    return {**made, "path": path, "removed": removed}
