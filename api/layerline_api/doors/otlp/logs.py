"""Events: an ExportLogsServiceRequest becomes event rows.

A log record is an event when it has an ``event_name`` (or, from older senders, the attribute ``event.name``). Other
records are taken and counted but not stored: Layerline keeps what happened, it is not a log archive.
"""

from __future__ import annotations

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from layerline_api.doors.bounds import Bounds, shown
from layerline_api.doors.otlp.envelope import groups, parse
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.doors.otlp.values import text, texts
from layerline_correlator.store.model import Batch, EventRow, ResourceRow, resource_key

EVENT_NAME = "event.name"


def decode_logs(
    body: bytes, bounds: Bounds | None = None, rejections: Rejections | None = None
) -> tuple[Batch, Rejections]:
    """The rows of the events, and the events that cannot have happened then. ``Malformed``, ``TooLarge``."""
    batch, budget = Batch(), Budget()
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    for sender, items in groups(body, budget):
        sender_attributes = texts(sender.attributes, budget)
        resource = resource_key(sender_attributes)
        for raw in items:
            record = parse(LogRecord, raw)
            attributes = texts(record.attributes, budget)
            name = record.event_name or attributes.get(EVENT_NAME, "")
            if not name:
                continue
            attributes.pop(EVENT_NAME, None)
            time_ns = record.time_unix_nano or record.observed_time_unix_nano
            if (reason := bounds.wrong_time(time_ns)) is not None:
                rejections.add(f"event {name[:80]!r}", reason, found=shown(time_ns))
                continue
            if resource not in resources:
                resources.add(resource)
                batch.resources.append(ResourceRow(resource, sender_attributes))
            body_text = text(record.body, budget) if record.HasField("body") else ""
            batch.events.append(EventRow(resource, time_ns, name, body_text, attributes))
    return batch, rejections
