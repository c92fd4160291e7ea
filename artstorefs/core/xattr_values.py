"""The bytes of an extended attribute and the JSON value that stands for them in a document.

`value_to_json` and `value_to_bytes` are each other's inverse, a bijection between all bytes and
all JSON values that a document may hold (see `json_text` for what those are):

    for all bytes b       value_to_bytes(value_to_json(b)) == b
    for all values v      value_to_json(value_to_bytes(v)) == v, and of the same types

so any tool gets the bytes that it set, and the types that others wrote survive `getfattr` followed
by `setfattr`. Bytes are read by the first rule that fits:

    1  not UTF-8                                           {"$b64": their base64}
    2  exactly the compact JSON of a number, true, false,  that value
       null, array or object, and not of the form of 1
    3  exactly the compact JSON of a string that is itself  that string
       read by rule 2 or 3
    4  everything else                                     a string of exactly this text

"The compact JSON" of a value is what `json.dumps` writes with separators "," and ":" and
`ensure_ascii=False`; text that differs in one byte (`1.10`, `1e5`, `{"a": 1}`, `NaN`, a key twice,
an integer of a thousand digits) is read by rule 4.

Why it holds: rule 2 is one to one since a value has one compact text; an object that looks like
rule 1's, written by a user as text, is left to rule 4, and an object by others that only resembles
it (base64 of bytes that are UTF-8, or no base64) is left to rule 2. Rule 3 shifts each ambiguous
string by one pair of quotes, at every depth of quoting, so that none is hit twice:

    bytes          1      "1"      "\"1\""     "a"      {"$b64":"/w=="}
    JSON value     1      "1"      "\"1\""     "\"a\""  "{\"$b64\":\"/w==\"}"
                   number string 1 string "1"  string "a" with its quotes
"""

import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import DEPTH_LIMIT, decode_b64, encode_b64, parse_strict

VALUE_DEPTH_LIMIT: Final = DEPTH_LIMIT - 3
"""How deep one value may nest. In `{"posix": {"xattrs": {name: value}}}` it is three levels down
already, and a document that we write must be one that we read."""

_B64_KEY: Final = "$b64"
_FIRST_OF_NON_STRING: Final = frozenset("-0123456789tfn[{")


def value_to_json(raw: bytes) -> JsonValue:
    """The JSON value for the bytes of an extended attribute; total, see the module's rules."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return {_B64_KEY: encode_b64(raw)}
    if text[:1] in _FIRST_OF_NON_STRING:
        found, value = _read_non_string(text)
        return value if found else text
    unquoted = _unquote(text)
    return unquoted if unquoted is not None and _is_ambiguous(unquoted) else text


def value_to_bytes(value: JsonValue) -> bytes:
    """The bytes that `value_to_json` turns into `value`.

    Raises DocumentInvalid for what no document holds: NaN, Infinity, halves of surrogate pairs,
    Python objects that are not JSON.
    """
    try:
        if isinstance(value, str):
            return (_compact(value) if _is_ambiguous(value) else value).encode("utf-8")
        carried = _carried_bytes(value)
        return _compact(value).encode("utf-8") if carried is None else carried
    except (TypeError, ValueError, RecursionError) as exc:
        raise DocumentInvalid("attribute value", f"is not JSON: {exc}") from None


def check_values(values: Mapping[str, JsonValue]) -> None:
    """Raise DocumentInvalid if a value nests too deep for `value_to_json` to give it back."""
    for key, value in values.items():
        if isinstance(value, (dict, list)) and _nests_deeper(value, VALUE_DEPTH_LIMIT):
            raise DocumentInvalid(key, f"nests deeper than {VALUE_DEPTH_LIMIT} levels")


def _compact(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _carried_bytes(value: JsonValue) -> bytes | None:
    """What rule 1 turned into `value`, None if it was another rule."""
    if not isinstance(value, dict) or value.keys() != {_B64_KEY}:
        return None
    text = value[_B64_KEY]
    raw = decode_b64(text) if isinstance(text, str) else None
    if raw is None:
        return None
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return None


def _read_non_string(text: str) -> tuple[bool, JsonValue]:
    """Whether rule 2 applies to `text`, and to which value."""
    try:
        value = parse_strict(text.encode("utf-8"), VALUE_DEPTH_LIMIT)
    except (ValueError, RecursionError):
        return False, None
    if isinstance(value, str) or _compact(value) != text or _carried_bytes(value) is not None:
        return False, None
    return True, value


def _unquote(text: str) -> str | None:
    """The string whose compact JSON is exactly `text`, None if there is none."""
    if len(text) < 3 or text[0] != '"' or text[-1] != '"':
        return None
    try:
        value = json.loads(text)
        return value if isinstance(value, str) and _compact(value) == text else None
    except ValueError:
        return None


def _is_ambiguous(text: str) -> bool:
    """Whether bytes of this text are read by rule 2 or 3, so that the string needs quotes."""
    inner: str | None = text
    while inner:
        if inner[0] in _FIRST_OF_NON_STRING:
            return _read_non_string(inner)[0]
        inner = _unquote(inner)
    return False


def _nests_deeper(value: JsonValue, limit: int) -> bool:
    """Whether `value` nests more than `limit` levels; never recurses further than that."""
    if not isinstance(value, (dict, list)):
        return False
    if limit == 0:
        return True
    members = value.values() if isinstance(value, dict) else value
    return any(_nests_deeper(member, limit - 1) for member in members)
