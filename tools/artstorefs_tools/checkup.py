"""What an archive needs of the machine and of its elements, looked at one thing after another.

Each check is a function that yields findings; none changes anything. What the daemon itself would
say (an element of another archive, wrong credentials, clocks that differ) is asked of the same code
and told in the same words.
"""

import ctypes
import os
import pwd
import shlex
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.sizes import format_size
from artstorefs.elements.interface import OWN_DIRECTORY
from artstorefs.elements.secrets import why_no_secret
from artstorefs_daemon.mount_table import MOUNTINFO as MOUNTS
from artstorefs_daemon.mount_table import parse_mountinfo
from artstorefs_daemon.mountpoint import FUSE_CONFIGURATION, users_may_let_others_in

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration

Level = Literal["ok", "warning", "wrong"]

FUSE_DEVICE: Final = Path("/dev/fuse")

LITTLE_ROOM_BYTES: Final = 1 << 30
"""Less than this for state or cache is worth a warning, and so is less than a twentieth."""

VOLATILE: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
NETWORKED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"})
"""Filesystem types as /proc/self/mountinfo has them."""

ELEMENT_LIMIT_S: Final = 30.0
"""A disk that does not wake up, or a network file system without its server, must not hold up the
rest."""

STA_UNSYNC: Final = 0x0040  # linux/timex.h


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` is what to do; empty where all is well."""

    level: Level
    subject: str
    text: str
    advice: str = ""


# --------------------------------------------------------------------------------- the machine


def check_fuse() -> Iterator[Finding]:
    """Whether this user can mount at all."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
        yield Finding("ok", str(FUSE_DEVICE), "can be opened")
    except FileNotFoundError:
        yield Finding("wrong", str(FUSE_DEVICE), "is missing", "modprobe fuse")
    except OSError as exc:
        text = f"cannot be opened: {exc.strerror}"
        yield Finding("wrong", str(FUSE_DEVICE), text, f"chmod 666 {FUSE_DEVICE}, or ask root")
    if os.geteuid() == 0:
        return
    program = shutil.which("fusermount3")
    if program is None:
        yield Finding("wrong", "fusermount3", "is missing", "apt-get install fuse3")
    elif not os.stat(program).st_mode & stat.S_ISUID:
        yield Finding("wrong", program, "is not set-uid root", f"chmod u+s {program}")
    else:
        yield Finding("ok", program, "is there, and set-uid root")
    if not users_may_let_others_in(FUSE_CONFIGURATION):
        text = "does not say user_allow_other: only you will see the mount"
        advice = f"add user_allow_other to {FUSE_CONFIGURATION} if others shall"
        yield Finding("warning", str(FUSE_CONFIGURATION), text, advice)


def check_clock() -> Iterator[Finding]:
    """Whether the clock is kept right, which file times and S3 servers need: adjtimex(2)."""
    timex = ctypes.create_string_buffer(512)  # struct timex has 208 bytes; modes 0 only reads
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return
    status = ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(ctypes.c_long)).value
    if status & STA_UNSYNC:
        text = "is set by nobody; S3 servers refuse one that is a quarter of an hour wrong"
        yield Finding("warning", "clock", text, "timedatectl set-ntp true")
    else:
        yield Finding("ok", "clock", "is synchronized")


# ----------------------------------------------------------------------------- the directories


def check_directories(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """State and cache: on a disk that keeps them, writable, with room."""
    for key, what in (("state_dir", "the index and the log"), ("cache_dir", "the cache")):
        directory: Path = getattr(configuration, key)
        subject = f"{key} {directory}"
        there = _first_that_exists(directory)
        if not os.access(there, os.W_OK | os.X_OK):
            advice = f"chown it to this user, or choose another {key}"
            yield Finding("wrong", subject, f"{there} cannot be written to", advice)
            continue
        kind = _filesystem_type(there)
        if key == "state_dir" and kind in VOLATILE:
            text = f"is on {kind}: a power cut takes {what}, and what no element has yet"
            yield Finding("wrong", subject, text, "choose a directory on a disk")
        elif key == "state_dir" and kind in NETWORKED:
            text = f"is on {kind}, where SQLite's locks and syncs cannot be relied on"
            yield Finding("wrong", subject, text, "choose a directory on a disk of this machine")
        yield _room(subject, there)


def _room(subject: str, directory: Path) -> Finding:
    found = os.statvfs(directory)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{format_size(free)} free of {format_size(total)}"
    if free < LITTLE_ROOM_BYTES or free * 20 < total:
        return Finding("warning", subject, text, "make room: what is written waits there")
    return Finding("ok", subject, text)


def _first_that_exists(path: Path) -> Path:
    """The directory itself, or the nearest above it: the daemon makes what is missing."""
    while not path.exists():
        path = path.parent
    return path


def _filesystem_type(path: Path) -> str:
    """Of the mount that a directory is on."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for entry in parse_mountinfo(MOUNTS.read_bytes()):
        if entry.device == wanted:
            return entry.filesystem_type
    return ""


def check_owner(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """Whether what the archive consists of belongs to the user that its daemon runs as."""
    from artstorefs_daemon.privileges import places

    user = configuration.user
    if user in (None, "root") or os.geteuid() != 0:
        return
    uid = uid_of(user)
    if uid is None:
        advice = "artstorefs install-units makes artstorefs; another: useradd --system NAME"
        yield Finding("wrong", f"user {user}", "is no account of this machine", advice)
        return
    foreign = [str(path) for path in places(configuration) if os.lstat(path).st_uid != uid]
    if foreign:
        text = f"does not own {', '.join(foreign)}"
        yield Finding("wrong", f"user {user}", text, f"chown -R {user}: {shlex.join(foreign)}")
    else:
        yield Finding("ok", f"user {user}", "owns what is there")


# -------------------------------------------------------------------------------- the elements


def check_elements(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """Each of them answers, is an element of this archive, and has room; secrets are kept."""
    archives: dict[str, str] = {}
    for element in configuration.elements:
        if element.credentials_file is not None:
            wrong = list(check_secret(element.credentials_file, uid_of(configuration.user)))
            yield from wrong
            if wrong:
                continue  # the element would say the same
        index = configuration.state_dir / "state.db"
        check = partial(_check_element, element, archives, index)
        yield from in_time(f"element {element.id}", element.place, check)
    if len(set(archives.values())) > 1:
        names = " and ".join(archives)
        text = f"{names} are of different archives"
        yield Finding("wrong", "elements", text, "correct the place of one")


def check_secret(path: Path, uid: int | None) -> Iterator[Finding]:
    """Nothing where a file with a secret is there, and nobody else's."""
    try:
        os.stat(path)
    except OSError as exc:
        yield Finding("wrong", str(path), f"cannot be read: {exc.strerror}", "give the right file")
        return
    reason = why_no_secret(str(path), uid)
    if reason is not None:
        text, _, advice = reason.removeprefix(f"{path} ").partition("; ")
        yield Finding("wrong", str(path), text, advice)


def uid_of(user: str | None) -> int | None:
    """Of whom the daemon runs as; None: as whoever asks."""
    if user is None or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _check_element(
    configuration: "ElementConfiguration", archives: dict[str, str], index: Path
) -> Iterator[Finding]:
    from artstorefs.elements.adoption import Adoption, nothing_known
    from artstorefs.elements.identified import check_adopted, read_layout
    from artstorefs.elements.opening import open_element
    from artstorefs.state.witnesses import witnesses_of
    from artstorefs.transfer.placement import Room, room_of

    subject = f"element {configuration.id}"
    element = open_element(configuration, briefly=True)
    try:
        record = read_layout(element)
        if record is None and configuration.adopted:
            known = partial(witnesses_of, str(index), configuration.id)
            adoption = Adoption(known if index.exists() else nothing_known)
            check_adopted(element, configuration.place, adoption)
        elif record is None:
            text = f"{configuration.place} is no element of an archive"
            advice = "is its disk mounted? A new one is made with artstorefs init"
            yield Finding("wrong", subject, text, advice)
            return
        else:
            archives[configuration.id] = str(record.archive_id)
        if record is not None and record.element_id != configuration.id:
            text = f"{configuration.place} is element {record.element_id} of its archive"
            yield Finding("wrong", subject, text, "are two places exchanged?")
            return
        sealed = _not_writable(configuration)
        if sealed is not None:
            advice = "is its disk mounted read-only? Else chown it to whom the daemon runs as"
            yield Finding("wrong", subject, f"{sealed} cannot be written to", advice)
            return
        capacity = element.capacity()
        room = room_of(capacity)
        free = "" if capacity.free_bytes is None else f", {format_size(capacity.free_bytes)} free"
        text = f"{configuration.place} answers{free}"
        if room in (Room.OK, Room.UNKNOWN):
            yield Finding("ok", subject, text)
        else:
            level: Level = "wrong" if room is Room.FULL else "warning"
            yield Finding(level, subject, f"{text}: {room.value}", "make room, or add an element")
    finally:
        element.close()


def _not_writable(configuration: "ElementConfiguration") -> Path | None:
    """The directory of an element to which nothing can be written, though it takes new files."""
    if configuration.path is None or configuration.mode in ("ro", "ar"):
        return None
    places = [configuration.path, configuration.path / OWN_DIRECTORY]
    there = [place for place in places if place.exists()]  # an adopted one may have the first alone
    return next((place for place in there if not os.access(place, os.W_OK | os.X_OK)), None)


def in_time(subject: str, place: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check of something at a place says, or that it did not say anything."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(check())
        except ArtStoreFSError as exc:
            text = str(exc).removeprefix(f"{subject}: ")  # which says what to do
            found.append(Finding("wrong", subject, text))
        except OSError as exc:
            found.append(Finding("wrong", subject, f"{place}: {exc.strerror}"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ELEMENT_LIMIT_S)
    if thread.is_alive():
        text = f"{place} does not answer within {ELEMENT_LIMIT_S:.0f} s"
        found = [Finding("wrong", subject, text, "is its disk or its server there?")]
    yield from found
