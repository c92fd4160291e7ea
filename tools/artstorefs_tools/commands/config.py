"""`artstorefs config`: what a configuration means, with every default, and whether it is right."""

import argparse
import json

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import Person, configuration_path, read_configuration


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show the configuration of an archive with every key, what it is for, and its default; "
        "what stands in no line of the file is commented out. A mistake in it is one line, with "
        "the key and what is allowed. Nothing is asked of the elements."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs config museum           as a file to read, or to begin a new one with\n"
        "  artstorefs config museum --check   only whether it is right"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--check", action="store_true", help="say whether it is right")
    shown.add_argument("--json", action="store_true", help="every value as JSON, sizes in bytes")


def run(arguments: argparse.Namespace) -> int:
    """Show or check it; the exit code."""
    configuration = read_configuration(arguments.name)
    person = Person.current()
    path = configuration_path(arguments.name, person)
    if arguments.check:
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
