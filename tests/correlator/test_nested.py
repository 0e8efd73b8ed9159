"""Containers inside of containers: an outer one is no neighbour, and what it used contains what the inner ones used."""

from __future__ import annotations

from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, resource, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.store.model import Batch, ResourceRow, resource_key
from layerline_correlator.verdict.model import Verdict

TRACE = "0e57ed" + "00" * 13
#: Who runs inside of whom, and the CPU time that each used in a second (ms): what is inside of it included.
INSIDE = {"job": "builder", "builder": "dind"}
USED = {"web": 100.0, "job": 300.0, "builder": 400.0, "dind": 800.0, "other": 50.0}


def described(container: str) -> ResourceRow:
    """A container as our agent describes it."""
    attributes = dict(resource(None, container).attributes)
    if container in INSIDE:
        attributes["layerline.container.parent"] = container_id(INSIDE[container])
    return ResourceRow(resource_key(attributes), attributes)


def used(container: str) -> dict[str, Any]:
    """Its CPU time around the request; it used none before."""
    used_ms = USED[container]
    return {
        "signal": "container.cpu.time",
        "container": container,
        "at": [-2000, -1000, 0, 1000],
        "values": [0, 0, 0, used_ms],
    }


def judged(correlator: Correlator, container: str) -> Verdict:
    """A request of one second in this container, which stood ready without a CPU for most of it."""
    zero_ns = a_while_ago()
    correlator.append(Batch(resources=[described(one) for one in USED]))
    span = {
        "id": "a", "kind": "server", "container": container, "ms": [0, 1000],
        "cpu": 100, "wait": 900, "throttled": 0, "usage": 100, "runnable": 1000,
    }  # fmt: skip
    busy = {
        "signal": "system.cpu.time", "tags": {"cpu.mode": "user"},
        "at": [-1000, 0, 1000], "values": [0, 0, 1000],
    }  # fmt: skip
    readings = [series_rows(one, zero_ns) for one in (busy, *map(used, USED))]
    correlator.append(batch([span_row(span, TRACE, zero_ns)], readings))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    ("container", "ran_ms"),
    [
        pytest.param(
            "web", {"dind": 400, "builder": 100, "job": 300, "other": 50}, id="each ran what was not inside of it"
        ),
        pytest.param("job", {"web": 100, "other": 50}, id="what it runs inside of is no neighbour, at any depth"),
        pytest.param("builder", {"web": 100, "other": 50}, id="nor is what runs inside of it"),
        pytest.param("dind", {"web": 100, "other": 50}, id="at any depth"),
    ],
)
def test_neighbours_of_nested_containers(correlator: Correlator, container: str, ran_ms: dict[str, float]) -> None:
    """Nobody's CPU time is counted twice, and nobody is a neighbour of what is inside of it."""
    judged(correlator, container)
    cursor = correlator._store.cursor()
    (neighbours,) = cursor.execute("SELECT neighbours FROM part WHERE cause = 'host.cpu_contended'").fetchone() or ([],)
    ran = {one["entity_id"]: one["ran_ns"] / MS for one in neighbours if one["entity_type"] == "container"}
    assert ran == {container_id(name): pytest.approx(value) for name, value in ran_ms.items()}
