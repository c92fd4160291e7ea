"""What each key of NAME.toml is for, with its default as the file would have it: what the commented
files, `artstorefs config` and the man page artstorefs.toml(5) are written from.

Names, defaults and what is allowed are those of the models; only what a key is for stands here. A
test sees to it that every key of the models has that.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from artstorefs.core.configuration import (
    LOCAL_KEYS,
    S3_KEYS,
    ArchiveConfiguration,
    ElementConfiguration,
)
from artstorefs.core.directories import SYSTEM_DIRECTORIES
from artstorefs.core.sizes import format_size, parse_size

COMMENTS: Final[dict[str, str]] = {
    "name": "The archive's name; without this line that of the file.",
    "mountpoint": "Where `artstorefs mount NAME` mounts the archive.",
    "user": "As root: whom the daemon runs as, without privileges. The elements have to be theirs.",
    "state_dir": "The index, the log, and content that no element has yet. Keep it on a good disk.",
    "cache_dir": "Local copies of content that an element has; may be thrown away.",
    "runtime_dir": "The control socket of the running archive.",
    "durability": "log: fsync waits for the local disk; element: it waits for an element.",
    "settle_s": "How many seconds a closed file rests before it is carried to an element.",
    "seal_after_s": "In mode rw: how long after its last close a file can still be changed.",
    "expire_grace_days": "For how many days a file that expires is shown before it is removed.",
    "spool_max": "How much content may wait for the elements.",
    "spool_full": "What writing does then. wait: it waits for room; fail: ENOSPC at once.",
    "spool_wait_s": "How many seconds it waits before it is ENOSPC all the same.",
    "cache_max": "How large cache_dir may grow.",
    "copies": "How many elements have to have each file before it counts as safe.",
    "index_backup_interval_s": "How often the index is copied to state_dir/backup; 0: never.",
    "rescan_interval_s": "How often it is looked for what others changed on elements; 0: never.",
    "control_change_group": "Whose members may flush, rescan, check, fill the cache, see expiry.",
    "control_admin_group": "Whose members may also unmount, reload, change log levels and modes.",
}

ELEMENT_COMMENTS: Final[dict[str, str]] = {
    "id": "A name for it, which never changes.",
    "kind": "local: a directory; s3: a bucket.",
    "path": "The directory, of its own: not inside another element, nor the mountpoint.",
    "mode": "edit: everything; rw: what is complete stays; ro: reading; ar: names only.",
    "priority": "New files go to the element with the lowest number that has room.",
    "capacity": "How much of the disk, or of the bucket, may be used; without it all.",
    "retain_until": "Nothing that is complete there is changed or removed before; only ever later.",
    "expire_after_days": "In mode edit: files that nobody has changed for so long are removed.",
    "adopted": "Whether ArtStore has written it; it may have no archive.json of ours yet.",
    "offline_path": "Where its content goes in mode ar: a disk that need not always be mounted.",
    "on_archived_read": "In mode ar. fail: reading is EREMOTE; recall: it waits for the content.",
    "bucket": "Its name; the bucket has to be there.",
    "prefix": "The part of the bucket that is the element's; without it all.",
    "endpoint": "The address of a server that is not Amazon's.",
    "region": "Where the bucket is; without it that of the profile or the environment.",
    "profile": "Which credentials of the file; without it default.",
    "credentials_file": "Where they are, in the format of the AWS command line.",
    "storage_class": "Of new objects; one from which they can be read at once.",
    "addressing": "path: the bucket in the path (with an endpoint); virtual: in the host name.",
    "multipart_threshold": "From which size on objects are sent in parts.",
    "part_size": "Of a part; more where 10,000 parts would not do.",
    "concurrency": "Requests at a time, and parts in memory, for each of two threads.",
    "verify_tls": "Whether the server's certificate is checked.",
    "ca_bundle": "Certificates to check it against, a PEM file.",
    "encryption": "Have the server encrypt new objects.",
    "encryption_key": "With aws:kms: which key; without it the account's.",
    "object_lock": "How a bucket with Object Lock keeps what is retained; off: it is not told.",
    "archive_storage_class": "In mode ar: the cold class that its content goes into.",
    "restore_tier": "How fast content is restored from there, and at what price.",
}

TABLE_COMMENTS: Final[dict[str, dict[str, str]]] = {
    "metrics": {
        "": "Numbers for a monitor (Prometheus); without this table there are none.",
        "listen": "Where a monitor asks for them over HTTP.",
        "allow_remote": "Whether that may be an address that others can reach.",
        "textfile": "A file that has them, anew every 15 s, for node_exporter.",
    },
    "audit": {
        "": "A record of who changes what, in state_dir/audit.",
        "enabled": "Whether it is kept.",
        "required": "Whether a change that cannot be recorded is refused.",
        "file_max": "From which size on a new file is begun; each day begins one too.",
        "keep_days": "For how many days files are kept; 0: for ever.",
    },
    "recall": {
        "": "How content of elements in mode ar comes back.",
        "not_for": "Programs whose reading never brings any back, whatever on_archived_read says.",
        "webhook": "Where it is told, by a POST, when what was asked for is there.",
        "webhook_secret_file": "A file with the secret that this is signed with.",
    },
}
"""Of each further table, such as `[metrics]`: what its keys are for; under "" what it is for."""

_EXAMPLES: Final[dict[str, object]] = {
    "mountpoint": "/srv/museum",
    "control_change_group": "archivists",
    "control_admin_group": "adm",
    "user": "artstorefs",
    "id": "main",
    "path": "/srv/objects",
    "capacity": "2TiB",
    "retain_until": "2036-01-01",
    "expire_after_days": 90,
    "offline_path": "/mnt/archive-disk",
    "bucket": "museum-objects",
    "prefix": "2026",
    "endpoint": "https://s3.example.org",
    "region": "eu-central-1",
    "profile": "museum",
    "credentials_file": "/etc/artstorefs/museum.credentials",
    "storage_class": "STANDARD_IA",
    "addressing": "path",
    "ca_bundle": "/etc/ssl/certs/museum.pem",
    "encryption": "aws:kms",
    "encryption_key": "alias/museum",
    "archive_storage_class": "DEEP_ARCHIVE",
    "listen": "127.0.0.1:9464",
    "webhook": "https://museum.example.org/recalled",
    "webhook_secret_file": "/etc/artstorefs/museum.webhook",
    "textfile": "/var/lib/node_exporter/museum.prom",
}
"""For keys whose default is that nothing is said."""

SIZES: Final = (
    *("spool_max", "cache_max", "file_max"),
    *("capacity", "multipart_threshold", "part_size"),
)
_NAME: Final = "museum"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `default` and `example` in TOML; `default` is "" where nothing is said, and `None`
    where the key must be there. `allowed` is a phrase."""

    name: str
    comment: str
    allowed: str
    default: str | None
    example: str


def archive_keys() -> Iterator[Key]:
    """Those at the top of the file, in the order of the model."""
    presets = {
        "name": _NAME,
        "state_dir": SYSTEM_DIRECTORIES.state_dir(_NAME),
        "cache_dir": SYSTEM_DIRECTORIES.cache_dir(_NAME),
        "runtime_dir": SYSTEM_DIRECTORIES.runtime_dir(_NAME, Path()),
    }
    return _keys(ArchiveConfiguration, COMMENTS, presets)


def tables() -> dict[str, type[BaseModel]]:
    """The models of the further tables, which are fields of that of the archive."""
    fields = ArchiveConfiguration.model_fields
    kinds = {name: field.annotation for name, field in fields.items()}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


def table_keys(table: str) -> Iterator[Key]:
    """Those of a further table, in the order of its model."""
    comments = {key: text for key, text in TABLE_COMMENTS[table].items() if key}
    return _keys(tables()[table], comments, {})


def element_keys(kind: str) -> Iterator[Key]:
    """Those of an `[[element]]` table of a kind, in the order of the model."""
    others = S3_KEYS if kind == "local" else LOCAL_KEYS
    for key in _keys(ElementConfiguration, ELEMENT_COMMENTS, {}):
        if key.name not in others:
            yield key


def example_configuration() -> str:
    """A file with every key: what has a default is commented out, with it."""
    lines = ["# An archive of ArtStoreFS. What is commented out is a default, or not needed."]
    for key in archive_keys():
        lines += ["", *_commented(key)]
    lines += ["", "# A directory that holds files; there may be several elements.", "[[element]]"]
    for key in element_keys("local"):
        lines += _commented(key)
    lines += ["", "# A bucket that holds files.", "# [[element]]"]
    for key in element_keys("s3"):
        lines += [f"# {key.comment}", f"# {key.name} = {_of_second(key)}"]
    for table in tables():
        lines += ["", f"# {TABLE_COMMENTS[table]['']}", f"# [{table}]"]
        for key in table_keys(table):
            lines += _commented(key)
    return "\n".join(lines) + "\n"


def example_of(key: str) -> object:
    """A value for a key of which nothing is said."""
    return _EXAMPLES[key]


def literal(key: str, value: object) -> str:
    """`value` in TOML: a size with its unit where that is exact, a path as text. TOML's basic
    strings are those of JSON but for DEL."""
    if key in SIZES and isinstance(value, int):
        size = format_size(value)
        value = size if _says(size, value) else value
    elif value is not None and not isinstance(value, int | float):
        value = str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _keys(
    model: type[BaseModel], comments: dict[str, str], presets: dict[str, object]
) -> Iterator[Key]:
    for name, comment in comments.items():
        field = model.model_fields[name]
        value = presets.get(name, None if field.is_required() else field.default)
        if field.is_required() and name not in presets:
            default = None
        else:
            default = "" if value in (None, "") else literal(name, value)
        example = literal(name, _EXAMPLES.get(name, value))
        yield Key(name, comment, field.description or "", default, example)


def _commented(key: Key) -> Iterator[str]:
    is_needed = key.default is None or key.name == "path"
    yield f"# {key.comment}"
    yield f"{'' if is_needed else '# '}{key.name} = {key.default or key.example}"


def _of_second(key: Key) -> str:
    return {"id": '"second"', "kind": '"s3"'}.get(key.name, key.default or key.example)


def _says(size: str, size_bytes: int) -> bool:
    try:
        return parse_size(size) == size_bytes
    except ValueError:  # 97.8TiB is no whole number of bytes
        return False
