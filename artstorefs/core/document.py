"""What attr.json, node records and archive.json have in common: models with their border guarded.

A model is frozen: a change is a new, validated model (`with_changes`). Keys that it does not know
are kept, in their order, behind those that it knows, through any number of rewrites. A key that
was not there is not written unless it was set; so a document by others keeps its shape.

Whatever is wrong with a document is one DocumentInvalid: which document, which field, why.
"""

from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import JsonObject, dump, name_from_json
from artstorefs.core.timestamps import parse_timestamp

_REASON_LIMIT_CHARACTERS: Final = 300
"""Of a message that may quote what was found; keeps log lines readable."""

M = TypeVar("M", bound=BaseModel)


class Document(BaseModel):
    """Base of every model of something that lies on an element."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]

    always_written: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written even when they have their default."""

    def model_post_init(self, context: Any, /) -> None:
        """Have `always_written` written."""
        self.__pydantic_fields_set__.update(self.always_written)

    def with_changes(self, **changes: object) -> Self:
        """This document with some fields replaced, validated. Raises DocumentInvalid."""
        # Not getattr: a key by others may have the name of one of our methods.
        present = {name: value for name, value in self if name in self.model_fields_set}
        return validated(type(self), present | changes, type(self).__name__)

    def as_json(self) -> JsonObject:
        """The document as JSON values: what is set, in the order of the format."""
        return self.model_dump(mode="json", exclude_unset=True)

    def unknown(self) -> JsonObject:
        """The members that this model does not know, as they were found."""
        return dict(self.__pydantic_extra__ or {})


def validated(model: type[M], document: object, where: str) -> M:
    """`document` as a `model`. Raises DocumentInvalid with one line for the first problem."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise DocumentInvalid(where, _one_line(exc)) from None
    except RecursionError:
        raise DocumentInvalid(where, "nests too deep") from None


def rendered(document: Document, where: str, limit: int) -> bytes:
    """`document` as it is written, at most `limit` bytes. Raises DocumentTooLarge, -Invalid."""
    try:
        members = document.as_json()
    except (ValueError, RecursionError) as exc:
        raise DocumentInvalid(where, f"cannot be written as JSON: {exc}") from None
    return dump(members, where, limit)


def _one_line(exc: ValidationError) -> str:
    """The first problem as "field: reason", without line breaks, and how many more there are."""
    problems = exc.errors(include_url=False, include_context=False, include_input=False)
    field = ".".join(str(part) for part in problems[0]["loc"])
    reason = problems[0]["msg"].removeprefix("Value error, ")
    text = ascii(f"{field}: {reason}" if field else reason)[1:-1][:_REASON_LIMIT_CHARACTERS]
    return f"{text} (and {len(problems) - 1} more)" if len(problems) > 1 else text


# --------------------------------------------------------------------------- types of members


def object_for_null(value: object) -> object:
    """An empty object where others wrote null, for fields that are objects here."""
    return {} if value is None else value


def _lower(text: str) -> str:
    return text.lower()


def _decodable_name(value: JsonValue) -> JsonValue:
    try:
        name_from_json(value)
    except DocumentInvalid as exc:
        raise ValueError(exc.reason) from None
    return value


def _readable_time(text: str) -> str:
    parse_timestamp(text)
    return text


Sha256Hex = Annotated[
    str, Field(strict=True, pattern=r"\A[0-9A-Fa-f]{64}\z"), AfterValidator(_lower)
]
"""A SHA-256 as 64 hexadecimal digits, in lower case here whatever others wrote."""

Timestamp = Annotated[str, Field(strict=True, max_length=64), AfterValidator(_readable_time)]
"""ISO 8601 text, kept as it was written; `timestamps.parse_timestamp` reads it."""

NameJson = Annotated[JsonValue, AfterValidator(_decodable_name)]
"""Bytes in the form of `json_text.name_to_json`."""

Int64 = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Identity = StrictInt | StrictFloat | StrictStr
"""An id or a version, where ArtStore does not say of which type."""
