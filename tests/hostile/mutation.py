"""Wrong inputs made of right ones: a mutator that knows JSON, and one that knows only bytes.

Everything comes from the `random.Random` that is passed in: one seed, one sequence.
"""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD_NUMBERS = [0, -1, 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63) - 1, 10**127]
ODD_NUMBERS += [10**200, 0.0, -0.0, 1e-320, 1e308, 1.5]
ODD_TEXTS = ["", ".", "..", "/", "a/b", "a\0b", "\ud800", "x" * 256, "x" * 5000, "é", "e\u0301"]
ODD_TEXTS += ["\u202e", "../../etc/passwd", "$b64", "$b64:", "$b64:AA==", "NaN", "null", "1", '"1"']
ODD_TEXTS += ["0001-01-01", "9999-12-31T23:59:59.999999Z", "2025-02-30", "1e5", "-0", "\u2028"]
ODD_TEXTS += ["00000000-0000-0000-0000-000000000000", "{00000000000000000000000000000000}", "0644"]
ODD_TEXTS += ["7777", "link", "symlink", "char", "1.0", "2.0", "3.0", "model_config", "__class__"]
ODD_KEYS = [*ODD_TEXTS, "$b64", "posix", "type", "target", "rdev", "blocks", "as_json", "unknown"]
ODD_KEYS += ["custom_attributes", "xattrs", "system.posix_acl_access", "model_fields_set"]


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return rng.choice(ODD_TEXTS)
    if kind < 4:
        return rng.choice(ODD_NUMBERS)
    if kind < 6:
        return rng.choice([None, True, False, {}, [], {"$b64": "/w=="}, {"$b64": "YQ"}])
    if kind < 8:
        return [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(ODD_KEYS): odd_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def mutated_value(rng: random.Random, value: Any) -> Any:
    """`value` with one to three changes somewhere inside: replaced, removed, added, exchanged."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        value = _changed(rng, value)
    return value


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        action = rng.randrange(8)
        if action == 0:
            del value[key]
        elif action == 1:
            value[rng.choice(ODD_KEYS)] = odd_value(rng)
        elif action == 2:
            other = rng.choice(list(value))
            value[key], value[other] = value[other], value[key]
        else:
            value[key] = _changed(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        value[index] = _changed(rng, value[index])
        return value
    if isinstance(value, str) and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(ODD_TEXTS)[:300] + value[at + rng.randrange(3) :]
    return odd_value(rng)


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """`data` with some of its bytes flipped, cut out, doubled, or replaced by odd ones."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made) + 1)
        action = rng.randrange(6)
        if action == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del made[at : at + rng.randrange(1, 20)]
        elif action == 2:
            made[at:at] = made[at : at + rng.randrange(1, 40)]
        elif action == 3:
            made[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif action == 4:
            del made[at:]
        else:
            made[at:at] = rng.choice(ODD_PIECES)
    return bytes(made)


ODD_PIECES = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"1e999",
]
ODD_PIECES += [
    b"-",
    b"9" * 200,
    b"[" * 50,
    b"{" * 50,
    b'"',
    b"\\",
    b",",
    b":",
    b'{"a":',
    b"\n",
    b"\r",
]
ODD_PIECES += [b"'''", b"[[element]]", b"=", b"#", b"1979-05-27", b"0x10", b"_", b" ", b"[" * 3000]


def written(rng: random.Random, value: Any) -> bytes:
    """JSON in one of the ways in which others may write it."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))
    return text.encode("utf-8", "surrogatepass")


def document_source(good: list[Any]) -> Callable[[random.Random], bytes]:
    """Nine of ten inputs keep the shape of JSON, so that they get past the first lines."""

    def make(rng: random.Random) -> bytes:
        value = rng.choice(good)
        if rng.random() < 0.1:
            return mutated_bytes(rng, written(rng, value))
        return written(rng, mutated_value(rng, value) if rng.random() < 0.95 else value)

    return make


def bytes_source(good: list[bytes]) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        return mutated_bytes(rng, rng.choice(good))

    return make
