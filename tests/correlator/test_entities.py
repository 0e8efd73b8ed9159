"""Who lived, how long and what they used: from events and readings drawn on paper."""

from __future__ import annotations

from typing import Any

import pytest
from spans import batch, container_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.lives import TOTALS, Life, Total
from layerline_correlator.store.model import Batch, EventRow, PointRow, ResourceRow, SeriesRow, resource_key, series_key

S = 10**9
T = 1_795_579_000 * S
ID = "ab" * 32


def agent(container_id: str | None = ID, **more: str) -> ResourceRow:
    """What the agent says of a container, or of the host."""
    attributes = {"layerline.boot_id": "boot", "host.name": "vm-1", "cloud.region": "eu", **more}
    if container_id is not None:
        named = {"container.name": f"job-{container_id[:2]}", "container.image.name": "job"}
        attributes = {"container.id": container_id, **named, **attributes}
    return ResourceRow(resource_key(attributes), attributes)


class Drawn:
    """What was received."""

    def __init__(self, correlator: Correlator) -> None:
        self.correlator = correlator
        self.read("system.cpu.logical.count", {}, [(0.0, 2)], agent(None), kind="gauge")

    def event(self, name: str, at: float, container_id: str = ID, **attributes: str) -> None:
        """Something happened at this second."""
        who = agent(container_id)
        row = EventRow(who.resource, T + round(at * S), f"container.{name}", name, attributes)
        self.correlator.append(Batch(resources=[who], events=[row]))

    def read(
        self,
        signal: str,
        attributes: dict[str, str],
        points: list[tuple[float, float]],
        who: ResourceRow | None = None,
        kind: str = "cumulative",
    ) -> None:
        """Values at these seconds."""
        who = who or agent()
        key = series_key(who.resource, signal, attributes)
        series = SeriesRow(key, who.resource, signal, "1", kind, attributes)
        rows = [PointRow(key, 0, T + round(at * S), value) for at, value in points]
        self.correlator.append(Batch(resources=[who], series=[series], points=rows))

    def lives(self, from_s: float = -60, to_s: float = 60, **more: Any) -> list[Life]:
        """Who lived between these seconds."""
        return self.correlator.entities(T + round(from_s * S), T + round(to_s * S), **more)


@pytest.fixture
def drawn(correlator: Correlator) -> Drawn:
    return Drawn(correlator)


def test_a_life_read_to_its_end(drawn: Drawn) -> None:
    """Start, end and exit code are those of the events; what was read as of the end is measured, none too."""
    drawn.event("start", 1)
    drawn.event("die", 1.5, **{"process.exit.code": "3"})
    drawn.read("container.cpu.time", {}, [(1.01, 5e6), (1.45, 2e8), (1.5, 2e8)])
    drawn.read("container.cpu.throttled", {}, [(1.01, 0), (1.5, 7e6)])
    for way in ("read", "write"):
        none = {"disk.io.direction": way, "system.device": "none"}
        drawn.read("container.disk.operations", none, [(1.01, 0), (1.5, 0)])
    for device, value in (("vda", 4096), ("vdb", 512)):
        drawn.read("container.disk.io", {"disk.io.direction": "read", "system.device": device}, [(1.5, value)])
    (life,) = drawn.lives()
    assert (life.type, life.id, life.name, life.image, life.host) == ("container", ID, "job-ab", "job", "vm-1")
    assert (life.started, life.ended, life.exit_code, life.runs) == (
        "2026-11-25T03:56:41.000000000Z",
        "2026-11-25T03:56:41.500000000Z",
        3,
        1,
    )
    assert life.tags["cloud.region"] == "eu"
    assert life.totals == {
        "cpu.time": Total(200_000_000, 200_000_000, 200_000_000, "measured"),
        "cpu.throttled": Total(7_000_000, 7_000_000, 7_000_000, "measured"),
        "disk.io.read": Total(4608, 4608, 4608, "measured"),
        "disk.io.write": Total(0, 0, 0, "measured"),
    }
    assert life.totals.keys() == TOTALS.keys()


def test_the_end_was_not_read(drawn: Drawn) -> None:
    """What was read last is the least; at most all CPUs were busy until the end. Without a quota none was withheld."""
    drawn.event("start", 1)
    drawn.event("die", 1.5)
    drawn.read("container.cpu.time", {}, [(1.01, 5e6), (1.4, 2e8)])
    drawn.read("container.cpu.throttled", {}, [(1.4, 0)])
    drawn.read("container.disk.io", {"disk.io.direction": "read", "system.device": "vda"}, [(1.4, 4096)])
    (life,) = drawn.lives()
    assert life.totals["cpu.time"] == Total(200_000_000, 400_000_000, None, "range")
    assert life.totals["cpu.throttled"] == Total(0, 0, 0, "measured")
    assert life.totals["disk.io.read"] == Total(4096, None, None, "range")
    assert life.totals["disk.io.write"] == Total(None, None, None, "not measured")


def test_a_quota_may_have_withheld_more(drawn: Drawn) -> None:
    """Under a quota throttled time may have grown until the end."""
    drawn.event("start", 1)
    drawn.event("die", 1.5)
    drawn.read("container.cpu.limit", {}, [(1.4, 0.2)], kind="gauge")
    drawn.read("container.cpu.throttled", {}, [(1.4, 5e7)])
    (life,) = drawn.lives()
    assert life.totals["cpu.throttled"] == Total(50_000_000, 250_000_000, None, "range")


def test_never_read_is_not_measured(drawn: Drawn) -> None:
    """A container of which only events are known is there, and nothing that it used is measured: not zero."""
    drawn.event("start", 1)
    drawn.event("die", 1.02, **{"process.exit.code": "0"})
    (life,) = drawn.lives()
    assert (life.exit_code, life.runs) == (0, 1)
    assert set(life.totals.values()) == {Total(None, None, None, "not measured")}


def test_what_the_wrapper_told(drawn: Drawn) -> None:
    """What the threads of its spans used is the least that it used, also where it was never read."""
    job = container_id("job")
    drawn.event("start", 1, job)
    drawn.event("die", 1.5, job)
    spans = [
        {"id": "a", "kind": "server", "ms": [1000, 1400], "cpu": 50, "throttled": 20, "blocks_read": 8},
        {"id": "b", "parent": "a", "ms": [1100, 1200], "cpu": 30},
    ]
    rows = [span_row({"container": "job", "host": "boot", **span}, "1" * 32, T) for span in spans]
    drawn.correlator.append(batch(rows))
    (life,) = drawn.lives()
    assert life.tags["service.name"] == "web"
    assert life.totals == {
        "cpu.time": Total(80_000_000, None, None, "range"),
        "cpu.throttled": Total(20_000_000, None, None, "range"),
        "disk.io.read": Total(4096, None, None, "range"),
        "disk.io.write": Total(None, None, None, "not measured"),
    }


def test_nobody_saw_it_begin_or_end(drawn: Drawn) -> None:
    """Without events start and end are unknown, and the first and last reading bound them."""
    drawn.read("container.cpu.time", {}, [(1, 5e9), (2, 6e9)])
    (life,) = drawn.lives()
    assert (life.started, life.ended, life.exit_code) == (None, None, None)
    assert (life.first_seen, life.last_seen) == ("2026-11-25T03:56:41.000000000Z", "2026-11-25T03:56:42.000000000Z")
    assert life.totals["cpu.time"].value == 6 * S


def test_started_again(drawn: Drawn) -> None:
    """A container that ran twice has the start and end of its last run, and what it used in both."""
    for at, code in ((1.0, "1"), (3.0, "0")):
        drawn.event("start", at)
        drawn.event("die", at + 0.5, **{"process.exit.code": code})
    drawn.read("container.cpu.time", {}, [(1.1, 3e6), (1.5, 1e8), (3.1, 2e6), (3.5, 5e7)])
    (life,) = drawn.lives()
    assert (life.runs, life.exit_code, life.started) == (2, 0, "2026-11-25T03:56:43.000000000Z")
    assert life.totals["cpu.time"].value == 150_000_000


def test_renamed_counts_once(drawn: Drawn) -> None:
    """Under another name it is another series of the same counter: its total is the newest value, not a sum."""
    drawn.event("start", 1)
    drawn.read("container.cpu.time", {}, [(1.1, 3e6), (2, 1e8)])
    drawn.read("container.cpu.time", {}, [(2.1, 1.1e8), (3, 2e8)], agent(**{"container.name": "shop"}))
    drawn.event("die", 3)
    (life,) = drawn.lives()
    assert life.totals["cpu.time"].value == 200_000_000


def test_who_lived_in_the_window_with_these_tags(drawn: Drawn) -> None:
    """Only who lived in the window, and carries each tag; a star matches anything."""
    for number, at in enumerate((1.0, 10.0)):
        drawn.event("start", at, f"{number}a" * 32)
        drawn.event("die", at + 1, f"{number}a" * 32)
    assert [life.name for life in drawn.lives()] == ["job-0a", "job-1a"]
    assert [life.name for life in drawn.lives(1.5, 5)] == ["job-0a"]
    assert drawn.lives(3, 5) == []
    assert [life.name for life in drawn.lives(tags=[("container", "*-1a"), ("region", "eu")])] == ["job-1a"]
    assert drawn.lives(tags=[("region", "us")]) == []
    with pytest.raises(ValueError, match="expected the type container, found 'pod'"):
        drawn.lives(type="pod")
