"""A mount that goes from a daemon that makes way to its successor (UPGRADE.md).

The connection to the kernel is a descriptor of /dev/fuse. Somebody keeps it from one daemon to the
next (`mounting.py`), and as long as anybody does the kernel lets programs wait for their answers.
What the next daemon has to know besides lies in `HANDOVER` in the state directory, once: it is
removed before anything is done with it. Where it says what does not fit, or is not there, the next
daemon mounts anew, in the place of what is then a dead mount.

It fits if the index is the one that this daemon had, which carries the same number, and what the
kernel has been promised for the whole life of a connection still holds. A version that promises
something else, or numbers open files in another way, has another FORMAT.
"""

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.handing_over import OpenFiles, forget_left, note_left
from artstorefs.filesystem.open_file import Handle
from artstorefs_daemon import fuse_library
from artstorefs_daemon.mounting import Mounting
from artstorefs_daemon.service import Service
from artstorefs_daemon.service_manager import ServiceManager

log = logging.getLogger(__name__)

HANDOVER: Final = "handover.json"
FORMAT: Final = 1


class Handover(BaseModel):
    """The content of `HANDOVER`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: int = Field(ge=FORMAT, le=FORMAT)
    number: int = Field(ge=0, lt=1 << 32)
    """Of this handover, drawn by lot: descriptor, file and index belong together."""
    mountpoint: str
    mount_options: str
    durability: str
    """With "log" the kernel does not ask at close(2), and may write the spool by itself."""
    init: str = Field(pattern="^([0-9a-f]{2}){56,256}$")
    """The first request of the connection, as hexadecimal digits."""
    open_files: OpenFiles


class Inherited:
    """A mount that is there."""

    def __init__(self, device: int, handover: Handover) -> None:
        self.device = device
        self.open_files = handover.open_files
        self._init = bytes.fromhex(handover.init)

    def begin(self) -> None:
        """libfuse is about to be told what it serves."""
        fuse_library.repeat_init(self._init)


def leave(
    service: Service, handles: Mapping[int, Handle], mounting: Mounting, manager: ServiceManager
) -> None:
    """Leave the mount to the next daemon, if somebody keeps it. Nobody is served any more, and this
    daemon does nothing afterwards but end."""
    archive = service.archive
    number = secrets.randbits(32)
    path = _path(archive.configuration.state_dir)
    try:
        service.record_waiting()
        handover = Handover(
            format=FORMAT,
            number=number,
            open_files=service.contents.handing_over.describe(handles),
            init=fuse_library.init_request().hex(),
            **_circumstances(archive, mounting),
        )
        note_left(archive.database, number)
        crash_point("handover.noted")
        _write(path, handover.model_dump_json())
        crash_point("handover.written")
    except (StateError, OSError) as exc:
        log.warning("the next daemon has to mount anew: %s", exc, extra=about(exc))
        return
    if mounting.leave(manager, number, fuse_library.device()):
        crash_point("handover.kept")
        log.info("%d open files are left to the next daemon", len(handover.open_files.handles))
    else:
        path.unlink()


def take(archive: Archive, mounting: Mounting, manager: ServiceManager) -> Inherited | None:
    """The mount that the daemon before has left, if it has and everything fits."""
    handover = _read(_path(archive.configuration.state_dir))
    number = None if handover is None else handover.number
    device = mounting.resume(manager, number)
    is_same_index = forget_left(archive.database) == number
    if device is not None:
        crash_point("handover.taken")
    if device is None or handover is None:
        return None
    reason = ""
    if not is_same_index:
        reason = "the index is another one"
    elif not _circumstances(archive, mounting).items() <= handover.model_dump().items():
        reason = "it is to be mounted in another way"
    if not reason:
        return Inherited(device, handover)
    log.info("it is mounted anew: %s", reason)
    os.close(device)
    return None


def _circumstances(archive: Archive, mounting: Mounting) -> dict[str, str]:
    """What cannot change while a connection lasts."""
    return {
        "mountpoint": mounting.mountpoint,
        "mount_options": repr(mounting.options),
        "durability": archive.configuration.durability,
    }


def _path(state_dir: Path) -> Path:
    return state_dir / HANDOVER


def _write(path: Path, text: str) -> None:
    """For whoever starts in the same boot."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _read(path: Path) -> Handover | None:
    """Its content, which nobody reads a second time."""
    try:
        text = path.read_bytes()
        path.unlink()
        return Handover.model_validate_json(text)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as exc:
        log.warning("what the daemon before has left cannot be read: %s", exc)
        return None
