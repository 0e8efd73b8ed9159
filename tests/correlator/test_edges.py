"""What changed between services, and on which side: decided on distributions alone, then read from a store."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from spans import MS, batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.describe import calm
from layerline_correlator.settings import Settings
from layerline_correlator.verdict.edges import EdgeMinute, compare, read_edges, shift

Drawn = Callable[[random.Random], float]


def group_of(duration_ms: float) -> int:
    """The class of a duration (``duration_class``)."""
    return round(math.log(max(1.0, duration_ms * MS)) / math.log(1.01))


def calls(
    caller: str, callee: str, draw: Drawn, gap: Drawn | None = None, each: int = 60, minutes: int = 5, errors: int = 0
) -> list[EdgeMinute]:
    """Minutes of calls whose durations, and gaps where the answers are known, are drawn in milliseconds."""
    chance = random.Random(f"{caller} {callee}")  # noqa: S311 - a reproducible test
    kind = "dependency" if gap is None else "service"
    return [
        EdgeMinute(
            caller,
            kind,
            callee,
            "GET /",
            minute,
            each,
            errors,
            Counter(group_of(draw(chance)) for _ in range(each)),
            Counter(group_of(gap(chance)) for _ in range(each)) if gap else {},
        )
        for minute in range(minutes)
    ]


def usual(chance: random.Random) -> float:
    """A mixed operation: most calls are short, some take long."""
    return chance.lognormvariate(3, 0.5) if chance.random() < 0.8 else chance.uniform(80, 200)


def near(chance: random.Random) -> float:
    return chance.uniform(1, 4)


def far(chance: random.Random) -> float:
    return chance.uniform(150, 170)


def some_slower(chance: random.Random) -> float:
    return usual(chance) + (400 if chance.random() < 0.15 else 0)


def test_a_part_of_the_calls_that_gets_slower_is_a_change() -> None:
    """Fifteen per cent of a mixed operation's calls gain 400 ms: told, although the median stands still."""
    (found,) = compare(calls("web", "cart", usual, near), calls("web", "cart", some_slower, near, minutes=1))
    assert (found.caller, found.callee, found.side, found.sure) == ("web", "cart", "callee", True)
    assert 25 * MS <= found.duration_change_ns <= 90 * MS


def test_the_same_calls_are_no_change() -> None:
    """Whatever is drawn of the same distribution stays silent: the time before says how much minutes differ."""
    for seed in range(200):
        again = random.Random(seed)  # noqa: S311 - a reproducible test
        now = calls("web", "cart", lambda _, again=again: usual(again), near, each=20, minutes=1)  # type: ignore[misc]
        assert compare(calls("web", "cart", usual, near, each=20, minutes=10), now) == []


def test_a_part_is_told_although_minutes_differ() -> None:
    """Where each minute is a little different, what 15 % of the calls gain is told because nearly none took so long."""
    before = [
        one
        for minute in range(6)
        for one in calls("web", "cart", lambda draw, by=1 + minute % 3: by * usual(draw), near, minutes=1)  # type: ignore[misc]
    ]
    now = calls("web", "cart", lambda draw: usual(draw) + (700 if draw.random() < 0.15 else 0), near, minutes=1)
    (found,) = compare(before, now)
    assert found.duration_change_ns >= 10 * MS


def test_a_few_odd_calls_are_no_change() -> None:
    """Two of a hundred calls that take ten seconds do not move the middle 90 %."""
    ordinary = Counter({group_of(20): 100})
    assert shift(ordinary, Counter({group_of(20): 98, group_of(10_000): 2})) == 0


@pytest.mark.parametrize(
    ("others", "side", "sure"),
    [
        ({("kiosk", "stock"): True, ("web", "cart"): False}, "callee", True),
        ({("kiosk", "stock"): False, ("web", "cart"): True}, "caller", True),
        ({("kiosk", "stock"): False, ("web", "cart"): False}, "way", True),
        ({("kiosk", "stock"): True}, "callee", False),
        ({("web", "cart"): True}, "caller", False),
        ({("kiosk", "stock"): False}, None, False),
        ({("kiosk", "stock"): True, ("web", "cart"): True}, None, False),
        ({}, None, False),
    ],
)
def test_what_others_saw_decides_the_side(others: dict[tuple[str, str], bool], side: str | None, sure: bool) -> None:
    """Time beyond the answers lies where other calls were late too; on the way where neither end's were."""
    before, now = calls("web", "stock", usual, near), calls("web", "stock", far, far, minutes=1)
    for edge, is_late in others.items():
        before += calls(*edge, usual, near)
        now += calls(*edge, far if is_late else usual, far if is_late else near, minutes=1)
    found = next(one for one in compare(before, now) if (one.caller, one.callee) == ("web", "stock"))
    assert (found.side, found.sure) == (side, sure)
    assert found.gap_change_ns is not None
    assert found.gap_change_ns >= 140 * MS


def test_operations_that_were_hardly_called_before_are_compared_together() -> None:
    """Where every call has a name of its own, an id in it, the edge as a whole is compared."""

    def named_each(minutes: list[EdgeMinute], prefix: str) -> list[EdgeMinute]:
        return [replace(one, operation=f"{prefix}{number}") for number, one in enumerate(minutes)]

    before = named_each(calls("web", "cart", usual, near, each=1, minutes=60), "GET /cart/a")
    now = named_each(calls("web", "cart", far, near, each=1, minutes=20), "GET /cart/b")
    (found,) = compare(before, now)
    assert (found.operation, found.calls, found.before_calls) == ("", 20, 60)


def test_who_only_passes_time_on_comes_last() -> None:
    """The database is slow, and so is the answer of the service that asks it: the call to the database comes first."""

    def slow(chance: random.Random) -> float:
        return usual(chance) + 300

    before = [*calls("web", "cart", usual, near, each=90), *calls("cart", "db:5432", near)]
    now = [*calls("web", "cart", slow, near, each=90, minutes=1), *calls("cart", "db:5432", far, minutes=1)]
    assert [one.callee for one in compare(before, now)] == ["db:5432", "cart"]


def test_the_time_before_leaves_other_incidents_out() -> None:
    """Stretches between incidents, in order; none where one lasted all the time."""
    assert calm(0, 100, []) == [(0, 100)]
    assert calm(0, 100, [(-5, 10), (30, 50), (40, 60), (90, 120)]) == [(10, 30), (60, 90)]
    assert calm(0, 100, [(-5, 100)]) == []


def test_calls_that_fail_are_a_change() -> None:
    """A third of the calls fails, and they take no longer: errors alone are told."""
    (found,) = compare(calls("web", "cart", usual, near), calls("web", "cart", usual, near, minutes=1, errors=20))
    assert (found.errors, found.before_errors, found.side) == (20, 0, "callee")


def test_a_dependency_is_compared_by_whole_calls() -> None:
    """Nobody received its answers: its calls are late, those of its caller to others are not, so perhaps it is."""
    before = [*calls("web", "db:5432", near), *calls("web", "cart", usual, near)]
    now = [*calls("web", "db:5432", far, minutes=1), *calls("web", "cart", usual, near, minutes=1)]
    (found,) = compare(before, now)
    assert (found.callee, found.gap_change_ns, found.side, found.sure) == ("db:5432", None, "callee", False)


def test_edges_are_read_from_rows_and_from_minutes_alike(tmp_path: Path) -> None:
    """A callee's gap that grows is told of a store, whether its minutes are summed up or not."""
    minute_ns = 60 * 10**9
    zero_ns = (1_790_000_000 * 10**9) // minute_ns * minute_ns
    spans = []
    for number in range(120):  # one a second, for two minutes
        late = 160 if number >= 60 else 0
        trace, at = f"{number + 1:032x}", number * 1_000
        mine = {"trace": trace, "ms": [at, at + 30 + late]}
        spans += [
            {"id": f"a{number}", "kind": "server", "service": "web", **mine},
            {"id": f"b{number}", "parent": f"a{number}", "kind": "client", "service": "web", **mine},
            {
                "id": f"c{number}",
                "parent": f"b{number}",
                "kind": "server",
                "name": "GET /stock",
                "service": "stock",
                "trace": trace,
                "ms": [at + 2 + late, at + 28 + late],
            },
        ]
    correlator = Correlator.open(Settings(store=tmp_path, group_ns=0))
    try:
        correlator.append(batch([span_row(span, span["trace"], zero_ns) for span in spans]))
        windows = (zero_ns + minute_ns, zero_ns + 2 * minute_ns), [(zero_ns, zero_ns + minute_ns)]
        found = []
        for summed in (False, True):
            if summed:
                correlator.summing.catch_up()
            with correlator._store.cursor() as cursor:
                found.append(read_edges(cursor, *windows))
    finally:
        correlator.close()
    assert found[0] == found[1]
    (change,) = found[0]
    assert (change.caller, change.callee, change.calls, change.before_calls) == ("web", "stock", 60, 60)
    assert change.gap_change_ns == pytest.approx(160 * MS, rel=0.05)
