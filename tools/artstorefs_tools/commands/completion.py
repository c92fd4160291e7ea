"""`artstorefs completion`: what completes commands, options and names in a shell."""

import argparse

from artstorefs_tools import exit_codes


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Print what completes commands, options, names of archives, mount options and files in a "
        "shell. artstorefs install-units puts it where the shells look for it by themselves."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs completion bash > ~/.artstorefs.bash     for ~/.bashrc to source\n"
        "  artstorefs completion zsh > ~/.zfunc/_artstorefs    with ~/.zfunc in fpath\n"
        "  artstorefs completion fish > ~/.config/fish/completions/artstorefs.fish"
    )
    shells = ("bash", "zsh", "fish")
    parser.add_argument("shell", metavar="SHELL", choices=shells, help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Print it; the exit code."""
    from artstorefs_tools.completion import completion_script

    print(completion_script(arguments.shell), end="")
    return exit_codes.OK
