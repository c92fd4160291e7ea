"""The parser of a command line: help that fits a screen, and one line for every mistake in it."""

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from artstorefs.core.nearest import did_you_mean
from artstorefs_tools.errors import UsageError

WIDTH: Final = 78
"""Columns of a help: what every terminal has, less a margin."""

_NAMES_WIDTH: Final = 22

_REQUIRED: Final = re.compile(r"the following arguments are required: (.*)", re.DOTALL)
_CHOICE: Final = re.compile(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", re.DOTALL)
_NOT_A_NUMBER: Final = re.compile(r"invalid int value: (.*)", re.DOTALL)
_NEGATIVE_NUMBER: Final = re.compile(r"-[0-9.]+")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Everything in `WIDTH` columns. Where commands are listed, they are all that is: -h and
    --version stand in the usage above, and the list needs no second heading."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_NAMES_WIDTH, width=WIDTH)

    def add_argument(self, action: argparse.Action) -> None:
        """Names of commands are indented, which the library does not count."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length = max(map(len, action.choices)) + 2 * self._indent_increment

    def _format_action(self, action: argparse.Action) -> str:
        if " " not in self._prog and action.option_strings:
            return ""
        text = super()._format_action(action)
        if isinstance(action, argparse._SubParsersAction):
            return text.partition("\n")[2]
        return text


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` for a mistake, where that of the library prints its usage and exits."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """The one line: command, what is wrong, where to read on."""
        thing = self.prog.partition(" ")[2]
        told = f"{thing}: {_in_our_words(message)}" if thing else _in_our_words(message)
        raise UsageError(f"{told} (help: {self.prog} -h)")

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Raise `UsageError` for the first option among `words` that there is not.

        The library would tell of an argument that is missing first, which it often is because the
        option before it was mistyped.
        """
        for word in _options_among(words):
            option = word.partition("=")[0] if word.startswith("--") else word[:2]
            if option not in self._option_string_actions:
                known = [name for name in self._shown_options() if name.startswith("--")]
                hint = did_you_mean(option, known or self._shown_options())
                self.error("; ".join(filter(None, [f"{option} is not an option", hint])))

    def _shown_options(self) -> list[str]:
        shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
        return [name for action in shown for name in action.option_strings]


def _options_among(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            return
        if word.startswith("-") and word != "-" and not _NEGATIVE_NUMBER.fullmatch(word):
            yield word


def _in_our_words(message: str) -> str:
    """A message of argparse, shorter, and with the nearest right one to a choice."""
    text = message.removeprefix("argument ")
    if match := _REQUIRED.search(text):
        names = match[1].split(", ")
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    if match := _CHOICE.search(text):
        choices = [choice.strip("' ") for choice in match[2].split(",")]
        hint = did_you_mean(match[1], choices, f"choose from {', '.join(choices)}")
        return f"{text[: match.start()]}{match[1]} is not known; {hint}"
    if match := _NOT_A_NUMBER.search(text):
        return f"{text[: match.start()]}{match[1]} is not a whole number"
    return text.replace("with argument", "with")
