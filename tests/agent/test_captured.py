"""Every sensor against every captured machine: what it says is what its file below ``sensors`` says, no more, no less.

``sensors/<sensor>.toml`` holds the readings by machine, moment and entity (``host``, or twelve digits of a container's
id); a reading's key is its signal and the values of its dimensions. An entity of which it says nothing is left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerline_agent.cgroups import Tree
from layerline_agent.machine import Machine
from layerline_agent.readings import Entity
from layerline_agent.sensor import all_sensors

from .conftest import CAPTURED, Clock

EXPECTED = Path(__file__).parent / "sensors"
MACHINES = sorted(path.parent for path in CAPTURED.glob("*/first"))
MOMENTS = ("first", "second")

Readings = dict[str, int | float]


class Captured:
    """A captured machine that can be made to pass from its first moment to its second, as the real one did."""

    def __init__(self, machine: Path, folder: Path) -> None:
        self.machine = machine
        self.root = folder / machine.name
        self.at("first")

    def at(self, moment: str) -> None:
        self.root.unlink(missing_ok=True)
        self.root.symlink_to(self.machine / moment)

    def entities(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Key, kind and directories of the host and of each container, as the agent finds them."""
        proc = self.root / "proc"
        yield "host", "host", {"proc": str(proc), "network": str(proc / "1/net")}
        tree = Tree.of(Machine(str(self.root)))
        for found in tree.walk():
            inside = [path.parent / "net" for path in proc.glob("[0-9]*/cgroup") if found.id in path.read_text()]
            network = next((str(path) for path in inside if path.is_dir()), "")
            directories = tree.directories(found.path)
            yield found.id[:12], "container", {**directories, **({"network": network} if network else {})}

    def says(self, sensor: str) -> dict[str, dict[str, Readings]]:
        """What this sensor says, by moment and entity."""
        said: dict[str, dict[str, Readings]] = {moment: {} for moment in MOMENTS}
        sensors, clock = {sensor: all_sensors()[sensor]}, Clock()
        self.at("first")
        for key, kind, directories in list(self.entities()):
            machine = Machine(str(self.root), tick_ns=10_000_000)
            watched: Entity | None = None
            for moment in MOMENTS:
                self.at(moment)
                clock.now_ns += 10**9
                if watched is None or not sensors[sensor].scan:  # files stay open; what looks around opens them anew
                    watched = Entity.of(kind, {}, 0, directories, sensors, machine, clock)
                watched.read(sensor, full=True)
                said[moment][key] = {
                    " ".join((one.signal, *(value for _, value in one.dimensions))): one.value
                    for one in watched.series
                    if one.value is not None
                }
            self.at("first")
        return {moment: {key: of for key, of in each.items() if of} for moment, each in said.items()}


def as_toml(said: dict[str, dict[str, dict[str, Readings]]]) -> str:
    """The readings as a file of expectations."""
    lines = []
    for machine, moments in said.items():
        for moment, entities in moments.items():
            for entity, readings in entities.items():
                lines += ["", f'["{machine}".{moment}.{entity}]']
                lines += [f'"{key}" = {value:_}' for key, value in readings.items()]
    return "\n".join(lines).strip() + "\n"


@pytest.mark.parametrize("sensor", all_sensors())
def test_a_sensor_says_what_the_captured_machines_showed(sensor: str, tmp_path: Path) -> None:
    """Each sensor has a file of readings, and says exactly those: one without a captured machine is not tested."""
    said = {machine.name: Captured(machine, tmp_path).says(sensor) for machine in MACHINES}
    found: dict[str, dict[str, Any]] = {
        name: {moment: entities for moment, entities in moments.items() if entities} for name, moments in said.items()
    }
    found = {name: moments for name, moments in found.items() if moments}
    assert found, f"{sensor} says nothing of any captured machine: capture one that has its files"
    file = EXPECTED / f"{sensor}.toml"
    assert file.exists(), f"{file} is missing; check these readings against the captured files:\n{as_toml(found)}"
    assert tomllib.loads(file.read_text(encoding="utf-8")) == found, f"{sensor} says:\n{as_toml(found)}"


def test_each_file_of_readings_is_of_a_sensor() -> None:
    """No expectations are left of a sensor that is gone."""
    left = {path.name for path in EXPECTED.iterdir() if path.stem not in all_sensors()}
    assert not left, f"{sorted(left)} in {EXPECTED} belong to no sensor"
