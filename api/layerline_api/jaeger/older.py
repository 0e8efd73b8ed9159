"""Traces as the older API has them: microseconds, tags with types, processes beside the spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layerline_api.jaeger.tags import Value, tags_of
from layerline_correlator.questions.spans import ReceivedSpan

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_ERROR = 2


def listed(data: list[Any]) -> dict[str, Any]:
    """A list as this API answers with it."""
    return {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}


def kind_word(kind: int) -> str:
    """``span.kind`` of a span."""
    return KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0]


def traces(spans: Iterable[ReceivedSpan], page: str, order: Sequence[str], cut: bool) -> list[dict[str, Any]]:
    """Each trace with its spans and processes, in this order."""
    by_trace: dict[str, list[ReceivedSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    warnings = ["not all spans are shown: there are more than one answer may have"] if cut else None
    return [_trace(trace_id, by_trace[trace_id], page, warnings) for trace_id in order if trace_id in by_trace]


def _trace(trace_id: str, spans: Sequence[ReceivedSpan], page: str, warnings: list[str] | None) -> dict[str, Any]:
    processes: dict[str, str] = {}
    for span in spans:
        processes.setdefault(span.resource, f"p{len(processes) + 1}")
    described = {processes[span.resource]: span for span in spans}
    return {
        "traceID": trace_id,
        "spans": [_span(span, processes[span.resource], page) for span in spans],
        "processes": {
            name: {
                "serviceName": span.service or "unknown",
                "tags": _tags({key: text for key, text in span.resource_attributes.items() if key != "service.name"}),
            }
            for name, span in described.items()
        },
        "warnings": warnings,
    }


def _span(span: ReceivedSpan, process: str, page: str) -> dict[str, Any]:
    tags = tags_of(span, page)
    if span.kind:
        tags["span.kind"] = kind_word(span.kind)
    if span.status == _ERROR:
        tags |= {"error": True, "otel.status_code": "ERROR"}
        if span.status_message:
            tags["otel.status_description"] = span.status_message
    parent = [_reference("CHILD_OF", span.trace_id, span.parent_span_id)] if span.parent_span_id else []
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "flags": 1,
        "operationName": span.name,
        "references": [*parent, *(_reference("FOLLOWS_FROM", one["trace_id"], one["span_id"]) for one in span.links)],
        "startTime": span.start_ns // 1_000,
        "duration": (span.end_ns - span.start_ns) // 1_000,
        "tags": _tags(tags),
        "logs": [
            {
                "timestamp": event["time_ns"] // 1_000,
                "fields": _tags({"event": event["name"], **(event["attributes"] or {})}),
            }
            for event in span.events
        ],
        "processID": process,
        "warnings": None,
    }


def _reference(kind: str, trace_id: str, span_id: str) -> dict[str, str]:
    return {"refType": kind, "traceID": trace_id, "spanID": span_id}


def _tags(tags: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "type": _type(value), "value": value} for key, value in tags.items()]


def _type(value: Value) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "float64"
    return "string"
