"""`rpc.discover`: the methods as an OpenRPC 1.3 document, made from the table and the models."""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from artstorefs import __version__
from artstorefs_daemon.control.models import JobStarted
from artstorefs_daemon.control.protocol import API_VERSION
from artstorefs_daemon.control.roles import Role


class Described(Protocol):
    """What is needed of a method."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def summary(self) -> str: ...
    @property
    def params(self) -> type[BaseModel]: ...
    @property
    def result(self) -> type[BaseModel]: ...
    @property
    def progress(self) -> type[BaseModel] | None: ...
    @property
    def is_long(self) -> bool: ...


def openrpc_document(methods: Mapping[str, Described]) -> dict[str, Any]:
    """Keys that begin with `x-` are ours: who may call a method, and what its progress looks like.
    Takes some milliseconds: it is for a thread, and once."""
    results = [m.result for m in methods.values()]
    progresses = [m.progress for m in methods.values() if m.progress is not None]
    parts: dict[type[BaseModel], None] = dict.fromkeys([*results, *progresses, JobStarted])
    _, schemas = models_json_schema(
        [(part, "serialization") for part in parts], ref_template="#/components/schemas/{model}"
    )
    return {
        "openrpc": "1.3.2",
        "info": {"title": "ArtStoreFS control socket", "version": __version__},
        "x-api-version": API_VERSION,
        "methods": [_method(method) for method in methods.values()],
        "components": {"schemas": schemas["$defs"]},
    }


def _method(method: Described) -> dict[str, Any]:
    schema = method.params.model_json_schema()
    required = schema.get("required", [])
    result: dict[str, Any] = _reference(method.result)
    if method.is_long:
        result = {"oneOf": [result, _reference(JobStarted)]}
    described = {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": [
            {"name": name, "required": name in required, "schema": part}
            for name, part in schema.get("properties", {}).items()
        ],
        "result": {"name": method.result.__name__, "schema": result},
        "x-role": method.role.word,
    }
    if method.progress is not None:
        described["x-progress"] = _reference(method.progress)
    return described


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
