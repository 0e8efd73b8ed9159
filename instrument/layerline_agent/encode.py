"""Points and events as OTLP: one resource for each container and one for the host.

The messages are those of ``opentelemetry-proto``, filled directly: the SDK's exporter stamps every point with the time
of its export, and ours carry the time of their reading.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, SEVERITY_NUMBER_WARN, ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from layerline.signals import Kind, find
from layerline_agent.discovery import Event
from layerline_agent.noticed import Noticed
from layerline_agent.readings import Entity, Series
from layerline_agent.saying import failed

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    Points = RepeatedCompositeFieldContainer[NumberDataPoint]

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


class Form:
    """The request of one entity, made once and filled in again each time.

    Names, units, attributes and the resource stay; a series' points are set anew, and where other numbers of them wait
    than before, further ones are added and taken out again. It is made anew when other series have something to say,
    or the entity has other tags.
    """

    __slots__ = ("_attributes", "_counts", "_lists", "_places", "_request", "_series", "_slots")

    def __init__(self, entity: Entity, waiting: list[Series]) -> None:
        self._attributes = entity.attributes
        self._series = waiting
        self._request = ExportMetricsServiceRequest()
        self._slots: list[tuple[Series, NumberDataPoint, Points, bool]] = []
        sent = self._request.resource_metrics.add()
        sent.resource.CopyFrom(resource(entity.attributes))
        scope = sent.scope_metrics.add()
        scope.scope.name = SCOPE
        lists: dict[str, Points] = {}
        for series in waiting:
            known = find(series.signal)
            counter = known is not None and known.kind is Kind.COUNTER
            in_seconds = series.signal in IN_SECONDS
            points = lists.get(series.signal)
            if points is None:
                metric = scope.metrics.add(name=series.signal)
                metric.unit = "s" if in_seconds else known.unit if known is not None else ""
                if counter:
                    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                    metric.sum.is_monotonic = True
                points = lists[series.signal] = metric.sum.data_points if counter else metric.gauge.data_points
            points.add(
                start_time_unix_nano=(series.start_ns or entity.start_ns) if counter else 0,
                attributes=[attribute(key, value) for key, value in series.dimensions],
            )
        self._lists = [(points, len(points)) for points in lists.values()]
        taken = dict.fromkeys(lists, 0)
        for series in waiting:
            points, number = lists[series.signal], taken[series.signal]
            taken[series.signal] += 1
            self._slots.append((series, points[number], points, series.signal in IN_SECONDS))
        self._counts: list[int] = []
        self._places: list[list[NumberDataPoint]] = []  # of each series, where its points go

    def fits(self, entity: Entity, waiting: list[Series]) -> bool:
        """It is the form of these series under these tags."""
        return self._series == waiting and self._attributes is entity.attributes

    def fill(self) -> bytes:
        """The request with all waiting points, which wait no longer then."""
        counts = [len(series.points) for series, *_ in self._slots]
        if counts != self._counts:
            self._lay_out(counts)
        for (series, _, _, in_seconds), places in zip(self._slots, self._places, strict=True):
            for point, (time_ns, value) in zip(places, series.points, strict=True):
                point.time_unix_nano = time_ns
                if in_seconds:
                    point.as_double = value / 1e9
                elif isinstance(value, int):
                    point.as_int = value
                else:
                    point.as_double = value
            series.points = []
        return self._request.SerializeToString()

    def _lay_out(self, counts: list[int]) -> None:
        """Have room for so many points of each series."""
        self._counts, self._places = [], []  # where this fails, it is done anew
        for points, kept in self._lists:
            del points[kept:]
        places = []
        for (_, first, points, _), count in zip(self._slots, counts, strict=True):
            further = [points.add() for _ in range(count - 1)]
            for point in further:
                point.CopyFrom(first)
            places.append([first, *further])
        self._counts, self._places = counts, places


class Encoder:
    """Turns what waits at the entities into one request, and remembers their forms."""

    def __init__(self) -> None:
        self._forms: dict[Entity, Form] = {}

    def metrics(self, entities: Iterable[Entity]) -> tuple[bytes, int]:
        """The request that sends all waiting points of these entities, and how many there are.

        Requests of one entity each, put one after the other, are one request: their only field is a repeated one
        (protobuf encoding, "Last One Wins" and "Repeated Elements").
        """
        requests, count = [], 0
        forms: dict[Entity, Form] = {}
        for entity in entities:
            waiting = [series for series in entity.series if series.points]
            if waiting:
                number = sum([len(series.points) for series in waiting])
                try:
                    form = self._forms.get(entity)
                    if form is None or not form.fits(entity, waiting):
                        form = Form(entity, waiting)
                    requests.append(form.fill())
                except Exception as problem:  # a name or value that protobuf does not take costs this entity only
                    failed("encoding readings", problem)
                    for series in waiting:
                        series.points = []
                    continue
                forms[entity] = form
                count += number
        self._forms = forms
        return b"".join(requests), count


def logs(events: Iterable[Event], host: Mapping[str, Value]) -> bytes:
    """The request that sends these events as log records, each under its container's resource."""
    request = ExportLogsServiceRequest()
    now_ns = time.time_ns()
    for event in events:
        try:
            request.resource_logs.append(log(event, host, now_ns))
        except Exception as problem:  # a name or value that protobuf does not take costs this event only
            failed("encoding an event", problem)
    return request.SerializeToString()


def log(event: Event, host: Mapping[str, Value], now_ns: int) -> ResourceLogs:
    """One event as a log record under its container's resource."""
    sent = ResourceLogs(resource=resource({**event.container.attributes, **host}))
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
    return sent


def noticed(events: Iterable[Noticed], host: Mapping[str, Value]) -> bytes:
    """The request that sends what the agent noticed about its own work, as events of the machine."""
    request = ExportLogsServiceRequest()
    now_ns = time.time_ns()
    sent = request.resource_logs.add()
    sent.resource.CopyFrom(resource(host))
    scope = sent.scope_logs.add()
    scope.scope.name = SCOPE
    for event in events:
        scope.log_records.add(
            time_unix_nano=event.time_ns,
            observed_time_unix_nano=now_ns,
            event_name=event.name,
            severity_number=SEVERITY_NUMBER_WARN,
            body=AnyValue(string_value=event.body),
            attributes=[attribute(key, value) for key, value in event.attributes.items()],
        )
    return request.SerializeToString()
