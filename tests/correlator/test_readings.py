"""From points to readings: how much a counter grew over which interval, whoever sends it and however it comes.

A request of a container lasts for half an hour; what ``readings.sql`` makes of the points around it is looked at. Times
are seconds after its start, values are seconds of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from spans import MS, a_while_ago, batch, container_id, span_row

from layerline_correlator.ledger.work import work_out
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import PointRow, ResourceRow, SeriesRow, resource_key, series_key
from layerline_correlator.store.store import Store

pytestmark = pytest.mark.long

S = 1_000 * MS
TRACE = "ea51e5" + "00" * 13
AGENT = {"container.id": container_id("web"), "container.name": "web", "layerline.boot_id": "host-1"}
STRANGER = {"container.id": container_id("web"), "container.name": "web", "host.name": "host-1-name"}
OTHER = STRANGER | {"container.runtime": "docker"}
HOST = {"host.id": "host-1-id", "host.name": "host-1-name", "layerline.boot_id": "host-1"}
HOST_STRANGER = {"host.name": "host-1-name"}


@dataclass(frozen=True)
class Told:
    """One series: who sends it, how, and its points ``(time, value)`` or ``(time, value, start)``."""

    points: list[tuple[float, ...]]
    by: Mapping[str, str] = field(default_factory=lambda: AGENT)
    kind: str = "cumulative"
    signal: str = "container.cpu.time"
    attributes: Mapping[str, str] = field(default_factory=dict)

    def rows(self, zero_ns: int) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
        owner = ResourceRow(resource_key(self.by), dict(self.by))
        series = series_key(owner.resource, self.signal, self.attributes)
        points = [
            PointRow(series, zero_ns + round(start[0] * S) if start else 0, zero_ns + round(at * S), value * S)
            for at, value, *start in self.points
        ]
        return owner, SeriesRow(series, owner.resource, self.signal, "ns", self.kind, dict(self.attributes)), points


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Without a correlator, which would work the trace out once more beside the test."""
    opened = Store(Settings(store=tmp_path / "store", group_ns=0))
    yield opened
    opened.close()


@contextmanager
def worked_out(store: Store, *told: Told) -> Iterator[tuple[duckdb.DuckDBPyConnection, int]]:
    zero_ns = a_while_ago(3_600)
    spans = [span_row({"id": "a", "kind": "server", "container": "web", "ms": [0, 1_800_000]}, TRACE, zero_ns)]
    machine = Told([(0, 0)], by=HOST, kind="gauge", signal="layerline.sensor.success")
    for one in (machine, *told):  # each in a commit of its own, in this order
        store.append(batch([], [one.rows(zero_ns)]))
    store.append(batch(spans))
    cursor = store.cursor()
    try:
        work_out(cursor, [TRACE], zero_ns, zero_ns)
        yield cursor, zero_ns
    finally:
        cursor.close()


def readings(store: Store, *told: Told) -> list[tuple[float, float, float]]:
    """From, to and rise of every reading, in seconds."""
    with worked_out(store, *told) as (cursor, zero_ns):
        found = cursor.execute("SELECT from_ns, to_ns, rise FROM reading ORDER BY to_ns, from_ns").fetchall()
    return [((from_ns - zero_ns) / S, (to_ns - zero_ns) / S, round(rise / S, 6)) for from_ns, to_ns, rise in found]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(Told([(10, 5), (20, 7), (30, 7)]), [(10, 20, 2), (20, 30, 0)], id="it grows, it stands still"),
        pytest.param(Told([(10, 5, 4), (20, 6, 4)]), [(4, 10, 5), (10, 20, 1)], id="our agent knows when it began"),
        pytest.param(
            Told([(10, 5_000, 4), (20, 5_001, 4)], by=STRANGER),
            [(10, 20, 1)],
            id="a stranger's start is when he began to look, not when the counter did",
        ),
        pytest.param(
            Told([(10, 5_000, 4), (20, 5_001, 15), (30, 5_003, 15)], by=STRANGER),
            [(10, 20, 1), (20, 30, 2)],
            id="a collector that was started again resets nothing",
        ),
        pytest.param(Told([(10, 5), (20, 7)], by=STRANGER), [(10, 20, 2)], id="no start at all"),
        pytest.param(Told([(10, 5, 1), (20, 2, 12)]), [(1, 10, 5), (12, 20, 2)], id="a new start is a new counter"),
        pytest.param(Told([(10, 5, 1), (20, 9, 12)]), [(1, 10, 5), (12, 20, 9)], id="also where it is larger already"),
        pytest.param(Told([(10, 5), (20, 2)], by=STRANGER), [(10, 20, 2)], id="what fell began again in between"),
        pytest.param(
            Told([(10, 5, 10), (20, 2, 20), (30, 3, 20)], by=STRANGER),
            [(10, 20, 2), (20, 30, 1)],
            id="Prometheus: a start is the first point after a reset",
        ),
        pytest.param(Told([(10, 5), (300, 9)], by=STRANGER), [], id="too long ago to be a reading"),
        pytest.param(
            Told([(10, 2, 0), (20, 3, 10)], kind="delta"), [(0, 10, 2), (10, 20, 3)], id="deltas, one after the other"
        ),
        pytest.param(
            Told([(20, 3, 10), (10, 2, 0)], kind="delta"), [(0, 10, 2), (10, 20, 3)], id="deltas, in any order"
        ),
        pytest.param(Told([(10, 2), (20, 3)], kind="delta"), [(10, 20, 3)], id="deltas that say no start"),
        pytest.param(
            Told([(10, 2, 0), (20, 4, 0)], kind="delta"),
            [(0, 10, 2), (10, 20, 2)],
            id="what was told is not told twice",
        ),
        pytest.param(
            Told([(15, 1, 10), (20, 4, 0)], kind="delta"), [(10, 15, 1), (15, 20, 1)], id="a delta inside another"
        ),
        pytest.param(Told([(10, 2, 0), (40, 3, 30)], kind="delta"), [(0, 10, 2), (30, 40, 3)], id="deltas with a gap"),
        pytest.param(Told([(10, -2, 0)], kind="delta"), [(0, 10, 0)], id="no counter grows backwards"),
        pytest.param(Told([(10, 2, 12)], kind="delta"), [], id="it ended before it began"),
    ],
)
def test_a_series(told: Told, expected: list[tuple[float, float, float]], store: Store) -> None:
    """Each interval holds what the counter is known to have grown by in it, and nothing is counted twice."""
    assert readings(store, told) == expected


def test_shares_are_added_up(store: Store) -> None:
    """CPUs told of one by one are one reading; one of them that began again is counted from its new beginning."""
    shares = [
        Told([(10, 5), (20, 7)], by=STRANGER, attributes={"cpu.logical_number": "0"}),
        Told([(10, 9), (20, 1)], by=STRANGER, attributes={"cpu.logical_number": "1"}),
    ]
    assert readings(store, *shares) == [(10, 20, 3)]


def test_a_counter_that_steps_back_did_not_begin_again(store: Store) -> None:
    """The kernel takes back a tick of iowait: nothing passed meanwhile, and not all the time since boot."""
    iowait = Told(
        [(10, 7311.41), (20, 7311.42), (30, 7311.41), (40, 7311.44)],
        by=HOST_STRANGER,
        signal="system.cpu.time",
        attributes={"cpu.mode": "iowait", "cpu.logical_number": "0"},
    )
    assert readings(store, iowait) == [(10, 20, 0.01), (20, 30, 0), (30, 40, 0.03)]


def test_the_whole_is_believed_before_its_parts(store: Store) -> None:
    """Who tells each CPU and the total besides is not counted twice."""
    total = Told([(10, 14), (20, 18)], by=STRANGER)
    share = Told([(10, 5), (20, 7)], by=STRANGER, attributes={"cpu.logical_number": "0"})
    assert readings(store, share, total) == [(10, 20, 4)]


@pytest.mark.parametrize("ours_first", [True, False])
def test_one_is_heard(ours_first: bool, store: Store) -> None:
    """Where our agent and a collector tell of one container, our agent is heard, however seldom it speaks."""
    told = [Told([(10, 5), (30, 7)]), Told([(5, 1), (10, 5.1), (20, 6), (30, 7.1)], by=STRANGER)]
    assert readings(store, *(told if ours_first else reversed(told))) == [(10, 30, 2)]


def test_who_speaks_most_often_is_heard(store: Store) -> None:
    """Of two strangers that tell of one container the finer grid is taken, and nothing of the other."""
    told = [
        Told([(10, 5), (20, 6), (30, 7)], by=STRANGER),
        Told([(10, 5), (15, 5.5), (20, 6), (30, 7)], by=OTHER),
    ]
    assert readings(store, *told) == [(10, 15, 0.5), (15, 20, 0.5), (20, 30, 1)]


def test_an_agent_that_has_left_is_not_waited_for(store: Store) -> None:
    """A collector is heard where the agent, which was there before, says nothing."""
    told = [Told([(-3_000, 1), (-2_990, 2)]), Told([(10, 5), (20, 6)], by=STRANGER)]
    assert readings(store, *told) == [(10, 20, 1)]


def test_modes_of_all_cpus(store: Store) -> None:
    """A host whose CPUs are told of one by one has one reading per mode, and as many CPUs as were told of."""
    told = [
        Told(
            [(10, 5), (20, 6)],
            by=HOST_STRANGER,
            signal="system.cpu.time",
            attributes={"cpu.mode": mode, "cpu.logical_number": str(number)},
        )
        for mode in ("user", "steal")
        for number in range(4)
    ]
    with worked_out(store, *told) as (cursor, _):
        found = cursor.execute(
            "SELECT entity_type, entity_id, host, attributes, rise FROM reading ORDER BY attributes['cpu.mode']"
        ).fetchall()
        assert found == [("host", "host-1", "host-1", {"cpu.mode": mode}, 4 * S) for mode in ("steal", "user")]
        assert cursor.execute("SELECT host, cpus FROM cpu_count").fetchall() == [("host-1", 4)]
