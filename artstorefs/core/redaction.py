"""The filter of last resort between what is logged and what must stay secret.

Nothing here is meant to be logged in the first place. But texts of libraries and servers are, and
a traceback or a debug level shows what nobody has thought of. So two things are cut out: the
secrets that this process works with, wherever they stand (`keep_secret`), and what looks like one
of somebody else: signatures and tokens in addresses and headers, keys, passwords.
"""

import re
from typing import Final
from urllib.parse import quote

CUT_OUT: Final = "[secret]"

_LEAST_CHARACTERS: Final = 6
"""A shorter secret would cut ordinary words out of the log, and protects nothing anyway."""

_KEPT_MAX: Final = 64
"""Temporary credentials are renewed all the time; those before the last few have expired."""

_MARKS: Final = (
    *("ignature", "ecurity-token", "ecurity_token", "uthorization", "ecret", "assw", "redential"),
    *("accesskeyid", "ession_token", "ession-token", "sessiontoken", "bearer", "://"),
)
"""One of these, in a text in lower case, stands in whatever `_LOOKS_SECRET` finds; looking for them
first is what keeps a line cheap."""

# What has been cut out already, and is read again as a part of a longer text, stays as it is.
_VALUE: Final = r"(?:\[secret]|[^\s&\"'<>,;)}\]]+)"
_LOOKS_SECRET: Final = re.compile(
    "|".join(
        (
            # the whole of a header that proves who asks, quoted or to the end of its line
            r"(?P<header>(?:proxy-)?authorization[\"']?\s*[:=,]\s*b?)"
            r"(?:\[secret]|\"[^\"]*\"|'[^']*'|[^\r\n]+)",
            # NAME=VALUE of addresses and files, NAME: VALUE of headers, <NAME>VALUE of answers
            r"(?P<name>(?:x-amz-(?:signature|credential|security-token)|awsaccesskeyid|signature"
            r"|(?:aws_?)?(?:secret_?access_?key|session_?token|security_?token)|secret_key"
            r"|pass(?:word|wd))[\"']?\s*[:=>](?:\s|\\[nrt])*b?[\"']?|\bbearer\s+)" + _VALUE,
            r"(?P<user>://[^/\s:@]*:)(?:\[secret]|[^\s@\"'<>]+)(?=@)",
        )
    ),
    re.IGNORECASE,
)

_kept: dict[str, None] = {}


def keep_secret(*values: str | None) -> None:
    """These, and what an address makes of them, are cut out of every line from now on."""
    for value in values:
        if value and len(value) >= _LEAST_CHARACTERS and value not in _kept:
            _kept[value] = _kept[quote(value, safe="")] = None
    while len(_kept) > _KEPT_MAX:
        _kept.pop(next(iter(_kept)), None)


def redacted(text: str) -> str:
    """`text` without what is secret in it. Raises nothing; any thread may ask."""
    for secret in list(_kept):
        if secret in text:
            text = text.replace(secret, CUT_OUT)
    lowered = text.lower()
    for mark in _MARKS:
        if mark in lowered:
            return _LOOKS_SECRET.sub(_without_value, text)
    return text


def _without_value(found: re.Match[str]) -> str:
    return (found["header"] or found["name"] or found["user"] or "") + CUT_OUT
