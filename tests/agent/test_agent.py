"""The loop: containers come and go, sensors fail, and each interval is one request."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from layerline.version import own_version
from layerline_agent import saying
from layerline_agent.agent import POLL_S, Agent
from layerline_agent.cgroups import Tree
from layerline_agent.containers import Container
from layerline_agent.discovery import Event, Gone, Seen
from layerline_agent.docker_stats import Told
from layerline_agent.endings import Ended
from layerline_agent.files import File
from layerline_agent.machine import Machine
from layerline_agent.offset import Offset
from layerline_agent.outbox import LOGS, METRICS, Outbox
from layerline_agent.sensor import Raw, all_sensors
from layerline_agent.settings import Settings
from layerline_agent.spool import Loss
from waiting import PATIENCE_S

from .conftest import HYBRID, HYBRID_ID, V2, V2_ID, V2_UNLIMITED_ID, Clock, Sink, attributes_of, points_of


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test hears what is said once."""
    monkeypatch.setattr(saying, "_said", set())


Found = dict[tuple[str, ...], list[int | float]]


class Kept:
    """An outbox that keeps what it is given."""

    offset: Offset | None = None
    every_s = 0.0

    def __init__(self) -> None:
        self.dropped = 0
        self.lost: list[Loss] = []
        self.parcels: list[tuple[str, bytes, int]] = []

    def put(self, path: str, message: bytes, points: int) -> None:
        self.parcels.append((path, message, points))

    def losses(self) -> list[Loss]:
        told, self.lost = self.lost, []
        return told

    def close(self, within_s: float) -> int:
        return 0

    def last(self, who: str = "") -> Found:
        """What the last request of metrics says of a container, or of the host."""
        message = [message for path, message, _ in self.parcels if path == METRICS][-1]
        found: Found = {}
        for sent in ExportMetricsServiceRequest.FromString(message).resource_metrics:
            if attributes_of(sent.resource).get("container.id", "") == who:
                for metric in sent.scope_metrics[0].metrics:
                    for point in points_of(metric):
                        key = (metric.name, *(str(value) for value in attributes_of(point).values()))
                        found.setdefault(key, []).append(getattr(point, point.WhichOneof("value") or ""))
        return found

    def times(self, who: str, signal: str) -> list[int]:
        """The times of the points of a signal in the last request of metrics."""
        message = [message for path, message, _ in self.parcels if path == METRICS][-1]
        return [
            point.time_unix_nano
            for sent in ExportMetricsServiceRequest.FromString(message).resource_metrics
            if attributes_of(sent.resource).get("container.id") == who
            for metric in sent.scope_metrics[0].metrics
            if metric.name == signal
            for point in points_of(metric)
        ]


class Watch:
    """An agent below a root, whose discovery we are."""

    def __init__(self, root: Path, tags: dict[str, str] | None = None, outbox: Any = None, stats: Any = None) -> None:
        self.outbox: Any = outbox or Kept()
        self.clock = Clock()
        self.discovery: Any = SimpleNamespace(sightings=SimpleQueue(), stop=lambda: None)
        settings = Settings(tags=tags or {}, interval_ns=100_000_000, fine_ns=20_000_000)
        self.agent = Agent(settings, Machine(str(root)), self.discovery, self.outbox, self.clock, stats)

    def see(self, *sightings: object) -> None:
        for sighting in sightings:
            self.discovery.sightings.put(sighting)
        self.agent.look()

    def second(self) -> None:
        self.agent.read(full=True)
        self.agent.send()
        self.clock.now_ns += 1_000_000_000


def container(root: Path, name: str = "web", container_id: str = V2_ID, started_ns: int = 5) -> Container:
    directory = f"{root}/sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    return Container(container_id, {"unified": directory}, name=name, started_ns=started_ns)


def test_one_interval_is_one_request() -> None:
    """Host and containers go out together; host attributes and tags are on both."""
    watch = Watch(V2 / "first", tags={"cloud.region": "eu"})
    watch.see(Seen(container(V2 / "first")))
    watch.second()
    ((path, message, points),) = watch.outbox.parcels
    request = ExportMetricsServiceRequest.FromString(message)
    assert path == METRICS
    assert points == sum(len(points_of(m)) for sent in request.resource_metrics for m in sent.scope_metrics[0].metrics)
    resources = [attributes_of(sent.resource) for sent in request.resource_metrics]
    assert all(resource["cloud.region"] == "eu" for resource in resources)
    assert {resource["layerline.boot_id"] for resource in resources} == {resources[0]["layerline.boot_id"]}
    assert [resource.get("container.name") for resource in resources if "container.id" in resource] == ["web"]
    assert watch.outbox.last()["system.cpu.logical.count",] == [2]


@pytest.mark.parametrize("has_local", [False, True])
def test_a_container_says_where_its_throttled_time_leaves_out_quotas_above(
    copied: Callable[[Path], Path], has_local: bool
) -> None:
    """Before Linux 6.5 a cgroup's counter is of its own quota only; from then on there is ``cpu.stat.local``."""
    root = copied(V2 / "first")
    described = container(root)
    local = Path(f"{described.directories['unified']}/cpu.stat.local")
    local.unlink(missing_ok=True)
    if has_local:
        local.write_text("throttled_usec 0\n", encoding="ascii")
    watch = Watch(root)
    watch.see(Seen(described))
    watch.second()
    request = ExportMetricsServiceRequest.FromString(watch.outbox.parcels[-1][1])
    found = {str(who.get("container.id")): who for who in (attributes_of(s.resource) for s in request.resource_metrics)}
    assert found[V2_ID].get("layerline.container.throttled_scope") == (None if has_local else "own")


def test_a_container_says_where_it_is_in_the_tree(copied: Callable[[Path], Path]) -> None:
    """Its cgroup's path is on its resource, and the id of the container that it runs inside of, if it does."""
    root = copied(V2 / "first")
    outer = container(root)
    inner_id = "a" * 64
    directory = Path(f"{outer.directories['unified']}/docker/{inner_id}")
    shutil.copytree(root / "sys/fs/cgroup/system.slice" / f"docker-{V2_UNLIMITED_ID}.scope", directory)
    watch = Watch(root)
    watch.see(Seen(outer), Seen(Container(inner_id, {"unified": str(directory)}, started_ns=5)))
    watch.second()
    request = ExportMetricsServiceRequest.FromString(watch.outbox.parcels[-1][1])
    found = {str(who.get("container.id")): who for who in (attributes_of(s.resource) for s in request.resource_metrics)}
    path = f"/system.slice/docker-{V2_ID}.scope"
    assert found[V2_ID]["layerline.cgroup.path"] == path
    assert "layerline.container.parent" not in found[V2_ID]
    assert found[inner_id]["layerline.cgroup.path"] == f"{path}/docker/{inner_id}"
    assert found[inner_id]["layerline.container.parent"] == V2_ID
    # The outer one's limit holds for the inner one too.
    assert watch.outbox.last(inner_id)["container.ancestor.cpu.limit", path] == [0.2]
    assert not [key for key in watch.outbox.last(V2_ID) if key[0].startswith("container.ancestor.")]


def test_a_container_is_read_at_once() -> None:
    """A container that lives for less than a tick was read once when it started, and that reading is sent."""
    watch = Watch(V2 / "first")
    watch.see(Seen(container(V2 / "first")), Gone(V2_ID))
    watch.second()
    assert watch.outbox.last(V2_ID)["container.cpu.throttled",][0] == 2_844_585_000
    watch.second()
    assert watch.outbox.last(V2_ID) == {}


def test_a_container_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """A container without a cgroup here has no readings, and that is said once."""
    watch = Watch(V2 / "first")
    watch.see(Seen(Container("c" * 64, name="far")), Seen(Container("d" * 64, name="away")))
    watch.second()
    assert watch.outbox.last("c" * 64) == {}
    assert capsys.readouterr().err.count("no cgroup of container far") == 1


def test_the_end_is_measured(copied: Callable[[Path], Path]) -> None:
    """What was copied when its last process had ended is sent, and holds until the time of its death."""
    root = copied(V2 / "first")
    watch = Watch(root)
    watch.see(Seen(container(root)))
    watch.second()
    directory = Path(container(root).directories["unified"])
    contents = {str(path): path.read_bytes() for path in directory.iterdir()}
    contents[str(directory / "cpu.stat")] = b"usage_usec 900000\nthrottled_usec 3000000\n"
    watch.see(Ended(V2_ID, 2_100_000_000, contents))
    shutil.rmtree(directory)
    watch.see(Gone(V2_ID, 2_150_000_000))
    watch.second()
    assert watch.outbox.last(V2_ID)["container.cpu.time",] == [0.9, 0.9]
    assert watch.outbox.last(V2_ID)["container.cpu.throttled",] == [3_000_000_000] * 2
    assert watch.outbox.times(V2_ID, "container.cpu.time") == [2_100_000_000, 2_150_000_000]
    assert watch.outbox.last(V2_ID)["container.disk.operations", "read", "none"] == [0, 0]


def test_the_end_was_missed(copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cgroup was gone first, the last reading of a young container is sent, as of when it was read."""
    monkeypatch.setattr(File, "_most", -1)  # a removed file that is kept open can be read, unlike that of a cgroup
    root = copied(V2 / "first")
    watch = Watch(root)
    watch.see(Seen(container(root, started_ns=watch.clock.now_ns)))
    watch.second()
    directory = Path(container(root).directories["unified"])
    (directory / "cpu.stat").write_bytes(b"usage_usec 900000\nthrottled_usec 3000000\n")
    time.sleep(POLL_S)
    watch.agent.poll()
    shutil.rmtree(directory)
    watch.clock.now_ns += 90_000_000
    watch.see(Gone(V2_ID, 2_150_000_000))
    watch.second()
    assert watch.outbox.last(V2_ID)["container.cpu.time",][-1] == 0.9
    assert watch.outbox.times(V2_ID, "container.cpu.time")[-1] == 2_000_000_000


def test_nothing_is_sent_before_it_is_described() -> None:
    """What was read of a container goes out when Docker has described it, all under the same resource."""
    watch = Watch(V2 / "first")
    watch.see(Seen(container(V2 / "first", name="we"), described=False))
    watch.second()
    assert watch.outbox.last(V2_ID) == {}
    watch.see(Seen(container(V2 / "first", name="web")))
    watch.second()
    assert watch.outbox.last(V2_ID)["container.cpu.throttled",] == [2_844_585_000] * 3
    watch = Watch(V2 / "first")
    watch.see(Seen(container(V2 / "first", name="we"), described=False), Gone(V2_ID))
    watch.second()
    assert watch.outbox.last(V2_ID), "it has ended: there is no more to come"


def test_told_by_docker(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no cgroup is within reach, what Docker says is sent, and its resource says where it comes from."""
    asked: list[str] = []
    stats: Any = SimpleNamespace(ask=asked.extend, close=lambda: None)
    watch = Watch(V2 / "first", stats=stats)
    watch.see(Seen(Container("c" * 64, name="far")), Seen(container(V2 / "first")))
    watch.second()
    assert asked == ["c" * 64]
    watch.see(Told("c" * 64, 1_900_000_000, (Raw("container.cpu.time", 5_000_000),)))
    watch.second()
    assert watch.outbox.last("c" * 64) == {("container.cpu.time",): [0.005]}
    resources = [
        attributes_of(sent.resource)
        for path, message, _ in watch.outbox.parcels
        for sent in ExportMetricsServiceRequest.FromString(message).resource_metrics
    ]
    sources = {one["container.id"]: one.get("layerline.reading.source") for one in resources if "container.id" in one}
    assert sources == {"c" * 64: "docker_stats", V2_ID: None}
    assert "the Docker stats API is asked about it" in capsys.readouterr().err


def test_recreated_under_the_same_name() -> None:
    """A new container under an old name is another entity: another id, another resource."""
    watch = Watch(V2 / "first")
    watch.see(Seen(container(V2 / "first")), Gone(V2_ID), Seen(container(V2 / "first", container_id="c" * 64)))
    watch.second()
    assert watch.outbox.last(V2_ID)
    assert watch.outbox.last("c" * 64)
    assert watch.agent.containers == 1


def test_restarted_and_renamed() -> None:
    """The same container under a new name goes on; started again, its counters begin anew."""
    watch = Watch(V2 / "first")
    watch.see(Seen(container(V2 / "first")))
    watch.second()
    watch.see(Seen(container(V2 / "first", name="shop")))
    watch.second()
    assert watch.outbox.last(V2_ID)["container.cpu.throttled",] == [2_844_585_000]
    watch.see(Seen(container(V2 / "first", name="shop", started_ns=99)))
    watch.second()
    request = ExportMetricsServiceRequest.FromString(watch.outbox.parcels[-1][1])
    starts = {
        point.start_time_unix_nano
        for sent in request.resource_metrics
        if attributes_of(sent.resource).get("container.name") == "shop"
        for metric in sent.scope_metrics[0].metrics
        if metric.WhichOneof("data") == "sum"
        for point in points_of(metric)
    }
    assert starts == {99}
    assert watch.agent.containers == 1


def test_a_failing_sensor_is_reported(copied: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A sensor that fails says 0 for itself and is named once on stderr; all others say 1 and go on."""
    root = copied(V2 / "first")
    (root / "proc/diskstats").write_text("nonsense\n")
    watch = Watch(root)
    for _ in range(3):
        watch.second()
    found = watch.outbox.last()
    success = {key[1]: values for key, values in found.items() if key[0] == "layerline.sensor.success"}
    assert success.pop("host_disk") == [0]
    assert set(success) == set(all_sensors()) - {"host_disk"}
    assert all(values == [1] for values in success.values())
    assert found["layerline.sensor.duration", "host_cpu"][0] > 0
    assert found["system.cpu.logical.count",] == [2]
    assert capsys.readouterr().err.count("sensor host_disk cannot read") == 1


def test_drops_are_reported() -> None:
    """What the outbox lost is a metric of the agent's own."""
    watch = Watch(V2 / "first")
    watch.outbox.dropped = 7
    watch.second()
    assert watch.outbox.last()["layerline.agent.dropped_points",] == [7]


def test_it_says_that_it_runs_and_how_far_its_clock_is_off() -> None:
    """Its version with each sending; the offset once the server has said its time, also a negative one."""
    watch = Watch(V2 / "first")
    watch.second()
    first = watch.outbox.last()
    assert first["layerline.agent.running", own_version()] == [1]
    assert ("layerline.agent.clock_offset",) not in first
    watch.outbox.offset = Offset(-250_000_000, 1_000_000)
    watch.second()
    assert watch.outbox.last()["layerline.agent.clock_offset",] == [-250_000_000]
    assert watch.outbox.last()["layerline.agent.clock_uncertainty",] == [1_000_000]


def test_losses_go_out_once_as_an_event() -> None:
    """What the outbox lost on the way is told with the next sending, and only then."""
    watch = Watch(V2 / "first")
    watch.outbox.lost = [Loss("the server was away", 7, 1, 2)]
    for _ in range(2):
        watch.agent.read(full=True)
        watch.agent.send()
    (sent,) = [(message, points) for path, message, points in watch.outbox.parcels if path == LOGS]
    assert b"layerline.agent.dropped" in sent[0]
    assert sent[1] == 1


def test_one_that_cannot_be_sent_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that OTLP cannot carry, of a container or in an event, costs only that, each time, and is said once."""
    watch = Watch(V2 / "first")
    odd = container(V2 / "first", name="od\ud800d", container_id="b" * 64)
    watch.see(Seen(container(V2 / "first")), Seen(odd))
    for _ in range(3):
        watch.see(Event("container.die", 3, odd, "died"), Event("container.start", 4, container(V2 / "first"), "began"))
        watch.second()
    assert [path for path, _, _ in watch.outbox.parcels] == [METRICS, LOGS] * 3
    assert watch.outbox.last(V2_ID)
    assert not watch.outbox.last("b" * 64)
    assert b"began" in watch.outbox.parcels[-1][1]
    assert all(not series.points for series in watch.agent._watched["b" * 64][1].series)
    said = capsys.readouterr().err
    assert said.count("encoding readings failed") == 1
    assert said.count("encoding an event failed") == 1


def test_a_sighting_that_cannot_be_taken_in_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """What was discovered and makes no sense is left out, and the agent goes on."""
    watch = Watch(V2 / "first")
    watch.see(Seen(None), Seen(container(V2 / "first")))  # type: ignore[arg-type]
    watch.see()
    watch.second()
    assert watch.outbox.last(V2_ID)
    assert "taking in what was discovered failed" in capsys.readouterr().err


def test_events_go_out_as_logs() -> None:
    """Events of an interval are one request of logs."""
    watch = Watch(V2 / "first")
    watch.see(Event("container.die", 3, container(V2 / "first"), "died", {"process.exit.code": 1}))
    watch.second()
    watch.second()
    assert [(path, points) for path, _, points in watch.outbox.parcels if path == LOGS] == [(LOGS, 1)]


def test_a_server_that_nobody_asks_gets_several_intervals_at_once() -> None:
    """Where it says so, readings wait for those of the next intervals; events and what has ended do not."""
    watch = Watch(V2 / "first")
    watch.outbox.every_s = 5.0
    assert watch.agent._is_due(0.0), "the first are sent at once"
    watch.second()
    sent_s, interval_s = watch.agent._sent_s, 0.1
    assert not watch.agent._is_due(sent_s + 5.0 - 1.5 * interval_s)
    assert watch.agent._is_due(sent_s + 5.0 - 0.5 * interval_s), "the next one would be too late"
    watch.see(Seen(container(V2 / "first")))
    for _ in range(3):
        watch.agent.read(full=True)
        watch.clock.now_ns += 1_000_000_000
    assert not watch.agent._is_due(sent_s + 1.0)
    watch.see(Gone(V2_ID))
    assert watch.agent._is_due(sent_s + 1.0), "a container has ended"
    watch.agent.send()
    assert len(watch.outbox.times(V2_ID, "container.pids")) == 5, "one at first sight, one of each interval, the last"
    watch.see(Event("container.die", 3, container(V2 / "first"), "died", {"process.exit.code": 1}))
    assert watch.agent._is_due(sent_s + 1.0), "something happened"


def test_the_loop(sink: Sink) -> None:
    """Running, it reads on both grids and sends each interval; stopped, it reads once more, sends and ends."""
    watch = Watch(HYBRID / "first", outbox=Outbox(sink.url, {}, 1_000_000))
    machine = Machine(str(HYBRID / "first"))
    settings = Settings(interval_ns=100_000_000, fine_ns=20_000_000)
    watch.agent = Agent(settings, machine, watch.discovery, watch.outbox)
    directories = Tree.of(machine).directories(f"/docker/{HYBRID_ID}")
    watch.discovery.sightings.put(Seen(Container(HYBRID_ID, directories)))
    running = threading.Thread(target=watch.agent.run)
    running.start()
    assert sink.wait_for(lambda: len(sink.received) >= 3)
    watch.agent.stop()
    running.join(timeout=PATIENCE_S)
    assert not running.is_alive()
    times = [
        point.time_unix_nano
        for request in sink.metrics
        for sent in request.resource_metrics
        for metric in sent.scope_metrics[0].metrics
        if metric.name == "container.cpu.throttled"
        for point in points_of(metric)
    ]
    assert times == sorted(set(times))
    assert len(times) == len(sink.metrics) + 1  # at rest: one a tick, and the reading at first sight
