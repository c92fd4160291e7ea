"""NAME.toml: what an archive is made of, as one validated, frozen model.

Owns the keys of the file, their defaults and what is allowed for each. Takes text and gives models;
reading files, and the environment, belong to the callers.

Invariants of every `ArchiveConfiguration`: all paths are absolute and hold no `..`; element ids are
unique; no element and no mountpoint lies inside (or around) another, or inside (or around) a
directory of the archive, so no byte of an archive is reached through its own mount.

The `description` of a field is what is allowed there, and every message about the field quotes it.
"""

import ipaddress
import itertools
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from artstorefs.core.configuration_messages import PlaceError, configuration_error
from artstorefs.core.configuration_parts import NOT_IN_PATHS, PATH_ALLOWED, AbsolutePath, Table
from artstorefs.core.directories import CONTROL_SOCKET_NAME, Directories, fill_in_places
from artstorefs.core.errors import ConfigurationError
from artstorefs.core.marks import moment_ns, moment_text
from artstorefs.core.recall_configuration import RecallConfiguration
from artstorefs.core.sizes import SIZE_ALLOWED, parse_size

# A name becomes a file name, a directory name, a unit name of systemd and the `fsname` of a mount;
# one that ends in .toml would be taken for the path of a configuration.
_NAME: Final = re.compile(r"(?!.*\.toml\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_ALLOWED: Final = (
    "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit, "
    "not ending in .toml"
)
# sun_path of sockaddr_un is 108 bytes with the closing NUL (unix(7)).
_SOCKET_PATH_MAX_BYTES: Final = 107
# General purpose buckets have 3 to 63 lower-case letters, digits, "." and "-" (Amazon S3, "Bucket
# naming rules"); older ones, and those of other servers, also capitals and "_".
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
# useradd(8), "CAVEATS".
_ACCOUNT_ALLOWED: Final = "the name of an account"
_BUCKET_ALLOWED: Final = "3 to 63 letters, digits, '.', '_' or '-'"
_GROUP_ALLOWED: Final = "the name of a group of this machine"
# Half of the 1,024 bytes of a key; ours are shorter than the other half.
_PREFIX_MAX_BYTES: Final = 512
_PREFIX_ALLOWED: Final = "a path without '..', empty parts and control characters, up to 512 bytes"
_ENDPOINT_ALLOWED: Final = "http:// or https://, a host, and :PORT if it is not the usual one"
# Amazon S3, "Multipart upload limits"; and one part for each of `concurrency` is in memory.
_PART_MIN_BYTES: Final = 5 * 1024**2
_PART_MAX_BYTES: Final = 128 * 1024**2
_PART_ALLOWED: Final = 'a size from "5MiB" to "128MiB"'
_LISTEN_ALLOWED: Final = (
    'an address and a port, like "127.0.0.1:9464" or "[::1]:9464"; localhost is the one name'
)
_LOCALHOST: Final = "127.0.0.1"
# What a start reads of it, in a tenth of a second for 16 MiB, and what one search goes through.
_AUDIT_FILE_ALLOWED: Final = 'a size from "64KiB" to "1GiB"'
# Where ELEMENT=local:PATH,mode=… ends its path: at a comma that a key follows.
_BEFORE_SETTING: Final = re.compile(r",(?=[A-Za-z_]+=)")


def _check_name(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError("not a name")
    return value


def _read_size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _check_bucket(value: object) -> object:
    if isinstance(value, str) and not _BUCKET.fullmatch(value):
        raise ValueError("not a bucket")
    return value


def _read_prefix(value: object) -> object:
    """Without the "/" that may stand at its end."""
    if not isinstance(value, str) or not value:
        return value
    text = value.removesuffix("/")
    is_bad = NOT_IN_PATHS.search(text) or "\\" in text or {"", ".", ".."} & {*text.split("/")}
    if is_bad or len(text.encode()) > _PREFIX_MAX_BYTES:
        raise ValueError("not a prefix")
    return text


def _check_endpoint(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)  # raises ValueError for brackets that do not match
        is_plain = value == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
        if not (is_plain and parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("not an endpoint")
        _ = parts.port  # raises ValueError for what is no port
    return value


def _check_listen(value: object) -> object:
    if isinstance(value, str):
        split_address(value)
    return value


def split_address(text: str) -> tuple[str, int]:
    """The address, of 4 or of 6, and the port that `text` names. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        address = str(ipaddress.IPv6Address(host[1:-1]))
    else:
        address = str(ipaddress.IPv4Address(_LOCALHOST if host == "localhost" else host))
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError("not a port")
    return address, int(port)


def _read_moment(value: object) -> object:
    """TOML has dates and times of its own; JSON, and the command line, have text."""
    if isinstance(value, datetime | date):
        value = value.isoformat()
    return moment_text(moment_ns(value)) if isinstance(value, str) else value


Name = Annotated[str, BeforeValidator(_check_name)]
Size = Annotated[int, BeforeValidator(_read_size)]
Bucket = Annotated[str, BeforeValidator(_check_bucket)]
Prefix = Annotated[str, BeforeValidator(_read_prefix)]
Endpoint = Annotated[str, BeforeValidator(_check_endpoint)]
Moment = Annotated[str, BeforeValidator(_read_moment)]
Listen = Annotated[str, BeforeValidator(_check_listen)]
# Directory services have names with spaces; ":" and "," separate names in group(5).
GroupName = Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f:,][^\x00-\x1f\x7f:,]{0,255}$")]
Account = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
Word = Annotated[str, Field(pattern=r"^[!-~]{1,2048}$")]


_TableT = TypeVar("_TableT", bound=Table)


class ElementConfiguration(Table):
    """One `[[element]]` table: a place that holds objects.

    `path` is there if and only if `kind` is "local"; the keys from `bucket` on are for "s3" alone,
    and `None` where the file says nothing: what S3 itself, or the environment, has for them.
    """

    id: Name = Field(description=_NAME_ALLOWED)
    kind: Literal["local", "s3"] = Field("local", description='"local" or "s3"')
    path: AbsolutePath | None = Field(None, description=PATH_ALLOWED)
    mode: Literal["edit", "rw", "ro", "ar"] = Field("edit", description="edit, rw, ro or ar")
    priority: int = Field(1, ge=0, description="a whole number from 0; the lowest is filled first")
    capacity: Size | None = Field(None, gt=0, description=SIZE_ALLOWED)
    retain_until: Moment | None = Field(None, description="a date, or a time, as in ISO 8601")
    expire_after_days: int | None = Field(
        None, ge=1, le=36_500, description="a whole number of days, from 1"
    )
    adopted: bool = Field(False, description="true or false")
    offline_path: AbsolutePath | None = Field(None, description=PATH_ALLOWED)
    on_archived_read: Literal["fail", "recall"] = Field("fail", description="fail or recall")
    bucket: Bucket | None = Field(None, description=_BUCKET_ALLOWED)
    prefix: Prefix = Field("", description=_PREFIX_ALLOWED)
    endpoint: Endpoint | None = Field(None, description=_ENDPOINT_ALLOWED)
    region: Word | None = Field(None, description="the name of a region, like eu-central-1")
    profile: Word | None = Field(None, description="the name of a profile of the credentials")
    credentials_file: AbsolutePath | None = Field(None, description=PATH_ALLOWED)
    storage_class: Word | None = Field(None, description="a storage class, like STANDARD_IA")
    addressing: Literal["path", "virtual"] | None = Field(None, description="path or virtual")
    multipart_threshold: Size = Field(
        16 * 1024**2, ge=_PART_MIN_BYTES, le=_PART_MAX_BYTES, description=_PART_ALLOWED
    )
    part_size: Size = Field(
        8 * 1024**2, ge=_PART_MIN_BYTES, le=_PART_MAX_BYTES, description=_PART_ALLOWED
    )
    concurrency: int = Field(4, ge=1, le=64, description="a whole number from 1 to 64")
    verify_tls: bool = Field(True, description="true or false")
    ca_bundle: AbsolutePath | None = Field(None, description=PATH_ALLOWED)
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        None, description='"AES256" or "aws:kms"'
    )
    encryption_key: Word | None = Field(None, description="the id or ARN of a key of KMS")
    object_lock: Literal["governance", "compliance", "off"] = Field(
        "governance", description='"governance", "compliance" or "off"'
    )
    archive_storage_class: Word | None = Field(
        None, description="a cold storage class, like GLACIER or DEEP_ARCHIVE"
    )
    restore_tier: Literal["Standard", "Bulk", "Expedited"] = Field(
        "Standard", description='"Standard", "Bulk" or "Expedited"'
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        fields = type(self).model_fields
        needed = "path" if self.kind == "local" else "bucket"
        if getattr(self, needed) is None:
            reason = f"is missing; it must be {fields[needed].description}"
            raise PlaceError(needed, reason)
        for key in ("path", "offline_path") if self.kind == "s3" else S3_KEYS:
            if getattr(self, key) != fields[key].default:
                raise PlaceError(key, f"is set, but an element of kind {self.kind} has no such key")
        if self.expire_after_days is not None and self.mode != "edit":
            reason = f"is set, but in mode {self.mode} nothing is removed; that is for mode edit"
            raise PlaceError("expire_after_days", reason)
        if self.adopted and self.kind != "local":
            raise PlaceError("adopted", "is set, but only a directory can be adopted")
        if self.encryption_key is not None and self.encryption != "aws:kms":
            raise PlaceError("encryption_key", 'is set; it needs encryption = "aws:kms"')
        if self.ca_bundle is not None and not self.verify_tls:
            raise PlaceError("ca_bundle", "is set, but verify_tls = false ignores it; drop one")
        return self

    @property
    def place(self) -> str:
        """Where it is, for a person: the directory, or `s3:BUCKET/PREFIX`."""
        if self.kind == "local":
            return str(self.path)
        return f"s3:{self.bucket}/{self.prefix}".removesuffix("/")


LOCAL_KEYS: Final = ("path", "adopted", "offline_path")
"""The keys that only an element of kind "local" has."""

S3_KEYS: Final = (
    *("bucket", "prefix", "endpoint", "region", "profile", "credentials_file", "storage_class"),
    *("addressing", "multipart_threshold", "part_size", "concurrency", "verify_tls", "ca_bundle"),
    *("encryption", "encryption_key", "object_lock", "archive_storage_class", "restore_tier"),
)
"""The keys that only an element of kind "s3" has, in the order of the documentation."""


class MetricsConfiguration(Table):
    """The `[metrics]` table: where numbers for a monitor are to be had; nowhere by default."""

    listen: Listen | None = Field(None, description=_LISTEN_ALLOWED)
    allow_remote: bool = Field(False, description="true or false")
    textfile: AbsolutePath | None = Field(None, description=PATH_ALLOWED)

    @model_validator(mode="after")
    def _check_reach(self) -> Self:
        if self.listen is None:
            return self
        address, _ = split_address(self.listen)
        if not (self.allow_remote or ipaddress.ip_address(address).is_loopback):
            raise PlaceError(
                "listen",
                f'"{self.listen}" can be reached by others, who would be asked for nothing; '
                "if that is meant, set allow_remote = true",
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do."""
        return self.listen is not None or self.textfile is not None


class AuditConfiguration(Table):
    """The `[audit]` table: a record of who changed what, see AUDIT.md."""

    enabled: bool = Field(False, description="true or false")
    required: bool = Field(False, description="true or false")
    file_max: Size = Field(16 * 1024**2, ge=65_536, le=1024**3, description=_AUDIT_FILE_ALLOWED)
    keep_days: int = Field(0, ge=0, le=36_500, description="a whole number of days, or 0 for ever")


class ArchiveConfiguration(Table):
    """The whole of NAME.toml, every default filled in.

    `capacity` of an element and `mountpoint` are `None` where the file says nothing: the size of
    the file system that the element is on, and a mountpoint that `mount` has to be given.
    """

    name: Name = Field(description=_NAME_ALLOWED)
    mountpoint: AbsolutePath | None = Field(None, description=PATH_ALLOWED)
    user: Account | None = Field(None, description=_ACCOUNT_ALLOWED)
    state_dir: AbsolutePath = Field(description=PATH_ALLOWED)
    cache_dir: AbsolutePath = Field(description=PATH_ALLOWED)
    runtime_dir: AbsolutePath = Field(description=PATH_ALLOWED)
    durability: Literal["log", "element"] = Field("log", description="log or element")
    settle_s: float = Field(1.0, ge=0, le=3600, description="a number of seconds from 0 to 3600")
    seal_after_s: float = Field(
        60.0, ge=0, le=31_536_000, description="a number of seconds from 0 to a year"
    )
    expire_grace_days: int = Field(
        7, ge=1, le=3650, description="a whole number of days from 1 to 3650"
    )
    spool_max: Size = Field(50 * 1024**3, gt=0, description=SIZE_ALLOWED)
    spool_full: Literal["wait", "fail"] = Field("wait", description="wait or fail")
    spool_wait_s: float = Field(
        30.0, ge=0, le=3600, description="a number of seconds from 0 to 3600"
    )
    cache_max: Size = Field(50 * 1024**3, gt=0, description=SIZE_ALLOWED)
    copies: int = Field(1, ge=1, le=100, description="a whole number from 1 to that of elements")
    index_backup_interval_s: float = Field(
        3600.0, ge=0, le=31_536_000, description="a number of seconds, or 0 for no backups"
    )
    rescan_interval_s: float = Field(
        0.0, ge=0, le=31_536_000, description="a number of seconds, or 0 for never"
    )
    control_change_group: GroupName | None = Field(None, description=_GROUP_ALLOWED)
    control_admin_group: GroupName | None = Field(None, description=_GROUP_ALLOWED)
    metrics: MetricsConfiguration = Field(MetricsConfiguration(), description="a [metrics] table")
    audit: AuditConfiguration = Field(AuditConfiguration(), description="an [audit] table")
    recall: RecallConfiguration = Field(RecallConfiguration(), description="a [recall] table")
    elements: tuple[ElementConfiguration, ...] = Field(
        alias="element", min_length=1, strict=False, description="at least one [[element]] table"
    )

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        ids = [element.id for element in self.elements]
        for number, element_id in enumerate(ids):
            if element_id in ids[:number]:
                raise PlaceError("element.id", f'"{element_id}" is there twice; ids are unique')
        if self.copies > len(ids):
            raise PlaceError(
                "copies", f"{self.copies} are wanted, on {len(ids)} elements: add some"
            )
        _check_overlaps(self)
        socket = os.fsencode(self.runtime_dir / CONTROL_SOCKET_NAME)
        if len(socket) > _SOCKET_PATH_MAX_BYTES:
            raise PlaceError(
                "runtime_dir",
                f'"{self.runtime_dir}" is too long: the path of the control socket in it would '
                f"have {len(socket)} bytes, at most {_SOCKET_PATH_MAX_BYTES} are allowed",
            )
        return self

    def with_modes(self, modes: Mapping[str, str]) -> "ArchiveConfiguration":
        """This configuration with these modes of the elements, by their ids."""
        elements = (one.model_copy(update={"mode": modes[one.id]}) for one in self.elements)
        return self.model_copy(update={"elements": tuple(elements)})

    def with_mountpoint(self, mountpoint: Path, where: str) -> "ArchiveConfiguration":
        """This configuration mounted at `mountpoint`, checked like one that a file names.

        Raises `ConfigurationError`, with `where` as the origin of the path, when the path is
        relative or overlaps an element or a directory of the archive.
        """
        fields = {**self.model_dump(by_alias=True), "mountpoint": mountpoint}
        return _validated(ArchiveConfiguration, fields, where)


def _check_overlaps(configuration: ArchiveConfiguration) -> None:
    """Refuse an element or mountpoint that overlaps another place of the archive."""
    exposed = [(f"element[{e.id}].path", e.path) for e in configuration.elements if e.path]
    for one in configuration.elements:
        if one.offline_path is not None:
            exposed.append((f"element[{one.id}].offline_path", one.offline_path))
    if configuration.mountpoint is not None:
        exposed.append(("mountpoint", configuration.mountpoint))
    private = [
        (key, getattr(configuration, key)) for key in ("state_dir", "cache_dir", "runtime_dir")
    ]
    textfile = configuration.metrics.textfile
    for key, path in exposed:
        if textfile is not None and textfile.is_relative_to(path):
            reason = f'"{textfile}" lies in {key} "{path}"; it belongs to the monitor\'s directory'
            raise PlaceError("metrics.textfile", reason)
    pairs = itertools.chain(itertools.combinations(exposed, 2), itertools.product(exposed, private))
    for (key, path), (other_key, other_path) in pairs:
        if path.is_relative_to(other_path) or other_path.is_relative_to(path):
            raise PlaceError(
                key, f'"{path}" overlaps {other_key} "{other_path}"; give each a place of its own'
            )
    buckets = [element for element in configuration.elements if element.kind == "s3"]
    for one, other in itertools.combinations(buckets, 2):
        path, other_path = Path("/", one.prefix), Path("/", other.prefix)
        same = (one.endpoint, one.bucket) == (other.endpoint, other.bucket)
        if same and (path.is_relative_to(other_path) or other_path.is_relative_to(path)):
            raise PlaceError(
                f"element[{one.id}].prefix",
                f'"{one.place}" overlaps element[{other.id}] "{other.place}"; '
                "give each a prefix of its own",
            )


def _validated(model: type[_TableT], values: Mapping[str, Any], where: str) -> _TableT:
    try:
        return model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as exc:
        raise configuration_error(model, exc, values, where) from None


def parse_configuration(text: str, path: str, defaults: Directories) -> ArchiveConfiguration:
    """The configuration that `text` holds; `path` is the file it comes from.

    `name` is the stem of `path` where the text does not say, and the three directories are those
    of `defaults` for that name. Raises `ConfigurationError`, whose one line names file, key, value
    and what is allowed.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError(path, "", "is not usable TOML: nests too deep") from None
    except ValueError as exc:  # also for an integer of more digits than Python converts
        raise ConfigurationError(path, "", f"is not TOML: {exc}") from None
    fill_in_places(values, path, defaults)
    return _validated(ArchiveConfiguration, values, path)


def new_configuration(
    name: str,
    elements: Sequence[ElementConfiguration],
    mountpoint: str | None,
    defaults: Directories,
    *,
    copies: int = 1,
    user: str | None = None,
) -> ArchiveConfiguration:
    """The configuration of a new archive, all else by default. Raises `ConfigurationError`."""
    values: dict[str, Any] = {
        "name": name,
        "mountpoint": mountpoint,
        "copies": copies,
        "user": user,
        "element": [element.model_dump() for element in elements],
    }
    fill_in_places(values, name, defaults)
    return _validated(ArchiveConfiguration, values, f"archive {name}")


def parse_element_argument(text: str, resolve: Callable[[str], str] = str) -> ElementConfiguration:
    """The element that `ID=local:PATH` or `ID=s3:BUCKET[/PREFIX]` describes, with `,KEY=VALUE` for
    each further key.

    A comma belongs to PATH or PREFIX unless a key and `=` follow it. `resolve` makes paths absolute
    (the working directory and the home are the caller's to know). Raises `ConfigurationError`.
    """
    where = f"--element {text}"
    element_id, equals, rest = text.partition("=")
    kind, colon, place = rest.partition(":")
    if not (equals and colon):
        likeness = "ID=local:PATH or ID=s3:BUCKET[/PREFIX], and then [,mode=edit]"
        raise ConfigurationError(where, "", f"must look like {likeness}")
    path, *settings = _BEFORE_SETTING.split(place)
    values: dict[str, Any] = {"id": element_id, "kind": kind}
    if kind == "s3":
        values["bucket"], _, values["prefix"] = path.partition("/")
    else:
        values["path"] = resolve(path)
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in values:
            raise ConfigurationError(where, key, f'"{value}" is one {key} too many')
        values[key] = _setting(key, value, resolve)
    return _validated(ElementConfiguration, values, where)


def _setting(key: str, text: str, resolve: Callable[[str], str]) -> object:
    """The value that a key of `--element` has in TOML."""
    if key in ("priority", "concurrency", "expire_after_days") and text.isdecimal():
        return int(text)
    if key in ("verify_tls", "adopted") and text in ("true", "false"):
        return text == "true"
    if key in ("credentials_file", "ca_bundle", "offline_path"):
        return resolve(text)
    return text
