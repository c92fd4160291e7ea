"""The program `mount.artstorefs`, which mount(8) runs for `mount -t artstorefs NAME MOUNTPOINT` and
for a line of fstab.

It is called as `mount.artstorefs NAME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`,
with a HOME that is empty, and its exit codes are those of mount(8). There is no umount.artstorefs:
an unmount that waited for a daemon could hang with it, and nothing is lost by not waiting.
"""

import getopt
import sys
from collections.abc import Sequence

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main as run_command

SYNOPSIS = "mount.artstorefs NAME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]"


def main(argv: Sequence[str] | None = None) -> int:
    """Mount; the exit code of the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options, places = getopt.gnu_getopt(words, "sfnvhN:t:o:", ["help"])
    except getopt.GetoptError as exc:
        print(f"mount.artstorefs: {exc}; usage: {SYNOPSIS}", file=sys.stderr)
        return exit_codes.MOUNT_USAGE
    flags = {option for option, _ in options}
    if flags & {"-h", "--help"}:
        print(f"usage: {SYNOPSIS}\nmore: man mount.artstorefs")
        return exit_codes.OK
    if len(places) != 2:
        told = f"NAME and MOUNTPOINT are needed, {len(places)} were given"
        print(f"mount.artstorefs: {told}; usage: {SYNOPSIS}", file=sys.stderr)
        return exit_codes.MOUNT_USAGE
    command = ["mount", *places]
    for option, value in options:
        if option == "-o":
            command += ["-o", value]
    if "-f" in flags:  # "fake": everything but the mount itself
        command.append("--fake")
    if "-s" in flags:
        command.append("-s")
    return exit_codes.of_mount(run_command(command))


if __name__ == "__main__":
    sys.exit(main())
