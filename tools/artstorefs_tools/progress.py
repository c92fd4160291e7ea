"""A bar of progress for what takes over a second, where a person watches.

rich draws it. That is imported when the bar appears: most commands have ended by then.
"""

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY_S: Final = 1.0
"""What is done before needs no bar."""


class _State(NamedTuple):
    done: float = 0
    total: float | None = None
    text: str = ""


class ProgressBar:
    """`with ProgressBar("hashing") as bar: … bar.show(3, 10, "3 of 10")`: on stderr, and only if
    that is a terminal. Nothing of it is left at the end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._state = _State()
        self._lock = threading.Lock()
        self._shown: tuple[Progress, TaskID] | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._timer = threading.Timer(DELAY_S, self._appear)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer.join()
        if self._shown is not None:
            self._shown[0].stop()

    def show(self, done: float, total: float | None, text: str) -> None:
        """So much is done; `total` is `None` where nobody knows. Cheap, from any thread."""
        with self._lock:
            self._state = _State(done, total, text)
            if self._shown is not None:
                progress, task = self._shown
                progress.update(task, completed=done, total=total, text=text)

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = ("{task.description}", "{task.fields[text]}")
        before, after = (TextColumn(column, markup=False) for column in columns)
        console = Console(stderr=True)
        progress = Progress(before, BarColumn(), after, console=console, transient=True)
        with self._lock:
            done, total, text = self._state
            task = progress.add_task(self._what, total=total, completed=int(done), text=text)
            self._shown = progress, task
            progress.start()
