"""The options of `mount -o`: which are taken, which belong to others and are ignored.

The table below is the whole rule. Options of mount(8), fstab and systemd that say nothing to a
filesystem are ignored, so that a line of fstab works; anything unknown is refused with the nearest
name, because an option that is silently dropped (a misspelt `ro`) is a promise that is not kept.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Final

from artstorefs.core.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, slots=True)
class MountOptions:
    """How an archive is mounted.

    `allow_other` is `None` when nobody said: others are let in where the system allows that (as
    root, or with `user_allow_other` in /etc/fuse.conf), which the mount daemon finds out.
    """

    read_only: bool = False
    allow_other: bool | None = None
    allow_root: bool = False
    default_permissions: bool = True
    noexec: bool = False
    nosuid: bool = False
    nodev: bool = False
    debug: bool = False


_MEANINGS: Final[dict[str, tuple[str, bool]]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "allow_other": ("allow_other", True),
    "allow_root": ("allow_root", True),
    "default_permissions": ("default_permissions", True),
    "noexec": ("noexec", True),
    "exec": ("noexec", False),
    "nosuid": ("nosuid", True),
    "suid": ("nosuid", False),
    "nodev": ("nodev", True),
    "dev": ("nodev", False),
    "debug": ("debug", True),
}

_IGNORED: Final = frozenset(
    {"defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group"}
    | {"nofail", "_netdev", "remount"}
)
_IGNORED_PREFIXES: Final = ("comment=", "x-", "X-")


def parse_mount_options(text: str) -> MountOptions:
    """The options of a comma-separated list, as after `-o`; the last of two that disagree wins.

    Raises `ConfigurationError` (path `-o`) for an unknown option, a value where none belongs, and
    `allow_other` together with `allow_root`.
    """
    fields: dict[str, bool] = {}
    for name, value in _split(text):
        if name not in _MEANINGS:
            raise ConfigurationError("-o", name, f"is not a mount option; {_suggestion(name)}")
        if value is not None:
            raise ConfigurationError("-o", name, f'takes no value, but was given "{value}"')
        field, meaning = _MEANINGS[name]
        fields[field] = meaning
    options = dataclasses.replace(MountOptions(), **fields)
    if options.allow_other and options.allow_root:
        raise ConfigurationError("-o", "allow_root", "cannot be combined with allow_other")
    return options


def _split(text: str) -> Iterator[tuple[str, str | None]]:
    """Name and value (`None` without `=`) of every option that is meant for us."""
    for option in text.split(","):
        name, equals, value = option.strip().partition("=")
        ignored = not name or name in _IGNORED or option.strip().startswith(_IGNORED_PREFIXES)
        if not ignored:
            yield name, value if equals else None


def _suggestion(name: str) -> str:
    nearest = difflib.get_close_matches(name, [*_MEANINGS, *_IGNORED], n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"allowed: {', '.join(_MEANINGS)}"
