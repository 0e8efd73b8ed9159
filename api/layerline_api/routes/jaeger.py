"""Jaeger's query API, for its page, Grafana's data source and scripts: ``/jaeger/api/v3/…`` and ``/jaeger/api/…``.

A data source of type Jaeger has the address ``http://127.0.0.1:4318/jaeger`` (`layerline docs asked`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from flask import Blueprint, request
from pydantic import Field

from layerline_api.declared import JSON, declared
from layerline_api.jaeger.older import kind_word, listed, traces
from layerline_api.jaeger.otlp_json import resource_spans
from layerline_api.parameters import LAST_NS, Duration, Instant, Parameters, Read, Text
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.spans import ReceivedSpans, SpanQuery, read_operations, read_spans, read_trace_ids

#: Traces that one answer has, unless said otherwise and at most.
LIMIT, MOST = 20, 200
IN_JSON = (JSON,)
#: How far back is looked where nothing is said.
_LOOK_BACK_NS = 3600 * 10**9

_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")


def _trace_id(name: str, text: str) -> str:
    """Jaeger leaves leading zeros out, and takes capitals."""
    if not _TRACE_ID.fullmatch(text):
        raise Problem(400, f"{name} is {text[:80]!r}; expected up to 32 hex digits", name)
    return text.lower().rjust(32, "0")


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Problem(400, f"{name} is {text[:80]!r}; expected a whole number", name)
    return int(text)


def _limit(name: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= 1:
        return min(int(text), MOST)
    raise Problem(400, f"{name} is {text[:80]!r}; expected how many traces, 1 to {MOST}", name)


def _tags(name: str, text: str) -> tuple[tuple[str, str], ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or len(found) > 50:
        raise Problem(400, f'{name} is {text[:80]!r}; expected an object such as {{"http.method":"GET"}}', name)
    return tuple((key, one if isinstance(one, str) else json.dumps(one)) for key, one in found.items())


def _one_tag(name: str, text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not key or not colon:
        raise Problem(400, f"{name} is {text[:80]!r}; expected KEY:VALUE", name)
    return key, value


JaegerTraceId = Annotated[
    str, Read(_trace_id, {"type": "string", "pattern": f"^{_TRACE_ID.pattern}$"}, ("a" * 32, "b" * 32))
]
Micros = Annotated[int, Read(_number, {"type": "integer", "minimum": 0}, ("1795428000000000", "1795428300000000"))]
Millis = Annotated[int, Read(_number, {"type": "integer", "minimum": 0}, ("1795428000000", "1795428300000"))]
Most = Annotated[int, Read(_limit, {"type": "integer", "minimum": 1}, ("1", "2"))]
TagObject = Annotated[
    tuple[tuple[str, str], ...], Read(_tags, {"type": "string", "examples": ['{"a":"b"}']}, ('{"a":"b"}', '{"a":"c"}'))
]
OneTag = Annotated[
    tuple[str, str], Read(_one_tag, {"type": "string", "pattern": "^[^:]+:", "examples": ["a:b"]}, ("a:b", "a:c"))
]


class Asked(Parameters):
    """Jaeger's clients send more than is used here."""

    others_pass = True


class OneJaegerTrace(Asked):
    """One trace."""

    trace_id: JaegerTraceId


class OneService(Asked):
    """One service's spans."""

    service: Annotated[Text, Field(description="service.name")]


class OfService(Asked):
    """One service, in the path."""

    service: Text


class Found3(Asked):
    """Which traces: those with a span that is all of this. Camel case does too: ``query.serviceName``."""

    also: ClassVar[Mapping[str, str]] = {
        "query.serviceName": "query.service_name",
        "query.operationName": "query.operation_name",
        "query.startTimeMin": "query.start_time_min",
        "query.startTimeMax": "query.start_time_max",
        "query.durationMin": "query.duration_min",
        "query.durationMax": "query.duration_max",
        "query.numTraces": "query.search_depth",
        "query.num_traces": "query.search_depth",
        "query.searchDepth": "query.search_depth",
    }

    service: Annotated[Text | None, Field(alias="query.service_name", description="service.name")] = None
    operation: Annotated[Text | None, Field(alias="query.operation_name", description="a span's name")] = None
    attributes: Annotated[TagObject | None, Field(alias="query.attributes", description="an object in JSON")] = None
    begin: Annotated[Instant | None, Field(alias="query.start_time_min", description="RFC 3339")] = None
    end: Annotated[Instant | None, Field(alias="query.start_time_max", description="RFC 3339; now unless said")] = None
    shortest: Annotated[Duration | None, Field(alias="query.duration_min")] = None
    longest: Annotated[Duration | None, Field(alias="query.duration_max")] = None
    limit: Annotated[Most, Field(alias="query.search_depth", description="traces; also query.num_traces")] = LIMIT

    def query(self) -> SpanQuery:
        """What the correlator is asked."""
        end_ns = time.time_ns() + 1 if self.end is None else self.end
        begin_ns = end_ns - _LOOK_BACK_NS if self.begin is None else self.begin
        return SpanQuery(
            max(0, begin_ns),
            end_ns,
            self.service,
            self.operation,
            self.attributes or (),
            self.shortest,
            self.longest,
            self.limit,
        )


class FoundOlder(Asked):
    """Which traces: those with a span of the service that is all of this; or those with these ids."""

    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="a span's name")] = None
    tags: Annotated[TagObject | None, Field(description='an object in JSON, such as {"error":"true"}')] = None
    tag: Annotated[tuple[OneTag, ...], Field(description="KEY:VALUE, repeatable")] = ()
    start: Annotated[Micros | None, Field(description="microseconds since 1970")] = None
    end: Annotated[Micros | None, Field(description="microseconds since 1970; now unless said")] = None
    minDuration: Annotated[Duration | None, Field(description="such as 100ms")] = None
    maxDuration: Annotated[Duration | None, Field(description="such as 2s")] = None
    limit: Annotated[Most, Field(description="traces")] = LIMIT
    traceID: Annotated[tuple[JaegerTraceId, ...], Field(description="these traces, repeatable")] = ()

    def query(self) -> SpanQuery:
        """What the correlator is asked."""
        if self.service is None:
            raise Problem(400, "parameter 'service' is required", "service")
        end_ns = time.time_ns() + 1 if self.end is None else min(self.end * 1_000, LAST_NS)
        begin_ns = end_ns - _LOOK_BACK_NS if self.start is None else self.start * 1_000
        return SpanQuery(
            min(max(0, begin_ns), LAST_NS),
            end_ns,
            self.service,
            self.operation,
            (*(self.tags or ()), *self.tag),
            self.minDuration,
            self.maxDuration,
            self.limit,
        )


class DependencyWindow(Asked):
    """Until when, and how far back, in milliseconds."""

    endTs: Annotated[Millis | None, Field(description="milliseconds since 1970; now unless said")] = None
    lookback: Annotated[Millis, Field(description="milliseconds; a day unless said")] = 86_400_000


def blueprint(shared: Shared) -> Blueprint:
    """``/jaeger/api/v3/…`` and ``/jaeger/api/…``."""
    blueprint = Blueprint("jaeger", __name__, url_prefix="/jaeger/api")
    questions = shared.questions

    def page() -> str:
        return request.host_url.rstrip("/")

    def one(trace_id: str) -> ReceivedSpans:
        found = questions.ask(read_spans, [trace_id])
        if not found.spans:
            raise Problem(404, "trace not found", "trace_id")
        return found

    def services() -> list[str]:
        return questions.services()

    def operations(service: str) -> list[tuple[str, int]]:
        return questions.ask(read_operations, service)

    # ---- version 3

    @blueprint.get("/v3/services")
    @declared(dict[str, Any], Asked, problems_in=IN_JSON, operation_id="jaeger.services3")
    def services3() -> dict[str, Any]:
        """The services that a span was received from, as Jaeger's API version 3 says it."""
        return {"services": services()}

    @blueprint.get("/v3/operations")
    @declared(dict[str, Any], OneService, problems_in=IN_JSON, operation_id="jaeger.operations3")
    def operations3(asked: OneService) -> dict[str, Any]:
        """The names of a service's spans."""
        return {"operations": [{"name": name, "spanKind": kind_word(kind)} for name, kind in operations(asked.service)]}

    @blueprint.get("/v3/traces/<trace_id>")
    @declared(dict[str, Any], OneJaegerTrace, problems=(404,), problems_in=IN_JSON, operation_id="jaeger.trace3")
    def trace3(asked: OneJaegerTrace) -> dict[str, Any]:
        """A trace's spans in OTLP/JSON, with what its requests lost as attributes of their entry spans."""
        return {"result": {"resourceSpans": resource_spans(one(asked.trace_id).spans, page())}}

    @blueprint.get("/v3/traces")
    @declared(dict[str, Any], Found3, problems=(404,), problems_in=IN_JSON, operation_id="jaeger.traces3")
    def traces3(asked: Found3) -> dict[str, Any]:
        """Traces with such a span, the latest first, in OTLP/JSON; 404 where there is none."""
        ids = questions.ask(read_trace_ids, asked.query())
        if not ids:
            raise Problem(404, "No traces found")
        return {"result": {"resourceSpans": resource_spans(questions.ask(read_spans, ids).spans, page())}}

    # ---- the older one

    @blueprint.get("/services")
    @declared(dict[str, Any], Asked, problems_in=IN_JSON, operation_id="jaeger.services")
    def services_older() -> dict[str, Any]:
        """The services that a span was received from, as Jaeger's older API says it."""
        return listed(services())

    @blueprint.get("/services/<service>/operations")
    @declared(dict[str, Any], OfService, problems_in=IN_JSON, operation_id="jaeger.operations_of")
    def operations_of(asked: OfService) -> dict[str, Any]:
        """The names of a service's spans."""
        return listed(sorted({name for name, _ in operations(asked.service)}))

    @blueprint.get("/operations")
    @declared(dict[str, Any], OneService, problems_in=IN_JSON, operation_id="jaeger.operations")
    def operations_older(asked: OneService) -> dict[str, Any]:
        """The names of a service's spans with their kinds."""
        return listed([{"name": name, "spanKind": kind_word(kind)} for name, kind in operations(asked.service)])

    @blueprint.get("/traces/<trace_id>")
    @declared(dict[str, Any], OneJaegerTrace, problems=(404,), problems_in=IN_JSON, operation_id="jaeger.trace")
    def trace_older(asked: OneJaegerTrace) -> dict[str, Any]:
        """A trace's spans, with what its requests lost as tags of their entry spans."""
        found = one(asked.trace_id)
        return listed(traces(found.spans, page(), [asked.trace_id], found.cut))

    @blueprint.get("/traces")
    @declared(dict[str, Any], FoundOlder, problems_in=IN_JSON, operation_id="jaeger.traces")
    def traces_older(asked: FoundOlder) -> dict[str, Any]:
        """Traces with such a span, the latest first."""
        ids = list(dict.fromkeys(asked.traceID)) or questions.ask(read_trace_ids, asked.query())
        found = questions.ask(read_spans, ids[:MOST]) if ids else ReceivedSpans()
        return listed(traces(found.spans, page(), ids, found.cut))

    @blueprint.get("/dependencies")
    @declared(dict[str, Any], DependencyWindow, problems_in=IN_JSON, operation_id="jaeger.dependencies")
    def dependencies(asked: DependencyWindow) -> dict[str, Any]:
        """Who called whom, and how often; what sends no spans itself is called by its address."""
        end_ns = time.time_ns() + 1 if asked.endTs is None else min(asked.endTs * 1_000_000, LAST_NS)
        begin_ns = max(0, end_ns - asked.lookback * 1_000_000)
        found = questions.service_map(begin_ns, end_ns)
        return listed([{"parent": one.caller, "child": one.callee, "callCount": one.calls} for one in found.edges])

    return blueprint
