"""Points and events as OTLP: one resource for each container and one for the host.

The messages are those of ``opentelemetry-proto``, filled directly: the SDK's exporter stamps every point with the time
of its export, and ours carry the time of their reading.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, SEVERITY_NUMBER_WARN
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from layerline.signals import Kind, find
from layerline_agent.discovery import Event
from layerline_agent.readings import Entity

SCOPE = "layerline.agent"

Value = str | int | list[str]

#: OpenTelemetry's semantic conventions want these in seconds; whoever receives them converts by the unit.
IN_SECONDS = frozenset({"container.cpu.time", "system.cpu.time", "system.disk.io_time", "layerline.sensor.duration"})

#: Events that are trouble by themselves.
WARNINGS = frozenset({"container.oom", "container.kill"})


def attribute(key: str, value: Value) -> KeyValue:
    """One attribute; a list of strings is an OTLP array."""
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    values = [AnyValue(string_value=item) for item in value]
    return KeyValue(key=key, value=AnyValue(array_value=ArrayValue(values=values)))


def resource(attributes: Mapping[str, Value]) -> Resource:
    """The OTLP resource of these attributes."""
    return Resource(attributes=[attribute(key, value) for key, value in attributes.items()])


def metrics(entities: Iterable[Entity]) -> tuple[bytes, int]:
    """The request that sends all waiting points of these entities, and how many there are. They wait no longer then."""
    request = ExportMetricsServiceRequest()
    count = 0
    for entity in entities:
        waiting = [series for series in entity.series if series.points]
        if not waiting:
            continue
        sent = request.resource_metrics.add()
        sent.resource.CopyFrom(resource(entity.attributes))
        scope = sent.scope_metrics.add()
        scope.scope.name = SCOPE
        by_name: dict[str, Metric] = {}
        for series in waiting:
            known = find(series.signal)
            counter = known is not None and known.kind is Kind.COUNTER
            metric = by_name.get(series.signal)
            if metric is None:
                metric = by_name[series.signal] = scope.metrics.add(name=series.signal)
                if counter:
                    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                    metric.sum.is_monotonic = True
                metric.unit = "s" if series.signal in IN_SECONDS else known.unit if known is not None else ""
            attributes = [attribute(key, value) for key, value in series.dimensions]
            start_ns = entity.start_ns if counter else 0
            add = (metric.sum if counter else metric.gauge).data_points.add
            for time_ns, value in series.points:
                point = add(time_unix_nano=time_ns, start_time_unix_nano=start_ns, attributes=attributes)
                if series.signal in IN_SECONDS:
                    point.as_double = value / 1e9
                elif isinstance(value, int):
                    point.as_int = value
                else:
                    point.as_double = value
            count += len(series.points)
            series.points = []
    return request.SerializeToString(), count


def logs(events: Iterable[Event], host: Mapping[str, Value]) -> bytes:
    """The request that sends these events as log records, each under its container's resource."""
    request = ExportLogsServiceRequest()
    now_ns = time.time_ns()
    for event in events:
        sent = request.resource_logs.add()
        sent.resource.CopyFrom(resource({**event.container.attributes, **host}))
        scope = sent.scope_logs.add()
        scope.scope.name = SCOPE
        trouble = event.name in WARNINGS or event.attributes.get("process.exit.code", 0) != 0
        scope.log_records.add(
            time_unix_nano=event.time_ns,
            observed_time_unix_nano=now_ns,
            event_name=event.name,
            severity_number=SEVERITY_NUMBER_WARN if trouble else SEVERITY_NUMBER_INFO,
            body=AnyValue(string_value=event.body),
            attributes=[attribute(key, value) for key, value in event.attributes.items()],
        )
    return request.SerializeToString()
