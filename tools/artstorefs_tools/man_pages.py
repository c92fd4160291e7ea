"""The man pages: of the commands from their parsers, of NAME.toml from the keys of its models.

One page for each command, as git has it: `man artstorefs-fsck` is shorter than a page with all of
them, and artstorefs(1) leads to it. They are written by this module rather than by
argparse-manpage, because more than half of them is no parser: exit codes, mount options, and the
keys of a configuration come from the tables that the program itself uses.

The format is man(7), as groff and mandoc both read it.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import Final

from artstorefs import __version__
from artstorefs.core.configuration_keys import (
    TABLE_COMMENTS,
    Key,
    archive_keys,
    element_keys,
    example_configuration,
    table_keys,
    tables,
)
from artstorefs.core.mount_options import OPTIONS
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import (
    COMMANDS,
    DESCRIPTION,
    FIRST_STEPS,
    build_parser,
    subparsers,
)
from artstorefs_tools.usage import Parser

_MANUALS: Final = {1: "ArtStoreFS", 5: "ArtStoreFS File Formats", 8: "ArtStoreFS Administration"}

_WORDS: Final = re.compile(
    r"(?P<option>(?<![\w\\-])\\-(?:\\-)?[A-Za-z](?:[\w]|\\-)*)|(?P<value>\b[A-Z][A-Z_]+\b)"
)

_ENVIRONMENT: Final = {
    "NO_COLOR": "If it is set and not empty, nothing is coloured.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR, XDG_DATA_HOME": (
        "Where the directories of an ordinary user are, by the XDG Base Directory Specification."
    ),
}

_FILES: Final = {
    "/etc/artstorefs/NAME.toml, ~/.config/artstorefs/NAME.toml": (
        "The configuration of an archive, see artstorefs.toml(5). Root looks in the first place, "
        "everybody else in the second, and then in the first."
    ),
    "/var/lib/artstorefs/NAME, ~/.local/state/artstorefs/NAME": (
        "The index, the log, content that no element has yet, and daemon.log."
    ),
}

_MOUNT_EXITS: Final = {
    "0": "mounted",
    "1": "wrong usage or configuration",
    "32": "the archive could not be mounted",
}

_MOUNT_FLAGS: Final = {
    "-o OPTIONS": "options, separated by commas; see below",
    "-f": "do everything but mount",
    "-s": "ignore options that are not known, instead of refusing them",
    "-n, -v, -N NAMESPACE, -t TYPE": "accepted, as mount(8) gives them to every helper",
}


def man_pages() -> Iterator[tuple[str, str]]:
    """File name, such as `artstorefs-status.1`, and text of every page."""
    parser = build_parser()
    yield "artstorefs.1", _text(_overview(parser))
    for name, command in subparsers(parser).items():
        yield f"artstorefs-{name}.1", _text(_command(name, command))
    yield "artstorefs.toml.5", _text(_configuration())
    yield "mount.artstorefs.8", _text(_mount_helper())


# ------------------------------------------------------------------------------------ the pages


def _overview(parser: Parser) -> Iterator[str]:
    yield from _head("artstorefs", 1, "keeps an archive as files, and mounts it as a filesystem")
    yield from _synopsis(parser)
    yield from _section("DESCRIPTION", DESCRIPTION.partition(" More:")[0])
    yield from _paragraph(
        "NAME is that of an archive, or the path of its configuration file. Every mistake is told "
        "in one line, with the reason and what to do."
    )
    yield ".SH COMMANDS"
    yield from _list({f"artstorefs-{name}(1)": text for name, text in COMMANDS.items()})
    yield from _exits({str(number): text for number, text in exit_codes.MEANINGS.values()})
    yield ".SH ENVIRONMENT"
    yield from _list(_ENVIRONMENT)
    yield ".SH FILES"
    yield from _list(_FILES)
    yield ".SH EXAMPLES"
    yield from _block(FIRST_STEPS)
    others = [f"artstorefs-{name}(1)" for name in COMMANDS]
    yield from _see_also([*others, "artstorefs.toml(5)", "mount.artstorefs(8)"])


def _command(name: str, parser: Parser) -> Iterator[str]:
    yield from _head(f"artstorefs-{name}", 1, COMMANDS[name])
    yield from _synopsis(parser)
    yield from _section("DESCRIPTION", parser.description or "")
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    yield ".SH OPTIONS"
    for action in sorted(shown, key=lambda action: bool(action.option_strings)):
        yield from _item(_invocation(action), _help(action))
    notes, _, examples = (parser.epilog or "").rpartition("examples:\n")
    if notes.strip():
        yield ".SH NOTES"
        yield from _block(notes)
    yield ".SH EXAMPLES"
    yield from _block(examples)
    yield from _section("EXIT STATUS", "Those of artstorefs(1).")
    yield from _see_also(["artstorefs(1)", "artstorefs.toml(5)"])


def _configuration() -> Iterator[str]:
    yield from _head("artstorefs.toml", 5, "the configuration of an archive")
    yield ".SH SYNOPSIS"
    yield from _paragraph("/etc/artstorefs/NAME.toml")
    yield from _paragraph("~/.config/artstorefs/NAME.toml")
    yield from _section(
        "DESCRIPTION",
        "A file in TOML 1.0. Sizes are bytes, or text with a unit: kB, MB, GB, TB are powers of "
        "1000, KiB, MiB, GiB, TiB powers of 1024. Keys that end in _s are seconds. What is "
        "unknown is refused. artstorefs config NAME --check says whether a file is right, "
        "artstorefs config --example prints one to begin with.",
    )
    yield ".SH KEYS OF THE ARCHIVE"
    for key in archive_keys():
        yield from _key(key)
    yield from _section("KEYS OF AN ELEMENT", "Each element is a table [[element]].")
    for key in element_keys("local"):
        yield from _key(key)
    yield from _section("KEYS OF AN ELEMENT OF KIND S3", "These are for a bucket alone.")
    common = {key.name for key in element_keys("local")}
    for key in element_keys("s3"):
        if key.name not in common:
            yield from _key(key)
    for table in tables():
        yield from _section(f"KEYS OF [{table}]", TABLE_COMMENTS[table][""])
        for key in table_keys(table):
            yield from _key(key)
    yield ".SH EXAMPLES"
    yield from _paragraph("With every key, as artstorefs config --example prints it:")
    yield from _block(example_configuration())
    yield from _see_also(["artstorefs(1)", "artstorefs-config(1)", "artstorefs-init(1)"])


def _mount_helper() -> Iterator[str]:
    from artstorefs_tools.mount_helper import SYNOPSIS

    yield from _head("mount.artstorefs", 8, "mounts an archive for mount(8) and fstab(5)")
    yield ".SH SYNOPSIS"
    for line in ("mount -t artstorefs NAME MOUNTPOINT [-o OPTIONS]", SYNOPSIS):
        yield from _paragraph(line)
    yield from _section(
        "DESCRIPTION",
        "The helper that mount(8) runs for the type artstorefs; artstorefs install-units puts it "
        "where mount(8) looks. NAME is that of an archive, or the path of its configuration. The "
        "type fuse.artstorefs works too, by way of mount.fuse3(8).",
    )
    yield from _paragraph(
        "umount(8) returns as soon as nobody sees the mount any more; the daemon then carries what "
        "is under way and ends. Nothing is lost by not waiting: what no element has is in the "
        "state directory, and the next mount waits for that daemon and goes on. artstorefs umount "
        "waits. There is no umount.artstorefs, so that a daemon that hangs cannot keep umount(8) "
        "from its work."
    )
    yield ".SH OPTIONS"
    yield from _list(_MOUNT_FLAGS)
    yield ".SH MOUNT OPTIONS"
    yield from _list(OPTIONS)
    yield from _paragraph(
        "Options of fstab and systemd (defaults, noauto, user, nofail, _netdev, x-*, and their "
        "like) and those of access times are ignored; all else is refused, with the nearest name."
    )
    yield from _exits(_MOUNT_EXITS)
    yield ".SH EXAMPLES"
    yield from _block(
        "# /etc/fstab\n"
        "museum /srv/museum artstorefs _netdev,nofail 0 0\n"
        "museum /srv/museum artstorefs _netdev,nofail,x-systemd.automount 0 0\n"
        "/home/anna/photos.toml /home/anna/photos artstorefs noauto,user 0 0\n\n"
        "mount -o remount,ro /srv/museum"
    )
    yield from _see_also(["artstorefs(1)", "artstorefs-mount(1)", "mount(8)", "fstab(5)"])


def _key(key: Key) -> Iterator[str]:
    match key.default:
        case None:
            default = "It must be there."
        case "":
            default = f"By default it is not there; for example {key.example}."
        case text:
            default = f"Default: {text}."
    yield from _item(key.name, f"{key.comment} Allowed: {key.allowed}. {default}")


# ----------------------------------------------------------------------------------- the format


def _text(lines: Iterable[str]) -> str:
    """No paragraph begins a section: that is one already."""
    return re.sub(r"(?m)^(\.SH .*\n)\.PP\n", r"\1", "\n".join(lines) + "\n")


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    yield '.\\" Written from the program by artstorefs_tools.man_pages.'
    title = _escaped(name.upper())
    yield f'.TH {title} {section} "" "ArtStoreFS {__version__}" "{_MANUALS[section]}"'
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(summary)}"


def _synopsis(parser: Parser) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    for line in re.sub(r"\n {7}(?=artstorefs)", "\n\n", usage).split("\n\n"):
        yield from _paragraph(" ".join(line.split()))


def _section(title: str, text: str) -> Iterator[str]:
    yield f".SH {title}"
    yield _marked(" ".join(text.split()))


def _paragraph(text: str) -> list[str]:
    return [".PP", _marked(text)]


def _list(items: dict[str, str]) -> Iterator[str]:
    for name, text in items.items():
        yield from _item(name, text)


def _item(name: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f"\\fB{_escaped(name)}\\fR"
    yield _marked(" ".join(text.split()))


def _exits(codes: dict[str, str]) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield from _list(codes)


def _block(text: str) -> Iterator[str]:
    """Lines as they are."""
    yield from (".PP", ".RS 4", ".nf")
    for line in text.strip("\n").split("\n"):
        yield _escaped(line.removeprefix("  ")) if line.strip() else "\\&"
    yield from (".fi", ".RE")


def _see_also(pages: list[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    for number, page in enumerate(pages, start=1):
        name, _, section = page.partition("(")
        comma = "," if number < len(pages) else ""
        yield f".BR {_escaped(name)} ({section}{comma}"


def _invocation(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(f"{option}{value}" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    return (action.help or "") if action.dest != "help" else "show a help that fits a screen"


def _marked(text: str) -> str:
    """Options bold, and values to be filled in italic."""
    return _WORDS.sub(
        lambda found: f"\\f{'B' if found['option'] else 'I'}{found[0]}\\fR", _escaped(text)
    )


def _escaped(text: str) -> str:
    """`text` as roff prints it as it is, wherever in a line it comes to stand."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\[u2026]")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
