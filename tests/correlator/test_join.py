"""The join, as drawings: what a process says, what is known of containers, and which one it must be tied to, how surely."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, container_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.model import Batch, EventRow, PointRow, ResourceRow, SeriesRow, resource_key, series_key

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
    """The span is tied as its author worked out by hand, and both it and its verdict say how."""
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
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert (verdict.join.container, verdict.join.confidence, verdict.join.reason) == tuple(span["join"].values())
