"""The OpenAPI document of an app: its routes, and what they declare (``declared.py``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, NotRequired, cast

from flask import Flask
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema
from typing_extensions import TypedDict
from werkzeug.routing import Rule

from layerline_api.declared import JSON, PROBLEM, Declared
from layerline_correlator.plain import left_out

#: Every route may be answered with these: a wrong token, another name for this machine.
_GUARD = (401, 403)
_MEANING = {
    202: "it was taken, and there is nothing to answer",
    400: "a parameter or the body is not as declared",
    401: "the token is missing or wrong",
    403: "refused",
    404: "there is nothing of that name",
    409: "there are too many",
    413: "the body is too long",
    415: "the body is of another type",
    422: "it is understood, and cannot be done",
    503: "not now: come again after `Retry-After` seconds",
}


class ProblemDetails(TypedDict):
    """Why there is no answer (RFC 9457). ``field`` names the parameter to blame, ``column`` where in its text."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[str]
    column: NotRequired[int]


def routes(app: Flask) -> Iterator[tuple[Rule, str, Declared | None]]:
    """Every route with its method and its declaration; None where it has none."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint)):
        view = app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method.lower(), view if isinstance(view, Declared) else None


def document(app: Flask) -> dict[str, Any]:
    """OpenAPI 3.1."""
    found = [(rule, method, view) for rule, method, view in routes(app) if view is not None]
    types: dict[str, tuple[JsonSchemaMode, Any]] = {"problem": ("serialization", ProblemDetails)}
    for rule, _, view in found:
        if view.answer is not None:
            types[f"{rule.endpoint} answer"] = ("serialization", view.answer)
        if view.body is not None:
            types[f"{rule.endpoint} body"] = ("validation", view.body)
    made, definitions = TypeAdapter.json_schemas(
        [(key, mode, TypeAdapter(of)) for key, (mode, of) in types.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_AsSent,
    )
    schemas = {key: schema for (key, _), schema in made.items()}
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, view in found:
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method] = _operation(rule, view, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Layerline",
            "version": version("layerline"),
            "description": "Where every millisecond of a slow request went, and which layer has to mend it.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "LAYERLINE_TOKEN"}},
        },
        "security": [{"token": []}, {}],  # only a server that has a token asks for it
    }


class _AsSent(GenerateJsonSchema):
    """Bodies as they are read; answers as ``plain`` sends them: every field is there, none ends in ``_``."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> dict[str, Any]:
        # Which of the shapes it is, we look up; what is of one shape may hold another.
        return {"anyOf" if key == "oneOf" else key: of for key, of in super().tagged_union_schema(schema).items()}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> dict[str, Any]:
        made = super().dataclass_schema(schema)
        if self.mode == "serialization" and "properties" in made:
            made["properties"] = {name.rstrip("_"): of for name, of in made["properties"].items()}
            optional = left_out(schema["cls"])
            made["required"] = [name for name in made["properties"] if name not in optional]
        return made


def _operation(rule: Rule, view: Declared, schemas: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = (view.__doc__ or "").partition("\n")
    made: dict[str, Any] = {"operationId": view.operation_id or rule.endpoint, "summary": summary.strip()}
    if description.strip():
        made["description"] = re.sub(r"\n\s+", "\n", description.strip())
    if view.parameters is not None and view.parameters.model_fields:
        made["parameters"] = list(_parameters(rule, view))
    if view.body_in:
        schema = schemas.get(f"{rule.endpoint} body", {})
        made["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in view.body_in}}
    answer = schemas.get(f"{rule.endpoint} answer", {} if JSON in view.answers_in else {"type": "string"})
    answers = {"content": {kind: {"schema": answer} for kind in view.answers_in}} if view.answers_in else {}
    made["responses"] = {str(view.status): {"description": "the answer", **answers}}
    if view.repeats is not None:
        made["responses"]["304"] = {"description": "the answer that has this ETag (If-None-Match) still holds"}
    problem = schemas["problem"] if view.problems_in == (PROBLEM,) else {}
    for status in sorted(_statuses(view)):
        content = {} if status < 300 else {"content": {kind: {"schema": problem} for kind in view.problems_in}}
        made["responses"][str(status)] = {"description": _MEANING[status], **content}
    return made


def _statuses(view: Declared) -> set[int]:
    statuses = {*_GUARD, *view.problems}
    if view.parameters is not None or view.body_in:
        statuses.add(400)
    if view.body_in:
        statuses |= {413, 415}
    return statuses


def _parameters(rule: Rule, view: Declared) -> Iterator[dict[str, Any]]:
    described = cast(Any, view.parameters).model_json_schema(by_alias=True)
    for name, schema in described["properties"].items():
        schema.pop("title", None)
        about = schema.pop("description", None)
        if schema.get("default", ...) is None:
            del schema["default"]
        if "anyOf" in schema:  # "or null" is how a parameter is left out
            schema |= next(one for one in schema.pop("anyOf") if one.get("type") != "null")
        yield {
            "name": name,
            "in": "path" if name in rule.arguments else "query",
            "required": name in described.get("required", ()),
            **({"description": about} if about else {}),
            "schema": schema,
        }
