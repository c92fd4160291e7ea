"""Waits until the elements have everything, with a line of progress where a person watches."""

import sys
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import ControlClient


def flush(client: ControlClient) -> int:
    """Flush the archive of `client`; the exit code. What elements refuse is listed on stderr."""
    watched = sys.stderr.isatty()
    result = client.call_with_progress("flush", _show if watched else lambda _: None)
    if watched:
        print("\r\033[K", end="", file=sys.stderr)
    errors = result.get("errors") or []
    for error in errors:
        print(f"artstorefs: {describe_error(error)}", file=sys.stderr)
    failed = max(int(result.get("failed") or 0), len(errors))
    if failed:
        what = "1 change" if failed == 1 else f"{failed} changes"
        print(
            f"artstorefs: {what} cannot be carried to an element now; kept, and tried again",
            file=sys.stderr,
        )
        return exit_codes.CANNOT_BE_CARRIED
    return exit_codes.OK


def describe_error(error: dict[str, Any]) -> str:
    """One line for an entry of `errors`, as `status` and `flush` give them."""
    path = error.get("path") or error.get("file_id")
    since = f" (since {error['since']})" if error.get("since") else ""
    return f"{path}: {error.get('error')}{since}"


def _show(progress: dict[str, Any]) -> None:
    pending = int(progress.get("pending") or 0)
    size = format_size(int(progress.get("bytes") or 0))
    print(f"\r\033[K{pending} to carry, {size}", end="", file=sys.stderr, flush=True)
