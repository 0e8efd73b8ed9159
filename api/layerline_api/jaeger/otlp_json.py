"""Spans as OTLP/JSON, with which version 3 of Jaeger's API answers (OTLP specification, "JSON Protobuf Encoding")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerline_api.jaeger.tags import Value, tags_of
from layerline_correlator.questions.spans import ReceivedSpan


def resource_spans(spans: Sequence[ReceivedSpan], page: str) -> list[dict[str, Any]]:
    """``resourceSpans``: the spans of each sender of each trace together."""
    groups: dict[tuple[str, str], list[ReceivedSpan]] = {}
    for span in spans:
        groups.setdefault((span.trace_id, span.resource), []).append(span)
    return [
        {
            "resource": {"attributes": _attributes(group[0].resource_attributes)},
            "scopeSpans": [{"scope": {}, "spans": [_span(span, page) for span in group]}],
        }
        for group in groups.values()
    ]


def _span(span: ReceivedSpan, page: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(tags_of(span, page)),
        "status": {"code": span.status, **({"message": span.status_message} if span.status_message else {})},
    }
    if span.parent_span_id:
        made["parentSpanId"] = span.parent_span_id
    if span.trace_state:
        made["traceState"] = span.trace_state
    if span.events:
        made["events"] = [
            {
                "timeUnixNano": str(event["time_ns"]),
                "name": event["name"],
                "attributes": _attributes(event["attributes"] or {}),
            }
            for event in span.events
        ]
    if span.links:
        made["links"] = [
            {
                "traceId": link["trace_id"],
                "spanId": link["span_id"],
                "attributes": _attributes(link["attributes"] or {}),
            }
            for link in span.links
        ]
    return made


def _attributes(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}  # 64 bits are text in JSON
        case float():
            return {"doubleValue": value}
    return {"stringValue": value}
