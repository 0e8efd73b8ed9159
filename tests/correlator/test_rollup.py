"""Points of old hours are kept at a coarser step: what grew over whole steps, and what levels were, stays as it was."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spans import a_while_ago, batch, series_rows
from test_summaries import carts, named, readings

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.coverage import read_coverage
from layerline_correlator.questions.timeline import TimelineQuery, read_timeline
from layerline_correlator.settings import Rule, Settings, rollup_rules
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sealed import HOUR_NS

S, STEP_NS = 10**9, 10 * 10**9
#: An hour that ended more than three hours ago.
ZERO_NS = a_while_ago(5 * 3600) // HOUR_NS * HOUR_NS
TEN, MINUTE = Rule(HOUR_NS, STEP_NS), Rule(2 * HOUR_NS, 60 * S)


def drawn() -> Batch:
    """Counters that begin again, step back and are read at odd times; levels; for ten minutes."""
    draw, series = random.Random(5), []  # noqa: S311 - nobody guesses these
    for number in range(4):
        at_ms, at, value, values = draw.uniform(0, 900), [], 1e4, []
        while at_ms < 600_000:
            at.append(at_ms)
            values.append(value)
            value = draw.choice([value + 700 * draw.random()] * 30 + [value - 1, 0.0])
            at_ms += draw.choice([1_000, 1_000, 990, 1_020, 3_000])
        counter = {"signal": "container.cpu.time", "container": f"web-{number}", "at": at, "values": values}
        level = {**counter, "signal": "container.memory.working_set", "values": [1e6 + 1e5 * one for one in values]}
        series += [series_rows(counter, ZERO_NS), series_rows(level, ZERO_NS)]
    return batch([], series)


def opened(folder: Path, *rules: Rule) -> Correlator:
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000, rollup=rules))
    correlator.keeping.stop()
    correlator.summing.stop()
    return correlator


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    """A store that is rolled up to ten seconds when it is told to."""
    made = opened(tmp_path / "store", TEN)
    yield made
    made.close()


def measured(correlator: Correlator, step_ns: int) -> dict[tuple[str, int], float]:
    """How much each counter grew in each step, and each level times its time."""
    with correlator._store.cursor() as cursor:
        rows = cursor.execute(
            """
            WITH stretch AS (
                SELECT line, from_ns, to_ns, rise AS amount, FALSE AS is_level
                FROM rises_of((SELECT list(series) FROM series), $from_ns, $to_ns)
                UNION ALL
                SELECT line, from_ns, to_ns, value, TRUE
                FROM levels_of((SELECT list(series) FROM series), $from_ns, $to_ns)
            ),
            cut AS (SELECT *, unnest(range(from_ns // $step_ns, (to_ns - 1) // $step_ns + 1)) AS step FROM stretch),
            share AS (
                SELECT *, overlap_ns(from_ns, to_ns, step * $step_ns, (step + 1) * $step_ns) AS shared_ns FROM cut
            )
            SELECT line, step, sum(CASE WHEN is_level THEN amount * (shared_ns / 1e9)
                                        ELSE amount * (shared_ns / (to_ns - from_ns)) END)
            FROM share WHERE to_ns > from_ns GROUP BY ALL
            """,
            {"from_ns": ZERO_NS, "to_ns": ZERO_NS + HOUR_NS, "step_ns": step_ns},
        ).fetchall()
    return {(line, step): amount for line, step, amount in rows}


def count(correlator: Correlator, table: str = "point") -> int:
    with correlator._store.cursor() as cursor:
        return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def rolled_up(correlator: Correlator) -> None:
    correlator.summing.catch_up()
    assert correlator.keeping.seal_all() >= 1
    assert correlator.keeping.roll_up_all() >= 1


def test_whole_steps_are_what_they_were(tmp_path: Path) -> None:
    """Over every step, and so over any window of whole steps, counters grew and levels held as before: also in turn."""
    correlator = opened(tmp_path / "store", TEN)
    try:
        correlator.append(drawn())
        whole, minutes, before = measured(correlator, STEP_NS), measured(correlator, 60 * S), count(correlator)
        rolled_up(correlator)
        assert measured(correlator, STEP_NS) == pytest.approx(whole, rel=1e-9)
        fewer = count(correlator)
        assert fewer < 0.5 * before
    finally:
        correlator.close()
    correlator = opened(tmp_path / "store", TEN, MINUTE)
    try:
        assert correlator.keeping.roll_up_all() == 1
        assert measured(correlator, 60 * S) == pytest.approx(minutes, rel=1e-9)
        assert count(correlator) < 0.6 * fewer
        assert correlator.keeping.roll_up_all() == 0, "it is done once"
    finally:
        correlator.close()


def test_questions_say_no_more_than_is_kept(correlator: Correlator) -> None:
    """In an hour that was rolled up steps of a timeline are as coarse, nobody sees gaps, and intervals are wide."""
    correlator.append(readings(ZERO_NS))
    correlator.append(carts(0, 20, ZERO_NS, seed=1))
    correlator.look_for_incidents()
    window = ZERO_NS + 310 * S, ZERO_NS + 350 * S + 1

    def gaps() -> list[int]:
        with correlator._store.cursor() as cursor:
            return [one.gaps for one in read_coverage(cursor, named, *window).layers]

    correlator.summing.catch_up()
    seen = gaps()
    rolled_up(correlator)
    assert gaps() == seen
    with correlator._store.cursor() as cursor:
        timeline = read_timeline(cursor, TimelineQuery(*window), named)
        assert timeline is not None
        assert timeline.step_ns == STEP_NS
        cpu = next(one for one in timeline.series if one.name == "container.cpu.time")
        assert None not in cpu.values[:3]
        widest = cursor.execute(
            "SELECT max(to_ns - from_ns) FROM rises_of((SELECT list(series) FROM series"
            " WHERE signal = 'container.cpu.time'), $from_ns, $to_ns)",
            {"from_ns": window[0], "to_ns": window[1]},
        ).fetchall()
    assert widest[0][0] == 9 * S, "what grew is known from the first to the last of a step, and its range is that wide"


def test_late_points_find_their_hour(correlator: Correlator) -> None:
    """A point that comes for an hour that was rolled up is there, and its minute is summed up with it."""
    correlator.append(readings(ZERO_NS))
    rolled_up(correlator)
    before = count(correlator)
    late = {"signal": "container.memory.working_set", "container": "late-1", "at": [61_000, 62_000], "values": [5, 7]}
    correlator.append(batch([], [series_rows(late, ZERO_NS)]))
    assert count(correlator) == before + 2
    correlator.summing.catch_up()
    assert count(correlator, "point_minute WHERE highest = 7") == 1
    assert count(correlator, "point_minute WHERE long_steps[1] <= 10_000_000_000") == 0, "a step is no gap"


def test_a_minute_that_waits_is_summed_up_first(correlator: Correlator) -> None:
    """An hour is rolled up when all of its minutes were summed up: of all its points."""
    correlator.append(readings(ZERO_NS))
    correlator.keeping.seal_all()
    assert correlator.keeping.roll_up_all() == 0
    correlator.summing.catch_up()
    assert correlator.keeping.roll_up_all() == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Rule, Settings
from layerline_correlator.store import rollup

correlator = Correlator.open(Settings(store=Path(sys.argv[1]), rollup=(Rule(3600 * 10**9, 10**10),)))
rollup.name_file = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
correlator.keeping.roll_up_all()
"""


def test_a_kill_in_between_costs_nothing(tmp_path: Path) -> None:
    """A process that is killed when the new file is written leaves the hour as it was; the next one rolls it up."""
    correlator = opened(tmp_path / "store")
    correlator.append(drawn())
    correlator.summing.catch_up()
    correlator.keeping.seal_all()
    expected, before = measured(correlator, STEP_NS), count(correlator)
    correlator.close()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], check=False, capture_output=True, timeout=300
    )
    assert killed.returncode == -9, killed.stderr
    files = tmp_path / "store" / "sealed" / "point"
    assert len(list(files.iterdir())) == 2
    correlator = opened(tmp_path / "store", TEN)
    try:
        assert (count(correlator), len(list(files.iterdir()))) == (before, 1)
        assert correlator.keeping.roll_up_all() == 1
        assert measured(correlator, STEP_NS) == pytest.approx(expected, rel=1e-9)
    finally:
        correlator.close()


def test_the_setting_says_what_is_wrong_with_it() -> None:
    """LAYERLINE_ROLLUP takes ages with steps, each above the one before, or off."""
    assert rollup_rules("2h:10s,24h:1m") == (Rule(2 * HOUR_NS, STEP_NS), Rule(24 * HOUR_NS, 60 * S))
    assert rollup_rules("off") == ()
    assert Settings.from_environment({"LAYERLINE_ROLLUP": "off"}).rollup == ()
    wrong = {"2h": "AGE:STEP", "30m:10s": "at least 1h", "2h:7s": "divides a minute", "2h:1m,24h:10s": "above those"}
    for text, words in wrong.items():
        with pytest.raises(ValueError, match=words):
            rollup_rules(text)
