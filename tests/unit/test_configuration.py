"""NAME.toml: every mistake is one line with file, key, value and what is allowed."""

import json
from pathlib import Path

import pytest

from artstorefs.core.configuration import (
    ArchiveConfiguration,
    ElementConfiguration,
    new_configuration,
    parse_configuration,
    parse_element_argument,
    split_address,
)
from artstorefs.core.configuration_text import render_configuration
from artstorefs.core.directories import SYSTEM_DIRECTORIES, user_directories
from artstorefs.core.errors import ConfigurationError

FILE = "/etc/artstorefs/museum.toml"
BUCKET = '[[element]]\nid = "b"\nkind = "s3"\nbucket = "museum"\n'
ELEMENT = '[[element]]\nid = "main"\npath = "/objects"\n'


def parse(text: str) -> ArchiveConfiguration:
    return parse_configuration(text, FILE, SYSTEM_DIRECTORIES)


def test_defaults_come_from_the_name_of_the_file() -> None:
    configuration = parse(ELEMENT)
    assert configuration.name == "museum"
    assert configuration.mountpoint is None
    assert configuration.state_dir == Path("/var/lib/artstorefs/museum")
    assert configuration.cache_dir == Path("/var/cache/artstorefs/museum")
    assert configuration.runtime_dir == Path("/run/artstorefs/museum")
    assert (configuration.durability, configuration.settle_s) == ("log", 1.0)
    assert not configuration.metrics.is_on
    (element,) = configuration.elements
    assert element == ElementConfiguration(id="main", kind="local", path=Path("/objects"))
    assert (element.mode, element.priority, element.capacity) == ("edit", 1, None)


def test_every_key_can_be_set() -> None:
    configuration = parse(
        'name = "other"\nmountpoint = "/m"\nstate_dir = "/s"\ncache_dir = "/c"\n'
        'runtime_dir = "/r"\ndurability = "element"\nsettle_s = 2\nspool_max = "1GiB"\n'
        'spool_full = "fail"\nspool_wait_s = 1.5\n'
        'cache_max = 1000\n[[element]]\nid = "a"\nkind = "local"\npath = "/a"\nmode = "ro"\n'
        'priority = 7\ncapacity = "1TiB"\n[[element]]\nid = "b"\npath = "/b"\n'
    )
    assert configuration.name == "other"
    assert configuration.settle_s == 2.0
    assert (configuration.spool_max, configuration.cache_max) == (1 << 30, 1000)
    assert (configuration.spool_full, configuration.spool_wait_s) == ("fail", 1.5)
    assert [element.id for element in configuration.elements] == ["a", "b"]
    assert configuration.elements[0].capacity == 1 << 40


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("127.9.0.1:1", ("127.9.0.1", 1)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_on_an_address_that_only_this_machine_reaches(
    listen: str, address: tuple[str, int]
) -> None:
    metrics = parse(f'[metrics]\nlisten = "{listen}"\n' + ELEMENT).metrics
    assert metrics.is_on
    assert split_address(listen) == address


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "192.0.2.7:9464", "[::]:9464"])
def test_metrics_for_others_have_to_be_meant(listen: str) -> None:
    table = f'[metrics]\nlisten = "{listen}"\n'
    with pytest.raises(ConfigurationError, match=r"metrics\.listen: .*set allow_remote = true"):
        parse(table + ELEMENT)
    assert parse(table + "allow_remote = true\n" + ELEMENT).metrics.listen == listen


WRONG = {
    "metrics, misspelt": ('[metrics]\nlistn = "x"\n' + ELEMENT, "metrics.listn: ", "mean listen?"),
    "metrics as truth": ("metrics = true\n" + ELEMENT, "metrics: true", "a [metrics] table"),
    "port alone": ('[metrics]\nlisten = ":9464"\n' + ELEMENT, 'metrics.listen: ":9464"', "a port"),
    "port 0": ('[metrics]\nlisten = "127.0.0.1:0"\n' + ELEMENT, 'listen: "127.0.0.1:0"'),
    "no port": ('[metrics]\nlisten = "127.0.0.1"\n' + ELEMENT, 'listen: "127.0.0.1"', "like"),
    "address by name": ('[metrics]\nlisten = "host:1"\n' + ELEMENT, '"host:1"', "the one name"),
    "listen as number": ("[metrics]\nlisten = 9464\n" + ELEMENT, "metrics.listen: 9464", "a port"),
    "remote as text": ('[metrics]\nallow_remote = "y"\n' + ELEMENT, 'remote: "y"', "true or f"),
    "textfile, relative": ('[metrics]\ntextfile = "x"\n' + ELEMENT, 'textfile: "x"', "absolute"),
    "textfile on an element": (
        '[metrics]\ntextfile = "/objects/x.prom"\n' + ELEMENT,
        'metrics.textfile: "/objects/x.prom" lies in element[main].path "/objects"',
    ),
    "bucket missing": ('[[element]]\nid = "a"\nkind = "s3"', "element[a].bucket: is missing", "63"),
    "bucket with a slash": (BUCKET.replace("museum", "m/x"), 'bucket: "m/x"', "3 to 63 letters"),
    "path of a bucket": (BUCKET + 'path = "/x"', "element[b].path: is set", "kind s3 has no such"),
    "key of a bucket": (ELEMENT + 'region = "x"', "element[main].region: is set", "kind local"),
    "prefix that leads out": (BUCKET + 'prefix = "../x"', 'prefix: "../x"', "without '..'"),
    "prefix from the root": (BUCKET + 'prefix = "/x"', 'prefix: "/x"', "empty parts"),
    "endpoint without scheme": (BUCKET + 'endpoint = "host:1"', 'endpoint: "host:1"', "https://"),
    "endpoint with a path": (BUCKET + 'endpoint = "http://h/x"', '"http://h/x"', "a host, and"),
    "endpoint with a secret": (BUCKET + 'endpoint = "http://a:b@h"', '"http://a:b@h"', "a host"),
    "endpoint with a bad port": (BUCKET + 'endpoint = "http://h:x"', '"http://h:x"', "a host"),
    "small parts": (BUCKET + 'part_size = "1MiB"', "part_size: 1048576", '"5MiB" to "128MiB"'),
    "no connections": (BUCKET + "concurrency = 0", "concurrency: 0", "from 1 to 64"),
    "unknown addressing": (BUCKET + 'addressing = "dns"', 'addressing: "dns"', "path or virtual"),
    "unknown encryption": (BUCKET + 'encryption = "rot13"', '"rot13"', '"AES256" or "aws:kms"'),
    "adopted bucket": (BUCKET + "adopted = true", "adopted: is set", "a directory"),
    "key without kms": (BUCKET + 'encryption_key = "k"', "encryption_key: is set", "aws:kms"),
    "ca without tls": (BUCKET + 'verify_tls = false\nca_bundle = "/c"', "ca_bundle", "drop one"),
    "prefix in a prefix": (
        BUCKET + 'prefix = "a"\n' + BUCKET.replace('"b"', '"c"') + 'prefix = "a/b"',
        'element[b].prefix: "s3:museum/a" overlaps element[c] "s3:museum/a/b"',
        "give each a prefix",
    ),
    "not TOML": ("settle_s =", "museum.toml: is not TOML: "),
    "unknown key, near": ('durabilty = "log"\n' + ELEMENT, 'durabilty: "log"', "mean durability?"),
    "unknown key, far": (
        "color = 3\n" + ELEMENT,
        "color: 3",
        "allowed: name, mountpoint, user, st",
    ),
    "plural of element": ("elements = []\n" + ELEMENT, "elements: []", "did you mean element?"),
    "no element": ("", "element: is missing", "at least one [[element]] table"),
    "element not a list": ('[element]\nid = "a"', "element: ", "at least one [[element]] table"),
    "element not a table": ("element = [1]", "element[#1]: 1 ", "[[element]] table"),
    "unknown key in element": (ELEMENT + "prority = 2", "element[main].prority: 2", "priority?"),
    "element without id": ('[[element]]\npath = "/a"', "element[#1].id: is missing", "1 to 64"),
    "element without path": ('[[element]]\nid = "a"', "element[a].path: is missing", "absolute"),
    "unknown kind": (ELEMENT + 'kind = "ftp"', 'element[main].kind: "ftp"', '"s3"'),
    "unknown mode": (ELEMENT + 'mode = "edits"', 'mode: "edits"', "edit, rw, ro or ar"),
    "no such day": (ELEMENT + 'retain_until = "2031-02-30"', "retain_until: ", "ISO 8601"),
    "retained for years": (ELEMENT + "retain_until = 10", "retain_until: 10", "ISO 8601"),
    "expires at once": (ELEMENT + "expire_after_days = 0", "expire_after_days: 0", "from 1"),
    "expires in part": (ELEMENT + "expire_after_days = 1.5", "_days: 1.5", "a whole number"),
    "expires in mode rw": (
        *(ELEMENT + 'mode = "rw"\nexpire_after_days = 90', "element[main].expire_after_days: "),
        "in mode rw nothing is removed",
    ),
    "no time to see it": ("expire_grace_days = 0\n" + ELEMENT, "_days: 0", "from 1 to 3650"),
    "sealed before it is closed": ("seal_after_s = -1\n" + ELEMENT, "seal_after_s: -1", "from 0"),
    "priority below 0": (ELEMENT + "priority = -1", "priority: -1", "from 0"),
    "priority as text": (ELEMENT + 'priority = "1"', 'priority: "1"', "a whole number"),
    "priority as truth": (ELEMENT + "priority = true", "priority: true", "a whole number"),
    "capacity of nothing": (ELEMENT + "capacity = 0", "capacity: 0", '"50GiB"'),
    "capacity unit": (ELEMENT + 'capacity = "1 apple"', 'capacity: "1 apple"', '"50GiB"'),
    "relative element": (ELEMENT.replace("/o", "o"), 'path: "objects"', "an absolute path"),
    "path with ..": ('state_dir = "/a/../b"\n' + ELEMENT, 'state_dir: "/a/../b"', "without '..'"),
    "path over two lines": ('mountpoint = "/a\\nb"\n' + ELEMENT, '"/a\\nb"', "control char"),
    "path as number": ("cache_dir = 1\n" + ELEMENT, "cache_dir: 1", "an absolute path"),
    "name with a space": ('name = "a b"\n' + ELEMENT, 'name: "a b"', "letters, digits"),
    "name of a file": ('name = "a.toml"\n' + ELEMENT, 'name: "a.toml"', "not ending in .toml"),
    "name too long": (f'name = "{"a" * 65}"\n' + ELEMENT, "name: ", "1 to 64"),
    "name as number": ("name = 3\n" + ELEMENT, "name: 3", "letters, digits"),
    "durability": ('durability = "none"\n' + ELEMENT, 'durability: "none"', "log or element"),
    "settle_s negative": ("settle_s = -1\n" + ELEMENT, "settle_s: -1", "0 to 3600"),
    "settle_s not finite": ("settle_s = nan\n" + ELEMENT, "settle_s: NaN", "0 to 3600"),
    "settle_s as text": ('settle_s = "1"\n' + ELEMENT, 'settle_s: "1"', "a number of seconds"),
    "spool of nothing": ("spool_max = 0\n" + ELEMENT, "spool_max: 0", '"50GiB"'),
    "spool full": ('spool_full = "block"\n' + ELEMENT, 'spool_full: "block"', "wait or fail"),
    "spool wait": ("spool_wait_s = 1e9\n" + ELEMENT, "spool_wait_s: 1000000000", "0 to 3600"),
    "cache as truth": ("cache_max = true\n" + ELEMENT, "cache_max: true", '"50GiB"'),
    "element twice": (ELEMENT + ELEMENT.replace("objects", "b"), '"main" is there twice'),
    "element in element": (
        ELEMENT + '[[element]]\nid = "b"\npath = "/objects/b"',
        'element[main].path: "/objects" overlaps element[b].path "/objects/b"',
    ),
    "element is mountpoint": ('mountpoint = "/objects/"\n' + ELEMENT, 'overlaps mountpoint "/obj'),
    "element in mountpoint": ('mountpoint = "/"\n' + ELEMENT, 'overlaps mountpoint "/"'),
    "element in state_dir": ('state_dir = "/objects"\n' + ELEMENT, "overlaps state_dir"),
    "state_dir in mountpoint": ('mountpoint = "/var"\n' + ELEMENT, 'mountpoint: "/var" overlaps'),
    "cache_dir in element": ('cache_dir = "/objects/c"\n' + ELEMENT, "overlaps cache_dir"),
    "socket path too long": (
        f'runtime_dir = "/{"r" * 94}"\n' + ELEMENT,
        "runtime_dir: ",
        "108 bytes, at most 107 are allowed",
    ),
}


@pytest.mark.parametrize(("text", "parts"), [(t, p) for t, *p in WRONG.values()], ids=list(WRONG))
def test_wrong_configuration_is_one_line_that_says_what_is_allowed(
    text: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(text)
    message = str(raised.value)
    assert message.startswith(f"{FILE}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(f'durability = "{"x" * 5000}"\n' + ELEMENT)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        ELEMENT,
        'mountpoint = "/m \\" ü 漢"\nsettle_s = 0.25\nspool_max = 1000\ncache_max = "2TiB"\n'
        'durability = "element"\nstate_dir = "/s"\n' + ELEMENT + 'capacity = "1.5GiB"\n'
        '[[element]]\nid = "b"\npath = "/b"\nmode = "ar"\npriority = 9\n',
        BUCKET + 'prefix = "a/b/"\nendpoint = "https://s3.example.org"\nregion = "eu-west-1"\n'
        'profile = "p"\ncredentials_file = "/c"\nstorage_class = "GLACIER_IR"\nconcurrency = 9\n'
        'addressing = "virtual"\nmultipart_threshold = "64MiB"\npart_size = 6000000\n'
        'ca_bundle = "/ca"\nencryption = "aws:kms"\nencryption_key = "k"\n',
        '[metrics]\nlisten = "[::]:1"\nallow_remote = true\ntextfile = "/t/x.prom"\n' + ELEMENT,
    ],
)
def test_rendered_configuration_parses_back_to_the_same(text: str) -> None:
    configuration = parse(text)
    rendered = render_configuration(configuration, SYSTEM_DIRECTORIES)
    assert parse_configuration(rendered, "/else/where.toml", SYSTEM_DIRECTORIES) == configuration


def test_rendered_defaults_are_comments() -> None:
    rendered = render_configuration(parse(ELEMENT), SYSTEM_DIRECTORIES)
    assert '# spool_max = "50GiB"\n' in rendered
    assert '# state_dir = "/var/lib/artstorefs/museum"\n' in rendered
    assert "# [metrics]\n" in rendered
    assert '# listen = "127.0.0.1:9464"\n# ' in rendered


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2031-01-02", "2031-01-02T00:00:00.000000Z"),
        ('"2031-01-02"', "2031-01-02T00:00:00.000000Z"),
        ("2031-01-02T03:04:05+01:00", "2031-01-02T02:04:05.000000Z"),
        ('"2031-01-02T03:04:05.5Z"', "2031-01-02T03:04:05.500000Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_moments_are_dates_and_times_and_text(text: str, moment: str) -> None:
    toml = f"{ELEMENT}retain_until = {text}\n"
    configuration = parse_configuration(toml, "museum.toml", SYSTEM_DIRECTORIES)
    assert configuration.elements[0].retain_until == moment
    again = json.loads(configuration.model_dump_json())
    assert ArchiveConfiguration.model_validate(again) == configuration


def test_element_argument_with_everything() -> None:
    element = parse_element_argument("a=local:/x,y,mode=ro,priority=3,capacity=1TiB")
    assert element == ElementConfiguration(
        id="a", path=Path("/x,y"), mode="ro", priority=3, capacity=1 << 40
    )


def test_element_argument_of_a_bucket() -> None:
    element = parse_element_argument(
        "a=s3:museum/old/x,y,endpoint=http://127.0.0.1:8333,concurrency=8,verify_tls=false,"
        "credentials_file=keys,part_size=32MiB,mode=rw",
        lambda path: f"/home/{path}",
    )
    assert element == ElementConfiguration(
        id="a",
        kind="s3",
        bucket="museum",
        prefix="old/x,y",
        endpoint="http://127.0.0.1:8333",
        concurrency=8,
        verify_tls=False,
        credentials_file=Path("/home/keys"),
        part_size=32 << 20,
        mode="rw",
    )
    assert element.place == "s3:museum/old/x,y"
    assert parse_element_argument("a=s3:museum").place == "s3:museum"


def test_element_argument_is_resolved_by_the_caller() -> None:
    element = parse_element_argument("a=local:objects", lambda path: f"/home/{path}")
    assert element.path == Path("/home/objects")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a:/x", "must look like ID=local:PATH"),
        ("a=/x", "must look like ID=local:PATH"),
        ("a=ftp:x", 'kind: "ftp" is not allowed'),
        ("a=s3:x", 'bucket: "x" is not allowed; it must be 3 to 63'),
        ("a=s3:museum/../x", 'prefix: "../x" is not allowed'),
        ("a=s3:museum,verify_tls=no", 'verify_tls: "no" is not allowed; it must be true or false'),
        ("a=local:/x,bucket=museum", "bucket: is set, but an element of kind local has no such"),
        ("a=local:x", 'path: "x" is not allowed'),
        ("a b=local:/x", 'id: "a b" is not allowed'),
        ("a=local:/x,mod=ro", "did you mean mode?"),
        ("a=local:/x,mode=ro,mode=rw", 'mode: "rw" is one mode too many'),
        ("a=local:/x,priority=high", 'priority: "high" is not allowed'),
    ],
)
def test_wrong_element_argument_is_one_line(text: str, part: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_element_argument(text)
    assert str(raised.value).startswith(f"--element {text}: ")
    assert part in str(raised.value)


def test_new_configuration_is_checked_like_one_from_a_file() -> None:
    element = parse_element_argument("a=local:/x")
    assert new_configuration("m", [element], "/m", SYSTEM_DIRECTORIES).elements == (element,)
    with pytest.raises(ConfigurationError, match="overlaps mountpoint"):
        new_configuration("m", [element], "/x/m", SYSTEM_DIRECTORIES)


def test_mountpoint_of_the_command_line_is_checked() -> None:
    configuration = parse(ELEMENT)
    assert configuration.with_mountpoint(Path("/m"), "m").mountpoint == Path("/m")
    with pytest.raises(ConfigurationError, match=r"^m: .*overlaps mountpoint"):
        configuration.with_mountpoint(Path("/objects/m"), "m")


def test_directories_of_a_person_follow_xdg() -> None:
    home = Path("/home/a")
    plain = user_directories({"XDG_STATE_HOME": "relative"}, home)
    assert plain.state_dir("m") == Path("/home/a/.local/state/artstorefs/m")
    assert plain.cache_dir("m") == Path("/home/a/.cache/artstorefs/m")
    assert plain.runtime_dir("m", Path("/s")) == Path("/s/run")
    variables = {"XDG_STATE_HOME": "/x", "XDG_CACHE_HOME": "/y", "XDG_RUNTIME_DIR": "/z"}
    told = user_directories(variables, home)
    assert told.state_dir("m") == Path("/x/artstorefs/m")
    assert told.cache_dir("m") == Path("/y/artstorefs/m")
    assert told.runtime_dir("m", Path("/s")) == Path("/z/artstorefs/m")
