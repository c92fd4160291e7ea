"""How long to wait before a process that has ended is started again."""


class RestartPause:
    """Twice as long each time, up to a limit, until a process has been of use.

    What kills a process at once kills the next one too, most often, and to start it all the time
    takes a processor from those who have work.
    """

    def __init__(self, first_s: float, limit_s: float) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._next_s = first_s

    def was_of_use(self) -> None:
        """The pause after it is the first one again."""
        self._next_s = self._first_s

    def take_s(self) -> float:
        """The pause that is due now."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._limit_s)
        return pause_s
