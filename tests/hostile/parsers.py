"""Every parser of what others can write, each with a source of inputs and what must hold of it.

A `Target`'s `check` takes an input and returns whether the parser took it; it raises one of
`refuses` for what is not usable, and anything else that it raises is a bug.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.archive_record import parse_archive_record, render_archive_record
from artstorefs.core.attributes import parse_attributes, render
from artstorefs.core.configuration import parse_configuration
from artstorefs.core.configuration_text import render_configuration
from artstorefs.core.directories import Directories
from artstorefs.core.errors import (
    ConfigurationError,
    DocumentError,
    DocumentTooLarge,
    KeyInvalid,
)
from artstorefs.core.json_text import (
    check_name,
    key_from_json,
    key_to_json,
    name_from_json,
    name_to_json,
    parse_strict,
)
from artstorefs.core.mode_record import parse_mode_record, render_mode_record
from artstorefs.core.node_record import parse_record, render_record
from artstorefs.core.xattr_values import check_values, value_to_bytes, value_to_json
from artstorefs.elements import interface
from artstorefs.filesystem.acl import Acl, AclInvalid, inherit
from artstorefs.state.spool import parse_spool_name, spool_name
from artstorefs.transfer.jobs import BatchResult, MessageInvalid, decode, encode
from artstorefs_daemon.control.protocol import (
    METHOD_NOT_FOUND,
    ControlError,
    error_line,
    parse_request,
)

from .mutation import (
    ODD_TEXTS,
    bytes_source,
    document_source,
    mutated_bytes,
    mutated_value,
    odd_value,
    written,
)

FORMAT = (Path(__file__).parents[2] / "artstorefs" / "FORMAT.md").read_text()
DOCUMENTS = re.findall(r"^```json (.*?)\n(.*?)^```$", FORMAT, re.DOTALL | re.MULTILINE)
ATTRIBUTES = [json.loads(text) for kind, text in DOCUMENTS if kind.startswith("attr.json")]
RECORDS = [json.loads(text) for kind, text in DOCUMENTS if kind.endswith("record")]
MODES = [json.loads(text) for kind, text in DOCUMENTS if kind == "mode.json"]
ARCHIVES = [json.loads(text) for kind, text in DOCUMENTS if kind == "archive.json"]
DEFAULTS = Directories(Path("/var/lib/a"), Path("/var/cache/a"), Path("/run/a"))


@dataclass(frozen=True)
class Target:
    name: str
    make: Callable[[random.Random], Any]
    check: Callable[[Any], bool]
    refuses: tuple[type[Exception], ...]


def exact(value: Any) -> Any:
    """`value` with its types, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: exact(member) for key, member in value.items()}
    if isinstance(value, list):
        return [exact(member) for member in value]
    return type(value), repr(value)


# ----------------------------------------------------------------------------------- documents


def check_attributes(data: bytes) -> bool:
    document = parse_attributes(data, "x")
    again = _rendered(render, document)
    if again is not None:
        parsed = parse_attributes(again, "x")
        if parsed.original_filename != document.original_filename:  # cut, to make it fit
            assert document.original_filename.startswith(parsed.original_filename)
            document = document.with_changes(original_filename=parsed.original_filename)
        assert exact(parsed.as_json()) == exact(document.as_json())
    if document.posix is not None:
        check_name(document.posix.name_bytes)
        assert 0 <= document.posix.mode_bits <= 0o7777
    return True


def check_record(data: bytes) -> bool:
    record = parse_record(data, "x")
    again = _rendered(render_record, record)
    if again is not None:
        assert exact(parse_record(again, "x").as_json()) == exact(record.as_json())
    return True


def check_archive(data: bytes) -> bool:
    record = parse_archive_record(data, "x")
    again = _rendered(render_archive_record, record)
    if again is not None:
        assert exact(parse_archive_record(again, "x").as_json()) == exact(record.as_json())
    return True


def check_mode(data: bytes) -> bool:
    record = parse_mode_record(data, "x")
    again = render_mode_record(record.element_id, record.state)
    assert parse_mode_record(again, "x").state == record.state
    return True


def _rendered(function: Callable[[Any], bytes], document: Any) -> bytes | None:
    """What was read can be written, but for its size: what we add may be too much."""
    try:
        return function(document)
    except DocumentTooLarge:
        return None


# ------------------------------------------------------------------------------- configuration

CONFIGURATION = b"""\
name = "museum"
mountpoint = "/srv/museum"
state_dir = "/srv/state"
durability = "log"
settle_s = 1.5
spool_max = "100GiB"

[[element]]
id = "main"
kind = "local"
path = "/srv/objects"
mode = "edit"
capacity = "2TiB"

[[element]]
id = "second"
path = "/mnt/disk2/objects"
priority = 2
retain_until = 2031-01-02T03:04:05+01:00
"""


def check_configuration(data: bytes) -> bool:
    configuration = parse_configuration(data.decode(errors="replace"), "museum.toml", DEFAULTS)
    text = render_configuration(configuration, DEFAULTS)
    assert parse_configuration(text, "museum.toml", DEFAULTS) == configuration
    return True


# -------------------------------------------------------------------- values, names, keys, lists


def make_value(rng: random.Random) -> bytes:
    """Bytes that are JSON, or almost."""
    value = written(rng, odd_value(rng))
    for _ in range(rng.randrange(3)):
        value = json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    return mutated_bytes(rng, value) if rng.random() < 0.3 else value


def check_value(raw: bytes) -> bool:
    value = value_to_json(raw)
    assert value_to_bytes(value) == raw
    assert exact(value_to_json(value_to_bytes(value))) == exact(value)
    try:
        by_others = parse_strict(raw)
        check_values({"x": by_others})
    except ValueError:
        return True
    assert exact(value_to_json(value_to_bytes(by_others))) == exact(by_others)
    return True


def make_name(rng: random.Random) -> Any:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(260))
    if kind == 1:
        return mutated_bytes(rng, rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass"))
    return mutated_value(rng, rng.choice(["name", {"$b64": "Y2Fm6Q=="}, "$b64:Y2Fm6Q=="]))


def check_names(made: Any) -> bool:
    if isinstance(made, bytes):
        assert name_from_json(name_to_json(made)) == made
        assert key_from_json(key_to_json(made)) == made
        return True
    if isinstance(made, str):
        assert key_to_json(key_from_json(made)) == made
    raw = name_from_json(made)
    assert name_from_json(name_to_json(raw)) == raw
    return True


KEYS = re.search(r"^```text keys\n(.*?)^```$", FORMAT, re.DOTALL | re.MULTILINE)


def make_key(rng: random.Random) -> Any:
    assert KEYS is not None
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(256)), rng.choice(ODD_TEXTS), rng.randrange(2**37)
    made = mutated_bytes(rng, rng.choice(KEYS[1].split()).encode())
    return made.decode("utf-8", rng.choice(["surrogateescape", "replace"]))


def check_keys(made: Any) -> bool:
    if isinstance(made, tuple):
        name, user, second = made
        key = naming.object_key(name, user, datetime.fromtimestamp(second, UTC), UUID(int=second))
        naming.check_key(naming.sidecar_key(key))
        interface.check_writable_key("main", naming.blocks_key(key))
        assert not naming.is_sidecar(key)
        assert naming.object_of(naming.sidecar_key(key)) == key
        return True
    naming.is_record(made)
    if naming.is_sidecar(made):
        assert naming.sidecar_key(naming.object_of(made)) == made
    interface.check_key("main", made)
    parts = made.split("/")
    assert not {"", ".", ".."} & set(parts)
    naming.check_key(made)
    return True


ACCESS_LISTS = [
    bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff"),
    bytes.fromhex(
        "02000000010007000000000002000600e903000004000500000000000800"
        "0400ea03000010000700000000002000000000000000"
    ),
]


def check_access_list(value: bytes) -> bool:
    parsed = Acl.parse(value)
    assert parsed.render() == value
    for mode in (0, 0o777, 0o640, 0o4755):
        assert Acl.parse(parsed.with_mode(mode).render()).mode_bits() == mode & 0o777
        made, access = inherit(parsed, 0o100000 | mode)
        assert made & 0o777 & ~mode == 0
        assert access is None or Acl.parse(access.render()) == access
    return True


# ------------------------------------------------------------------------------------ messages

REQUESTS = [
    {"jsonrpc": "2.0", "id": 1, "method": "flush"},
    {"jsonrpc": "2.0", "id": "a", "method": "status", "params": {}},
]
OUTCOME = {"ino": 17, "element": "main", "key": "a/b", "is_record": False, "revision": 1}
OUTCOME |= {"content": 1, "size": 5, "sha256": "0" * 64, "blocks": None, "seen_size": 9}
OUTCOME |= {"seen_modified_ns": 5, "links": [1]}
RESULTS = [
    {
        "batch": 1,
        "stored": [OUTCOME],
        "removed": [5],
        "failed": [{"ino": 18, "error": "no room", "refused": True}],
        "dropped": [19],
        "removal_failures": [[6, "no answer", False]],
        "observed": [
            {
                "ino": 20,
                "element": "main",
                "custom": {"a": 1},
                "carried": {},
                "seen_size": 1,
                "seen_modified_ns": 2,
            },
        ],
    }
]


def check_request(line: bytes) -> bool:
    request = parse_request(line)
    assert isinstance(request["method"], str)
    answer = error_line(request.get("id"), ControlError(METHOD_NOT_FOUND, request["method"]))
    assert json.loads(answer, parse_constant=_no_json)["id"] == request.get("id")
    return True


def _no_json(text: str) -> None:
    raise AssertionError(f"{text} in an answer is not JSON")


def check_message(line: bytes) -> bool:
    message = decode(line)
    result = BatchResult.from_message(message)
    again = BatchResult.from_message(decode(encode(result.to_message())))
    assert exact(again.to_message()) == exact(result.to_message())
    return True


def make_spool_name(rng: random.Random) -> str:
    name = spool_name(rng.randrange(2 ** rng.randrange(1, 70)), rng.randrange(1000))
    if rng.random() < 0.3:
        return name
    return mutated_bytes(rng, name.encode()).decode("utf-8", "surrogateescape")


def check_spool_name(name: str) -> bool:
    ino, version = parse_spool_name(name)
    assert spool_name(ino, version) == name
    assert 0 <= ino < 2**63
    assert 0 <= version < 2**63
    return True


TARGETS = [
    Target("attr.json", document_source(ATTRIBUTES), check_attributes, (DocumentError,)),
    Target("node record", document_source(RECORDS), check_record, (DocumentError,)),
    Target("archive.json", document_source(ARCHIVES), check_archive, (DocumentError,)),
    Target("mode.json", document_source(MODES), check_mode, (DocumentError,)),
    Target(
        "configuration", bytes_source([CONFIGURATION]), check_configuration, (ConfigurationError,)
    ),
    Target("xattr value", make_value, check_value, (DocumentError,)),
    Target("names", make_name, check_names, (DocumentError,)),
    Target("keys", make_key, check_keys, (KeyInvalid,)),
    Target("access list", bytes_source(ACCESS_LISTS), check_access_list, (AclInvalid,)),
    Target("control request", document_source(REQUESTS), check_request, (ControlError,)),
    Target("transfer message", document_source(RESULTS), check_message, (MessageInvalid,)),
    Target("spool name", make_spool_name, check_spool_name, (ValueError,)),
]
