"""Whoever already collects gets the same readings: what others send, and the rows that it becomes.

``tests/sources/<source>.toml`` holds, metric by metric, what a source sends, written down from its documentation, and
beside it ``rows``: signal, entity and value (in our unit), and the attributes in our words. ``sum`` only grows,
``level`` is a sum that may fall, both cumulative, ``delta`` one that counts anew each time, ``summary`` the sum of four
samples; points are ``[value, attributes]``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from spans import MS, a_while_ago, container_id, span_row

from layerline.aliases import (
    AGENT,
    CADVISOR,
    CLOUDWATCH,
    CONVENTIONS,
    DOCKER_STATS,
    HOSTMETRICS,
    KUBELETSTATS,
    NODE_EXPORTER,
    Alias,
)
from layerline.signals import SIGNALS, Kind, Signal, find, translate
from layerline_api.doors.otlp.metrics import decode_metrics
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, resource_key

SOURCES = Path(__file__).parent.parent / "sources"
#: The files of sources whose names are no file names.
FILES = {CADVISOR: "cadvisor", CONVENTIONS: "conventions", CLOUDWATCH: "cloudwatch"}
WEB, STOCK = container_id("web"), container_id("stock")
START_NS = 1_000_000_000


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    yield opened
    opened.close()


def senders(source: str) -> list[dict[str, Any]]:
    text = (SOURCES / f"{source}.toml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text.replace("{web}", WEB).replace("{stock}", STOCK))["sender"]
    return found


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def any_value(value: str | int | dict[str, Any]) -> AnyValue:
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)


def request(sent: list[dict[str, Any]], time_ns: int, start_ns: int = 0) -> bytes:
    """The OTLP request of these senders."""
    message = ExportMetricsServiceRequest()
    for sender in sent:
        group = message.resource_metrics.add()
        group.resource.attributes.extend(pairs(sender["resource"]))
        metrics = group.scope_metrics.add().metrics
        for drawn in sender["metric"]:
            metric = metrics.add(name=drawn["name"], unit=drawn.get("unit", ""))
            for total, *attributes in drawn.get("summary", []):
                summed = metric.summary.data_points.add(time_unix_nano=time_ns, start_time_unix_nano=start_ns)
                summed.attributes.extend(pairs(*attributes))
                summed.count, summed.sum = 4, total
            if "summary" in drawn:
                continue
            if "gauge" not in drawn:
                metric.sum.aggregation_temporality = 1 if "delta" in drawn else 2
                metric.sum.is_monotonic = "sum" in drawn
            into = metric.gauge.data_points if "gauge" in drawn else metric.sum.data_points
            for value, *attributes in next(drawn[kind] for kind in ("sum", "level", "gauge", "delta") if kind in drawn):
                point = into.add(time_unix_nano=time_ns, start_time_unix_nano=start_ns)
                point.attributes.extend(pairs(*attributes) if attributes else [])
                if isinstance(value, int):
                    point.as_int = value
                else:
                    point.as_double = value
    return message.SerializeToString()


def send(correlator: Correlator, sent: list[dict[str, Any]], time_ns: int, start_ns: int = 0) -> None:
    found, rejections = decode_metrics(request(sent, time_ns, start_ns))
    assert not rejections.count
    correlator.append(found)


def look(correlator: Correlator, sql: str) -> list[tuple[Any, ...]]:
    cursor = correlator._store.cursor()
    try:
        return cursor.execute(sql).fetchall()
    finally:
        cursor.close()


@pytest.mark.parametrize("source", sorted(path.stem for path in SOURCES.glob("*.toml")))
def test_a_source(source: str, correlator: Correlator) -> None:
    """What a source sends becomes our signals of the right entity, in our units and words; the rest stays as it is."""
    sent = senders(source)
    send(correlator, sent, 5_000_000_000, START_NS)
    found = look(
        correlator,
        "SELECT signal, entity_type, entity_id, value, attributes, unit, kind FROM point JOIN series USING (series)",
    )
    kept = [(*row[:2], str(row[2]), float(row[3]), dict(row[4])) for row in found]  # "None": on no machine
    expected = [
        (signal, kind, entity, float(value), attributes[0] if attributes else {})
        for sender in sent
        for metric in sender["metric"]
        for signal, kind, entity, value, *attributes in metric["rows"]
    ]
    assert sorted(map(str, map(ordered, kept))) == sorted(map(str, map(ordered, expected)))
    for signal, _, _, _, _, unit, kind in found:
        known = find(signal)
        if known is not None:
            counted = ("cumulative", "delta") if known.kind is Kind.COUNTER else ("gauge",)
            assert (unit, kind in counted) == (known.unit, True), signal


@pytest.mark.parametrize("source", [DOCKER_STATS, CADVISOR, KUBELETSTATS, NODE_EXPORTER, HOSTMETRICS, AGENT])
def test_who_read_a_figure_is_known(source: str) -> None:
    """Of what a source says of containers and machines it is kept who said it; nobody else is taken for it."""
    stem = {CADVISOR: "cadvisor", AGENT: "agent"}.get(source, source)
    found, _ = decode_metrics(request(senders(stem), 5_000_000_000, START_NS))
    of_ours = [row for row in found.series if (known := find(row.signal)) is not None and known.entity != "service"]
    assert {row.source for row in of_ours} - {""} == {source}, stem
    assert [row.signal for row in of_ours if row.signal.endswith(".cpu.time") and not row.source] == []


def ordered(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:4], sorted(row[4].items()))


@pytest.mark.parametrize(
    ("signal", "alias"),
    [pytest.param(signal, alias, id=alias.name) for signal in SIGNALS for alias in signal.aliases],
)
def test_an_alias_leads_to_its_signal(signal: Signal, alias: Alias) -> None:
    """Every name that the catalogue lists is taken for the signal it stands beside, in the stored unit."""
    asked = tuple((key, value) for key, value in alias.only if value)
    found = translate(alias.name, "s", asked)
    assert found is not None
    assert found.signal is signal
    assert found.attributes == dict(alias.implies)
    assert found.factor == (1 if signal.unit != "ns" else 1_000 if alias.unit == "us" else 1_000_000_000)


@pytest.mark.parametrize("source", sorted({alias.source for signal in SIGNALS for alias in signal.aliases}))
def test_every_alias_is_drawn(source: str) -> None:
    """Each name of the catalogue stands in the file of its source: an alias that nobody tried would pass unseen."""
    file = SOURCES / f"{FILES.get(source, source)}.toml"
    assert file.exists(), f"{file} is missing: it shows what {source} sends, and the readings that it must become"
    drawn = {metric["name"] for sender in senders(file.stem) for metric in sender["metric"]}
    names = {alias.name for signal in SIGNALS for alias in signal.aliases if alias.source == source}
    assert names <= drawn, f"add what {source} sends as {sorted(names - drawn)} to {file}"


def test_a_scraped_container_is_described(correlator: Correlator) -> None:
    """cAdvisor's labels become the container's own tags; its environment is not kept."""
    send(correlator, senders("cadvisor"), 5_000_000_000)
    ((attributes,),) = look(correlator, f"SELECT attributes FROM container WHERE container_id = '{WEB}'")
    assert attributes == {
        "container.id": WEB,
        "container.name": "shop-web-1",
        "container.image.name": "registry:5000/shop/web",
        "container.image.tags": '["1.2"]',
        "container.label.com_docker_compose_service": "web",
        "server.address": "vm-1",
    }
    assert not [row for row in look(correlator, "SELECT attributes::VARCHAR FROM resource") if "hunter2" in row[0]]


# ---- one word for each machine


DOCKER = {"resource": {"container.id": WEB, "container.name": "web", "container.runtime": "docker"}}
OTHER = {"resource": {"container.id": STOCK, "container.name": "stock", "container.runtime": "docker"}}
CADVISOR_WEB = {
    "resource": {"service.name": "cadvisor", "service.instance.id": "cadvisor:8080", "server.address": "cadvisor"}
}
CPU = {"name": "container.cpu.usage.total", "unit": "ns", "sum": [[1]]}
SCRAPED = {"name": "container_cpu_cfs_periods_total", "sum": [[1, {"id": f"/docker/{WEB}"}]]}
LOAD = {"name": "system.cpu.load_average.1m", "unit": "{thread}", "gauge": [[0.5]]}


def machine(**attributes: str) -> dict[str, Any]:
    return {"resource": {key.replace("_", "."): value for key, value in attributes.items()}, "metric": [LOAD]}


def instance(identity: str) -> dict[str, Any]:
    """What CloudWatch says of an instance, as it is kept."""
    return machine(host_id=identity, layerline_reading_source="cloudwatch")


def agent(boot_id: str, **attributes: str) -> dict[str, Any]:
    sender = machine(**attributes)
    sender["resource"]["layerline.boot_id"] = boot_id
    return sender


def service(**attributes: str) -> dict[str, Any]:
    return machine(service_name="shop", **attributes)


@pytest.mark.parametrize(
    ("sent", "hosts"),
    [
        pytest.param([DOCKER, machine(host_name="vm-1")], ["vm-1", "vm-1"], id="the one machine there is"),
        pytest.param([machine(host_name="vm-1"), DOCKER], ["vm-1", "vm-1"], id="whichever comes first"),
        pytest.param([DOCKER], [WEB], id="none is known"),
        pytest.param(
            [machine(host_name="vm-1"), machine(host_name="vm-2"), DOCKER, OTHER],
            ["vm-1", "vm-2", WEB, STOCK],
            id="several are known, and nothing tells which",
        ),
        pytest.param(
            [machine(host_name="vm-1"), DOCKER, machine(host_name="vm-2"), OTHER],
            ["vm-1", "vm-1", "vm-2", STOCK],
            id="it stays where it was when another turns up",
        ),
        pytest.param(
            [
                machine(host_name="vm-1"),
                machine(host_id="f00d", host_name="vm-1.example.com"),
                service(host_name="VM-1"),
            ],
            ["f00d", "f00d", "f00d"],
            id="short and full name, with and without id",
        ),
        pytest.param(
            [machine(host_name="db.a.com"), machine(host_name="db.b.com"), service(host_name="db")],
            ["db.a.com", "db.b.com", "db"],
            id="two machines of one short name",
        ),
        pytest.param(
            [
                machine(host_id="1", host_name="localhost"),
                machine(host_id="2", host_name="localhost"),
                service(host_name="localhost"),
            ],
            ["1", "2", "localhost"],
            id="two machines of one name",
        ),
        pytest.param(
            [
                machine(host_name="vm-1"),
                DOCKER,
                agent("b007", host_id="f00d", host_name="vm-1"),
                service(host_id="f00d"),
            ],
            ["b007", "b007", "b007", "b007"],
            id="the agent comes to a machine that was known otherwise",
        ),
        pytest.param(
            [
                agent("b001", host_id="f00d", host_name="vm-1"),
                agent("b002", host_id="f00d", host_name="vm-1"),
                DOCKER,
                service(host_name="vm-1"),
            ],
            ["b001", "b002", "b002", "b002"],
            id="a machine that was booted again is one machine",
        ),
        pytest.param([machine(host_name="vm-1"), CADVISOR_WEB], ["vm-1", "vm-1"], id="a scraped container's machine"),
        pytest.param(
            [machine(host_name="vm-1"), service(host_name=WEB[:12])], ["vm-1", WEB[:12]], id="a container's own name"
        ),
        pytest.param([machine(host_name="vm-1"), service()], ["vm-1", None], id="a process that names nothing"),
        pytest.param(
            [instance("i-0af01c01"), instance("i-0af01c02"), machine(host_name="vm-1"), DOCKER],
            ["i-0af01c01", "i-0af01c02", "vm-1", "vm-1"],
            id="what a cloud tells of its instances makes no machine known",
        ),
        pytest.param(
            [agent("b007", host_id="f00d", layerline_instance_id="i-0af01c01"), instance("i-0af01c01")],
            ["b007", "b007"],
            id="an instance that the agent knows itself to be on",
        ),
        pytest.param(
            [machine(host_id="i-0af01c01"), instance("i-0af01c01"), service(host_id="i-0af01c01")],
            ["i-0af01c01"] * 3,
            id="an instance that a resource detector names",
        ),
    ],
)
def test_one_word_for_each_machine(sent: list[dict[str, Any]], hosts: list[str | None], correlator: Correlator) -> None:
    """Whoever calls a machine what: its readings, its containers and its processes end up on one host, or on none."""
    for number, sender in enumerate(sent):
        metric = CPU if sender in (DOCKER, OTHER) else SCRAPED if sender is CADVISOR_WEB else LOAD
        send(correlator, [sender | {"metric": [metric]}], 5_000_000_000 + number)
    assert look(correlator, "SELECT host FROM resource ORDER BY seen_ns") == [(host,) for host in hosts]
    told = look(
        correlator,
        "SELECT series.host, entity_id FROM point JOIN series USING (series) JOIN resource USING (resource)"
        " WHERE service IS NULL ORDER BY time_ns",
    )
    spoken = [
        host
        for host, sender in zip(hosts, sent, strict=True)
        if "service.name" not in sender["resource"] or sender is CADVISOR_WEB
    ]
    assert [host for host, _ in told] == spoken
    assert all(entity in (host, WEB, STOCK) for host, entity in told)


def test_a_volume_is_on_the_machine_that_has_its_disk(correlator: Correlator) -> None:
    """CloudWatch names the volume alone; which machine has it, node_exporter tells by the serial of a disk."""
    exporters = [
        machine(host_name=name)
        | {"metric": [{"name": "node_disk_info", "gauge": [[1, {"device": "nvme1n1", "serial": serial}]]}]}
        for name, serial in (("vm-1", "vol0123456789abcdef0"), ("vm-2", "vol0fedcba9876543210"))
    ]
    attributes = {"Namespace": "AWS/EBS", "Dimensions": {"VolumeId": "vol-0123456789abcdef0"}}
    volume = {
        "resource": {"cloud.provider": "aws", "cloud.region": "us-east-1"},
        "metric": [{"name": "amazonaws.com/AWS/EBS/VolumeIOPSExceededCheck", "summary": [[4.0, attributes]]}],
    }
    for number, sender in enumerate([volume, *exporters]):
        send(correlator, [sender], 5_000_000_000 + number)
    told = look(correlator, "SELECT host, entity_id FROM series WHERE signal = 'system.disk.limit_exceeded'")
    assert told == [("vm-1", "vm-1")]


def test_it_is_known_again_after_a_restart(tmp_path: Path) -> None:
    """A series that begins after the server was started anew is on the machine that its sender was put on before."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    first = Correlator.open(settings)
    send(first, [machine(host_name="vm-1"), DOCKER | {"metric": [CPU]}], 5_000_000_000)
    first.close()
    again = Correlator.open(settings)
    try:
        send(again, [DOCKER | {"metric": [{"name": "container.pids.count", "level": [[3]]}]}], 6_000_000_000)
        assert look(again, "SELECT DISTINCT host FROM series") == [("vm-1",)]
    finally:
        again.close()


#: What SDKs of other languages say of where they run, as their resource detectors write it.
STRANGERS = {
    "nodejs": {"service.name": "shop", "container.id": WEB, "host.name": WEB[:12], "telemetry.sdk.language": "nodejs"},
    "java": {
        "service.name": "shop",
        "service.instance.id": "2f6f2a4c-6c2b-4a2c-9a1b-5a0e6a3a1f11",
        "container.id": WEB,
        "host.arch": "amd64",
        "host.name": WEB[:12],
        "os.type": "linux",
        "process.pid": "1",
        "process.runtime.name": "OpenJDK Runtime Environment",
        "telemetry.distro.name": "opentelemetry-java-instrumentation",
        "telemetry.sdk.language": "java",
    },
    "go": {"service.name": "shop", "host.name": WEB[:12], "os.type": "linux", "telemetry.sdk.language": "go"},
}


@pytest.mark.parametrize("language", STRANGERS)
def test_a_stranger_in_a_container_of_the_one_machine(correlator: Correlator, language: str) -> None:
    """A span of an SDK that takes its container for a host, with a Collector's readings: its quota explains it."""
    zero_ns = a_while_ago()
    resource = STRANGERS[language]
    owner = ResourceRow(resource_key(resource), resource)
    _, span = span_row({"id": "a", "kind": "server", "ms": [0, 400]}, "5ce7a710" * 4, zero_ns)
    held = {0: 0, 200: 150, 400: 310, 600: 310}
    for at, throttled in held.items():
        sent = [
            DOCKER
            | {
                "metric": [
                    {"name": "container.cpu.usage.total", "unit": "ns", "sum": [[(7_000 + at // 10) * MS]]},
                    {
                        "name": "container.cpu.throttling_data.throttled_time",
                        "unit": "ns",
                        "sum": [[(9_000 + throttled) * MS]],
                    },
                ]
            },
            machine(host_name="vm-1")
            | {
                "metric": [
                    {
                        "name": "system.cpu.time",
                        "unit": "s",
                        "sum": [[50.0 + at / 1e3, {"cpu": f"cpu{n}", "state": "user"}] for n in range(2)],
                    }
                ]
            },
        ]
        send(correlator, sent, zero_ns + at * MS, zero_ns - 1)
    correlator.append(Batch(resources=[owner], spans=[span._replace(resource=owner.resource)]))
    verdict = correlator.verdict("5ce7a710" * 4)
    assert verdict is not None
    (part,) = (part for part in verdict.parts if part.cause == "container.cpu_throttled")
    assert part.entity.id == WEB
    assert part.low_ns <= 310 * MS <= part.high_ns
    assert part.lost_ns == pytest.approx(310 * MS, rel=0.01)


# ---- Kubernetes: a pod's network is that of its sandbox


KUBELET = {"service.name": "kubelet", "service.instance.id": "node-a:10250", "server.address": "node-a"}
PAUSE = "5" * 64


def _of_pod(container_id: str, **labels: str) -> dict[str, str]:
    """Labels of the kubelet's cAdvisor on containerd: the name is the id again."""
    path = f"/kubepods.slice/kubepods-podba1f2.slice/cri-containerd-{container_id}.scope"
    return {"id": path, "name": container_id, "namespace": "shop", "pod": "web-7d9"} | labels


@pytest.mark.parametrize("named", [{"container": "POD"}, {"container": "", "image": ""}, {}])
def test_a_pods_network_is_shown_with_its_containers(correlator: Correlator, named: dict[str, str]) -> None:
    """The sandbox is known as such, whether it is called POD or nothing; pod and container are names, no id is, and who
    asks for the container sees what was read of the pod's network."""
    pod, web = _of_pod(PAUSE, **named), _of_pod(WEB, container="web", image="shop/web:1")
    for second in (5, 10, 15):
        received = {
            "name": "container_network_receive_bytes_total",
            "sum": [[1000 * second, pod | {"interface": "eth0"}]],
        }
        used = {"name": "container_cpu_usage_seconds_total", "sum": [[second, web]]}
        send(correlator, [{"resource": KUBELET, "metric": [received, used]}], second * 10**9)
    names = look(correlator, "SELECT container_id, shown_name FROM container ORDER BY ALL")
    assert sorted(names) == sorted([(PAUSE, "web-7d9 (pod)"), (WEB, "web-7d9/web")])
    assert look(correlator, "FROM pod_network") == [(WEB, PAUSE)]
    found = correlator.timeline(TimelineQuery(5 * 10**9, 15 * 10**9, entity=("container", WEB)))
    assert found is not None
    assert ("web-7d9 (pod)", "container.network.io") in {
        (one.entity.name, one.name) for one in found.series if one.entity
    }
