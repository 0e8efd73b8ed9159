"""Events and logs: an ExportLogsServiceRequest becomes rows.

A log record is an event when it has an ``event_name`` (or, from older senders, the attribute ``event.name``): something
that happened to a container, a deploy. Every other record is a log record, kept for as long as spans are and shown
beside the request that it belongs to; an event that names a trace is both. What is cut and masked is the same as of
spans (``limits.py``, ``masking.py``).
"""

from __future__ import annotations

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from layerline_api.doors.bounds import Bounds, shown
from layerline_api.doors.otlp.envelope import groups, parse
from layerline_api.doors.otlp.limits import Counts, cut
from layerline_api.doors.otlp.masking import BY_DEFAULT, Masking, Rules
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.doors.otlp.values import ZERO_SPAN, ZERO_TRACE, kept, text, texts
from layerline_correlator.store.model import Batch, EventRow, LogRow, ResourceRow, resource_key

EVENT_NAME = "event.name"
#: The largest of OTLP's SeverityNumber, FATAL4.
_FATAL4 = 24
_SEVERITY_TEXT_CHARS = 32


def decode_logs(
    body: bytes,
    bounds: Bounds | None = None,
    rejections: Rejections | None = None,
    masking: Masking = BY_DEFAULT,
) -> tuple[Batch, Rejections]:
    """The rows of events and logs, and those that cannot have happened then. ``Malformed``, ``TooLarge``."""
    batch, budget = Batch(), Budget()
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    for sender, items in groups(body, budget):
        sender_attributes = texts(sender.attributes, budget)
        resource = resource_key(sender_attributes)
        rules = masking.rules(sender_attributes)
        for raw in items:
            record = parse(LogRecord, raw)
            name = record.event_name or _event_name(record)
            time_ns = record.time_unix_nano or record.observed_time_unix_nano
            if (reason := bounds.wrong_time(time_ns)) is not None:
                budget.attributes(len(record.attributes))
                what = f"event {name[:80]!r}" if name else f"log record {record.body.string_value[:80]!r}"
                rejections.add(what, reason, found=shown(time_ns))
                continue
            if resource not in resources:
                resources.add(resource)
                batch.resources.append(ResourceRow(resource, sender_attributes))
            if name:
                batch.events.append(_event(record, name, resource, time_ns, budget))
            if not name or len(record.trace_id) == 16:
                batch.logs.append(_log(record, resource, time_ns, rules, masking, budget))
    return batch, rejections


def _event_name(record: LogRecord) -> str:
    for item in record.attributes:
        if item.key == EVENT_NAME:
            return item.value.string_value
    return ""


def _event(record: LogRecord, name: str, resource: str, time_ns: int, budget: Budget) -> EventRow:
    attributes = texts(record.attributes, budget)
    attributes.pop(EVENT_NAME, None)
    body = text(record.body, budget) if record.HasField("body") else ""
    return EventRow(resource, time_ns, name, body, attributes)


def _log(record: LogRecord, resource: str, time_ns: int, rules: Rules, masking: Masking, budget: Budget) -> LogRow:
    counts = Counts(record.dropped_attributes_count)
    body, shortened = cut(text(record.body, budget)) if record.HasField("body") else ("", False)
    counts.shortened += shortened
    attributes = kept(record.attributes, rules, masking, budget, counts)
    if record.event_name:
        attributes[EVENT_NAME] = cut(record.event_name).text
    trace_id, span_id = record.trace_id, record.span_id
    in_trace = len(trace_id) == 16 and trace_id != ZERO_TRACE
    return LogRow(
        resource=resource,
        time_ns=time_ns,
        trace_id=trace_id.hex() if in_trace else None,
        span_id=span_id.hex() if in_trace and len(span_id) == 8 and span_id != ZERO_SPAN else None,
        severity=record.severity_number if 0 <= record.severity_number <= _FATAL4 else 0,
        severity_text=record.severity_text[:_SEVERITY_TEXT_CHARS],
        body=masking.text(body),
        attributes=attributes,
        left_out=counts.total(),
    )
