"""What `doctor` looks at where content is archived, or files expire: media, cold storage classes,
who is told of recalls, and what a daemon that serves the archive says of the clock.

As in `checkup.py` nothing is changed, and nothing is restored.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

from artstorefs.core.errors import ArtStoreFSError, ElementUnavailable
from artstorefs.core.sizes import format_size
from artstorefs_tools.checkup import Finding, check_secret, in_time, uid_of
from artstorefs_tools.control_client import ControlClient, ControlError
from artstorefs_tools.errors import NotMounted

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration

NOT_COUNTED: Final = frozenset({"lost+found"})
"""What a new filesystem has."""

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

DAEMON_LIMIT_S: Final = 5.0


def check_archived(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """All of it, as far as the configuration has it."""
    for element in configuration.elements:
        if element.offline_path is not None:
            check = partial(_check_medium, configuration, element)
            yield from in_time(f"medium of {element.id}", str(element.offline_path), check)
        if element.archive_storage_class is not None:
            subject = f"class {element.archive_storage_class} of {element.id}"
            yield from in_time(subject, element.place, partial(_check_restoring, element, subject))
    yield from _check_webhook(configuration)
    if any(element.expire_after_days is not None for element in configuration.elements):
        yield from _check_expiry(configuration)


# -------------------------------------------------------------------------------------- media


def _check_medium(
    configuration: "ArchiveConfiguration", element: "ElementConfiguration"
) -> Iterator[Finding]:
    from artstorefs.core.offline_record import medium_id
    from artstorefs.elements.identified import read_layout
    from artstorefs.elements.local import LocalElement

    path, subject = str(element.offline_path), f"medium of {element.id}"
    if not os.path.isdir(path):
        text = f"{path} is not there: nothing is archived there now, nor recalled from there"
        yield Finding("warning", subject, text, "make it, and mount the medium there when needed")
        return
    try:
        medium = LocalElement(medium_id(element.id), path)
    except ElementUnavailable:
        yield _no_medium(configuration, element, subject)
        return
    try:
        record = read_layout(medium)
        archive_id = _archive_id(element)
        if record is None:
            yield _no_medium(configuration, element, subject)
        elif archive_id is not None and record.archive_id != archive_id:
            text = f"{path} is of another archive, {record.archive_name}"
            yield Finding("wrong", subject, text, "mount the right one, or correct offline_path")
        elif record.element_id != medium.id:
            text = f"{path} is {record.element_id} of this archive"
            yield Finding("wrong", subject, text, "are two places exchanged?")
        else:
            yield _use_of(configuration, path, subject)
    finally:
        medium.close()


def _no_medium(
    configuration: "ArchiveConfiguration", element: "ElementConfiguration", subject: str
) -> Finding:
    path = str(element.offline_path)
    if set(os.listdir(path)) - NOT_COUNTED:
        text = f"{path} is no medium, and holds other things"
        return Finding("wrong", subject, text, "mount the right one, or correct offline_path")
    prepare = f"artstorefs medium {configuration.name} {element.id} --prepare"
    text = f"{path} is empty: nothing is archived there now, nor recalled from there"
    return Finding("warning", subject, text, f"mount it there; a new one: {prepare}")


def _use_of(configuration: "ArchiveConfiguration", path: str, subject: str) -> Finding:
    """Of the right medium: whether the daemon can write there, and how much."""
    uid, found = uid_of(configuration.user), os.statvfs(path)
    owner = os.stat(path).st_uid
    if uid is not None and owner != uid:
        text = f"{path} belongs to user {owner}, not to {configuration.user}"
        return Finding("wrong", subject, text, f"chown -R {configuration.user}: {path}")
    if found.f_flag & os.ST_RDONLY or not os.access(path, os.W_OK | os.X_OK):
        text = f"{path} is there, and cannot be written to: it is for recalls alone"
        return Finding("warning", subject, text, "mount it rw to have more archived there")
    free = format_size(found.f_bavail * found.f_frsize)
    return Finding("ok", subject, f"{path} is there, {free} free")


def _archive_id(element: "ElementConfiguration") -> UUID | None:
    """As the element has it; None where that is away, which is told elsewhere."""
    from artstorefs.elements.identified import read_layout
    from artstorefs.elements.opening import open_element

    try:
        opened = open_element(element, briefly=True)
    except ArtStoreFSError:
        return None
    try:
        record = read_layout(opened)
    finally:
        opened.close()
    return None if record is None else record.archive_id


# ------------------------------------------------------------------------ classes, the webhook


def _check_restoring(element: "ElementConfiguration", subject: str) -> Iterator[Finding]:
    from artstorefs.elements.restore_probe import why_no_restore

    reason = why_no_restore(element)
    if reason is None:
        yield Finding("ok", subject, f"what is in it may be restored, as {element.restore_tier}")
        return
    advice = "these credentials need s3:RestoreObject, and the server cold classes"
    yield Finding("wrong", subject, f"nothing may be restored: {reason}", advice)


def _check_webhook(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """Its address is one, or the configuration would be refused."""
    url, secret = configuration.recall.webhook, configuration.recall.webhook_secret_file
    if url is None or secret is None:
        return
    wrong = list(check_secret(secret, uid_of(configuration.user)))
    if not wrong and _is_empty(secret):
        wrong = [Finding("wrong", str(secret), "is empty", "write the secret of the webhook to it")]
    yield from wrong
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        text = f"{where} is told in clear which paths are recalled"
        yield Finding("warning", "webhook", text, "an https:// address keeps that to itself")
    elif not wrong:
        yield Finding("ok", "webhook", f"{where} is told of recalls, signed with {secret}")


def _is_empty(path: Path) -> bool:
    return os.stat(path).st_size == 0


# -------------------------------------------------------------------------------------- expiry


def _check_expiry(configuration: "ArchiveConfiguration") -> Iterator[Finding]:
    """What the daemon says; without one nothing expires."""
    name = configuration.name
    try:
        with ControlClient(configuration.runtime_dir, name, DAEMON_LIMIT_S) as client:
            expiring = client.call("status").get("expiring") or {}
    except (NotMounted, ControlError):
        return
    if expiring.get("paused"):
        advice = f"set the clock right, or artstorefs expiring {name} --clock-is-right"
        yield Finding("warning", "expiry", f"no files expire: {expiring['paused']}", advice)
    elif expiring.get("files"):
        text = (
            f"{expiring['files']:,} files are removed from {expiring.get('first_removal')} on,"
            " unless they change"
        )
        yield Finding("ok", "expiry", text)
    else:
        yield Finding("ok", "expiry", "no file has come to its end")
