"""The program: help, exit codes, one line for every mistake, and a quick start."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from artstorefs.core.archive_record import ArchiveRecord
from artstorefs.core.directories import SYSTEM_DIRECTORIES
from artstorefs.core.errors import ConfigurationError
from artstorefs_daemon.mount_table import MountEntry, parse_mountinfo
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import COMMANDS, build_parser, main
from artstorefs_tools.commands import cache
from artstorefs_tools.commands.init import choose_archive_id
from artstorefs_tools.commands.status import describe
from artstorefs_tools.configuration_files import Person, configuration_path, locate_archive
from artstorefs_tools.errors import CommandError
from artstorefs_tools.mount_holders import find_holders, find_writers

SCREEN_LINES = 40
SCREEN_COLUMNS = 78
HEAVY = {
    *("pydantic", "trio", "pyfuse3", "boto3", "xattr", "subprocess", "artstorefs_daemon"),
    *("rich", "prometheus_client", "starlette"),
}
"""What a command that only asks the daemon must not load: pydantic alone takes 60 ms."""

STATUS = {
    "archive": "museum",
    "mountpoint": "/srv/museum",
    "pid": 12,
    "version": "0.1.0",
    "started_at": "2026-01-02T03:04:05Z",
    "durability": "log",
    "nodes": 12345,
    "pending": {"intents": 3, "bytes": 3 << 20, "oldest_age_s": 4.2, "failed": 1},
    "damaged": [{"path": "/b", "file_id": "f", "error": "block 1 of 9", "since": "2026-01-02"}],
    "errors": [{"path": "/a", "file_id": "f", "error": "no room", "since": "2026-01-02"}],
    "quarantined": {"documents": 1200, "errors": ["main: a.attr.json: is not usable JSON"]},
    "spool": {"bytes": 3 << 20, "limit_bytes": 50 << 30},
    "elements": [
        {
            "id": "main",
            "kind": "local",
            "path": "/objects",
            "mode": "edit",
            "priority": 1,
            "state": "ok",
            "error": None,
            "total_bytes": 1 << 40,
            "free_bytes": None,
            "room": "unknown",
            "queue": {"intents": 3, "oldest_age_s": 4.2},
            "breaker": None,
            "counters": {
                "calls": {
                    "put": {"count": 1200, "total_s": 1.5, "max_s": 0.5},
                    "stat": {"count": 34, "total_s": 0.1, "max_s": 0.1},
                },
                "sent_bytes": 3 << 20,
                "received_bytes": 512,
                "errors": {"ObjectAbsent": 20, "ElementFull": 2},
                "requests": {},
            },
        }
    ],
}
"""What the daemon answers; one of an earlier release has less of an element."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A configuration whose archive is not mounted."""
    path = tmp_path / "museum.toml"
    path.write_text(
        f'runtime_dir = "{tmp_path}/run"\n[[element]]\nid = "main"\npath = "{tmp_path}/objects"\n'
    )
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_screen_and_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*filter(None, [command]), "--help"])
    assert ended.value.code == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert any(line.startswith(f"  artstorefs {command}") for line in lines)


ASKING = ["status", "flush", "rescan", "cache", "reload", "jobs", "log", "top"]


@pytest.mark.parametrize("command", ASKING)
def test_not_mounted_is_one_line_with_the_next_step(
    command: str, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(archive)]) == exit_codes.NOT_MOUNTED
    told = f"{archive} is not mounted; mount it with: artstorefs mount {archive}"
    assert capsys.readouterr().err == f"artstorefs: {told}\n"


def test_status_as_json_of_what_is_not_mounted(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(archive), "--json"]) == exit_codes.NOT_MOUNTED
    assert json.loads(capsys.readouterr().out) == {"archive": "museum", "mounted": False}


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["status", "/no/such.toml"], exit_codes.USAGE, "/no/such.toml: no such configuration"),
        (
            ["mount", "ARCHIVE", "-o", "rx"],
            exit_codes.USAGE,
            "-o: rx: is not a mount option; did you mean r",
        ),
        (["mount", "ARCHIVE"], exit_codes.USAGE, "has no mountpoint in its configuration"),
        (["mount", "ARCHIVE", "/no/such"], exit_codes.FAILURE, "mkdir -p /no/such"),
        (["umount", "/no/such"], exit_codes.NOT_MOUNTED, "nothing is mounted at /no/such"),
        (["umount", "/proc"], exit_codes.USAGE, "/proc is of type proc, not an archive"),
        (["attr", "a=b"], exit_codes.USAGE, "no file is given"),
        (["init", "a b", "--element", "m=local:/x"], exit_codes.USAGE, 'name: "a b" is not'),
        (["init", "a", "--element", "m=/x"], exit_codes.USAGE, "must look like ID=local:PATH"),
    ],
)
def test_mistake_is_one_line_with_its_exit_code(
    argv: list[str], code: int, told: str, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(archive) if word == "ARCHIVE" else word for word in argv]) == code
    error = capsys.readouterr().err
    assert error.startswith("artstorefs: ")
    assert error.count("\n") == 1
    assert told in error


@pytest.mark.parametrize(
    ("element", "told"),
    [("main=local:/x", "is there already"), ("m=local:/x", "no element says which archive museum")],
)
def test_init_leaves_an_existing_configuration_alone(
    archive: Path, capsys: pytest.CaptureFixture[str], element: str, told: str
) -> None:
    before = archive.read_bytes()
    argv = ["init", "museum", "--element", element, "--config-dir", str(archive.parent)]
    assert main(argv) == exit_codes.FAILURE
    assert told in capsys.readouterr().err
    assert archive.read_bytes() == before
    assert not Path("/x").exists()


def test_flags_of_mount_are_accepted() -> None:
    options = ["-sfnv", "-N", "ns", "-t", "artstorefs", "-o", "ro", "-o", "x"]
    arguments = build_parser({"mount"}).parse_args(["mount", *options, "museum", "/m"])
    assert (arguments.name, arguments.mountpoint, arguments.foreground) == ("museum", "/m", True)
    assert arguments.options == ["ro", "x"]


@pytest.mark.parametrize("command", ASKING)
def test_commands_that_ask_the_daemon_load_nothing_heavy(command: str, archive: Path) -> None:
    program = (
        "import sys; from artstorefs_tools.command_line import main; "
        "main(sys.argv[1:]); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command, str(archive)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert not HEAVY & set(done.stdout.split())


def test_status_for_people() -> None:
    text = "\n".join(describe(STATUS))
    assert text.startswith("museum is mounted at /srv/museum\n")
    assert re.search(r"pending +3 changes, 3MiB, the oldest 4 s old, 1 refused\n", text)
    assert re.search(r"main +local +edit +1 +ok +unknown +/objects\n", text)
    assert "  /a: no room (since 2026-01-02)\n" in text
    assert "unavailable" not in text
    assert "left where they are: 1,200 documents\n  main: a.attr.json: is not usable" in text


def test_status_of_an_element_that_is_away() -> None:
    error = "element main: /objects: no .artstorefs is there; is the disk mounted?"
    (element,) = STATUS["elements"]
    away = {**element, "state": "unavailable", "error": error}
    text = "\n".join(describe({**STATUS, "elements": [away]}))
    assert f"\nunavailable, and asked again until it is there:\n  {error}\n" in text


def test_status_says_what_passed_and_what_waits_for_each_element() -> None:
    (element,) = STATUS["elements"]
    text = "\n".join(describe(STATUS))
    passed = "1,234 calls, 2 failed, 3MiB sent, 512B received"
    assert f"\nsince the mount:\n  main  {passed}, 3 changes wait, the oldest 4 s old\n" in text
    assert "because it has failed" not in text
    counters = {**element["counters"], "requests": {"PutObject": 2000, "HeadObject": 34}}
    far = {
        **element,
        "counters": counters,
        "queue": {"intents": 0, "oldest_age_s": None},
        "breaker": {"state": "closed", "since": "T", "next_trial": None, "reason": None},
    }
    text = "\n".join(describe({**STATUS, "elements": [far]}))
    assert f"{passed}, nothing waits, 2,034 requests to the server\n" in text
    assert "because it has failed" not in text
    earlier = {key: far[key] for key in far.keys() - {"counters", "queue", "breaker"}}
    assert "since the mount" not in "\n".join(describe({**STATUS, "elements": [earlier]}))


@pytest.mark.parametrize(
    ("state", "next_trial", "words"),
    [
        ("open", "2026-01-02T03:05:00Z", "tried again at 2026-01-02T03:05:00Z"),
        ("half-open", None, "tried now"),
    ],
)
def test_status_of_an_element_that_is_left_alone(
    state: str, next_trial: str | None, words: str
) -> None:
    (element,) = STATUS["elements"]
    breaker = {
        "state": state,
        "since": "2026-01-02T03:04:05Z",
        "next_trial": next_trial,
        "reason": "bucket b: no connection",
    }
    text = "\n".join(describe({**STATUS, "elements": [{**element, "breaker": breaker}]}))
    said = f"  main: {state} since 2026-01-02T03:04:05Z, {words}: bucket b: no connection"
    assert f"\nnot asked for a while, because it has failed:\n{said}\n" in text


def test_cache_for_people() -> None:
    assert "cache" not in "\n".join(describe(STATUS))
    with_cache = {**STATUS, "cache": {"bytes": 7 << 20, "limit_bytes": 50 << 30}}
    assert re.search(r"\n +cache +7MiB of 50GiB\n", "\n".join(describe(with_cache)))
    state = {
        "path": "/var/cache/artstorefs/museum",
        "bytes": 7 << 20,
        "limit_bytes": 50 << 30,
        "files": 1234,
        "blocks": 2345,
        "pinned_bytes": 1 << 20,
        "fetching": 2,
        "fetched": 3000,
        "pins": ["/catalogue"],
    }
    text = "\n".join(cache.describe(state))
    assert text.startswith("cache /var/cache/artstorefs/museum\n")
    assert re.search(r"holds +7MiB of 50GiB\n", text)
    assert re.search(r"files +1,234, in 2,345 blocks\n", text)
    assert re.search(r"fetching +2 now, 3,000 since the mount\n", text)
    assert text.endswith("pinned:\n  /catalogue")


def test_names_are_looked_for_in_the_folder_of_the_person(tmp_path: Path) -> None:
    person = Person(is_root=False, home=tmp_path, environment={})
    folder = tmp_path / ".config/artstorefs"
    assert person.configurations == folder
    folder.mkdir(parents=True)
    (folder / "museum.toml").write_text("")
    assert configuration_path("museum", person) == folder / "museum.toml"
    location = locate_archive("museum", person)
    assert location.runtime_dir == tmp_path / ".local/state/artstorefs/museum/run"
    with pytest.raises(ConfigurationError, match=r"does not exist; did you mean museum\?"):
        configuration_path("musuem", person)
    with pytest.raises(ConfigurationError, match="does not exist; there are: museum"):
        configuration_path("zoo", person)


def test_system_configuration_has_system_directories_for_everybody(tmp_path: Path) -> None:
    person = Person(is_root=False, home=tmp_path, environment={})
    assert person.directories(Path("/etc/artstorefs/m.toml")) == SYSTEM_DIRECTORIES
    assert person.directories(tmp_path / "m.toml") != SYSTEM_DIRECTORIES


def _record(archive_id: UUID, name: str) -> ArchiveRecord:
    return ArchiveRecord.model_construct(archive_id=archive_id, archive_name=name)


def test_archive_id_is_reused_or_refused() -> None:
    first, second = UUID(int=1), UUID(int=2)
    ours, other = (_record(first, "museum"), _record(second, "museum"))
    assert choose_archive_id("museum", {"a": None, "b": ours}) == first
    new_ids = {choose_archive_id("museum", {"a": None}) for _ in range(2)}
    assert len(new_ids) == 2
    with pytest.raises(CommandError, match="element a carries the archive zoo"):
        choose_archive_id("museum", {"a": _record(first, "zoo")})
    with pytest.raises(CommandError, match="a and b carry different archives"):
        choose_archive_id("museum", {"a": ours, "b": other})


def test_mount_table_with_escapes_and_optional_fields() -> None:
    data = (
        b"29 1 0:26 / /proc rw,nosuid shared:5 master:1 - proc proc rw\n"
        b"90 29 0:50 / /srv/my\\040m\\134x rw - fuse.artstorefs museum rw,user_id=0\n"
        b"broken line\n"
    )
    assert list(parse_mountinfo(data)) == [
        MountEntry(
            *("0:26", "/proc", "proc", "proc"), frozenset({"rw", "nosuid"}), frozenset({"rw"})
        ),
        MountEntry(
            *("0:50", "/srv/my m\\x", "fuse.artstorefs", "museum"),
            frozenset({"rw"}),
            frozenset({"rw", "user_id=0"}),
        ),
    ]


def test_holder_of_a_mount_is_named(tmp_path: Path) -> None:
    for pid in (77, os.getpid()):
        process = tmp_path / f"proc/{pid}"
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text("bash\n")
        (process / "cwd").symlink_to("/srv/museum/a")
    (tmp_path / "proc/self").mkdir()
    holders = [str(holder) for holder in find_holders("/srv/museum", tmp_path / "proc")]
    assert holders == ["bash (process 77) works in /srv/museum/a"]
    assert not list(find_holders("/srv/muse", tmp_path / "proc"))


def test_who_only_reads_does_not_hold_up_a_remount(tmp_path: Path) -> None:
    for pid, flags in ((77, os.O_RDONLY), (78, os.O_WRONLY | os.O_APPEND)):
        process = tmp_path / f"proc/{pid}"
        (process / "fd").mkdir(parents=True)
        (process / "fdinfo").mkdir()
        (process / "comm").write_text("tail\n")
        (process / "fd/3").symlink_to("/srv/museum/log")
        (process / "fdinfo/3").write_text(f"pos:\t0\nflags:\t0{flags:o}\nmnt_id:\t29\n")
    writers = [str(writer) for writer in find_writers("/srv/museum", tmp_path / "proc")]
    assert writers == ["tail (process 78) writes /srv/museum/log"]
