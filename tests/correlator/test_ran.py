"""Who else ran during a request, and in the half minute before: the same as reading by reading, on paper."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger.work import work_out

S = 1_000
HALF_MINUTE = 30 * S
OTHERS = ("busy", "idle", "restarted", "late", "gone", "rare")


def counter(draw: random.Random, name: str) -> dict[str, Any]:
    """CPU time of a container in milliseconds, read about once a second with gaps of up to a minute."""
    first, last = {"late": (20 * S, 200 * S), "gone": (-60 * S, 15 * S)}.get(name, (-60 * S, 200 * S))
    at, values, value = [first], [0], 0
    while at[-1] < last:
        at.append(at[-1] + draw.choice([S, S, S, S + 7, 333, 60 * S if name == "rare" else 3 * S]))
        value += 0 if name == "idle" else draw.randrange(900)
        if name == "restarted" and draw.random() < 0.1:
            value = draw.randrange(5)
        values.append(value)
    return {"signal": "container.cpu.time", "container": name, "at": at, "values": values}


def rises(drawn: dict[str, Any]) -> list[tuple[int, int, float]]:
    """From, to, and rise of each reading: what fell to less than half began again."""
    pairs = list(zip(drawn["at"], drawn["values"], strict=True))
    return [
        (before_at, at, value if value < before / 2 else max(0, value - before))
        for (before_at, before), (at, value) in itertools.pairwise(pairs)
    ]


def on_paper(readings: dict[str, list[tuple[int, int, float]]], from_ms: int, to_ms: int) -> dict[str, tuple[int, int]]:
    """What each ran in the stretch, and how much more that is than before, in nanoseconds."""
    early = from_ms - HALF_MINUTE
    touching = {name: [each for each in all_ if each[0] < to_ms and each[1] > early] for name, all_ in readings.items()}
    since = min((max(each[0], early) for all_ in touching.values() for each in all_), default=from_ms)
    found = {}
    for name, all_ in touching.items():
        ran = sum(
            rise * max(0, min(until, to_ms) - max(begin, from_ms)) / (until - begin) for begin, until, rise in all_
        )
        before = sum(
            rise * max(0, until - max(begin, since)) / (until - begin)
            for begin, until, rise in all_
            if until <= from_ms
        )
        usual = before / (from_ms - since) * (to_ms - from_ms) if since < from_ms else 0
        if ran > 0:
            found[name] = (round(ran * MS), round(max(0, ran - usual) * MS))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_who_ran_is_the_sum_of_the_readings(correlator: Correlator, seed: int) -> None:
    """Short and long visits, gaps between readings, who came late and who is gone: sums agree to the nanosecond."""
    draw = random.Random(seed)  # noqa: S311 - nobody guesses these
    drawn = {name: counter(draw, name) for name in ("web", *OTHERS)}
    zero_ns = a_while_ago(600)
    starts = [draw.randrange(0, 150 * S) for _ in range(12)]
    visits = {f"{n + 1:032x}": (start, start + draw.choice([3, 40, 700, 9 * S])) for n, start in enumerate(starts)}
    spans = [
        span_row({"id": "a", "kind": "server", "container": "web", "ms": list(visit)}, trace, zero_ns)
        for trace, visit in visits.items()
    ]
    correlator.append(batch(spans, [series_rows(each, zero_ns) for each in drawn.values()]))
    with correlator._store.cursor() as cursor:
        work_out(cursor, list(visits), zero_ns, zero_ns + 200 * S * MS)
        rows = cursor.execute(
            "SELECT trace_id, entity_id, ran_ns, more_ns FROM ran JOIN entry ON span_no = visit_no"
        ).fetchall()
    names = {container_id(name): name for name in OTHERS}
    readings = {name: rises(drawn[name]) for name in OTHERS}
    for trace, visit in visits.items():
        found = {names[entity]: (ran, more) for of, entity, ran, more in rows if of == trace}
        expected = on_paper(readings, *visit)
        assert found.keys() == expected.keys()
        for name, figures in found.items():
            assert figures == pytest.approx(expected[name], abs=1), (name, visit)
