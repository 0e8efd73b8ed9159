"""The coarse part of the lab: what is published of our readings, what the floors say, and what counts as right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import docker
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.lab import document
from benchmarks.lab.coarse import command
from benchmarks.lab.coarse.each_cpu import Look, read_looks, recorded
from benchmarks.lab.coarse.floors import Call, Use, calls, largest_gap, most_unusual_cpu, uses
from benchmarks.lab.coarse.judge import Found, Judged, Named, judge, owner
from benchmarks.lab.coarse.labels import Labels, Window, read_labels
from benchmarks.lab.coarse.messages import read_messages, write_messages
from benchmarks.lab.coarse.published import INTERVALS_S, VOCABULARIES, published
from benchmarks.lab.coarse.score import floors, goals
from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.doors.otlp import DECODERS
from layerline_api.doors.otlp.masking import BY_DEFAULT
from layerline_api.recorded.gathered import Gathered
from waiting import eventually

S = 10**9
BEGIN_S = 1_790_000_000
CONTAINER = "4f2a9c1d7be3" * 5 + "4f2a"


def pairs(words: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in words.items()]


def readings(
    resource: dict[str, str], at_s: int, counters: dict[str, float], gauges: dict[str, float]
) -> ExportMetricsServiceRequest:
    """What our agent sends of one entity at one moment; counters are in seconds or bytes."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(pairs(resource))
    scope = group.scope_metrics.add()
    for name, value in counters.items():
        signal, _, mode = name.partition("/")
        metric = scope.metrics.add(name=signal, unit="s" if "time" in signal else "By")
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = 2
        dimension = "cpu.mode" if signal == "system.cpu.time" else "disk.io.direction"
        words = {dimension: mode} | ({"system.device": "vda"} if "disk" in signal else {}) if mode else {}
        metric.sum.data_points.add(
            start_time_unix_nano=BEGIN_S * S,
            time_unix_nano=(BEGIN_S + at_s) * S,
            as_double=value,
            attributes=pairs(words),
        )
    for name, value in gauges.items():
        scope.metrics.add(name=name).gauge.data_points.add(time_unix_nano=(BEGIN_S + at_s) * S, as_double=value)
    return request


def two_minutes() -> list[ExportMetricsServiceRequest]:
    """A container and its machine, read each second."""
    found = []
    container = {"container.id": CONTAINER, "container.name": "stock-1", "host.name": "vm-1"}
    for second in range(121):
        own = {"container.cpu.time": second / 4, "container.cpu.throttled": second, "container.disk.io/write": second}
        found.append(readings(container, second, own, {"container.cpu.limit": 0.5, "container.memory.working_set": 7}))
        machine = {"system.cpu.time/user": second / 2, "system.cpu.time/idle": second}
        found.append(readings({"host.name": "vm-1"}, second, machine, {"system.cpu.logical.count": 2}))
    return found


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_published_readings_are_the_same_ones_seldom_and_in_other_words(vocabulary: str, interval_s: int) -> None:
    """The product reads the same signals of the same container out of them, once an interval, and no throttling."""
    gathered = Gathered(lambda problem: pytest.fail(problem))
    for message in published(two_minutes(), vocabulary, interval_s):
        batch, rejections = DECODERS["metrics"].rows(message.SerializeToString(), gathered.bounds, None, BY_DEFAULT)
        assert not rejections.count
        gathered.add(batch)
    rows = gathered.take()
    series = {one.series: one for one in rows.series}
    containers = {one.resource: one.attributes.get("container.id") for one in rows.resources}
    read = [(series[point.series], point) for point in rows.points]
    cpu = [point for one, point in read if (one.signal, containers[one.resource]) == ("container.cpu.time", CONTAINER)]
    scraped_s = list(range(interval_s - 1, 120, interval_s))  # what was read just before the scrape
    assert [point.time_ns // S - BEGIN_S for point in cpu] == scraped_s
    assert [point.value for point in cpu] == pytest.approx([at_s / 4 * 1e9 for at_s in scraped_s])
    signals = {one.signal for one in series.values()}
    assert {"container.memory.working_set", "container.disk.io", "system.cpu.time"} <= signals
    assert not {name for name in signals if "throttled" in name or "periods" in name}
    idle = [point.value for one, point in read if one.signal == "system.cpu.time" and "idle" in one.attributes.values()]
    assert idle[-1] == pytest.approx(scraped_s[-1] * 1e9)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_cpus_are_told_apart_as_they_were_read(vocabulary: str) -> None:
    """What each CPU did is published, not the sum divided by how many there are."""
    looks = [Look((BEGIN_S + at) * S, {"0": {"idle": at * S}, "1": {"idle": 0}}) for at in range(120)]
    gathered = Gathered(lambda problem: pytest.fail(problem))
    for message in published(two_minutes(), vocabulary, 60, looks):
        gathered.add(DECODERS["metrics"].rows(message.SerializeToString(), gathered.bounds, None, BY_DEFAULT)[0])
    rows = gathered.take()
    series = {one.series: one.attributes for one in rows.series if one.signal == "system.cpu.time"}
    idle = {
        series[point.series]["cpu.logical_number"]: point.value
        for point in rows.points
        if series.get(point.series, {}).get("cpu.mode") == "idle"
    }
    assert idle == {"0": pytest.approx(119e9), "1": 0}


def test_each_cpu_of_this_machine_is_read(tmp_path: Path) -> None:
    """Once a second at least, each with the time that it was idle; an older recording has none."""
    with recorded(tmp_path / "cpus"):
        eventually(lambda: (tmp_path / "cpus").exists() and read_looks(tmp_path / "cpus"))
    (first, *_) = read_looks(tmp_path / "cpus")
    assert len(first.cpus) == os.cpu_count()
    assert all(times["idle"] > 0 and "interrupt" in times for times in first.cpus.values())
    assert read_looks(tmp_path / "missing") == []


def test_an_entity_that_is_not_read_any_more_is_not_published(tmp_path: Path) -> None:
    """A container that has ended says nothing at later scrapes; what is written is what is read again."""
    sent = [one for one in two_minutes() if len(one.resource_metrics[0].resource.attributes) == 3][:20]
    sent += [readings({"host.name": "vm-1"}, second, {"system.cpu.time/user": second}, {}) for second in range(20, 60)]
    write_messages(tmp_path / "metrics", published(sent, "docker_stats", 15))
    found = list(read_messages(tmp_path / "metrics", ExportMetricsServiceRequest))
    names = [one.resource_metrics[0].scope_metrics[0].metrics[0].name for one in found]
    assert names.count("container.cpu.usage.total") == 1


def test_a_limit_that_was_lifted_is_not_published() -> None:
    """What is not read of a container any more is not said of it any more, although the container goes on."""
    sent = two_minutes()
    for request in sent[120:]:  # from the sixtieth second on
        for metric in list(request.resource_metrics[0].scope_metrics[0].metrics):
            if metric.name == "container.cpu.limit":
                request.resource_metrics[0].scope_metrics[0].metrics.remove(metric)
    limits_s = [
        metric.gauge.data_points[0].time_unix_nano // S - BEGIN_S
        for message in published(sent, "docker_stats", 15)
        for metric in message.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "container.cpu.limit"
    ]
    assert limits_s == [14, 29, 44, 59]


def window(name: str, from_s: int, to_s: int, fault: str | None = None) -> Window:
    entities = ("stock", "c1") if fault else ()
    return Window(name, from_s * S, to_s * S, fault, entities, ("app",) if fault else ())


LABELS = Labels(
    (window("quiet 1", 0, 60), window("slow", 70, 130, "slow"), window("quiet 2", 140, 180)), {"c1": "stock"}
)


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What was kept is the same when it is read again; a folder without it is refused."""
    with pytest.raises(ValueError, match="holds no recording"):
        read_labels(tmp_path)
    LABELS.write(tmp_path)
    assert read_labels(tmp_path) == LABELS


def test_the_floors_name_who_is_farthest_from_before() -> None:
    """The container whose CPU use rose, and the callee whose calls got slower beyond its answers."""
    steady = [Use(at_s * S, (at_s + 10) * S, 0.1) for at_s in range(0, 180, 10)]
    risen = [Use(at_s * S, (at_s + 10) * S, 0.9 if 70 <= at_s < 130 else 0.1) for at_s in range(0, 180, 10)]
    assert most_unusual_cpu({"c1": risen, "c2": steady}, LABELS.windows[1], LABELS) == "stock"
    made = [
        Call(at_s * S, callee, "web", 200 if callee == "stock" and 70 <= at_s < 130 else 2)
        for at_s in range(180)
        for callee in ("stock", "prices")
    ]
    assert largest_gap(made, LABELS.windows[1], LABELS) == "stock"
    assert largest_gap([], LABELS.windows[1], LABELS) is None
    assert most_unusual_cpu({}, LABELS.windows[1], LABELS) is None


def test_floors_read_what_was_recorded() -> None:
    """CPU use is the increase over the interval, in cores; a gap is what a call took longer than its answer."""
    found = uses(published(two_minutes(), "cadvisor", 60))
    assert [use.cores for use in found[CONTAINER]] == pytest.approx([0.25])
    request = ExportTraceServiceRequest()
    for service, kind, own, parent, duration in (
        ("web", Span.SPAN_KIND_CLIENT, b"a", b"", 50),
        ("stock", Span.SPAN_KIND_SERVER, b"b", b"a", 20),
    ):
        group = request.resource_spans.add()
        group.resource.attributes.extend(pairs({"service.name": service}))
        group.scope_spans.add().spans.add(
            span_id=own, parent_span_id=parent, kind=kind, start_time_unix_nano=S, end_time_unix_nano=S + duration
        )
    assert calls([request]) == [Call(S, "stock", "web", 30)]


def judged(one: Window, why: Named | None, incidents: Sequence[Found] = ()) -> Judged:
    return Judged("cadvisor-15", one, why, tuple(incidents), "prices", "stock")


def test_what_counts_as_right() -> None:
    """The right entity and layer first; one incident for a fault, none for a quiet window; floors by the same names."""
    stock = Named(("c1", "stock-1"), "app.cpu_busy", "app", "culprit")
    incident = Found("i", 75 * S, 90 * S, stock, "")
    good = [judged(LABELS.windows[1], stock, [incident]), judged(LABELS.windows[2], None)]
    assert {goal.title: goal.value for goal in goals(good)} == {
        "right entity first": 1.0,
        "right layer first": 1.0,
        "false incidents on quiet windows": 0.0,
        "quiet windows in which why blames somebody": 0.0,
        "faults with an incident": 1.0,
        "faults with more than one incident": 0.0,
        "incidents that name the right entity": 1.0,
        "noticed after, in seconds (median)": 20.0,
    }
    assert dict(floors(good)) == {"largest CPU z-score": 0.0, "largest gap change": 1.0}
    bad = [judged(LABELS.windows[1], None, [incident, incident]), judged(LABELS.windows[2], stock, [incident])]
    assert [goal.reached for goal in goals(bad)] == [False, False, False, False, True, False, False, True]


def test_an_incident_belongs_to_the_fault_that_it_began_in() -> None:
    """One that begins a little early or late is the fault's; one within a quiet window is a false one."""
    starts = {20: "quiet 1", 65: "slow", 75: "slow", 136: "slow", 150: "quiet 2", 500: None}
    for start_s, name in starts.items():
        found = owner(Found("i", start_s * S, start_s * S, None, ""), LABELS)
        assert (found.name if found else None) == name


def test_each_command_writes_its_own_part_of_the_document(tmp_path: Path) -> None:
    """The lab's part and the coarse one replace themselves and leave the other as it is."""
    path = tmp_path / "ACCURACY.md"
    document.write_lab("# Lab 1\n", path)
    document.write_coarse("## Coarse 1\n", path)
    document.write_lab("# Lab 2\n", path)
    document.write_coarse("## Coarse 2\n", path)
    document.write_lab("# Lab 3\n", path)
    text = path.read_text()
    assert text.startswith("# Lab 3\n")
    assert text.endswith("\n## Coarse 2\n")
    assert "1" not in text


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A fault, readings or a recording that there is not: exit code 2, and what there is."""
    assert command.main(["--only", "nonsense"]) == 2
    assert "expected one of cpu_limit" in capsys.readouterr().err
    assert command.main(["--readings", "nonsense"]) == 2
    assert "cadvisor-15" in capsys.readouterr().err
    assert command.main(["--again", str(tmp_path)]) == 2
    assert "holds no recording" in capsys.readouterr().err


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_a_short_coarse_run(
    docker_engine: docker.DockerClient,  # noqa: F811 - that fixture
    tmp_path: Path,
) -> None:
    """One fault for real: the recording holds spans and readings, and can be judged without running anything."""
    pace = ["--first", "25", "--fault", "20", "--healthy", "12"]
    only = ["--only", "slow_dependency", "--readings", "cadvisor-15"]
    assert command.main([*only, *pace, "--keep", str(tmp_path)]) == 0
    labels = read_labels(tmp_path)
    assert [one.fault for one in labels.windows] == [None, "slow_dependency", None]
    found = {one.window.fault: one for one in judge(tmp_path / "cases" / "cadvisor-15")}
    slow = found["slow_dependency"]
    assert slow.gap_floor == "prices"
    assert slow.why is not None
    assert any("prices" in name for name in slow.why.entity)
