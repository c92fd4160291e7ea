"""Whether the machine has gone down since an index was last in use, as far as waiting content goes.

A kill takes nothing that a system call has returned for: the kernel has it. A power cut takes what
the kernel had not written yet. Setting `boot` of the index is the boot in which it is in use, or
`AT_REST` once everything in the spool has been brought to the disk.
"""

import logging
import os
from pathlib import Path

from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.elements.durable import syncfs
from artstorefs.filesystem.archive import Archive

log = logging.getLogger(__name__)

BOOT = "boot"
AT_REST = "at rest"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Differs from one start of the kernel to the next (random(4)); "" if it is not told."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError as exc:
        log.warning("it is not known whether the power was cut: %s", exc, extra=about(exc))
        return ""


def power_was_cut(archive: Archive) -> bool:
    """Whether content in the spool may have been lost, if it was not synced; True if unknown."""
    before = archive.database.setting(BOOT)
    return not before or before not in (boot_id(), AT_REST)


def note_use(archive: Archive) -> None:
    """From here on content is written that only the kernel has."""
    _note(archive, boot_id())


def note_rest(archive: Archive) -> None:
    """At the clean end: bring to the disk what is left in the spool. Blocks.

    What fails is logged: a power cut before the next start may take of it what no program synced.
    """
    if not archive.spool.names():
        return
    try:
        descriptor = os.open(archive.spool.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)
        archive.database.sync_log()
    except OSError as exc:
        told = ("what waits for the elements is not on the disk for certain: %s", exc)
        log.warning(*told, extra=about(exc))
        return
    _note(archive, AT_REST)


def _note(archive: Archive, value: str) -> None:
    if archive.database.setting(BOOT) == value:
        return
    try:
        with archive.database.transaction():
            archive.database.set_setting(BOOT, value)
    except StateError as exc:
        told = ("the next start takes it that the power was cut: %s", exc)
        log.warning(*told, extra=about(exc))
