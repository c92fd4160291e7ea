"""What completes `artstorefs` in bash, zsh and fish: written by shtab from the parsers themselves.

What an argument is completed with follows from its `metavar`, so that a new command has it by
itself. Names of archives are those of the configuration files, found by the shell without a start
of Python: a completion must not be felt.
"""

import argparse
from typing import Final

from artstorefs.core.mount_options import OPTIONS as MOUNT_OPTIONS
from artstorefs_tools.command_line import build_parser, subparsers
from artstorefs_tools.configuration_files import SYSTEM_CONFIGURATIONS
from artstorefs_tools.usage import Parser

SHELLS: Final = ("bash", "zsh", "fish")

ARCHIVE: Final = {
    "bash": "_artstorefs_archives",
    "zsh": "_artstorefs_archives",
    "fish": "(__artstorefs_archives)",
}
MOUNTPOINT: Final = {
    "bash": "_artstorefs_mountpoint_dirs",
    "zsh": "_artstorefs_mountpoints",
    "fish": "(__artstorefs_mountpoints)",
}
OPTIONS: Final = {
    "bash": "_artstorefs_options",
    "zsh": "_artstorefs_options",
    "fish": "(__artstorefs_options)",
}

_FILE_METAVARS: Final = ("PATH", "FILE", "PATH | KEY=TEXT | KEY:=JSON")
_DIRECTORY_METAVARS: Final = ("DIR", "MOUNTPOINT")

_BASH: Final = """\
# $1: the word; names of archives, and paths of their files
_artstorefs_archives() {
    local file
    for file in @SYSTEM@/*.toml "${XDG_CONFIG_HOME:-$HOME/.config}"/artstorefs/*.toml; do
        [ -e "$file" ] || continue
        file=${file##*/}
        compgen -W "${file%.toml}" -- "$1"
    done
    case $1 in */* | .*) compgen -f -X '!*.toml' -- "$1" ;; esac
}
# where archives are mounted, and directories
_artstorefs_mountpoint_dirs() {
    local mounts
    mounts=$(awk '/ - fuse\\.artstorefs / { print $5 }' /proc/self/mountinfo)
    compgen -W "$mounts" -- "$1"
    compgen -d -- "$1"
}
# the last of a list with commas
_artstorefs_options() {
    local before=
    case $1 in *,*) before=${1%,*}, ;; esac
    compgen -P "$before" -W "@OPTIONS@" -- "${1##*,}"
}
"""
_ZSH: Final = """\
_artstorefs_archives() {
    local -a names
    names=(@SYSTEM@/*.toml(N:t:r) ${XDG_CONFIG_HOME:-$HOME/.config}/artstorefs/*.toml(N:t:r))
    if [[ $PREFIX == (*/*|.*) ]]; then _files -g '*.toml'; else compadd -a names; fi
}
_artstorefs_mountpoints() {
    local -a mounts
    mounts=(${(f)"$(awk '/ - fuse\\.artstorefs / { print $5 }' /proc/self/mountinfo)"})
    (( $#mounts )) && compadd -a mounts
    _files -/
}
_artstorefs_options() {
    _values -s , option @OPTIONS@
}
"""
_FISH: Final = """\
function __artstorefs_archives
    set -l base $HOME/.config
    set -q XDG_CONFIG_HOME; and set base $XDG_CONFIG_HOME
    for file in @SYSTEM@/*.toml $base/artstorefs/*.toml
        string replace -r '.*/(.*)\\.toml$' '$1' -- $file
    end
    string match -q '*/*' -- (commandline -ct); and __fish_complete_suffix .toml
end
function __artstorefs_mountpoints
    awk '/ - fuse\\.artstorefs / { print $5 }' /proc/self/mountinfo
    __fish_complete_directories
end
function __artstorefs_option_names
    string split ' ' -- '@OPTIONS@'
end
function __artstorefs_options
    __fish_complete_list , __artstorefs_option_names
end
"""


def completion_script(shell: str) -> str:
    """The text for one of `SHELLS`."""
    import shtab

    parser = build_parser()
    for subparser in subparsers(parser).values():
        for action in subparser._actions:
            _complete(subparser, action)
    functions = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    preamble = functions.replace("@SYSTEM@", str(SYSTEM_CONFIGURATIONS)).replace(
        "@OPTIONS@", " ".join(MOUNT_OPTIONS)
    )
    text: str = shtab.complete(parser, shell, preamble=preamble)
    return text + "\n"


def _complete(parser: Parser, action: argparse.Action) -> None:
    """Say how an argument is completed, where its metavar tells."""
    import shtab

    meanings: dict[str, object] = {
        "NAME": ARCHIVE,
        "MOUNTPOINT": MOUNTPOINT,
        "OPTS": OPTIONS,
        **dict.fromkeys(_FILE_METAVARS, shtab.FILE),
        "DIR": shtab.DIRECTORY,
    }
    if action.metavar in meanings and not hasattr(action, "complete"):
        action.complete = meanings[str(action.metavar)]  # type: ignore[attr-defined]
