"""Waits until the elements have everything, with a bar of progress where a person watches."""

import json
import sys
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.progress import ProgressBar


def flush(client: ControlClient, *, as_json: bool = False) -> int:
    """Flush the archive of `client`; the exit code. What elements refuse is listed on stderr, or
    with all the daemon's answer as JSON on stdout."""
    with ProgressBar("flush") as bar:
        result = client.call_with_progress("flush", _Progress(bar))
    errors = result.get("errors") or []
    failed = max(int(result.get("failed") or 0), len(errors))
    if as_json:
        answer = {"pending": int(result.get("pending") or 0), "failed": failed, "errors": errors}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for error in errors:
            print(f"artstorefs: {describe_error(error)}", file=sys.stderr)
    if failed and not as_json:
        what = "1 change" if failed == 1 else f"{failed} changes"
        print(
            f"artstorefs: {what} cannot be carried to an element now; kept, and tried again",
            file=sys.stderr,
        )
    return exit_codes.CANNOT_BE_CARRIED if failed else exit_codes.OK


def describe_error(error: dict[str, Any]) -> str:
    """One line for an entry of `errors`, as `status` and `flush` give them."""
    path = error.get("path") or error.get("file_id")
    since = f" (since {error['since']})" if error.get("since") else ""
    return f"{path}: {error.get('error')}{since}"


class _Progress:
    """Of what has waited at most, what waits no more."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._most = 0

    def __call__(self, progress: dict[str, Any]) -> None:
        pending = int(progress.get("pending") or 0)
        size = format_size(int(progress.get("bytes") or 0))
        self._most = max(self._most, pending)
        self._bar.show(self._most - pending, self._most, f"{pending:,} to carry, {size}")
