"""From root to a user without privileges: `artstorefs mount NAME --user USER`.

1. as root, make the directories of the archive that are missing, the user's
2. start the stub, a program of its own, with one end of a socket
3. become the user, for good; everything after it is as for a daemon that systemd has started
4. look whether everything can be reached that belongs to the archive, else say what to do

Root's commands that work on the state directory become its owner too.
"""

import os
import pwd
import shlex
import socket
import sys
from pathlib import Path

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import ConfigurationError
from artstorefs.elements.durable import make_directories_durably
from artstorefs_daemon import stub_system
from artstorefs_daemon.stub_client import MountStub

ROOT = "root"


def account_of(user: str) -> pwd.struct_passwd:
    """Raises ConfigurationError."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        reason = f"there is no such account; make it with: useradd --system {shlex.quote(user)}"
        raise ConfigurationError("user", user, reason) from None


def make_directories_for(configuration: ArchiveConfiguration, account: pwd.struct_passwd) -> None:
    """Those that are missing. What is there is left: it may be somebody's."""
    for path, mode in (
        (configuration.state_dir, 0o700),
        (configuration.cache_dir, 0o700),
        (configuration.runtime_dir, 0o755),
    ):
        if path.exists():
            continue
        make_directories_durably(path.parent, 0o755)
        os.mkdir(path, mode)
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def start_stub(
    configuration_file: Path, user: str, mountpoint: str, options: str, *, foreground: bool
) -> MountStub:
    """The stub of one daemon, with which it ends. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.set_inheritable(True)
        program = [sys.executable, "-I", "-m", "artstorefs_daemon.mount_stub"]
        words = [str(configuration_file), "--user", user, "--mountpoint", mountpoint]
        # Which were found right, or to be passed over (mount -s), before.
        connection = ["--connection", str(theirs.fileno()), "-s", "-o", options]
        # Whoever waits for the end of our output does not wait for the stub.
        silent = [0, 1] if foreground else [0, 1, 2]
        actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in silent]
        os.posix_spawn(sys.executable, [*program, *words, *connection], {}, file_actions=actions)
    return MountStub(ours)


def become(account: pwd.struct_passwd) -> None:
    """Another user, with no capability and no way to any. Only for a process without threads."""
    stub_system.forbid_new_privileges()
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    stub_system.allow_own_descriptors()
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)


def become_owner(configuration: ArchiveConfiguration) -> None:
    """As root, become whom an archive belongs to, if that is somebody else: files of root's in its
    state directory would keep the daemon out. Raises ConfigurationError."""
    if os.geteuid() != 0:
        return
    try:
        owner = pwd.getpwuid(os.stat(configuration.state_dir).st_uid)
    except FileNotFoundError:
        owner = account_of(configuration.user or ROOT)
    except KeyError:  # of no account of this machine
        return
    if owner.pw_uid != 0:
        make_directories_for(configuration, owner)
        become(owner)


def check_places(configuration: ArchiveConfiguration) -> None:
    """Whether this user, who is not root, can use what is there. Raises ConfigurationError, with
    what root has to do."""
    foreign = [str(path) for path in places(configuration) if not _can_use(path)]
    if not foreign:
        return
    sealed = [path for path in foreign if os.statvfs(path).f_flag & os.ST_RDONLY]
    user = pwd.getpwuid(os.geteuid()).pw_name
    if sealed:
        where = " ".join(sealed)
        advice = f"read-only here; as a service it needs ReadWritePaths={where} (systemctl edit)"
    else:
        owners = shlex.join(foreign)
        advice = f"not {user}'s, as whom this runs; as root: chown -R {user}: {owners}"
    raise ConfigurationError(configuration.name, ", ".join(foreign), advice)


def places(configuration: ArchiveConfiguration) -> list[Path]:
    """Directories that have to be written to, as far as they are there: an element whose disk is
    away is waited for."""
    state, cache = configuration.state_dir, configuration.cache_dir
    inside = [state / name for name in ("spool", "state.db")]
    elements = [place for one in configuration.elements for place in _places_of(one)]
    return [path for path in (state, *inside, cache, *elements) if os.path.lexists(path)]


def _places_of(element: ElementConfiguration) -> list[Path]:
    if element.path is None or element.mode in ("ro", "ar"):
        return []
    return [element.path, element.path / ".artstorefs"]


def _can_use(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))
