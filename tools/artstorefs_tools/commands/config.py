"""`artstorefs config`: what a configuration means, with every default, and whether it is right."""

import argparse
import json

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import Person, configuration_path, read_configuration
from artstorefs_tools.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show the configuration of an archive with every key, what it is for, and its default; "
        "what stands in no line of the file is commented out. A mistake in it is one line, with "
        "the key and what is allowed. Nothing is asked of the elements."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs config museum            with every default\n"
        "  artstorefs config museum --check    only whether it is right\n"
        "  artstorefs config --example > ~/.config/artstorefs/museum.toml"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="archive, or path of its NAME.toml")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--check", action="store_true", help="say whether it is right")
    shown.add_argument("--example", action="store_true", help="every key, to begin with")
    parser.add_argument("--json", action="store_true", help="as JSON, sizes in bytes")


def run(arguments: argparse.Namespace) -> int:
    """Show or check it; the exit code."""
    if arguments.example:
        return _show_example(arguments)
    if arguments.name is None:
        raise UsageError("config: NAME is missing (help: artstorefs config -h)")
    configuration = read_configuration(arguments.name)
    person = Person.current()
    path = configuration_path(arguments.name, person)
    if arguments.check and arguments.json:
        print(json.dumps({"configuration": str(path), "archive": configuration.name}, indent=2))
    elif arguments.check:
        count = len(configuration.elements)
        plural = "" if count == 1 else "s"
        print(f"{path} is right: archive {configuration.name}, {count} element{plural}")
    elif arguments.json:
        values = configuration.model_dump(mode="json", by_alias=True)
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        from artstorefs.core.configuration_text import render_configuration

        print(render_configuration(configuration, person.directories(path)), end="")
    return exit_codes.OK


def _show_example(arguments: argparse.Namespace) -> int:
    if arguments.name is not None or arguments.json:
        raise UsageError("config: --example is the same for all archives: give it alone")
    from artstorefs.core.configuration_keys import example_configuration

    print(example_configuration(), end="")
    return exit_codes.OK
