"""The daemon's end of the stub: what only root can do is asked for there.

A question about a backing file has a program waiting, so its answer is waited for `BIND_LIMIT_S` at
most, which nobody takes but a stub that is stopped. Until that answer has come no other question of
its kind is asked, and files are written by way of us.
"""

import errno
import logging
import os
import socket
import struct
import threading
from collections import deque
from itertools import chain
from typing import Final

import trio

from artstorefs.core.errors import ArtStoreFSError
from artstorefs_daemon.stub_protocol import (
    ADOPT,
    ANSWER,
    BIND,
    CLOSE,
    CLOSED_MAX,
    DESCRIPTORS_MAX,
    LEAVE,
    MOUNT,
    QUESTION,
    READ_ONLY,
    RESUME,
    SETTLE,
    UNMOUNT,
)

log = logging.getLogger(__name__)

BIND_LIMIT_S: Final = 0.1
"""A thousand times what it takes; a machine that is that busy has other troubles."""

LIMIT_S: Final = 10.0
"""For a mount: the stub may be serving a daemon that is just ending."""

RECONNECT_S: Final = 1.0
"""Between two looks whether the stub is there, and attempts to reach the next one."""

ANSWER_BYTES: Final = 1024

AHEAD, AHEAD_LEAST = DESCRIPTORS_MAX, 8
"""Spool files without a name that are bound, so many at a time, before anybody needs them: asking
for one, and being woken for the answer, takes a quarter of what making a file does."""


class StubUnavailable(ArtStoreFSError):
    """Nobody who can mount for us is there, or it refuses."""


class MountStub:
    """A stub that is connected; `path` is where the next one will listen, if there will be one."""

    def __init__(self, connection: socket.socket, path: str | None = None) -> None:
        self._connection: socket.socket | None = connection
        self._path = path
        self._using = threading.Lock()
        self._number = 0
        self._awaited: dict[int, tuple[int, ...]] = {}
        """Questions whose answer nobody waits for: files that are made ahead, or none, if the
        answer came too late for whoever asked."""
        self._closed: list[int] = []
        self._ready: deque[tuple[int, int]] = deque()
        self._device = -1
        self._spool = -1
        self._patience_s = -1.0

    @classmethod
    def connect(cls, path: str) -> "MountStub":
        """Raises StubUnavailable."""
        try:
            return cls(_connected(path), path)
        except OSError as exc:
            raise StubUnavailable(
                f"nobody mounts for this daemon at {path}: {exc.strerror};"
                " systemctl status 'artstorefs-mount@*' may say why"
            ) from None

    def mount(self, *, read_only: bool) -> int:
        """A descriptor of /dev/fuse of the new mount. Raises StubUnavailable."""
        try:
            _, descriptors = self._ask(MOUNT, READ_ONLY if read_only else 0, limit_s=LIMIT_S)
        except OSError as exc:
            raise StubUnavailable(f"the stub cannot mount it: {exc.strerror}") from None
        (self._device,) = descriptors
        return self._device

    def leave(self, number: int) -> None:
        """Keep the mount for the daemon that will say this number; we end. Raises OSError."""
        with self._using:
            self._ask(LEAVE, number, limit_s=LIMIT_S)
            for descriptor, backing in self._ready:  # all that was made ahead, by now
                os.close(descriptor)
                self._closed.append(backing)
            self._ready.clear()
        self._tell_closed()

    def resume(self, number: int) -> int | None:
        """/dev/fuse of the mount that the daemon before has left with this number, if it has.
        Raises StubUnavailable."""
        try:
            _, descriptors = self._ask(RESUME, number, limit_s=LIMIT_S)
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise StubUnavailable(f"the stub gives no mount: {exc.strerror}") from None
            log.info("it is mounted anew: %s", exc.strerror)
            return None
        (self._device,) = descriptors
        return self._device

    def settle(self) -> None:
        """The kernel has had its first answer. Raises OSError."""
        with self._using:
            self._ask(SETTLE, 0, limit_s=LIMIT_S)

    def unmount(self) -> None:
        """Detach the mount now; open files stay until they are closed. Raises OSError."""
        with self._using:
            self._ask(UNMOUNT, 0, limit_s=LIMIT_S)

    # ------------------------------------------------------------------------ backing files

    def make_backing(self, path: str) -> tuple[int, int] | None:
        """Descriptor and id of a new file at `path`, which is in the spool, if one is ready. Begins
        the next; never waits."""
        with self._using:
            if len(self._ready) <= AHEAD_LEAST:
                self._make_ahead(os.path.dirname(path))
            if not self._ready:
                return None
            descriptor, backing = self._ready.popleft()
        try:
            os.link(
                *(f"/proc/self/fd/{descriptor}", os.path.basename(path)),
                dst_dir_fd=self._spool,  # without which link(2) is called, which follows nothing
                follow_symlinks=True,
            )
        except OSError as exc:
            log.info("%s is made the slower way: %s", path, exc)
            os.close(descriptor)
            self.close_backing(backing)
            return None
        return descriptor, backing

    def open_backing(self, descriptor: int) -> int:
        """The kernel's id of a spool file. Raises OSError; EAGAIN: not now."""
        with self._using:
            self._collect()
            if () in self._awaited.values():
                raise BlockingIOError(errno.EAGAIN, "the stub does not answer")
            return self._ask(BIND, 0, descriptor, limit_s=BIND_LIMIT_S)[0]

    def close_backing(self, backing: int) -> None:
        """The stub is told with the next question, or soon. Without a stub the id
        lasts as long as the mount, and so does what the file takes on the disk."""
        self._closed.append(backing)
        if len(self._closed) >= CLOSED_MAX:
            self._tell_closed()

    def _tell_closed(self) -> None:
        with self._using:
            while self._closed and self._connection is not None:
                try:
                    self._send(CLOSE, 0, [])
                except OSError as exc:
                    log.info("backing files are closed later: %s", exc)
                    return

    def _make_ahead(self, spool: str) -> None:
        try:
            if self._spool < 0:
                self._spool = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._collect()
            if not self._awaited and self._connection is not None:
                self._begin_ahead()
        except OSError as exc:
            log.info("no spool file is made ahead: %s", exc)

    def _begin_ahead(self) -> None:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        made: list[int] = []
        try:
            for _ in range(AHEAD):
                made.append(os.open(".", flags, 0o600, dir_fd=self._spool))
            self._awaited[self._send(BIND, 0, made)] = tuple(made)
        except BaseException:
            for descriptor in made:
                os.close(descriptor)
            raise

    def _collect(self) -> None:
        """Take the answers that have come."""
        while self._awaited and self._connection is not None:
            try:
                data = self._connection.recv(ANSWER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._require_answer(data)
            self._note(data)

    def _note(self, data: bytes) -> None:
        """An answer that nobody waits for."""
        number, result = ANSWER.unpack_from(data)
        descriptors = self._awaited.pop(number, ())
        if not descriptors and result > 0:
            self._closed.append(result)
        results = struct.unpack_from(f"={len(descriptors)}i", data, 4)
        for descriptor, backing in zip(descriptors, results, strict=True):
            if backing > 0:
                self._ready.append((descriptor, backing))
            else:
                os.close(descriptor)

    # -------------------------------------------------------------------------- questions

    def _ask(
        self, kind: bytes, argument: int, descriptor: int | None = None, *, limit_s: float
    ) -> tuple[int, list[int]]:
        number = self._send(kind, argument, [] if descriptor is None else [descriptor])
        connection = self._connection
        assert connection is not None
        if limit_s != self._patience_s:
            wait = struct.pack("@ll", *divmod(round(limit_s * 1e6), 1_000_000))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
            self._patience_s = limit_s
        while True:
            try:
                data, descriptors = self._receive(connection, kind)
            except BlockingIOError:
                self._awaited[number] = ()
                raise
            answered, result = ANSWER.unpack_from(data)
            if answered == number:
                break
            self._note(data)
        if result < 0:
            text = data[ANSWER.size :].decode(errors="replace")
            raise OSError(-result, text or os.strerror(-result))
        return result, descriptors

    def _receive(self, connection: socket.socket, kind: bytes) -> tuple[bytes, list[int]]:
        if kind in (MOUNT, RESUME):
            flags = socket.MSG_CMSG_CLOEXEC
            data, descriptors, _, _ = socket.recv_fds(connection, ANSWER_BYTES, 1, flags)
        else:
            data, descriptors = connection.recv(ANSWER_BYTES), []
        self._require_answer(data)
        return data, descriptors

    def _require_answer(self, data: bytes) -> None:
        if len(data) < ANSWER.size:
            self._lose()
            raise ConnectionResetError(errno.ECONNRESET, "the stub has ended")

    def _send(self, kind: bytes, argument: int, descriptors: list[int]) -> int:
        if self._connection is None:
            raise ConnectionResetError(errno.ECONNRESET, "the stub has ended")
        self._number = (self._number + 1) & 0xFFFFFFFF
        question = QUESTION.pack(kind, self._number, argument)
        closed = self._closed[:CLOSED_MAX] if kind in (BIND, CLOSE) else []
        question += struct.pack(f"={len(closed)}I", *closed)
        try:
            socket.send_fds(self._connection, [question], descriptors, socket.MSG_DONTWAIT)
            del self._closed[: len(closed)]
        except ConnectionError:
            self._lose()
            raise
        return self._number

    # ------------------------------------------------------------------------ another stub

    def _lose(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            for descriptor in chain.from_iterable(self._awaited.values()):
                os.close(descriptor)
            self._awaited.clear()
            log.warning("the stub has ended: the kernel writes no new file by itself")

    async def keep_connected(self) -> None:
        """Hand the mount to the stub that follows one which has ended, for ever."""
        while True:
            await trio.sleep(RECONNECT_S)
            if self._connection is not None and self._has_ended():
                self._lose()
            self._tell_closed()
            if self._connection is None and self._path is not None:
                await trio.to_thread.run_sync(self._connect_again, self._path)

    def _has_ended(self) -> bool:
        assert self._connection is not None
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        try:
            return not self._connection.recv(1, flags)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _connect_again(self, path: str) -> None:
        """In a thread, with a connection of its own until it is done."""
        try:
            following = MountStub(_connected(path))
            following._ask(ADOPT, 0, self._device, limit_s=LIMIT_S)
        except OSError as exc:
            log.debug("there is no other stub yet: %s", exc)
            return
        self._patience_s = -1.0
        self._connection = following._connection
        log.info("another stub has taken over")


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
