"""OTLP as it leaves: what a receiver decodes is what was read."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from layerline.signals import translate
from layerline_agent.containers import Container
from layerline_agent.discovery import Event
from layerline_agent.encode import Encoder, logs, noticed
from layerline_agent.machine import Machine
from layerline_agent.noticed import dropped
from layerline_agent.readings import Entity, Runs
from layerline_agent.sensor import Raw, all_sensors
from layerline_agent.spool import Loss

from .conftest import HYBRID, HYBRID_ID, Clock, attributes_of, points_of

MACHINE = Machine(str(HYBRID / "first"))
CGROUP = str(HYBRID / "first/sys/fs/cgroup")
DIRECTORIES = {name: f"{CGROUP}/{name}/docker/{HYBRID_ID}" for name in ("cpu", "cpuacct", "memory", "blkio", "unified")}


def watched(clock: Clock) -> Entity:
    container = Container(HYBRID_ID, name="cap1", image="busybox:local", labels={"team": "shop"})
    return Entity.of("container", container.attributes, 77, DIRECTORIES, all_sensors(), MACHINE, clock)


def read(entity: Entity, full: bool = True) -> None:
    for sensor in all_sensors():
        entity.read(sensor, full)
    entity.close()


def decoded(message: bytes) -> dict[tuple[str, ...], list[tuple[int, int, int | float]]]:
    """By metric and dimensions: start, time and value of each point, in the catalogue's unit."""
    found: dict[tuple[str, ...], list[tuple[int, int, int | float]]] = {}
    for sent in ExportMetricsServiceRequest.FromString(message).resource_metrics:
        for metric in sent.scope_metrics[0].metrics:
            meant = translate(metric.name, metric.unit, ())
            assert meant is not None, f"{metric.name} is no signal"
            for point in points_of(metric):
                value = point.as_double * meant.factor if point.WhichOneof("value") == "as_double" else point.as_int
                key = (meant.signal.name, *(str(item) for item in attributes_of(point).values()))
                found.setdefault(key, []).append((point.start_time_unix_nano, point.time_unix_nano, value))
    return found


def test_what_is_decoded_is_what_was_read(clock: Clock) -> None:
    """Every series comes out with its name, dimensions, time and value; counters with the start of their counting."""
    entity = watched(clock)
    read(entity)
    expected = {(series.signal, *(value for _, value in series.dimensions)): series.value for series in entity.series}
    message, count = Encoder().metrics([entity])
    found = decoded(message)
    assert {key: points[0][2] for key, points in found.items()} == expected
    assert count == len(expected)
    assert found["container.cpu.throttled",] == [(77, clock.now_ns, 183_037_752)]
    assert found["container.cpu.limit",] == [(0, clock.now_ns, 0.2)]


def test_counters_are_cumulative_sums_and_limits_are_gauges(clock: Clock) -> None:
    """Counters are monotonic cumulative sums with their unit, CPU time in seconds as OpenTelemetry has it."""
    entity = watched(clock)
    read(entity)
    (sent,) = ExportMetricsServiceRequest.FromString(Encoder().metrics([entity])[0]).resource_metrics
    assert sent.scope_metrics[0].scope.name == "layerline.agent"
    metrics = {metric.name: metric for metric in sent.scope_metrics[0].metrics}
    assert len(metrics) == len(sent.scope_metrics[0].metrics)
    for name, unit in {"container.cpu.time": "s", "container.cpu.throttled": "ns", "container.disk.io": "By"}.items():
        assert metrics[name].unit == unit
        assert metrics[name].sum.is_monotonic
        assert metrics[name].sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert metrics["container.cpu.time"].sum.data_points[0].as_double == 0.211813807
    assert metrics["container.memory.limit"].gauge.data_points[0].as_int == 67_108_864


def test_resource_says_who_it_is(clock: Clock) -> None:
    """A container's points stand under its resource: id, name, image, tags."""
    entity = watched(clock)
    read(entity)
    (sent,) = ExportMetricsServiceRequest.FromString(Encoder().metrics([entity])[0]).resource_metrics
    assert attributes_of(sent.resource) == {
        "container.id": HYBRID_ID,
        "container.name": "cap1",
        "container.image.name": "busybox",
        "container.image.tags": ["local"],
        "container.label.team": "shop",
    }


def test_a_form_is_filled_in_again(clock: Clock) -> None:
    """The second request holds the second second's points and no others, whatever was in the first."""
    entity, encoder = watched(clock), Encoder()
    read(entity)
    throttled = next(series for series in entity.series if series.signal == "container.cpu.throttled")
    throttled.points.append((clock.now_ns + 1, 183_037_753))
    first = decoded(encoder.metrics([entity])[0])
    assert [value for _, _, value in first["container.cpu.throttled",]] == [183_037_752, 183_037_753]
    clock.now_ns += 1_000
    read(entity)
    second = decoded(encoder.metrics([entity])[0])
    assert {time_ns for points in second.values() for _, time_ns, _ in points} == {clock.now_ns}
    assert second.keys() == first.keys()
    assert encoder.metrics([entity]) == (b"", 0)


def test_other_series_and_other_tags_make_another_form(clock: Clock) -> None:
    """A renamed container, and a tick with other signals, are sent as they are now."""
    entity, encoder = watched(clock), Encoder()
    read(entity)
    encoder.metrics([entity])
    entity.attributes = {"container.id": HYBRID_ID, "container.name": "renamed"}
    for series in entity.series:
        if series.signal == "container.cpu.limit":
            series.send(9)
    message, count = encoder.metrics([entity])
    (sent,) = ExportMetricsServiceRequest.FromString(message).resource_metrics
    assert (count, attributes_of(sent.resource)["container.name"]) == (1, "renamed")
    assert [metric.name for metric in sent.scope_metrics[0].metrics] == ["container.cpu.limit"]


def test_several_entities_are_one_request(clock: Clock) -> None:
    """One request a second: a resource each for the host and every container."""
    entities = [watched(clock), watched(clock)]
    for entity in entities:
        read(entity)
    message, count = Encoder().metrics(entities)
    request = ExportMetricsServiceRequest.FromString(message)
    assert len(request.resource_metrics) == 2
    assert count == sum(
        len(points_of(metric)) for sent in request.resource_metrics for metric in sent.scope_metrics[0].metrics
    )


def test_events() -> None:
    """An event is a log record with its name, Docker's time, and the resource of its container on its host."""
    died = Event(
        "container.die", 1_795_405_970_764_439_571, Container("a" * 64, name="web"), "died", {"process.exit.code": 137}
    )
    request = ExportLogsServiceRequest.FromString(logs([died], {"host.name": "h1"}))
    (sent,) = request.resource_logs
    (record,) = sent.scope_logs[0].log_records
    assert attributes_of(sent.resource) == {"container.id": "a" * 64, "container.name": "web", "host.name": "h1"}
    assert (record.event_name, record.time_unix_nano, record.body.string_value) == (
        "container.die",
        1_795_405_970_764_439_571,
        "died",
    )
    assert attributes_of(record) == {"process.exit.code": 137}


def test_a_counter_that_began_anew_says_when(clock: Clock) -> None:
    """Both parts of its life are in one metric, each with its own start."""
    entity = Entity({"container.id": HYBRID_ID}, start_ns=7)
    entity.above.append(Runs())
    for at_ns, value in ((200, 70), (400, 3)):
        entity.above[0].read(at_ns, [Raw("container.memory.limit_hits", value)], full=True)
    (sent,) = ExportMetricsServiceRequest.FromString(Encoder().metrics([entity])[0]).resource_metrics
    (metric,) = sent.scope_metrics[0].metrics
    assert [(point.start_time_unix_nano, point.time_unix_nano, point.as_int) for point in points_of(metric)] == [
        (7, 200, 70),
        (200, 400, 3),
    ]


def test_losses_are_events_of_the_machine() -> None:
    """How many points were lost, of which time and why, under the machine's resource, at the time of the last."""
    loss = Loss("the server was away", 7, 5_000, 9_000)
    (sent,) = ExportLogsServiceRequest.FromString(noticed([dropped(loss)], {"host.name": "vm"})).resource_logs
    (record,) = sent.scope_logs[0].log_records
    assert attributes_of(sent.resource) == {"host.name": "vm"}
    assert (record.event_name, record.time_unix_nano) == ("layerline.agent.dropped", 9_000)
    assert attributes_of(record) == {
        "layerline.agent.dropped.points": 7,
        "layerline.agent.dropped.from_ns": 5_000,
        "layerline.agent.dropped.to_ns": 9_000,
        "layerline.agent.dropped.reason": "the server was away",
    }
