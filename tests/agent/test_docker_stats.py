"""Readings from the Docker stats API, where a container's cgroup is not within reach."""

from __future__ import annotations

import json
import threading
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import InvalidVersion, NotFound

from layerline.signals import find
from layerline_agent import docker_stats as module
from layerline_agent.docker_stats import DockerStats, Told, told
from waiting import PATIENCE_S

from .conftest import CAPTURED

ANSWERS = json.loads((CAPTURED / "docker-20.10/stats.json").read_text())


def test_a_captured_answer() -> None:
    """CPU, quota, memory, block I/O, network and processes come in the catalogue's units, as of Docker's reading."""
    found = told("c1", ANSWERS["running"])
    assert found is not None
    assert found.time_ns == 1_795_581_366_761_330_927
    values = {(raw.signal, *(value for _, value in raw.dimensions)): raw.value for raw in found.raws}
    assert values["container.cpu.time",] == 272_626_618
    assert values["container.cpu.throttled",] == 363_394_083
    assert (values["container.cpu.periods",], values["container.cpu.throttled_periods",]) == (15, 12)
    assert values["container.memory.working_set",] == 962_560 - 86_016
    assert values["container.disk.io", "write", "254:0"] == 1_048_576
    assert values["container.disk.operations", "read", "254:0"] == 32
    assert values["container.network.io", "receive", "eth0"] == 486
    assert values["container.pids",] == 1
    assert "container.memory.limit" not in {key[0] for key in values}, "Docker says the machine's where there is none"
    for raw in found.raws:
        signal = find(raw.signal)
        assert signal is not None
        assert tuple(key for key, _ in raw.dimensions) == signal.dimensions


def test_who_does_not_run_has_no_readings() -> None:
    """Docker answers with zeros for a container that has ended: these are not readings."""
    assert told("c1", ANSWERS["ended"]) is None


class Engine:
    """Docker's client: what it was asked, and what it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, one_shot: bool = True) -> None:
        self.asked: SimpleQueue[dict[str, object]] = SimpleQueue()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._one_shot = one_shot
        monkeypatch.setattr(module, "docker", SimpleNamespace(from_env=lambda timeout: SimpleNamespace(api=self)))

    def stats(self, container_id: str, **options: object) -> Any:
        if options.get("one_shot") and not self._one_shot:
            raise InvalidVersion("one_shot is only supported in conjunction with API version >= 1.41")
        self.asked.put({"id": container_id, **options})
        self.may_answer.wait(timeout=PATIENCE_S)
        if container_id == "gone":
            raise NotFound("no such container")
        return ANSWERS["running"]


@pytest.mark.parametrize("one_shot", [True, False])
def test_asked_once(monkeypatch: pytest.MonkeyPatch, one_shot: bool) -> None:
    """Docker is not asked again about a container before it has answered; an old Engine is asked without one-shot."""
    engine, answers = Engine(monkeypatch, one_shot), SimpleQueue[Told]()
    asking = DockerStats(answers.put)
    engine.may_answer.clear()
    asking.ask(["c1", "gone"])
    asking.ask(["c1"])
    engine.may_answer.set()
    assert answers.get(timeout=PATIENCE_S).container_id == "c1"
    asked = [engine.asked.get(timeout=PATIENCE_S) for _ in range(2)]
    assert sorted(str(one["id"]) for one in asked) == ["c1", "gone"]
    assert [one.get("one_shot", False) for one in asked] == [one_shot, one_shot]
    assert engine.asked.empty()
    asking.close()
