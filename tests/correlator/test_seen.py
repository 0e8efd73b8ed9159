"""The time join: how much each counter grew during each stretch is the sum over its readings, as on paper."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pytest

from layerline_correlator.ledger.work import FILES
from layerline_correlator.store.graph import steps_in
from layerline_correlator.store.signals import write_catalogue
from layerline_correlator.store.statements import execute, parsed, run

MS, S = 1_000_000, 1_000_000_000
ZERO_NS = 1_790_000_000 * S
#: Place of its counter, from, to, rise.
Reading = tuple[int, int, int, float]
SINCE_NS, UNTIL_NS = ZERO_NS - 130 * S, ZERO_NS + 400 * S
CPUS = 4


@dataclass(frozen=True)
class Counter:
    """A line of readings; ``speed``: how fast it can grow, where it counts time."""

    signal: str
    entity: str
    speed: float | None
    mode: str | None = None
    of: str = ""
    only_rises: bool = False


COUNTERS = (
    Counter("container.cpu.time", "web", CPUS),
    Counter("container.cpu.time", "stock", CPUS),
    Counter("container.io.pressure", "web", 1, of="disks"),
    Counter("container.disk.io", "web", None, of="disks"),
    Counter("container.memory.major_faults", "web", None, of="disks", only_rises=True),
    Counter("container.network.tcp.retransmits", "stock", None, of="network", only_rises=True),
    Counter("system.network.io", "vm", None, of="network"),
    Counter("system.cpu.time", "vm", CPUS, mode="user"),
    Counter("system.cpu.time", "vm", CPUS, mode="idle"),
)


@dataclass(frozen=True)
class Stretch:
    """A visit, or a stretch of a piece that asks for counters ``of`` disks or network; ``peer``: at its callee."""

    from_ns: int
    to_ns: int
    container: str
    piece: bool = False
    peer: bool = False
    of: str = ""

    def asks(self, counter: Counter, rise: float) -> bool:
        if counter.entity != self.container and (counter.entity != "vm" or self.peer):
            return False
        return not self.piece or (counter.of == self.of and (rise > 0 or not counter.only_rises))


def drawn_readings(draw: random.Random) -> Iterator[Reading]:
    """Read each second, now and then late, twice a second, or after a gap."""
    for number, counter in enumerate(COUNTERS):
        at_ns = ZERO_NS - 5 * S + draw.randrange(S)
        while at_ns < ZERO_NS + 60 * S:
            to_ns = at_ns + draw.choice([S, S, S, S + 7, S // 2, 15 * S])
            most = (to_ns - at_ns) * (counter.speed or 1)
            yield number, at_ns, to_ns, draw.choice([0.0, most, draw.uniform(0, most)])
            at_ns = to_ns + draw.choice([0, 0, 0, 0, 3 * S])


def drawn_stretches(draw: random.Random) -> Iterator[Stretch]:
    """Of a moment and of minutes, some where nothing was read, and one that says it lasted for centuries."""
    for _ in range(60):
        from_ns = ZERO_NS + draw.randrange(-20 * S, 70 * S)
        to_ns = from_ns + draw.choice([1, 5 * MS, 40 * MS, S, 3 * S, 50 * S])
        piece, peer, of = draw.choice(
            [(False, False, ""), (True, False, "disks"), (True, False, "network"), (True, True, "network")]
        )
        yield Stretch(from_ns, to_ns, draw.choice(["web", "stock"]), piece, peer, of)
    yield Stretch(0, 2**62, "web")


def on_paper(
    stretches: list[Stretch], readings: list[tuple[int, int, int, float]]
) -> dict[tuple[int, int], list[float]]:
    """Estimate, low, high and what is covered, by stretch and counter."""
    found: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for (place, stretch), (number, from_ns, to_ns, rise) in itertools.product(enumerate(stretches), readings):
        shared = min(to_ns, stretch.to_ns) - max(from_ns, stretch.from_ns)
        counter = COUNTERS[number]
        if shared <= 0 or not stretch.asks(counter, rise):
            continue
        long = to_ns - from_ns
        if counter.speed is None:
            low, high = (rise if shared == long else 0), rise
        else:
            low, high = max(0, rise - (long - shared) * counter.speed), min(rise, shared * counter.speed)
        sums = found[place, number]
        sums[:] = [sum(pair) for pair in zip(sums, (rise * shared / long, low, high, shared), strict=True)]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_seen_is_the_sum_of_the_readings(seed: int) -> None:
    """Inside one reading, across many, in gaps and beyond all: estimate, bounds and coverage are those sums."""
    draw = random.Random(seed)  # noqa: S311 - nobody guesses these
    readings, stretches = list(drawn_readings(draw)), list(drawn_stretches(draw))
    with duckdb.connect() as connection:
        for file in ("store/schema.sql", "facts/words.sql", "facts/readings.sql"):
            run(connection, file)
        write_catalogue(connection)
        connection.execute(f"CREATE TEMP TABLE cpu_count AS SELECT 'vm' AS host, {CPUS}::DOUBLE AS cpus").fetchall()
        connection.execute(
            "CREATE TEMP TABLE stretch (stretch_no BIGINT, request_no BIGINT, visit_no BIGINT, piece_no BIGINT,"
            " peer BOOLEAN, container_id VARCHAR, host VARCHAR, from_ns BIGINT, to_ns BIGINT, of_disks BOOLEAN,"
            " of_network BOOLEAN)"
        ).fetchall()
        connection.executemany(
            "INSERT INTO stretch VALUES ($1, $1, $1, $2, $3, $4, 'vm', $5, $6, $7, $8)",
            [
                (place, place if one.piece else None, one.peer, one.container, one.from_ns, one.to_ns,
                 not one.piece or one.of == "disks", not one.piece or one.of == "network")
                for place, one in enumerate(stretches)
            ],
        ).fetchall()  # fmt: skip
        connection.execute(
            "CREATE TEMP TABLE reading (line VARCHAR, line_no BIGINT, signal VARCHAR, entity_type VARCHAR,"
            " entity_id VARCHAR, host VARCHAR, attributes MAP(VARCHAR, VARCHAR), from_ns BIGINT, to_ns BIGINT,"
            " rise DOUBLE)"
        ).fetchall()
        connection.executemany(
            "INSERT INTO reading VALUES ($1::VARCHAR, $1, $2, $3, $4, 'vm', $5, $6, $7, $8)",
            [
                (number, COUNTERS[number].signal, "host" if COUNTERS[number].entity == "vm" else "container",
                 COUNTERS[number].entity, {"cpu.mode": COUNTERS[number].mode} if COUNTERS[number].mode else {},
                 from_ns, to_ns, rise)
                for number, from_ns, to_ns, rise in readings
            ],
        ).fetchall()  # fmt: skip
        for step in steps_in(FILES):
            if step.makes in ("reading_second", "seen"):
                execute(connection, parsed(step.sql), {"since_ns": SINCE_NS, "until_ns": UNTIL_NS})
        rows = connection.execute(
            "SELECT stretch_no, line_no, estimate, low, high, covered_ns, signal, cpu_mode, stretch_ns FROM seen"
        ).fetchall()
    expected = on_paper(stretches, readings)
    found = {(place, number): figures for place, number, *figures in rows}
    assert len(found) == len(rows), "a stretch and a counter have one row"
    assert found.keys() == expected.keys()
    for (place, number), (*figures, signal, mode, stretch_ns) in found.items():
        assert figures == pytest.approx(expected[place, number], rel=1e-9, abs=1e-3), (stretches[place], number)
        assert (signal, mode) == (COUNTERS[number].signal, COUNTERS[number].mode)
        assert stretch_ns == stretches[place].to_ns - stretches[place].from_ns
