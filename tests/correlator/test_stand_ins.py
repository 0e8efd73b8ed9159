"""Containers that are described without their ids are somebody, until somebody tells the id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from spans import a_while_ago, container_id

from layerline_correlator.correlator import Correlator
from layerline_correlator.facts.names import Names
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SeriesRow, resource_key, series_key

POD = {"k8s.pod.uid": "pod-7", "k8s.pod.name": "web-7d9", "k8s.node.name": "node-a"}
KUBELETSTATS = POD | {"k8s.container.name": "web"}
AGENT = {
    "container.id": container_id("web"),
    "container.name": "k8s_web_web-7d9_shop_pod-7_0",
    "container.label.io.kubernetes.pod.uid": "pod-7",
    "container.label.io.kubernetes.pod.name": "web-7d9",
    "container.label.io.kubernetes.container.name": "web",
    "layerline.boot_id": "host-1",
}
DOCKER_STATS = {"container.name": "stock-1"}
MACHINE = {"layerline.boot_id": "host-1", "host.name": "vm-1"}


def heard(correlator: Correlator, *senders: Mapping[str, str]) -> None:
    """Each sends a value of a container's CPU time, in a commit of its own, in this order."""
    for said in senders:
        owner = ResourceRow(resource_key(said), dict(said))
        series = series_key(owner.resource, "container.cpu.time", {})
        row = SeriesRow(series, owner.resource, "container.cpu.time", "ns", "cumulative", {})
        is_container = {"container.name", "k8s.container.name"} & {*said}
        correlator.append(
            Batch(
                resources=[owner],
                series=[row] if is_container else [],
                points=[PointRow(series, 0, a_while_ago(), 5.0)] if is_container else [],
            )
        )


def told_of(correlator: Correlator) -> set[str | None]:
    """The containers that the series tell of."""
    with correlator._store.cursor() as cursor:
        found = cursor.execute("SELECT entity_id FROM series WHERE entity_type = 'container'").fetchall()
        described = cursor.execute("SELECT container_id FROM resource WHERE container_id IS NOT NULL").fetchall()
    assert {one for (one,) in found} == {one for (one,) in described}
    return {one for (one,) in found}


@pytest.mark.parametrize(
    ("senders", "containers"),
    [
        pytest.param([KUBELETSTATS], {"pod-7/web"}, id="kubeletstats as it is by default"),
        pytest.param(
            [POD | {"k8s.container.name": name} for name in ("web", "log")], {"pod-7/web", "pod-7/log"}, id="two"
        ),
        pytest.param([KUBELETSTATS, AGENT], {AGENT["container.id"]}, id="our agent tells the id later"),
        pytest.param([AGENT, KUBELETSTATS], {AGENT["container.id"]}, id="our agent told the id before"),
        pytest.param(
            [KUBELETSTATS, KUBELETSTATS | {"container.id": "c0ffee" * 10 + "beef"}],
            {"c0ffee" * 10 + "beef"},
            id="so did it itself",
        ),
        pytest.param([MACHINE, DOCKER_STATS], {"container/stock-1"}, id="a name alone"),
        pytest.param(
            [
                MACHINE,
                DOCKER_STATS,
                DOCKER_STATS | {"container.id": container_id("stock"), "layerline.boot_id": "host-1"},
            ],
            {container_id("stock")},
            id="a name, and its id later",
        ),
        pytest.param(
            [
                DOCKER_STATS | {"host.name": "vm-1"},
                DOCKER_STATS | {"host.name": "vm-2"},
                DOCKER_STATS | {"container.id": container_id("stock"), "host.name": "vm-2"},
            ],
            {"vm-1/stock-1", container_id("stock")},
            id="the same name on two machines",
        ),
        pytest.param(
            [DOCKER_STATS, *(DOCKER_STATS | {"container.id": container_id(one)} for one in ("old", "new"))],
            {"container/stock-1", container_id("old"), container_id("new")},
            id="a name that two have had",
        ),
    ],
)
def test_who_has_no_id_is_somebody(correlator: Correlator, senders: list[dict[str, str]], containers: set[str]) -> None:
    """Its readings are those of one container, under its own id as soon as that is known, in whichever order."""
    heard(correlator, *senders)
    assert told_of(correlator) == containers


def test_it_is_on_the_machine_of_its_id(correlator: Correlator) -> None:
    """A name without a machine is on the machine of the one container that has it, of however many machines."""
    other = {"layerline.boot_id": "host-2", "host.name": "vm-2"}
    real = DOCKER_STATS | {"container.id": container_id("stock"), "layerline.boot_id": "host-2"}
    heard(correlator, MACHINE, other, DOCKER_STATS, real, KUBELETSTATS)
    with correlator._store.cursor() as cursor:
        found = cursor.execute(
            "SELECT DISTINCT host FROM series WHERE entity_id = $id", {"id": container_id("stock")}
        ).fetchall()
    assert found == [("host-2",)]


def test_stand_ins_are_known_after_a_restart(tmp_path: Path) -> None:
    """The id may also come after the server was started again."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    first = Correlator.open(settings)
    heard(first, KUBELETSTATS)
    first.close()
    again = Correlator.open(settings)
    heard(again, AGENT)
    assert told_of(again) == {AGENT["container.id"]}
    again.close()


@pytest.mark.parametrize(
    ("said", "kind", "identity", "name"),
    [
        pytest.param(KUBELETSTATS, "container", "pod-7/web", "web-7d9/web", id="pod and container"),
        pytest.param(
            AGENT, "container", AGENT["container.id"], "web-7d9/web", id="and not what the kubelet made of them"
        ),
        pytest.param(DOCKER_STATS, "container", "container/stock-1", "stock-1", id="its name"),
        pytest.param(
            {"service.name": "web", "container.id": container_id("web")},
            "container",
            container_id("web"),
            "web",
            id="service",
        ),
        pytest.param({"k8s.node.name": "node-a"}, "host", "node-a", "node-a", id="the node"),
        pytest.param(
            POD | {"host.name": "web-7d9", "service.name": "web"},
            "host",
            "node-a",
            "node-a",
            id="the node, not the pod",
        ),
    ],
)
def test_they_are_shown_by_the_names_that_people_gave(
    correlator: Correlator, said: dict[str, str], kind: str, identity: str, name: str
) -> None:
    """Pod, container, service and node come before any id."""
    heard(correlator, said)
    with correlator._store.cursor() as cursor:
        assert Names(cursor).entity(kind, identity).name == name
