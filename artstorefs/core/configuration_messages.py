"""What a person is told about a wrong configuration: one line with file, key, value and the rule.

Turns the errors of pydantic, which name types, into the words of the configuration file. Only
`configuration` uses this.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from artstorefs.core.errors import ConfigurationError
from artstorefs.core.nearest import did_you_mean

# A value is quoted up to here, so that the message stays a line that can be read.
_SHOWN_VALUE_MAX: Final = 80


class PlaceError(ValueError):
    """A rule over several keys is broken: the key to blame, and the rest of the message."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason


def configuration_error(
    model: type[BaseModel], error: ValidationError, values: Mapping[str, Any], where: str
) -> ConfigurationError:
    """The one line for the first thing that `error` says is wrong with `values`.

    Unknown keys come first, because a misspelt key is why the right one is missing.
    """
    details = error.errors(include_url=False)
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, PlaceError):
        table = _key(first, values)  # "" where the rule is one of the whole file
        return ConfigurationError(where, f"{table}.{cause.key}".lstrip("."), cause.reason)
    return ConfigurationError(where, _key(first, values), _reason(model, first))


def _key(details: ErrorDetails, values: Mapping[str, Any]) -> str:
    """`settle_s`, `metrics.listen`, `element[main].mode`, or `element[#2].id` where it has none."""
    match details["loc"]:
        case (str(table), int(number), *rest):
            element = values[table][number]
            element_id = element.get("id") if isinstance(element, dict) else None
            label = element_id if isinstance(element_id, str) else f"#{number + 1}"
            return ".".join([f"{table}[{label}]", *map(str, rest[:1])])
        case (key, *rest):
            return ".".join(map(str, (key, *rest[:1])))
        case _:
            return ""


def _reason(model: type[BaseModel], details: ErrorDetails) -> str:
    fields = _fields(model)
    names = [part for part in details["loc"] if isinstance(part, str)]
    if len(names) > 1:
        fields = _fields(_table_of(model, names[0]))
    key = names[min(len(names), 2) - 1]
    if details["type"] == "extra_forbidden":
        known = did_you_mean(key, fields, f"allowed: {', '.join(fields)}")
        return f"{_shown(details['input'])} is set, but there is no such key; {known}"
    if details["type"] == "missing":
        return f"is missing; it must be {fields[key]}"
    return f"{_shown(details['input'])} is not allowed; it must be {fields[key]}"


def _fields(model: type[BaseModel]) -> dict[str, str]:
    """What is allowed for each key of a table, under the names that the file uses."""
    return {
        field.alias or name: field.description or "" for name, field in model.model_fields.items()
    }


def _table_of(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The model of a table, or of the tables in the tuple, that the file calls `name`."""
    fields = model.model_fields
    annotation = next(f.annotation for key, f in fields.items() if name in (key, f.alias))
    tables = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
    return next(one for one in tables if issubclass(one, BaseModel))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_VALUE_MAX else f"{text[:_SHOWN_VALUE_MAX]}…"
