"""Where an archive keeps its state, cache and control socket when NAME.toml does not say.

Pure: the environment comes in as a mapping. Kept apart from `configuration` because the commands
that only talk to a running daemon need this and not the whole validated configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONTROL_SOCKET_NAME: Final = "control.sock"
"""Name of the control socket in an archive's runtime directory."""


@dataclass(frozen=True, slots=True)
class Directories:
    """The three directories under which every archive gets one of its own, by name.

    `runtime_base` is `None` where the system offers none (no login session): the sockets are then
    in the archive's state directory.
    """

    state_base: Path
    cache_base: Path
    runtime_base: Path | None

    def state_dir(self, name: str) -> Path:
        """Index, log and spool of the archive `name`."""
        return self.state_base / name

    def cache_dir(self, name: str) -> Path:
        """Local copies of content of the archive `name`."""
        return self.cache_base / name

    def runtime_dir(self, name: str, state_dir: Path) -> Path:
        """Control socket and pid file of the archive `name`, whose state is in `state_dir`."""
        return self.runtime_base / name if self.runtime_base else state_dir / "run"


SYSTEM_DIRECTORIES: Final = Directories(
    state_base=Path("/var/lib/artstorefs"),
    cache_base=Path("/var/cache/artstorefs"),
    runtime_base=Path("/run/artstorefs"),
)
"""For archives of the system, configured in /etc/artstorefs (Filesystem Hierarchy Standard 3.0)."""


def user_directories(environment: Mapping[str, str], home: Path) -> Directories:
    """For archives of a person, by the XDG Base Directory Specification 0.8.

    As it says, a variable that is empty or holds a relative path counts as not set.
    """
    state = xdg_directory(environment, "XDG_STATE_HOME") or home / ".local/state"
    cache = xdg_directory(environment, "XDG_CACHE_HOME") or home / ".cache"
    runtime = xdg_directory(environment, "XDG_RUNTIME_DIR")
    return Directories(
        state_base=state / "artstorefs",
        cache_base=cache / "artstorefs",
        runtime_base=runtime / "artstorefs" if runtime else None,
    )


def xdg_directory(environment: Mapping[str, str], variable: str) -> Path | None:
    """The directory that `variable` names, `None` where it names none."""
    value = environment.get(variable, "")
    return Path(value) if value.startswith("/") else None


def fill_in_places(values: dict[str, Any], path: str, defaults: Directories) -> None:
    """Set `name` and the three directories in `values`, a NAME.toml as read, where it has none.

    `name` is the stem of `path`. What is there stays, right or wrong: validating it is the business
    of `configuration`.
    """
    name = str(values.setdefault("name", Path(path).stem))
    state_dir = str(values.setdefault("state_dir", str(defaults.state_dir(name))))
    values.setdefault("cache_dir", str(defaults.cache_dir(name)))
    values.setdefault("runtime_dir", str(defaults.runtime_dir(name, Path(state_dir))))
