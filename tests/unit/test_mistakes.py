"""A mistyped command, option, name, key or path is one line with the nearest right one."""

import os
from pathlib import Path

import pytest

from artstorefs.core.nearest import did_you_mean, nearest
from artstorefs_daemon import mount_table
from artstorefs_tools import exit_codes, mount_helper
from artstorefs_tools.command_line import COMMANDS, main
from artstorefs_tools.commands import umount
from artstorefs_tools.paths import nearest_path


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one archive, which is also the working directory."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "artstorefs"
    folder.mkdir()
    (folder / "museum.toml").write_text('[[element]]\nid = "main"\npath = "/srv/objects"\n')
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/nightwatch.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["statsu", "museum"], "statsu is not a command; did you mean status?"),
        (["xyzzy"], "xyzzy is not a command; artstorefs -h lists them"),
        (["--versoin"], "--versoin is not an option; did you mean --version?"),
        (["status", "museum", "--jsno"], "status: --jsno is not an option; did you mean --json?"),
        (["init", "a", "--elemnt", "b"], "--elemnt is not an option; did you mean --element?"),
        (["status", "musuem"], "does not exist; did you mean museum?"),
        (["status", "Museum"], "does not exist; did you mean museum?"),
        (["config", "artstorefs/muesum.toml"], "did you mean artstorefs/museum.toml?"),
        (["mount", "museum", "-o", "alow_other"], "did you mean allow_other?"),
        (["completion", "bsh"], "SHELL: bsh is not known; did you mean bash?"),
        (["init", "a", "--element", "b=local:/x,prioritty=1"], "did you mean priority?"),
        (["status"], "status: NAME is missing (help: artstorefs status -h)"),
        ([], "COMMAND is missing (help: artstorefs -h)"),
        (["status", "museum", "zoo"], "status: too many arguments: zoo"),
        (["umount", "/m", "--flush", "--lazy"], "--lazy: not allowed with --flush"),
        (["init", "a", "--element", "b", "--copies", "two"], "--copies: 'two' is not a whole"),
        (["init", "a", "--element"], "--element: expected one argument"),
        (["config"], "config: NAME is missing"),
        (["backup", "museum", "--to", "picturs"], "picturs is no directory that is there; did you"),
        (["backup", "museum", "--to", "/nowhere/at/all"], "there; make it, or mount the disk"),
        (["backup", "museum", "--keep", "3"], "--keep is at least 1, and is for --to"),
    ],
)
def test_mistake_in_the_command_line_is_one_line(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == exit_codes.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert told in shown.err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["attr", "pictures/nightwach.jpg"], exit_codes.FAILURE, "mean pictures/nightwatch.jpg?"),
        (["attr", "picturs/nightwatch.jpg"], exit_codes.FAILURE, "mean pictures/nightwatch.jpg?"),
        (["mount", "museum", "picturs"], exit_codes.FAILURE, "/pictures?"),
        (["umount", "/srv/musem"], exit_codes.NOT_MOUNTED, "did you mean /srv/museum?"),
    ],
)
def test_mistyped_path_is_one_line_with_the_nearest(
    argv: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(umount, "our_mountpoints", lambda: ["/mnt", "/srv/museum"])
    assert main(argv) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


def test_mistyped_key_of_a_configuration(person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = person / "artstorefs/museum.toml"
    path.write_text(path.read_text().replace("path =", "pth ="))
    assert main(["config", "museum"]) == exit_codes.USAGE
    assert "did you mean path?" in capsys.readouterr().err


def test_mistake_in_what_mount_gives_to_its_helper(capsys: pytest.CaptureFixture[str]) -> None:
    assert mount_helper.main(["museum", "/m", "-o", "noexc"]) == 1
    assert "did you mean noexec?" in capsys.readouterr().err
    for argv in (["museum"], ["museum", "/m", "-y"]):
        assert mount_helper.main(argv) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_helper_looks_at_everything_but_does_not_mount_with_f(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert mount_helper.main(["museum", "/", "-f", "-o", "rx"]) == 1
    assert mount_helper.main(["zoo", "/", "-f"]) == 1
    assert mount_helper.main(["museum", "/proc", "-sfnv", "-N", "n", "-t", "x", "-o", "rx,ro"]) == 0
    assert not [m for m in mount_table.our_mountpoints() if m == "/proc"]


def test_nearest_of_words() -> None:
    assert nearest("rx", ["rw", "ro", "allow_other"]) in ("rw", "ro")
    assert nearest("password", ["ro", "noexec"]) is None
    assert did_you_mean("fsk", COMMANDS) == "did you mean fsck?"
    assert did_you_mean("q", [], "nothing") == "nothing"


def test_nearest_path_is_one_that_is_there(person: Path) -> None:
    assert nearest_path("pictures/nightwatch.jpg") is None
    assert nearest_path("picture/nothing") is None
    assert nearest_path(f"{person}/Pictures/nightwatch.jpg") == f"{person}/pictures/nightwatch.jpg"
    assert nearest_path("/no/such") is None
