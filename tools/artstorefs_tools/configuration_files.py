"""Finds and reads NAME.toml: which file an archive's name means, and whose directories apply.

A name is looked for in /etc/artstorefs by root, and by everybody else in
`$XDG_CONFIG_HOME/artstorefs` and then in /etc/artstorefs; what contains a `/` or ends in `.toml` is
the path of the file itself. A file in /etc/artstorefs gets the system's directories as defaults,
whoever reads it, so that a person can ask a mount of the system for its status.

`locate_archive` is enough to talk to a daemon and avoids importing pydantic, half of the time that
`artstorefs status` would take.
"""

import os
import pwd
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from artstorefs.core.directories import (
    SYSTEM_DIRECTORIES,
    Directories,
    fill_in_places,
    user_directories,
    xdg_directory,
)
from artstorefs.core.errors import ConfigurationError
from artstorefs.core.nearest import did_you_mean
from artstorefs_tools.paths import suggestion

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration

SYSTEM_CONFIGURATIONS: Final = Path("/etc/artstorefs")


@dataclass(frozen=True, slots=True)
class Person:
    """For whom files are looked up."""

    is_root: bool
    home: Path
    environment: Mapping[str, str]

    @classmethod
    def current(cls) -> Self:
        """Whoever runs this process; mount(8) leaves HOME empty, then the user database counts."""
        home = os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        return cls(is_root=os.geteuid() == 0, home=Path(home), environment=os.environ)

    @property
    def configurations(self) -> Path:
        """The folder in which `init` puts a new NAME.toml."""
        if self.is_root:
            return SYSTEM_CONFIGURATIONS
        base = xdg_directory(self.environment, "XDG_CONFIG_HOME") or self.home / ".config"
        return base / "artstorefs"

    def directories(self, configuration: Path) -> Directories:
        """The defaults that apply to the archive that the file `configuration` describes."""
        if self.is_root or configuration.parent == SYSTEM_CONFIGURATIONS:
            return SYSTEM_DIRECTORIES
        return user_directories(self.environment, self.home)


@dataclass(frozen=True, slots=True)
class ArchiveLocation:
    """Where a configured archive is to be found, without looking at the rest of its configuration.

    `argument` is how the commands were, and can be, told of it.
    """

    name: str
    argument: str
    configuration: Path
    runtime_dir: Path


def configuration_path(argument: str, person: Person) -> Path:
    """The file that `argument`, a name or a path, means. Raises `ConfigurationError` if none."""
    if "/" in argument or argument.endswith(".toml"):
        path = Path(argument).absolute()
        if not path.is_file():
            reason = f"no such configuration file{suggestion(argument)}"
            raise ConfigurationError(argument, "", reason)
        return path
    folders = list(dict.fromkeys([person.configurations, SYSTEM_CONFIGURATIONS]))
    for folder in folders:
        if (folder / f"{argument}.toml").is_file():
            return folder / f"{argument}.toml"
    raise ConfigurationError(
        str(folders[0] / f"{argument}.toml"), "", f"does not exist; {_known(argument, folders)}"
    )


def read_configuration(argument: str, person: Person | None = None) -> "ArchiveConfiguration":
    """The whole validated configuration of the archive. Raises `ConfigurationError`."""
    person = person or Person.current()
    return read_configuration_file(configuration_path(argument, person), person)


def read_configuration_file(path: Path, person: Person) -> "ArchiveConfiguration":
    """The same, of the file at `path`; groups that it names have to be there."""
    from artstorefs.core.configuration import parse_configuration
    from artstorefs_daemon.control.roles import Rights

    configuration = parse_configuration(_read(path), str(path), person.directories(path))
    Rights.of(configuration, str(path))
    return configuration


def locate_archive(argument: str, person: Person | None = None) -> ArchiveLocation:
    """Name and runtime directory of an archive. Raises `ConfigurationError`.

    Keys that it does not need are not checked: a running daemon can be asked for its status while
    somebody edits the file.
    """
    person = person or Person.current()
    path = configuration_path(argument, person)
    try:
        values = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(str(path), "", f"is not TOML: {exc}") from None
    fill_in_places(values, str(path), person.directories(path))
    return ArchiveLocation(
        str(values["name"]), argument, path, runtime_dir=Path(str(values["runtime_dir"]))
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(str(path), "", "is not UTF-8, as TOML must be") from None
    except OSError as exc:
        raise ConfigurationError(str(path), "", f"cannot be read: {exc.strerror}") from None


def _known(argument: str, folders: list[Path]) -> str:
    names = sorted(set(_names(folders)))
    if names:
        return did_you_mean(argument, names, f"there are: {', '.join(names)}")
    return "make an archive with: artstorefs init NAME --element ID=local:PATH"


def _names(folders: list[Path]) -> Iterator[str]:
    for folder in folders:
        yield from (path.stem for path in folder.glob("*.toml"))
