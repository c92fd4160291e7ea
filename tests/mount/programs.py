"""Programs that people use, run to a good end, and what they find different."""

import subprocess
from pathlib import Path

LIMIT_S = 50


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a program that has to succeed."""
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=LIMIT_S,
        cwd=cwd,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    output = (done.stdout + done.stderr).decode(errors="backslashreplace")
    assert done.returncode == 0, f"{command}: {done.returncode}: {output[-3000:]}"
    return done.stdout.decode(errors="backslashreplace")


def differences(source: Path, copy: Path) -> str:
    """What rsync (by content, links, access lists, attributes) and diff find different."""
    rsync = run("rsync", "-aHAXnc", "--delete", "--itemize-changes", f"{source}/", f"{copy}/")
    comparison = subprocess.run(
        ["diff", "-r", "--no-dereference", source, copy],
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    lines = comparison.stdout.decode(errors="backslashreplace").splitlines()
    # diff has no opinion of special files, and says so on both sides
    found = [line for line in lines if not (" is a " in line and " while file " in line)]
    errors = comparison.stderr.decode(errors="backslashreplace")
    return rsync + "\n".join(found) + errors


def rsync_in(source: Path, target: Path) -> None:
    """Copy a tree with rsync; a second run finds nothing to do."""
    command = ("rsync", "-aHAX", "--delete", "--itemize-changes", f"{source}/", f"{target}/")
    run(*command)
    again = run(*command)
    assert again == "", again
