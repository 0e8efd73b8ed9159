"""On which machine everybody is, is looked for again when something new is said of machines, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from spans import container_id
from test_stand_ins import MACHINE, heard

from layerline_correlator.correlator import Correlator
from layerline_correlator.store import store


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one each time that everybody's machine is looked for."""
    ran: list[str] = []
    run = store.run

    def noted(connection: Any, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
        ran.extend([name] if name == "store/settle.sql" else [])
        return run(connection, name, parameters)

    monkeypatch.setattr(store, "run", noted)
    return ran


def container(number: int, **machine: str) -> dict[str, str]:
    """One that somebody describes who names its machine."""
    return {"container.id": container_id(f"job-{number}"), "container.name": f"job-{number}", **machine}


def hosts(correlator: Correlator) -> dict[str, str]:
    """The machine of each container."""
    with correlator._store.cursor() as cursor:
        rows = cursor.execute("SELECT attributes['container.name'], host FROM resource WHERE container_id IS NOT NULL")
        return dict(rows.fetchall())


def test_containers_that_come_and_go_on_one_machine_are_no_news_of_it(
    correlator: Correlator, settled: list[str]
) -> None:
    """Its agent says the same of the machine each time: a search through all senders for each would grow with them."""
    heard(correlator, MACHINE, *(container(number, **MACHINE) for number in range(5)))
    assert len(settled) == 1
    assert set(hosts(correlator).values()) == {"host-1"}


def test_whatever_is_new_of_a_machine_is_looked_at(correlator: Correlator, settled: list[str]) -> None:
    """Another machine, a new name of a known one, and anybody who does not carry its boot id."""
    heard(correlator, container(1, **MACHINE))
    for number, machine in enumerate(
        (MACHINE | {"layerline.boot_id": "host-2"}, MACHINE | {"host.name": "vm-2"}, {"host.name": "vm-2"}, {}), 2
    ):
        before = len(settled)
        heard(correlator, container(number, **machine))
        assert len(settled) == before + 1, machine


def test_who_named_the_machine_before_its_boot_id_was_known_is_put_there(correlator: Correlator) -> None:
    """In either order: a collector that knows only a name, and our agent, which knows name and boot id."""
    heard(correlator, container(1, **{"host.name": "vm-1"}), container(2, **MACHINE), container(3, **MACHINE))
    heard(correlator, container(4, **{"host.name": "vm-1"}))
    assert hosts(correlator) == {f"job-{number}": "host-1" for number in range(1, 5)}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(MACHINE, MACHINE | {"server.address": "10.0.0.7"}, id="its address"),
        pytest.param(MACHINE | {"layerline.boot_id": ""}, MACHINE | {"layerline.boot_id": ""}, id="no boot id"),
    ],
)
def test_what_is_new_is_more_than_a_name(
    correlator: Correlator, settled: list[str], first: dict[str, str], then: dict[str, str]
) -> None:
    """An address leads others to the machine; a boot id that is empty leads nobody, so others may know better."""
    heard(correlator, container(1, **first))
    before = len(settled)
    heard(correlator, container(2, **then))
    assert len(settled) == before + 1
