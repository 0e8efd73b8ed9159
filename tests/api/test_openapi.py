"""The OpenAPI document: it names every route, and the server keeps to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api_fake import full
from flask import Flask
from openapi_spec_validator import validate

from layerline_api import routes as routes_folder
from layerline_api.app import create_app
from layerline_api.openapi import document, routes


def test_every_route_is_declared() -> None:
    """A route without a declaration is in no document; each says in a sentence what it is for."""
    for rule, method, view in routes(create_app(full())):
        assert view is not None, (
            f"{method.upper()} {rule.rule} is not declared: @declared(…) below its blueprint.{method}"
        )
        assert view.__doc__, f"{method.upper()} {rule.rule} does not say what it is for"


def test_every_file_of_the_folder_is_a_route() -> None:
    """What lies in ``routes`` answers, under the name of its file; beside it only the pages do."""
    files = {path.stem for path in Path(routes_folder.__file__).parent.glob("[!_]*.py")}
    assert {rule.endpoint.partition(".")[0] for rule, _, _ in routes(create_app(full()))} == files | {"page"}


def test_the_document_is_openapi() -> None:
    """/openapi.json is OpenAPI 3.1 as its specification has it."""
    answer = create_app(full()).test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.json["openapi"].startswith("3.1")
    validate(answer.json)


def parameters(path: str) -> dict[str, Any]:
    found = document(create_app(full()))["paths"][path]["get"]["parameters"]
    return {one["name"]: one for one in found}


def test_parameters_follow_from_their_models() -> None:
    """A parameter stands in the document as it is read: its name, place, type and bounds."""
    asked = parameters("/api/v1/requests")
    assert set(asked) == {
        "since", "from", "to", "tag", "limit", "cursor", "service", "operation", "min_duration", "order",
    }  # fmt: skip
    assert asked["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    assert asked["tag"]["schema"]["type"] == "array"
    assert asked["order"]["schema"]["enum"] == ["excess", "duration", "start"]
    one = parameters("/api/v1/requests/{trace_id}")
    assert (one["trace_id"]["in"], one["trace_id"]["required"]) == ("path", True)
    assert (one["span_id"]["in"], one["span_id"]["required"]) == ("query", False)


def test_answers_follow_from_their_dataclasses() -> None:
    """A part in the document has the fields of a part in an answer, by the names of the JSON."""
    app: Flask = create_app(full())
    schemas = document(app)["components"]["schemas"]
    part = app.test_client().get("/api/v1/verdicts").json["items"][0]["parts"][0]
    of_a_window = {"before_ns", "change_ns"}
    assert (
        set(schemas["Part"]["required"]) == set(schemas["Part"]["properties"]) - of_a_window == set(part) - of_a_window
    )
    assert set(schemas["Verdict"]["properties"]) - set(schemas["Verdict"]["required"]) == {
        "requests", "slow", "judged", "examples", "errors", "against", "change", "standing", "unexplained_before_ns",
        "unexplained_change_ns",
    }  # fmt: skip


def test_every_body_and_answer_in_json_has_a_schema() -> None:
    """Whoever writes a client knows what to send and what comes; OTLP has its own description elsewhere."""
    for path, methods in document(create_app(full()))["paths"].items():
        for method, operation in methods.items():
            sent = operation.get("requestBody", {}).get("content", {})
            come = next(answer for status, answer in operation["responses"].items() if status.startswith(("2", "303")))
            for content in (sent, come.get("content", {})):
                schema = content.get("application/json", {"schema": True})["schema"]
                assert schema or path.startswith("/v1/"), f"{method.upper()} {path}"
    schemas = document(create_app(full()))["components"]["schemas"]
    assert schemas["SloMonitor"]["required"] == ["slo"]
    assert set(schemas["SloMonitor"]["properties"]) == {"name", "every", "for", "targets", "slo"}
    assert schemas["SloMonitor"]["additionalProperties"] is False
    assert schemas["Promise"]["properties"]["objective"]["exclusiveMaximum"] == 1
