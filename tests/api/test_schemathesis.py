"""The server keeps to its OpenAPI document, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_fake import TOKEN, full
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks
from spans import a_while_ago, batch, event_row, series_rows, span_row

from layerline_api.app import create_app
from layerline_api.openapi import document
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.slo import Promise
from layerline_correlator.monitors.model import Monitor
from layerline_correlator.settings import Settings
from profiles import examples

pytestmark = pytest.mark.long

TRACE = f"{1:032x}"
SHOP = [
    {"id": "a", "kind": "server", "ms": [0, 900], "cpu": 20, "container": "web-1", "name": "GET /"},
    {"id": "b", "parent": "a", "kind": "client", "ms": [10, 100], "cpu": 0, "container": "web-1"},
    {"id": "c", "parent": "b", "kind": "server", "service": "stock", "ms": [20, 90], "cpu": 60, "container": "stock-1"},
]
SLO = {"service": "web", "operation": "GET /", "objective": 0.99, "threshold": "300ms"}
TARGET = {"kind": "slack", "url": "https://hooks.example/x"}
ONE_MONITOR = {"path_parameters": {"monitor_id": "m1"}}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
OPERATIONS = [(method, path) for path, methods in document(create_app(full()))["paths"].items() for method in methods]
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of a server with a small store and a token."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    zero_ns = a_while_ago()
    correlator.append(
        batch(
            [span_row(drawn, TRACE, zero_ns) for drawn in SHOP],
            [
                series_rows(
                    {"signal": "container.cpu.time", "container": "web-1", "at": [0, 9], "values": [1, 2]}, zero_ns
                )
            ],
            [event_row({"name": "container.start", "container": "web-1", "at": -5000}, zero_ns)],
        )
    )
    correlator.monitors.save(Monitor("m1", "all", "query", "container:*", 60 * 10**9, 0, ()))
    correlator.incidents.set_slo(Promise(service="web", objective=0.99).slo())
    correlator.monitors.evaluate("m1", zero_ns + 10**9)
    app = create_app(correlator, ServerSettings(token=TOKEN, loopback_only=False))
    yield schemathesis.openapi.from_wsgi("/openapi.json", app, headers=WITH_TOKEN)
    correlator.close()


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_undocumented_answer(api: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    """No 5xx, and no status, content type, header or body that the document does not have."""
    cases = api[path][method].as_strategy(generation_mode=mode)

    # What is wrong for one of the shapes of an event may be right for another.
    # The clients of other tools send parameters that are not looked at.
    lenient = path == "/api/v1/events" or path.startswith(("/jaeger/", "/prometheus/", "/mcp"))
    refuses = [] if lenient else [checks.negative_data_rejection]

    @seed(1)
    @settings(max_examples=examples(10, 200), database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def sends(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=WITH_TOKEN, checks=[*CHECKS, *refuses])

    try:
        sends()
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE  # nothing about such a request can be wrong


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("get", "/api/v1/requests", {"query": {"min_duration": "0ms"}}),
        ("get", "/api/v1/requests/{trace_id}", {"path_parameters": {"trace_id": TRACE}}),
        ("get", "/api/v1/verdicts", {"query": {"min_duration": "0ms"}}),
        ("get", "/api/v1/traces/{trace_id}", {"path_parameters": {"trace_id": TRACE}}),
        ("get", "/api/v1/entities", {}),
        ("get", "/api/v1/services", {}),
        ("get", "/api/v1/events", {}),
        ("post", "/api/v1/events", {"body": {"body": "deployed web 1.5"}}),
        ("post", "/api/v1/sql", {"body": {"sql": "SELECT * FROM spans"}}),
        ("post", "/api/v1/slos", {"body": SLO}),
        ("get", "/api/v1/slos", {}),
        ("post", "/api/v1/monitors", {"body": {"query": "container:*", "targets": [TARGET]}}),
        ("post", "/api/v1/monitors", {"body": {"slo": SLO, "every": "1m", "for": "2m"}}),
        ("post", "/api/v1/monitors", {"body": {"incidents": {"service": "web"}, "name": "web"}}),
        ("get", "/api/v1/monitors", {}),
        ("post", "/api/v1/monitors/preview", {"body": {"query": "container:*", "since": "2m", "every": "1m"}}),
        ("post", "/api/v1/monitors/preview", {"body": {"slo": SLO, "since": "2m", "every": "1m"}}),
        ("post", "/api/v1/monitors/preview", {"body": {"incidents": {}, "since": "2m", "every": "1m"}}),
        ("get", "/api/v1/monitors/{monitor_id}", ONE_MONITOR),
        ("post", "/api/v1/monitors/{monitor_id}/silence", {**ONE_MONITOR, "body": {"for": "2h"}}),
        ("post", "/api/v1/monitors/{monitor_id}/silence", {**ONE_MONITOR, "body": {"until": None}}),
        ("get", "/requests/{trace_id}", {"path_parameters": {"trace_id": TRACE}}),
    ],
)
def test_answers_are_as_documented(api: schemathesis.BaseSchema, method: str, path: str, given: dict[str, Any]) -> None:
    """What is there is answered in the shape that the document has, with something in it."""
    media_type = "application/json" if "body" in given else None
    case = api[path][method].Case(**given, media_type=media_type)
    answer = case.call_and_validate(headers=WITH_TOKEN, checks=CHECKS)
    assert answer.status_code in (200, 201)
    if path.endswith("s") and method == "get":
        assert answer.json()["items"]
