"""The filesystems that updatedb(8) leaves out, in the text of its updatedb.conf(5).

updatedb would walk every archive, each night, and on a far one wake up everything that is there;
`locate` would show the names to whoever may ask it. Pure: takes a text and gives one.
"""

import re
from pathlib import Path
from typing import Final

CONFIGURATION: Final = Path("etc/updatedb.conf")
"""Below the root of a system; where it is missing, nothing looks for it."""

FILESYSTEM: Final = "fuse.artstorefs"

_SETTING: Final = re.compile(
    r'^(?P<before>\s*PRUNEFS\s*=\s*")(?P<names>[^"\n]*)(?P<after>".*)$', re.M
)
_OUR_LINES: Final = f'# by artstorefs install-units\nPRUNEFS = "{FILESYSTEM}"\n'


def pruned(text: str) -> str:
    """With our type of filesystem left out; the same text if it is so already."""
    setting = _last_setting(text)
    if setting is None:
        return text + ("" if text.endswith("\n") or not text else "\n") + _OUR_LINES
    names = setting["names"]
    if FILESYSTEM in names.lower().split():  # updatedb compares without case
        return text
    return _replaced(text, setting, f"{names} {FILESYSTEM}" if names else FILESYSTEM)


def unpruned(text: str) -> str:
    """What `pruned` has made of a text, undone."""
    if _OUR_LINES in text:
        return text.replace(_OUR_LINES, "")
    setting = _last_setting(text)
    if setting is None:
        return text
    names = re.sub(rf"(?:^| ){re.escape(FILESYSTEM)}(?=\s|$)", "", setting["names"])
    return _replaced(text, setting, names)


def _last_setting(text: str) -> re.Match[str] | None:
    """The one that counts."""
    return max(_SETTING.finditer(text), key=re.Match.start, default=None)


def _replaced(text: str, setting: re.Match[str], names: str) -> str:
    start, end = setting.span("names")
    return text[:start] + names + text[end:]
