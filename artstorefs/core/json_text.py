"""Bytes as JSON text and back, and the one strict reader and writer of JSON documents.

POSIX names and extended attributes are bytes, JSON is text. What is readable stays readable; what
is not UTF-8, or would garble a terminal, is carried as base64 in a form that says so:

    a value      "report.pdf"          or  {"$b64": "cmVwb3L/"}
    an object key "camera"             or  "$b64:Y2FtZXJh/w=="

Both directions are exact: `name_from_json(name_to_json(b)) == b`, and the same for keys.

Documents come from disks and networks that others write to, so `parse_object` accepts a subset of
JSON in which nothing is ambiguous: UTF-8 without surrogates, no key twice in an object, no NaN or
Infinity, bounded size, depth and digits. `dump` writes only what `parse_object` reads.
"""

import base64
import binascii
import json
import re
from typing import Any, Final, NoReturn

from pydantic import JsonValue
from pydantic_core import to_json

from artstorefs.core.errors import DocumentInvalid, DocumentTooLarge

JsonObject = dict[str, JsonValue]

NAME_LIMIT_BYTES: Final = 255
"""NAME_MAX of Linux; the kernel refuses longer names before they reach us."""

DEPTH_LIMIT: Final = 32
"""How deep a document may nest: far beyond any metadata, far below any interpreter's stack."""

INTEGER_LIMIT_DIGITS: Final = 128
"""Beyond every number in use; keeps the quadratic conversion of digits to integers small."""

_B64_KEY: Final = "$b64"
_B64_PREFIX: Final = "$b64:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A whole JSON string (one that is cut off runs to the end, so that the scan stays linear), or a
# bracket outside of strings.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


# ------------------------------------------------------------------------------ bytes and text


def encode_b64(raw: bytes) -> str:
    """`raw` in standard base64 (RFC 4648 section 4, with padding)."""
    return base64.b64encode(raw).decode("ascii")


def decode_b64(text: str) -> bytes | None:
    """The bytes of `text` if it is exactly what `encode_b64` writes for them, else None."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if encode_b64(raw) == text else None


def readable_text(raw: bytes) -> str | None:
    """`raw` as text if it is UTF-8 without control characters (below 0x20, and 0x7f), else None."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def cut_utf8(text: str, limit_bytes: int) -> str:
    """The longest start of `text` whose UTF-8 form takes at most `limit_bytes`."""
    encoded = text.encode("utf-8")
    if len(encoded) <= limit_bytes:
        return text
    return encoded[:limit_bytes].decode("utf-8", "ignore")


def name_to_json(name: bytes) -> JsonValue:
    """A name (or symlink target) as JSON: its text if readable, else `{"$b64": ...}`."""
    text = readable_text(name)
    return {_B64_KEY: encode_b64(name)} if text is None else text


def name_from_json(value: object) -> bytes:
    """The bytes of a name in JSON. Raises DocumentInvalid if `value` has neither form.

    Says nothing about whether the bytes make a good name; that is `check_name`.
    """
    raw: bytes | None = None
    if isinstance(value, str):
        try:
            raw = value.encode("utf-8")
        except UnicodeEncodeError:
            raw = None
    elif isinstance(value, dict) and value.keys() == {_B64_KEY}:
        text = value[_B64_KEY]
        raw = decode_b64(text) if isinstance(text, str) else None
    if raw is None:
        raise DocumentInvalid("name", 'must be text or {"$b64": base64}')
    return raw


def check_name(name: bytes) -> None:
    """Raise DocumentInvalid unless `name` can be one name in a POSIX directory."""
    if not name:
        reason = "is empty"
    elif name in (b".", b".."):
        reason = "must not be . or .."
    elif b"/" in name:
        reason = "contains a slash"
    elif b"\0" in name:
        reason = "contains a NUL byte"
    elif len(name) > NAME_LIMIT_BYTES:
        reason = f"is {len(name)} bytes long, at most {NAME_LIMIT_BYTES} are allowed"
    else:
        return
    raise DocumentInvalid("name", reason)


def key_to_json(key: bytes) -> str:
    """An extended attribute's name as a JSON object key: readable text, or "$b64:" and base64."""
    text = readable_text(key)
    if text is None or text.startswith(_B64_PREFIX):
        return _B64_PREFIX + encode_b64(key)
    return text


def key_from_json(text: str) -> bytes:
    """The bytes of a key. Raises DocumentInvalid for a text that `key_to_json` never writes.

    Keys by others may be such texts (with control characters, say). They have no name as an
    extended attribute, because a second key would come to stand for the same bytes; they are kept.
    """
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise DocumentInvalid("key", "contains half of a surrogate pair") from None
    if text.startswith(_B64_PREFIX):
        decoded = decode_b64(text.removeprefix(_B64_PREFIX))
        raw = raw if decoded is None else decoded
    if key_to_json(raw) != text:
        raise DocumentInvalid("key", "is not the form in which these bytes are written")
    return raw


# ------------------------------------------------------------------------------------- reading


class _Refused(ValueError):
    """JSON that Python would take and that this format does not allow."""


def _refuse_constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not JSON")


def _integer(text: str) -> int:
    if len(text.removeprefix("-")) > INTEGER_LIMIT_DIGITS:
        raise _Refused(f"an integer has more than {INTEGER_LIMIT_DIGITS} digits")
    return int(text)


def _finite_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _Refused("a number is too large")
    return number


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("a key occurs twice in one object")
    return members


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_integer,
)


def _check_depth(data: bytes, limit: int) -> None:
    """Refuse `data` if its brackets nest deeper than `limit`, without recursion."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > limit:
                raise _Refused(f"nests deeper than {limit} levels")
        elif token in (b"]", b"}"):
            depth -= 1


def parse_strict(data: bytes, depth_limit: int = DEPTH_LIMIT) -> JsonValue:
    """Any JSON value of the strict subset. Raises ValueError, whose text is the reason."""
    text = data.decode("utf-8")
    _check_depth(data, depth_limit)
    value: JsonValue = _DECODER.decode(text)
    if "\\u" in text:  # only an escape can bring in half of a surrogate pair
        try:
            to_json(value)
        except ValueError:
            raise _Refused("contains half of a surrogate pair") from None
    return value


def parse_object(data: bytes, where: str, limit: int) -> JsonObject:
    """The JSON object in `data`; `where` names the document in errors.

    Raises DocumentTooLarge above `limit` bytes, and DocumentInvalid for whatever is not an object
    of the strict subset; nothing else, whatever `data` is.
    """
    if len(data) > limit:
        raise DocumentTooLarge(where, len(data), limit)
    try:
        value = parse_strict(data)
    except UnicodeDecodeError as exc:
        raise DocumentInvalid(where, f"is not UTF-8 at byte {exc.start}") from None
    except (ValueError, RecursionError) as exc:
        raise DocumentInvalid(where, f"is not usable JSON: {exc}") from None
    if not isinstance(value, dict):
        raise DocumentInvalid(where, "is JSON, but not an object")
    return value


# ------------------------------------------------------------------------------------- writing


def encoded_size(value: JsonValue) -> int:
    """How many bytes `value` takes as compact JSON. Raises DocumentInvalid for what is none."""
    try:
        return len(to_json(value))
    except (ValueError, RecursionError) as exc:
        raise DocumentInvalid("value", f"cannot be written as JSON: {exc}") from None


def dump(value: JsonObject, where: str, limit: int) -> bytes:
    """`value` as UTF-8 JSON of at most `limit` bytes: indented if that fits, else compact.

    What comes out has been read back: nothing leaves here that `parse_object` would refuse.
    Raises DocumentTooLarge, and DocumentInvalid for such a value.
    """
    try:
        data = to_json(value, indent=2) + b"\n"
        if len(data) > limit:
            data = to_json(value)
        parse_strict(data)
    except (ValueError, RecursionError) as exc:
        raise DocumentInvalid(where, f"cannot be written as JSON: {exc}") from None
    if len(data) > limit:
        raise DocumentTooLarge(where, len(data), limit)
    return data
