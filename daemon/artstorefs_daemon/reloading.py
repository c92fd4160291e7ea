"""The configuration of a running mount, read again: what can change at run time changes at once.

A change of anything else is refused, and then nothing changes: half of a file is in nobody's mind.
What the transfer process works with cannot change here, so nothing has to be told to the one that
runs; those that follow get the new configuration.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from pydantic import BaseModel

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import ArtStoreFSError, ConfigurationError
from artstorefs_daemon.control.roles import Rights
from artstorefs_daemon.service import Service

log = logging.getLogger(__name__)

Reread = Callable[[], ArchiveConfiguration]
"""Reads the files anew, in a thread; raises ConfigurationError."""


class RestartNeeded(ArtStoreFSError):
    """Keys have changed that cannot change while the archive is mounted; `changes` says which."""

    def __init__(self, changes: list[str]) -> None:
        super().__init__(
            f"{'; '.join(changes)}: this needs a restart (unmount and mount), and nothing of the "
            "new configuration was taken over"
        )
        self.changes = changes


async def _change_settling(service: Service, new: ArchiveConfiguration) -> None:
    service.link.change_settling(new.settle_s)


async def _change_spool_limit(service: Service, new: ArchiveConfiguration) -> None:
    service.budget.change_limit(new.spool_max)


async def _change_spool_wait(service: Service, new: ArchiveConfiguration) -> None:
    service.budget.change_wait(new.spool_wait_s if new.spool_full == "wait" else 0.0)


async def _change_cache_limit(service: Service, new: ArchiveConfiguration) -> None:
    await service.read_cache.change_limit(new.cache_max)


async def _change_rescanning(service: Service, new: ArchiveConfiguration) -> None:
    service.link.surveys.ask()  # and from its end on the new interval counts


async def _change_expiry(service: Service, new: ArchiveConfiguration) -> None:
    service.expiring.ask()


async def _is_read_at_each_use(service: Service, new: ArchiveConfiguration) -> None:
    """Nobody has a copy of it."""


_CHANGES: Final[dict[str, Callable[[Service, ArchiveConfiguration], Awaitable[None]]]] = {
    "settle_s": _change_settling,
    "seal_after_s": _is_read_at_each_use,
    "expire_grace_days": _change_expiry,
    "spool_max": _change_spool_limit,
    "spool_full": _change_spool_wait,
    "spool_wait_s": _change_spool_wait,
    "cache_max": _change_cache_limit,
    "index_backup_interval_s": _is_read_at_each_use,
    "rescan_interval_s": _change_rescanning,
    "control_change_group": _is_read_at_each_use,
    "control_admin_group": _is_read_at_each_use,
}

RELOADABLE: Final = frozenset(_CHANGES)
"""`copies` is not among them: what is safe by the old number is not looked at again."""


class Reloading:
    """Of one mount. `rights` are those that its configuration grants; `load` looks them up."""

    def __init__(self, service: Service, reread: Reread) -> None:
        self._service = service
        self._reread = reread
        self._one_at_a_time = trio.Lock()
        self.rights = Rights()

    async def load(self) -> None:
        """At the start. A group that is gone meanwhile grants nothing, and the mount goes on."""
        configuration = self._service.archive.configuration
        try:
            self.rights = await trio.to_thread.run_sync(Rights.of, configuration)
        except ConfigurationError as exc:
            log.error("nobody may use the control socket by a group: %s", exc)

    async def reload(self) -> list[str]:
        """Take over what has changed; its keys. Raises ConfigurationError for a file that is not
        right, and RestartNeeded; nothing has changed then."""
        async with self._one_at_a_time:
            new, rights = await trio.to_thread.run_sync(self._read)
            archive = self._service.archive
            changed = _changed_keys(archive.configuration, new)
            refused = [key for key in changed if key not in RELOADABLE]
            if refused:
                old = archive.configuration
                raise RestartNeeded([text for key in refused for text in _told(key, old, new)])
            archive.configuration = new
            self.rights = rights
            for change in dict.fromkeys(_CHANGES[key] for key in changed):
                await change(self._service, new)
            return changed

    def _read(self) -> tuple[ArchiveConfiguration, Rights]:
        new = self._reread()
        return new, Rights.of(new)


def _changed_keys(old: ArchiveConfiguration, new: ArchiveConfiguration) -> list[str]:
    fields = ArchiveConfiguration.model_fields
    return [key for key in fields if getattr(old, key) != getattr(new, key)]


def _told(key: str, old: ArchiveConfiguration, new: ArchiveConfiguration) -> list[str]:
    """The change of a key, with both values; of `element` the keys that differ."""
    before, after = getattr(old, key), getattr(new, key)
    if isinstance(before, BaseModel):
        return [
            _change(f"{key}.{name}", value, getattr(after, name))
            for name, value in before
            if value != getattr(after, name)
        ]
    if key != "elements":
        return [_change(key, before, after)]
    ids = [[one.id for one in configuration.elements] for configuration in (old, new)]
    if ids[0] != ids[1]:
        return [_change("element", *ids)]
    return [
        _change(f"element[{before.id}].{name}", getattr(before, name), getattr(after, name))
        for before, after in zip(old.elements, new.elements, strict=True)
        for name in ElementConfiguration.model_fields
        if getattr(before, name) != getattr(after, name)
    ]


def _change(key: str, old: Any, new: Any) -> str:
    texts = [json.dumps(value, default=str, ensure_ascii=False) for value in (old, new)]
    return f"{key}: {texts[0]} → {texts[1]}"
