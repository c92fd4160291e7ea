"""The program `mount.artstorefs`, which mount(8) runs for `mount -t artstorefs NAME MOUNTPOINT` and
for a line of fstab.

It is called as `mount.artstorefs NAME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`,
with a HOME that is empty, and its exit codes are those of mount(8).
"""

import getopt
import sys
from collections.abc import Sequence

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main as run_command

USAGE, FAILURE = 1, 32
"""mount(8): "incorrect invocation or permissions", "mount failure"."""


def main(argv: Sequence[str] | None = None) -> int:
    """Mount; the exit code of the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options, places = getopt.gnu_getopt(words, "sfnvN:t:o:")
    except getopt.GetoptError as exc:
        print(f"mount.artstorefs: {exc}", file=sys.stderr)
        return USAGE
    if len(places) != 2:
        print("usage: mount.artstorefs NAME MOUNTPOINT [-o OPTIONS]", file=sys.stderr)
        return USAGE
    given = [value for option, value in options if option == "-o"]
    if ("-f", "") in options:  # "fake": everything but the mount itself
        return 0
    command = ["mount", *places, *(word for value in given for word in ("-o", value))]
    code = run_command(command)
    if code in (exit_codes.OK, FAILURE):
        return code
    return USAGE if code == exit_codes.USAGE else FAILURE


if __name__ == "__main__":
    sys.exit(main())
