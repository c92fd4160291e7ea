"""The program `artstorefs-mount`: the part of a mount that only root can do, and nothing else.

It opens /dev/fuse, mounts, and hands the descriptor to a daemon that runs as an ordinary user
without a capability. What it does for that daemon afterwards is the whole list of
`stub_protocol.py`. Nothing that the daemon says names a path, a user or a mount option: those come
from root's command line and from a NAME.toml that only root can change. THREATS.md says what that
is good for.

One daemon at a time, one question at a time, no threads. When a daemon has ended, however it did,
our duplicate of its /dev/fuse is closed: as long as anybody has that open the kernel lets programs
wait for answers, after it they get ENOTCONN. So it stays until the mount of the next daemon takes
its place: an empty directory there would be taken for the archive. A daemon that makes way for a
new version of itself has us keep the duplicate for that (LEAVE), for `SUCCESSOR_LIMIT_S`.

Ended itself (SIGTERM, SIGKILL), it leaves the mount to the daemon, which goes on and hands the
descriptor to the next stub (ADOPT).
"""

import argparse
import errno
import fcntl
import os
import pwd
import select
import signal
import socket
import stat
import struct
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from artstorefs.core.directories import SYSTEM_DIRECTORIES, fill_in_places
from artstorefs.core.errors import ArtStoreFSError, ConfigurationError
from artstorefs.core.mount_options import parse_mount_options
from artstorefs_daemon import stub_system as system
from artstorefs_daemon.mounted import fuse_device, is_connected, raise_read_ahead
from artstorefs_daemon.stub_mount import (
    Place,
    detach,
    mount,
    top_mount,
)
from artstorefs_daemon.stub_protocol import (
    ADOPT,
    ANSWER,
    BIND,
    CLOSE,
    DESCRIPTORS_MAX,
    LEAVE,
    MOUNT,
    PROGRAM,
    QUESTION,
    QUESTION_BYTES,
    READ_ONLY,
    RESUME,
    SETTLE,
    UNMOUNT,
    socket_path,
)

CONFIGURATIONS: Final = Path("/etc/artstorefs")

BINDINGS_MAX: Final = 1 << 16
"""Backing files of a mount: the kernel keeps each open without counting it for anybody, so they are
counted here. A file beyond it is written by way of the daemon."""

NICENESS: Final = -5
"""The daemon asks about new files, and waits where it has none at hand."""

SUCCESSOR_LIMIT_S: Final = 30.0
"""How long programs wait for a daemon that has been announced: also for one that has come, and has
to repair something before it asks for the mount."""

TEXT_BYTES: Final = 500
"""Of a reason, in an answer of 1 KiB at most."""

_CREDENTIALS: Final = struct.Struct("3i")  # ucred of SO_PEERCRED, unix(7)


# ------------------------------------------------------------------------------- one daemon


class Left(NamedTuple):
    """The mount that a daemon has left for its successor."""

    number: int
    """Which the successor has to know."""
    device: int
    bindings: int
    until_s: float
    """On the monotonic clock."""


class Session:
    """One daemon, from its connection to its end."""

    def __init__(self, connection: socket.socket, place: Place, left: Left | None = None) -> None:
        """`left`: by the daemon before, and by this one in the end."""
        self._connection = connection
        self._place = place
        self.left = left
        self._leaves: int | None = None
        self._device = -1
        self._number: str | None = None
        self._disk: int | None = None
        self._bindings = 0
        self._refused = 0

    def serve(self) -> None:
        """Answer until the daemon ends; whatever it says, this returns only then."""
        try:
            while self._serve_one():
                pass
        except ConnectionError:
            pass  # it has ended, and waits for no answer
        finally:
            self._end()

    def _serve_one(self) -> bool:
        self._wait_for_question()
        question, descriptors, _, _ = socket.recv_fds(
            self._connection, QUESTION_BYTES + 1, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
        )
        if not question:
            return False
        try:
            self._answer(question, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _wait_for_question(self) -> None:
        if self.left is not None:
            left_s = max(0.0, self.left.until_s - time.monotonic())
            if not select.select([self._connection], [], [], left_s)[0]:
                self.forget_left()

    def _answer(self, question: bytes, descriptors: list[int]) -> None:
        number, kind, argument, text = 0, b"", 0, b""
        handed: list[int] = []
        try:
            if not QUESTION.size <= len(question) <= QUESTION_BYTES or len(question) % 4:
                raise OSError(errno.EBADMSG, "no question has this size")
            kind, number, argument = QUESTION.unpack_from(question)
            if kind in (BIND, CLOSE):
                self._close_bindings(question)
            results = self._do(kind, argument, descriptors)
            if kind in (MOUNT, RESUME):
                handed = [self._device]
        except OSError as exc:
            results = [-(exc.errno or errno.EIO)]
            text = str(exc.strerror or exc).encode()[:TEXT_BYTES]
            self._tell_refusal(kind, exc)
        answer = struct.pack(f"=I{len(results)}i", number, *results) + text
        if handed:
            socket.send_fds(self._connection, [answer], handed)
        elif kind != CLOSE:
            self._connection.send(answer)

    def _do(self, kind: bytes, argument: int, descriptors: list[int]) -> list[int]:
        if kind == BIND and len(descriptors) > 1:
            return [self._bind_or_refuse(descriptor) for descriptor in descriptors]
        if len(descriptors) != (1 if kind in (ADOPT, BIND) else 0):
            raise OSError(errno.EBADMSG, "the question has too few or too many descriptors")
        if kind == BIND:
            return [self._bind(descriptors[0])]
        if kind == MOUNT:
            self._mount(bool(argument & READ_ONLY))
        elif kind == ADOPT:
            self._adopt(descriptors[0])
        elif kind == RESUME:
            self._resume(argument)
        elif kind not in (SETTLE, UNMOUNT, CLOSE, LEAVE):
            raise OSError(errno.EBADMSG, "there is no such question")
        elif self._device < 0:
            raise OSError(errno.ENODEV, "there is no mount")
        elif kind == SETTLE and self._number is not None:
            raise_read_ahead(self._number)
        elif kind == UNMOUNT:
            self._unmount()
        elif kind == LEAVE:
            self._leaves = argument
        return [0]

    def _mount(self, read_only: bool) -> None:
        if self._device >= 0:
            raise OSError(errno.EBUSY, "this daemon has its mount already")
        self.forget_left()
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            mount(self._place, device, read_only)
        except BaseException:
            os.close(device)
            raise
        self._device = device
        self._number = device_of(device) or getattr(top_mount(self._place), "device", None)
        with suppress(PermissionError):  # it leads one already
            os.setsid()  # before the mount an automount would wait for itself

    def _resume(self, number: int) -> None:
        """Whoever does not know the number mounts anew."""
        if self._device >= 0:
            raise OSError(errno.EBUSY, "this daemon has its mount already")
        left = self.left
        found = None if left is None else top_mount(self._place, device_of(left.device))
        if left is None or left.number != number or found is None:
            self.forget_left()
            raise OSError(errno.ENODEV, "no daemon has left its mount for this one")
        self._device, self._bindings, self._number = left.device, left.bindings, found.device
        self.left = None

    def forget_left(self) -> None:
        """From now on programs that have waited for a successor get ENOTCONN."""
        if self.left is not None:
            os.close(self.left.device)
            self.left = None

    def _unmount(self) -> None:
        """In a process of its own: it may take until the daemon has answered the last requests, and
        a daemon that dies meanwhile must not be waited for, so that has no /dev/fuse."""
        if os.fork() == 0:
            os.close(self._device)
            self._connection.close()
            try:
                detach(self._place, self._number)
            except OSError as exc:
                tell(f"{self._place.mountpoint} stays mounted: {exc}")
            finally:
                os._exit(0)

    def _adopt(self, descriptor: int) -> None:
        """The descriptor says by itself which mount it serves, if it is one of /dev/fuse."""
        if self._device >= 0:
            raise OSError(errno.EBUSY, "this daemon has its mount already")
        if os.fstat(descriptor).st_rdev != system.FUSE_DEVICE:
            raise OSError(errno.EPERM, "this is not /dev/fuse")
        found = top_mount(self._place, device_of(descriptor))
        if found is None or not is_connected(descriptor):
            raise OSError(errno.EPERM, "this is not the mount of this archive")
        self._device = os.dup(descriptor)
        self._number = found.device

    def _bind_or_refuse(self, descriptor: int) -> int:
        try:
            return self._bind(descriptor)
        except OSError as exc:
            self._tell_refusal(BIND, exc)
            return -(exc.errno or errno.EIO)

    def _close_bindings(self, question: bytes) -> None:
        """The kernel knows which ids this mount has; of what is none nothing follows."""
        for (backing,) in struct.iter_unpack("=I", question[QUESTION.size :]):
            if self._device < 0:
                return
            try:
                system.close_backing(self._device, backing)
                self._bindings = max(0, self._bindings - 1)
            except OSError as exc:
                self._tell_refusal(CLOSE, exc)

    def _bind(self, descriptor: int) -> int:
        """What the kernel does with the file by itself it does with the daemon's rights, quota and
        share of the disk."""
        if self._device < 0:
            raise OSError(errno.ENODEV, "there is no mount")
        if self._bindings >= BINDINGS_MAX:
            raise OSError(errno.ENOSPC, "there are too many backing files")
        if self._disk is None:
            self._disk = os.stat(self._place.state_dir).st_dev
        check_spool_file(descriptor, self._place.uid, self._disk)
        system.set_filesystem_user(self._place.uid)
        try:
            backing = system.open_backing(self._device, descriptor)
        finally:
            user = system.set_filesystem_user(0)
        self._bindings += 1
        assert user == self._place.uid, "files cannot be reached as the daemon's user"
        return backing

    def _end(self) -> None:
        if self._leaves is not None:
            until_s = time.monotonic() + SUCCESSOR_LIMIT_S
            self.left = Left(self._leaves, self._device, self._bindings, until_s)
        elif self._device >= 0:
            os.close(self._device)
        if self._refused > 1:
            tell(f"{self._refused} questions of this daemon were refused")

    def _tell_refusal(self, kind: bytes, exc: OSError) -> None:
        """The first; who asks for nonsense a thousand times does not fill the log."""
        self._refused += 1
        if self._refused == 1 or kind in (MOUNT, ADOPT):
            tell(f"{kind.decode(errors='backslashreplace') or '?'} is refused: {exc}")


def device_of(descriptor: int) -> str | None:
    """See `fuse_device`."""
    return fuse_device(f"/proc/self/fdinfo/{descriptor}")


def check_spool_file(descriptor: int, uid: int, disk: int) -> None:
    """Root would write whatever it is given: this must be a file that the daemon can write by
    itself, on the filesystem where its spool is. Raises PermissionError."""
    found = os.fstat(descriptor)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(errno.EPERM, "this is no regular file")
    if found.st_uid != uid:
        raise PermissionError(errno.EPERM, f"this file belongs to user {found.st_uid}")
    if flags & os.O_PATH or flags & os.O_ACCMODE != os.O_RDWR:
        raise PermissionError(errno.EPERM, "this file is not open for reading and writing")
    if found.st_dev != disk:
        raise PermissionError(errno.EPERM, "this file is not where the state directory is")


# ------------------------------------------------------------------------------ the program


def read_place(arguments: argparse.Namespace) -> Place:
    """From the command line and the configuration. Raises ConfigurationError."""
    name: str = arguments.name
    path = Path(name) if "/" in name else CONFIGURATIONS / f"{name}.toml"
    values = tomllib.loads(read_of_root(path))
    fill_in_places(values, str(path), SYSTEM_DIRECTORIES)
    mountpoint = arguments.mountpoint or values.get("mountpoint")
    if not isinstance(mountpoint, str) or not mountpoint.startswith("/"):
        raise ConfigurationError(str(path), "mountpoint", "is missing; it must be a path")
    return Place(
        archive=str(values["name"]),
        mountpoint=os.path.normpath("/" + mountpoint.lstrip("/")),
        state_dir=str(values["state_dir"]),
        uid=user_id(arguments.user),
        options=parse_mount_options(f"nosuid,nodev,{arguments.options}", sloppy=arguments.sloppy),
    )


def read_of_root(path: Path) -> str:
    """A file that says what root shall do is root's alone to change, and so is its directory."""
    for subject in (path.parent, path):
        try:
            found = os.stat(subject)
        except OSError as exc:
            raise ConfigurationError(str(path), "", f"cannot be read: {exc.strerror}") from None
        is_shared_folder = subject == path.parent and found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or (found.st_mode & 0o022 and not is_shared_folder):
            advice = f"chown root {subject}; chmod go-w {subject}"
            raise ConfigurationError(str(path), "", f"others than root can change it: {advice}")
    return path.read_text(encoding="utf-8")


def user_id(user: str) -> int:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigurationError("--user", user, "there is no such account") from None
    if uid == 0:
        raise ConfigurationError("--user", user, "is root, who needs no stub")
    return uid


def listen(path: str, uid: int) -> socket.socket:
    """A socket that only the daemon's user can reach, below a directory of root's."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    listener.bind(path)
    os.umask(before)
    listener.listen(4)
    os.chown(path, uid, -1)  # from here on somebody may come
    return listener


def peer(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(packed)[1]
    return uid


def tell_manager(message: bytes) -> None:
    """sd_notify(3)."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, "\0" + address[1:] if address[0] == "@" else address)


def tell(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Mounts an archive for a daemon that runs as another user, and does for it what"
        " only root can do. Started by artstorefs-mount@.service and by `artstorefs mount --user`.",
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--user", required=True, help="whom the daemon runs as")
    parser.add_argument("--mountpoint", metavar="DIR", help="instead of the configured one")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPTS",
        default="",
        help="mount options; nosuid and nodev unless suid and dev are given",
    )
    parser.add_argument("-s", dest="sloppy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--socket", metavar="PATH", help="where it listens")
    parser.add_argument(
        "--connection", type=int, metavar="FD", help="to the one daemon, instead of a socket"
    )
    return parser


def main() -> int:
    """Serve; the exit code."""
    arguments = build_parser().parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the daemon
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who unmounts is not waited for
    with suppress(PermissionError):  # a unit says it, and may forbid it
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    connection = None
    if arguments.connection is not None:
        connection = socket.socket(fileno=arguments.connection)
        connection.set_inheritable(False)
    try:
        place = read_place(arguments)
        listener = None
        if connection is None:
            listener = listen(arguments.socket or socket_path(place.archive), place.uid)
        give_up_rights()
    except (ArtStoreFSError, OSError, ValueError) as exc:
        tell(str(exc))
        if connection is not None:
            refuse(connection, str(exc))
        return 1
    tell_manager(b"READY=1")
    if connection is not None:
        Session(connection, place).serve()
    if listener is not None:
        serve_daemons(listener, place)
    return 0


def serve_daemons(listener: socket.socket, place: Place) -> NoReturn:
    """One after the other."""
    left: Left | None = None
    while True:
        if left is not None:
            listener.settimeout(max(0.001, left.until_s - time.monotonic()))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            assert left is not None
            tell("the successor that was announced has not come")
            os.close(left.device)
            left = None
            listener.settimeout(None)
            continue
        connection.settimeout(None)
        with connection:
            if peer(connection) == place.uid:
                session = Session(connection, place, left)
                session.serve()
                left = session.left
        if left is None:
            listener.settimeout(None)


def refuse(connection: socket.socket, reason: str) -> None:
    """Answer the first question, whatever it is."""
    question = connection.recv(QUESTION.size)
    if len(question) == QUESTION.size:
        _, number, _ = QUESTION.unpack(question)
        connection.send(ANSWER.pack(number, -errno.EPERM) + reason.encode()[:TEXT_BYTES])


def give_up_rights() -> None:
    """All but what the list above needs: mounting and backing files, the way to the mountpoint, and
    the daemon's user for what the kernel writes."""
    system.keep_capabilities((system.CAP_SYS_ADMIN, system.CAP_DAC_READ_SEARCH, system.CAP_SETUID))


if __name__ == "__main__":
    sys.exit(main())
