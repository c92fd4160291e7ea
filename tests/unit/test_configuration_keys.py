"""Every key is explained, and the example with all of them means what the defaults are."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from artstorefs.core import configuration_keys
from artstorefs.core.configuration import (
    ArchiveConfiguration,
    ElementConfiguration,
    parse_configuration,
)
from artstorefs.core.configuration_keys import (
    COMMENTS,
    ELEMENT_COMMENTS,
    TABLE_COMMENTS,
    example_configuration,
    tables,
)
from artstorefs.core.configuration_text import render_configuration
from artstorefs.core.directories import SYSTEM_DIRECTORIES
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.man_pages import man_pages

README = (Path(__file__).parents[2] / "README.md").read_text()


def parse(text: str) -> ArchiveConfiguration:
    return parse_configuration(text, "/etc/artstorefs/museum.toml", SYSTEM_DIRECTORIES)


class Monitor(BaseModel):
    port: int | None = Field(None, description="a number")
    is_loud: bool = Field(False, description="true or false")


class WithTable(ArchiveConfiguration):
    monitor: Monitor = Monitor()


def test_every_key_of_the_models_is_explained_in_their_order() -> None:
    fields = ArchiveConfiguration.model_fields
    keys = [name for name, field in fields.items() if not field.alias and name not in tables()]
    assert list(COMMENTS) == keys
    assert {table: [*comments] for table, comments in TABLE_COMMENTS.items()} == {
        table: ["", *model.model_fields] for table, model in tables().items()
    }
    assert list(ELEMENT_COMMENTS) == list(ElementConfiguration.model_fields)


@pytest.mark.parametrize("key", [*COMMENTS, *ELEMENT_COMMENTS])
def test_readme_has_every_key(key: str) -> None:
    assert f"\n| `{key}` |" in README


def test_example_is_a_configuration_of_defaults() -> None:
    least = '[[element]]\nid = "main"\npath = "/srv/objects"\n'
    assert parse(example_configuration()) == parse(least)


def test_example_without_comment_marks_has_every_key() -> None:
    text = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", example_configuration())
    configuration = parse(text)
    local, bucket = configuration.elements
    said = configuration.model_fields_set | local.model_fields_set | bucket.model_fields_set
    keys = {*ArchiveConfiguration.model_fields, *ElementConfiguration.model_fields}
    assert said == keys  # those of further tables are examples: what they mean is their own test
    defaults = parse('[[element]]\nid = "main"\npath = "/srv/objects"\n')
    groups = {"control_change_group", "control_admin_group"}
    changed = {"mountpoint", "user", "elements", *groups, *tables()}
    assert configuration.model_dump(exclude=changed) == defaults.model_dump(exclude=changed)


def test_further_table_is_wherever_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    comments = {"": "A monitor.", "port": "Where it listens.", "is_loud": "Whether it shouts."}
    monkeypatch.setattr(configuration_keys, "ArchiveConfiguration", WithTable)
    monkeypatch.setitem(configuration_keys.TABLE_COMMENTS, "monitor", comments)
    monkeypatch.setitem(configuration_keys._EXAMPLES, "port", 9464)
    told = "# Where it listens.\n# port = 9464\n# Whether it shouts.\n# is_loud = false\n"
    assert example_configuration().endswith(f"\n# A monitor.\n# [monitor]\n{told}")
    page = dict(man_pages())["artstorefs.toml.5"]
    assert ".SH KEYS OF [monitor]\nA monitor.\n.TP\n\\fBport\\fR\nWhere it listens." in page
    made = parse('[[element]]\nid = "main"\npath = "/srv/objects"\n')
    loud = WithTable.model_construct(**dict(made), monitor=Monitor(is_loud=True))
    shown = render_configuration(loud, SYSTEM_DIRECTORIES)
    assert shown.endswith("[monitor]\n" + told.replace("# is_loud = false", "is_loud = true"))
    quiet = WithTable.model_construct(**dict(made), monitor=Monitor())
    assert render_configuration(quiet, SYSTEM_DIRECTORIES).endswith(f"# [monitor]\n{told}")


def test_command_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--example"]) == exit_codes.OK
    assert capsys.readouterr().out == example_configuration()
    assert main(["config", "museum", "--example"]) == exit_codes.USAGE
    assert capsys.readouterr().err.count("\n") == 1
