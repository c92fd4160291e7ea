"""The nearest right word to one that nobody knows, for every message about a mistyped one."""

from collections.abc import Iterable
from typing import Final

_SHORT: Final = 3
_LIKE: Final = 0.6
_LIKE_IF_SHORT: Final = 0.5
"""Of three letters one may be wrong (`rx` for `rw`), of longer words about a third."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `word`, whatever its case; `None` if none is."""
    import difflib  # only a mistake needs it

    words = {one.casefold(): one for one in known}
    like = _LIKE_IF_SHORT if len(word) <= _SHORT else _LIKE
    found = difflib.get_close_matches(word.casefold(), words, n=1, cutoff=like)
    return words[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean RIGHT?`, or `otherwise` where nothing is like `word`."""
    found = nearest(word, known)
    return otherwise if found is None else f"did you mean {found}?"
