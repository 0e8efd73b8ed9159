"""The join, as drawings: what a process says, what is known of containers, which one it is tied to, how surely."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, container_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.handles import handles, is_sandbox
from layerline_correlator.store.model import Batch, EventRow, PointRow, ResourceRow, SeriesRow, resource_key, series_key

pytestmark = pytest.mark.long

TRACE = "10a7" * 8
JOINS = tomllib.loads((Path(__file__).parent.parent / "joins/joins.toml").read_text(encoding="utf-8"))["join"]


def spelled(text: str) -> str:
    """``{web-1}`` is that container's id, ``{web-1:12}`` the first twelve digits of it."""
    return re.sub(r"\{([\w-]+)(?::(\d+))?\}", lambda match: container_id(match[1])[: int(match[2] or 64)], text)


def description(drawn: dict[str, str]) -> ResourceRow:
    """A container as the agent or a receiver describes it."""
    attributes = {key: spelled(value) for key, value in drawn.items() if key not in ("container", "host")}
    if "container" in drawn:
        attributes = {
            "container.id": container_id(drawn["container"]),
            "container.name": drawn["container"],
        } | attributes
    if "container" in drawn or "host" in drawn:
        attributes |= {"layerline.boot_id": drawn.get("host", "host-1")}
    return ResourceRow(resource_key(attributes), attributes)


def readings(owner: ResourceRow, from_ns: int, to_ns: int, step_ns: int = 10**9) -> tuple[SeriesRow, list[PointRow]]:
    """Its CPU time, once a second."""
    series = series_key(owner.resource, "container.cpu.time", {})
    row = SeriesRow(series, owner.resource, "container.cpu.time", "ns", "cumulative", {})
    return row, [PointRow(series, 0, time_ns, float(n)) for n, time_ns in enumerate(range(from_ns, to_ns + 1, step_ns))]


def drawing(drawn: dict[str, Any], zero_ns: int) -> Batch:
    """What the receivers would hand to the store."""
    known = [description(one) for one in drawn.get("known", [])]
    said = {"service.name": "web"} | {key: spelled(value) for key, value in drawn.get("sender", {}).items()}
    sender = ResourceRow(resource_key(said), said)
    _, span = span_row({"id": "a", "kind": "server", "ms": [0, 20]}, TRACE, zero_ns)
    read = [
        readings(known[one["known"]], zero_ns + one["from"] * MS, zero_ns + one["to"] * MS)
        for one in drawn.get("readings", [])
    ]
    return Batch(
        resources=[*known, sender],
        spans=[span._replace(resource=sender.resource, attributes=drawn.get("span", {}))],
        series=[row for row, _ in read],
        points=[point for _, points in read for point in points],
        events=[
            EventRow(known[one["known"]].resource, zero_ns + one["at"] * MS, one["name"], "", {})
            for one in drawn.get("events", [])
        ],
    )


@pytest.mark.parametrize("drawn", [pytest.param(drawn, id=drawn["must"]) for drawn in JOINS])
def test_join(drawn: dict[str, Any], correlator: Correlator) -> None:
    """The span is tied as its author worked out by hand, and it says how; what its verdict says is looked at below."""
    correlator.append(drawing(drawn, a_while_ago()))
    trace = correlator.trace(TRACE)
    assert trace is not None
    (span,) = trace["spans"]
    found = (span["container_id"], span["host"], span["join"]["container"], span["join"]["confidence"])
    wanted = (spelled(drawn["container"]) if "container" in drawn else None, drawn.get("host"), drawn.get("method"))
    assert found == (*wanted, pytest.approx(drawn["confidence"])), span["join"]["reason"]
    if "reason" in drawn:
        assert drawn["reason"] in (span["join"]["reason"] or "")
    else:
        assert span["join"]["reason"] is None


def test_the_weakest_join_on_the_path_is_the_verdicts(correlator: Correlator) -> None:
    """A request that spent time in a process which nobody can place says so, though its own container is certain."""
    zero_ns = a_while_ago()
    known = description({"container": "web-1"})
    web = ResourceRow(
        "web", {"service.name": "web", "container.id": container_id("web-1"), "layerline.boot_id": "host-1"}
    )
    stock = ResourceRow("stock", {"service.name": "stock", "container.id": "2"})
    spans = [
        ({"id": "a", "kind": "server", "ms": [0, 100]}, web),
        ({"id": "b", "parent": "a", "kind": "client", "ms": [10, 90]}, web),
        ({"id": "c", "parent": "b", "kind": "server", "ms": [10, 90]}, stock),
    ]
    rows = [span_row(drawn, TRACE, zero_ns)[1]._replace(resource=owner.resource) for drawn, owner in spans]
    correlator.append(Batch(resources=[known, web, stock], spans=rows))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert (verdict.join.container, verdict.join.confidence) == (None, 0.0)
    assert "“2” is not the id of a container" in (verdict.join.reason or "")
    trace = correlator.trace(TRACE)
    assert trace is not None
    assert [span["join"]["confidence"] for span in trace["spans"]] == [1.0, 1.0, 0.0]


def test_a_description_that_comes_late_is_used(correlator: Correlator) -> None:
    """Spans arrive before the agent has told of their container: the join is made anew with the next look."""
    drawn = {"known": [{"container": "web-1"}], "sender": {"container.id": "{web-1:12}", "host.name": "{web-1:12}"}}
    zero_ns = a_while_ago()
    whole = drawing(drawn, zero_ns)
    correlator.append(Batch(resources=whole.resources[1:], spans=whole.spans))
    before = correlator.verdict(TRACE)
    correlator.append(Batch(resources=whole.resources))
    correlator.append(
        Batch(resources=whole.resources[1:], spans=[whole.spans[0]._replace(span_id="b" * 16, name="late")])
    )
    after = correlator.verdict(TRACE)
    assert before is not None
    assert after is not None
    assert (before.join.confidence, after.join.confidence) == (0.9, 0.95)


def test_readings_of_a_container_found_by_its_host_name_are_its_spans(correlator: Correlator) -> None:
    """Who is tied to a container by a fall-back is judged by that container's readings, on that container's machine."""
    zero_ns = a_while_ago()
    drawn = {
        "known": [{"container": "web-1"}],
        "readings": [{"known": 0, "from": -60_000, "to": 60_000}],
        "sender": {"host.name": "{web-1:12}"},
    }
    correlator.append(drawing(drawn, zero_ns))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    seen = {one.cause for one in verdict.blind}
    assert "container.restarted" not in seen, "its container is known, and so are its events"


def test_a_store_of_an_earlier_version_gets_its_handles(tmp_path: Path) -> None:
    """Resources written before there were handles are read again when the store is opened."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    drawn = next(drawn for drawn in JOINS if drawn.get("method") == "host.name")
    earlier = Correlator.open(settings)
    earlier.append(drawing(drawn, a_while_ago()))
    with earlier._writing() as cursor:
        cursor.execute("UPDATE resource SET handles = NULL, host_by = NULL, sandbox = NULL").fetchall()
    earlier.close()
    later = Correlator.open(settings)
    trace = later.trace(TRACE)
    later.close()
    assert trace is not None
    assert trace["spans"][0]["join"]["container"] == "host.name"


@pytest.mark.parametrize(
    ("image", "sandbox"),
    [
        ("registry.k8s.io/pause", True),
        ("k8s.gcr.io/pause-amd64", True),
        ("rancher/mirrored-pause", True),
        ("localhost/podman-pause", True),
        ("pause", True),
        ("shop/pause/web", False),
        ("unpause", False),
        ("", False),
    ],
)
def test_pause_images(image: str, sandbox: bool) -> None:
    """An image is a pod's sandbox by its last word, as Kubernetes, Rancher and Podman call it."""
    assert is_sandbox({"container.image.name": image}) is sandbox


def test_a_machine_s_name_is_no_handle_of_its_containers() -> None:
    """The agent names the machine beside each container, and one in its network has its name: no handle."""
    told = {"container.id": "a" * 64, "host.name": "vm", "container.hostname": "vm", "layerline.boot_id": "b"}
    assert {handle.value for handle in handles(told)} == {"a" * 12}


def test_lists_and_oddities_of_addresses() -> None:
    """Addresses come alone or as a list; those that everybody has, and what is no list, tell nothing."""
    for text, expected in [
        ('["127.0.0.1","fe80::1","10.0.0.7"]', {"10.0.0.7"}),
        ("10.0.0.7", {"10.0.0.7"}),
        ("[not json", set()),
        ("[1,null]", set()),
        ("", set()),
    ]:
        assert {handle.value for handle in handles({"service.name": "web", "host.ip": text})} == expected
