"""Completion in real shells: commands, options, names of archives, mount options."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from artstorefs_tools.command_line import COMMANDS, main
from artstorefs_tools.completion import SHELLS, completion_script

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")

# As readline does: bash-completion finds the file by the name of the command, and that is asked.
ASK_BASH = """
. {library}
words=({words})
[ "$BARE" = 1 ] && words+=('')
COMP_WORDS=("${{words[@]}}") COMP_CWORD=$((${{#words[@]}} - 1))
COMP_LINE="${{words[*]}}" COMP_POINT=${{#COMP_LINE}}
_completion_loader artstorefs
$(complete -p artstorefs | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ASK_ZSH = r"""
zmodload zsh/zpty
zpty shell "zsh -f -i"
zpty -w shell "fpath=($SHARE/zsh/site-functions \$fpath); autoload -U compinit; compinit -u -D"
zpty -w shell "show() { print -r -- \"<\$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^G' show"
zpty -w shell "bindkey '^I' complete-word; print re''ady"
zpty -r shell out '*ready*'
for line in "$@"; do
    zpty -n -w shell "$line"$'\t\x07'
    zpty -r shell out '*<artstorefs*>*'
    print -r -- "${${out##*<}%%>*}"
done
zpty -d shell
"""

CASES = {
    "artstorefs stat": {"status"},
    "artstorefs status --js": {"--json"},
    "artstorefs status mus": {"museum"},
    "artstorefs mount museum -o ro,allow_r": {"ro,allow_root"},
    "artstorefs completion z": {"zsh"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two archives, and with what install-units puts there."""
    home = tmp_path_factory.mktemp("home")
    folder = home / ".config/artstorefs"
    folder.mkdir(parents=True)
    for name in ("museum", "photos"):
        (folder / f"{name}.toml").touch()
    for shell, path in {
        "bash": "bash-completion/completions/artstorefs",
        "zsh": "zsh/site-functions/_artstorefs",
        "fish": "fish/vendor_completions.d/artstorefs.fish",
    }.items():
        file = home / ".local/share" / path
        file.parent.mkdir(parents=True)
        file.write_text(script(shell))
    return home


@cache
def script(shell: str) -> str:
    return completion_script(shell)


def ask(place: Path, *command: str, **variables: str) -> list[str]:
    known = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_DATA_DIRS")
    environment = {name: value for name, value in os.environ.items() if name not in known}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # fish asks whether it is there
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        cwd=place,
        timeout=30,
        env={**environment, "HOME": str(place), "PATH": path, "TERM": "vt100", **variables},
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def ask_bash(place: Path, line: str) -> set[str]:
    program = ASK_BASH.format(library=BASH_COMPLETION, words=line)
    bare = "1" if line.endswith(" ") else "0"
    return set(ask(place, "bash", "--norc", "-c", program, BARE=bare))


@pytest.mark.slow
@pytest.mark.parametrize("line", CASES)
def test_bash_completes(place: Path, line: str) -> None:
    assert ask_bash(place, line) == CASES[line]


@pytest.mark.slow
def test_bash_offers_all_archives_and_all_commands(place: Path) -> None:
    assert ask_bash(place, "artstorefs status ") >= {"museum", "photos"}
    assert ask_bash(place, "artstorefs ") == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("line", CASES)
def test_fish_completes(place: Path, line: str) -> None:
    offered = ask(place, "fish", "-c", f"complete -C '{line}'")
    assert {text.partition("\t")[0] for text in offered} == CASES[line]


@pytest.mark.slow
def test_zsh_completes(place: Path) -> None:
    share = str(place / ".local/share")
    typed = ask(place, "zsh", "-f", "-c", ASK_ZSH, "zsh", *CASES, SHARE=share)
    for line, (word,), shown in zip(CASES, CASES.values(), typed, strict=True):
        assert shown.rstrip(" ,") == f"{line.rpartition(' ')[0]} {word}"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_in_every_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell)
    for command in COMMANDS:
        assert command in text
