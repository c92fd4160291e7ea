"""How much is logged, subsystem by subsystem, changed at run time and for this mount only.

Only the program's own loggers: those of libraries would write requests, signatures included.
"""

import importlib.util
import logging
from collections.abc import Mapping

TREES = ("artstorefs", "artstorefs_daemon")


class LogLevels:
    """Of one process; `changed` is what the other one has to be told, None for what was taken
    back."""

    def __init__(self) -> None:
        self.changed: dict[str, str | None] = {}

    def is_logger(self, name: str) -> bool:
        """Whether there is a module, or package, of this name, which is how loggers are named.
        Looks for files: it blocks."""
        try:
            return name.partition(".")[0] in TREES and importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # the package above is a module
            return False

    def change(self, name: str, level: str | None) -> None:
        """Set the level of a logger; None: that of the logger above counts again."""
        logging.getLogger(name).setLevel(level or logging.NOTSET)
        self.changed[name] = level

    def change_all(self, levels: Mapping[str, str | None]) -> None:
        """What another process was told."""
        for name, level in levels.items():
            self.change(name, level)

    def present(self) -> dict[str, str]:
        """The loggers that have a level of their own, and under "root" what else counts."""
        loggers = logging.Logger.manager.loggerDict.items()
        own = {
            name: logging.getLevelName(logger.level)
            for name, logger in sorted(loggers)
            if isinstance(logger, logging.Logger) and logger.level
            if name.partition(".")[0] in TREES
        }
        return {"root": logging.getLevelName(logging.getLogger().level), **own}
