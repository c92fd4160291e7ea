"""The options of `mount -o`: which are taken, which belong to others and are ignored.

The table below is the whole rule. Options of mount(8), fstab and systemd that say nothing to a
filesystem are ignored, so that a line of fstab works; anything unknown is refused with the nearest
name, because an option that is silently dropped (a misspelt `ro`) is a promise that is not kept.
"""

import dataclasses
from collections.abc import Iterator
from typing import Final

from artstorefs.core.errors import ConfigurationError
from artstorefs.core.nearest import did_you_mean


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
    remount: bool = False


_MEANINGS: Final[dict[str, tuple[str, bool, str]]] = {
    "ro": ("read_only", True, "mount it for reading only"),
    "rw": ("read_only", False, "mount it for reading and writing; the default"),
    "allow_other": (
        *("allow_other", True),
        "let other users in; the default for root, and where /etc/fuse.conf has user_allow_other",
    ),
    "allow_root": ("allow_root", True, "let only root in beside the user who mounts"),
    "default_permissions": (
        *("default_permissions", True),
        "have the kernel check permissions, which it always does",
    ),
    "noexec": ("noexec", True, "let no program of the archive be run"),
    "exec": ("noexec", False, "let programs be run; the default"),
    "nosuid": ("nosuid", True, "let set-user-id bits mean nothing"),
    "suid": ("nosuid", False, "let them mean what they do; the default for root"),
    "nodev": ("nodev", True, "let device nodes mean nothing"),
    "dev": ("nodev", False, "let them mean what they do; the default for root"),
    "debug": ("debug", True, "log what the kernel asks"),
    "remount": (
        *("remount", True),
        "change ro, rw, exec, suid and dev, and what begins with no, of a mount that is there; "
        "for root",
    ),
}
"""Of each option the field of `MountOptions`, its value, and what it does."""

OPTIONS: Final[dict[str, str]] = {name: text for name, (_, _, text) in _MEANINGS.items()}
"""What is taken, and what it does: for the man page and for the completion of the shells."""

_IGNORED: Final = frozenset(
    {"defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group"}
    | {"nofail", "_netdev", "async", "atime", "noatime", "relatime", "norelatime", "strictatime"}
    | {"nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime"}
)
"""Of fstab; and those of access times, which are kept as relatime has it whatever is said."""

_IGNORED_PREFIXES: Final = ("comment=", "x-", "X-")
_OF_THE_KERNEL: Final = frozenset({"user_id", "group_id", "max_read", "blksize"})
"""What mountinfo has of a FUSE mount, and mount(8) adds to a remount."""


def parse_mount_options(
    text: str, before: MountOptions | None = None, *, sloppy: bool = False
) -> MountOptions:
    """The options of a comma-separated list, as after `-o`; the last of two that disagree wins.

    What it does not say is as `before`. Raises `ConfigurationError` (path `-o`) for an unknown
    option, unless `sloppy` (`mount -s`), a value where none belongs, and `allow_other` together
    with `allow_root`.
    """
    fields: dict[str, bool] = {}
    for name, value in _split(text):
        if name not in _MEANINGS:
            if sloppy:
                continue
            raise ConfigurationError("-o", name, f"is not a mount option; {_suggestion(name)}")
        if value is not None:
            raise ConfigurationError("-o", name, f'takes no value, but was given "{value}"')
        field, meaning, _ = _MEANINGS[name]
        fields[field] = meaning
    options = dataclasses.replace(before or MountOptions(), **fields)
    if options.allow_other and options.allow_root:
        raise ConfigurationError("-o", "allow_root", "cannot be combined with allow_other")
    return options


def _split(text: str) -> Iterator[tuple[str, str | None]]:
    """Name and value (`None` without `=`) of every option that is meant for us."""
    is_remount = "remount" in text.split(",")
    for option in text.split(","):
        name, equals, value = option.strip().partition("=")
        ignored = not name or name in _IGNORED or option.strip().startswith(_IGNORED_PREFIXES)
        if not ignored and not (is_remount and name in _OF_THE_KERNEL):
            yield name, value if equals else None


def _suggestion(name: str) -> str:
    known = [*_MEANINGS, *sorted(_IGNORED)]
    return did_you_mean(name, known, f"allowed: {', '.join(_MEANINGS)}")
