"""Monitors: when alerts fire and are resolved, what is told of them, and what outlives a restart. The clock is ours."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fleet import SECOND, WINDOW_S, fleet
from hypothesis import given
from hypothesis import strategies as some
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.monitors.judge import AGAIN_NS, judge, to_tell
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import (
    Alert,
    CannotEvaluate,
    Evaluation,
    Finding,
    Group,
    Monitor,
    Target,
)
from layerline_correlator.monitors.preview import MOST, preview
from layerline_correlator.settings import Settings

MINUTE = 60 * SECOND
SLACK, ALERTMANAGER = Target("slack", "https://hooks.example/x"), Target("alertmanager", "http://alerts.example:9093")
MONITOR = Monitor("m1", "too fat", "drawn", "question", 30 * SECOND, 2 * MINUTE, (SLACK,), created_ns=1)


def entity(name: str) -> Entity:
    return Entity("container", name * 4, name)


def found(*names: str, unknown: str = "", blind: bool = False) -> Evaluation:
    """It holds for these containers, of one letter each; of those in ``unknown`` it cannot be said."""
    return Evaluation(
        tuple(Finding(entity(name), {"summary": f"{name} is fat"}) for name in names),
        frozenset(Group("container", name * 4) for name in unknown),
        blind,
    )


class Drawn:
    """A source that answers as is drawn: one word for each evaluation, ``a`` holds, ``?a`` is unknown, ``!`` fails."""

    def __init__(self, line: str) -> None:
        self.words = line.split("|")
        self.asked: list[int] = []

    def __call__(self, question: str, at_ns: int) -> Evaluation:
        self.asked.append(at_ns)
        word = self.words[min(len(self.asked), len(self.words)) - 1].strip()
        if word == "!":
            raise CannotEvaluate("the store is on fire")
        holds, _, unknown = word.partition("?")
        return found(*holds, unknown=unknown, blind=unknown == "*")


def states(monitor: Monitor, line: str, every_ns: int = 30 * SECOND) -> list[str]:
    """The alerts after each evaluation of the line, as ``a:pending b:firing``; resolved ones are shown once."""
    source, alerts, said = Drawn(line), [], []
    for number in range(len(source.words)):
        at_ns = 1_000 * MINUTE + number * every_ns
        alerts = judge(monitor, [one for one in alerts if one.state != "resolved"], source("", at_ns), at_ns)
        said.append(" ".join(sorted(f"{alert.entity.name}:{alert.state}" for alert in alerts)))
    return said


# ---- the judgement


def test_an_alert_fires_when_it_has_held_for_long_enough() -> None:
    """Two minutes of 30 s steps: pending at 0, 30, 60 and 90 s, firing at 120 s, resolved when it does not hold."""
    assert states(MONITOR, "a|a|a|a|a|a||") == [*["a:pending"] * 4, "a:firing", "a:firing", "a:resolved", ""]


def test_without_a_time_it_fires_at_once() -> None:
    """for: 0 fires with the first evaluation that finds it."""
    assert states(replace(MONITOR, for_ns=0), "a|") == ["a:firing", "a:resolved"]


def test_what_stops_before_its_time_never_fires() -> None:
    """Pending is forgotten without a word, and begins anew the next time."""
    assert states(MONITOR, "a|a|a||a|a") == ["a:pending", "a:pending", "a:pending", "", "a:pending", "a:pending"]


def test_of_whom_nothing_is_known_nothing_changes() -> None:
    """Not measured neither resolves an alert nor makes one."""
    monitor = replace(MONITOR, for_ns=30 * SECOND)
    assert states(monitor, "a|a|?a|?*|ab|b") == [
        "a:pending", "a:firing", "a:firing", "a:firing", "a:firing b:pending", "a:resolved b:firing",
    ]  # fmt: skip
    assert states(monitor, "?a|?a") == ["", ""]


def test_a_gap_in_watching_is_no_time_that_it_held() -> None:
    """A server that was down for an hour did not see it hold meanwhile: pending begins anew, firing goes on."""
    assert states(MONITOR, "a|a", every_ns=60 * MINUTE) == ["a:pending", "a:pending"]
    assert states(replace(MONITOR, for_ns=0), "a|a", every_ns=60 * MINUTE) == ["a:firing", "a:firing"]


@given(some.lists(some.sampled_from(["", "a", "ab", "b?a", "?ab", "?*", "b"]), max_size=12))
def test_there_is_one_open_alert_for_each_at_most(line: list[str]) -> None:
    """Whatever comes after whatever: one open alert per container, who is found has one, and none that is not firing
    is resolved."""
    monitor, alerts, source = replace(MONITOR, for_ns=45 * SECOND), [], Drawn("|".join(line))
    for number, word in enumerate(line):
        at_ns = 1_000 * MINUTE + number * 30 * SECOND
        before = {alert.id: alert for alert in alerts}
        alerts = judge(monitor, alerts, source("", at_ns), at_ns)
        for alert in alerts:
            assert alert.state != "resolved" or before[alert.id].state == "firing"
            assert alert.fired_ns is None or alert.fired_ns - alert.since_ns >= monitor.for_ns
        alerts = [alert for alert in alerts if alert.state != "resolved"]
        assert len({alert.group for alert in alerts}) == len(alerts)
        assert {alert.entity.name for alert in alerts} >= set(word.partition("?")[0])


@pytest.mark.parametrize(
    ("alert", "silent", "told"),
    [
        ({"state": "pending"}, 0, ()),
        ({"state": "firing"}, 0, (SLACK, ALERTMANAGER)),
        ({"state": "firing", "told": "firing", "told_ns": 100 * MINUTE}, 0, ()),
        ({"state": "firing", "told": "firing", "told_ns": 100 * MINUTE - AGAIN_NS}, 0, (ALERTMANAGER,)),
        ({"state": "resolved", "told": "firing"}, 0, (SLACK, ALERTMANAGER)),
        ({"state": "resolved", "told": "resolved"}, 0, ()),
        ({"state": "resolved"}, 0, ()),
        ({"state": "firing"}, 100 * MINUTE + 1, ()),
        ({"state": "resolved", "told": "firing"}, 100 * MINUTE + 1, ()),
        ({"state": "firing"}, 100 * MINUTE, (SLACK, ALERTMANAGER)),
    ],
)
def test_what_is_told_to_whom(alert: dict[str, Any], silent: int, told: tuple[Target, ...]) -> None:
    """Each state once; to Alertmanager again every hour, as it forgets; nothing in silence, but what is so after it."""
    monitor = replace(MONITOR, targets=(SLACK, ALERTMANAGER), silent_until_ns=silent)
    assert to_tell(Alert("x", "m1", entity("a"), since_ns=0, held_ns=0, **alert), monitor, 100 * MINUTE) == told


def test_a_preview_is_the_same_judgement_on_the_past() -> None:
    """What would have fired, and when; what is still firing at the end has no end."""
    source = Drawn("|" * 3 + "a|a|a|a|a|" + "|b|b|b|b|b|b")
    seen = preview(source, MONITOR, 0, len(source.words) * 30 * SECOND)
    assert [(alert.entity.name, alert.fired_ns, alert.resolved_ns) for alert in seen.alerts] == [
        ("a", 240 * SECOND, 270 * SECOND),
        ("b", 420 * SECOND, None),
    ]
    assert (seen.every_ns, seen.evaluations) == (30 * SECOND, len(source.words))


def test_a_long_past_is_looked_at_in_longer_steps() -> None:
    """A day has a bounded number of evaluations, the answer says how far apart, and time enough is enough."""
    source = Drawn("a")
    seen = preview(source, MONITOR, 0, 24 * 60 * MINUTE)
    assert len(source.asked) == seen.evaluations == MOST
    assert seen.every_ns == 24 * 60 * MINUTE // MOST
    assert source.asked[-1] == 24 * 60 * MINUTE
    with pytest.raises(CannotEvaluate, match="too long"):
        preview(source, MONITOR, 0, MINUTE, lambda: True)


# ---- what is kept


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[Drawn], Monitors]]:
    """``keep(source)`` opens the same store again, as a server does after a restart."""
    opened: list[duckdb.DuckDBPyConnection] = []

    def keep(source: Drawn) -> Monitors:
        for connection in opened:
            connection.close()
        opened[:] = [duckdb.connect(str(tmp_path / "monitors.duckdb"))]
        return Monitors(opened[0].cursor(), {"drawn": source})

    yield keep
    for connection in opened:
        connection.close()


def told(monitors: Monitors, at_ns: int) -> list[str]:
    """What is told now, heard by everybody."""
    notices = monitors.due_notices(at_ns)
    for notice in notices:
        monitors.heard(notice, at_ns)
    return [f"{notice.alert.entity.name} {notice.alert.state} to {notice.target.kind}" for notice in notices]


def test_everything_outlives_a_restart(keep: Callable[[Drawn], Monitors]) -> None:
    """Monitors, pending and firing alerts, and notices that nobody heard yet are there after a restart, once."""
    hour, monitors = 60 * MINUTE, keep(Drawn("a"))
    monitors.save(MONITOR)
    for at in (0, 30, 60, 90):
        monitors.evaluate_due(hour + at * SECOND)
    (pending,) = monitors.open_alerts()
    monitors = keep(Drawn("a"))
    assert monitors.all() == [replace(MONITOR, evaluated_ns=hour + 90 * SECOND)]
    assert monitors.open_alerts("m1") == [pending]
    monitors.evaluate_due(hour + 120 * SECOND)
    (firing,) = monitors.open_alerts("m1")
    assert (firing.id, firing.state, firing.figures) == (pending.id, "firing", {"summary": "a is fat"})
    monitors = keep(Drawn("a|"))
    assert told(monitors, hour + 130 * SECOND) == ["a firing to slack"]
    monitors.evaluate_due(hour + 150 * SECOND)
    assert told(monitors, hour + 150 * SECOND) == []
    monitors.evaluate_due(hour + 180 * SECOND)
    monitors = keep(Drawn(""))
    assert told(monitors, hour + 190 * SECOND) == ["a resolved to slack"]
    assert [(alert.id, alert.state) for alert in monitors.history("m1", 10)] == [(firing.id, "resolved")]


def test_it_is_evaluated_when_it_is_time(keep: Callable[[Drawn], Monitors]) -> None:
    """Every 30 s and not between, and at once where the clock was set back."""
    monitors = keep(source := Drawn(""))
    monitors.save(MONITOR)
    hour = 3600 * SECOND
    assert [monitors.evaluate_due(hour + at * SECOND) for at in (0, 10, 29, 30, 45, 60, -1800)] == [1, 0, 0, 1, 0, 1, 1]
    assert len(source.asked) == 4


def test_at_rest_the_store_is_not_asked(keep: Callable[[Drawn], Monitors], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds in which nothing is due read nothing, and what is due later is not missed for that."""
    monitors = keep(Drawn("a"))
    monitors.save(replace(MONITOR, for_ns=0))
    at_ns = 1_000 * MINUTE
    monitors.evaluate_due(at_ns)
    for notice in monitors.due_notices(at_ns):
        monitors.not_heard(notice, at_ns, "deaf")
    assert monitors.due_notices(at_ns + 1) == []
    asked: list[str] = []
    ask = monitors._do
    with monkeypatch.context() as watched:
        watched.setattr(monitors, "_do", lambda *what: asked.append(what[0]) or ask(*what))
        for second in range(10):
            assert monitors.evaluate_due(at_ns + second * SECOND) == 0
            assert monitors.due_notices(at_ns + second * SECOND) == []
    assert not any("notice" in statement for statement in asked)
    assert len(asked) <= 1, "monitors are read once"
    assert len(monitors.due_notices(at_ns + 16 * SECOND)) == 1


def test_a_question_that_fails_changes_nothing_and_says_so(keep: Callable[[Drawn], Monitors]) -> None:
    """The problem stands at the monitor until the question can be asked again; what fires goes on firing."""
    monitors = keep(Drawn("a|!|a"))
    monitors.save(replace(MONITOR, for_ns=0))
    for number, problem in enumerate([None, "the store is on fire", None]):
        monitors.evaluate("m1", number * 30 * SECOND)
        assert [alert.state for alert in monitors.open_alerts()] == ["firing"]
        (monitor,) = monitors.all()
        assert monitor.problem == problem
    monitors.save(replace(MONITOR, source="stars"))
    monitors.evaluate("m1", 90 * SECOND)
    assert "stars" in (monitors.all()[0].problem or "")
    assert len(monitors.open_alerts()) == 1


def test_evaluations_at_once_leave_one_alert(keep: Callable[[Drawn], Monitors]) -> None:
    """However many evaluate at the same time, a container has one open alert and one notice."""
    monitors = keep(Drawn("a"))
    monitors.save(replace(MONITOR, for_ns=0))
    threads = [threading.Thread(target=monitors.evaluate, args=("m1", at)) for at in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(monitors.open_alerts()) == 1
    assert told(monitors, MINUTE) == ["a firing to slack"]


def test_silence_is_kept_and_then_what_is_still_so_is_told(keep: Callable[[Drawn], Monitors]) -> None:
    """In silence nothing is told. After it: what fires and was not told, and what was told to fire and is over."""
    monitors = keep(Drawn("a|ab|b|b|"))
    monitors.save(replace(MONITOR, for_ns=0))
    monitors.evaluate("m1", 0)
    assert told(monitors, 1) == ["a firing to slack"]
    monitors.silence(MONITOR, 80 * SECOND)
    for at in (30, 60):
        monitors.evaluate("m1", at * SECOND)
        assert told(monitors, at * SECOND) == []
    monitors.evaluate("m1", 90 * SECOND)
    assert sorted(told(monitors, 90 * SECOND)) == ["a resolved to slack", "b firing to slack"]
    monitors.evaluate("m1", 120 * SECOND)
    assert told(monitors, 120 * SECOND) == ["b resolved to slack"]


def test_who_is_deaf_is_told_again_later_and_in_order(keep: Callable[[Drawn], Monitors]) -> None:
    """After 15 s, 30 s, …, at most every 10 min; what came later waits for its turn; after a day it is given up."""
    monitors = keep(Drawn("a|"))
    monitors.save(replace(MONITOR, for_ns=0))
    monitors.evaluate("m1", 0)
    monitors.evaluate("m1", 30 * SECOND)
    at, tries = 30 * SECOND, 0
    while (notice := monitors.due_notices(at)[0]).alert.state == "firing":
        assert len(monitors.due_notices(at)) == 1
        monitors.not_heard(notice, at, "it could not be reached")
        wait = min(15 * 2**tries, 600) * SECOND
        if monitors.untold("m1")[0] == 2:
            assert monitors.untold("m1")[1] == "it could not be reached"
            assert monitors.due_notices(at + wait - 1) == []
            at, tries = at + wait, tries + 1
    assert 24 * 60 * MINUTE <= at <= 25 * 60 * MINUTE
    assert told(monitors, at) == ["a resolved to slack"]


def test_a_monitor_that_is_deleted_says_that_it_is_over(keep: Callable[[Drawn], Monitors]) -> None:
    """Nobody is left with an alert that nothing will ever resolve."""
    monitors = keep(Drawn("a"))
    monitors.save(replace(MONITOR, for_ns=0))
    monitors.evaluate("m1", 0)
    assert told(monitors, 1) == ["a firing to slack"]
    monitors.delete(MONITOR, 30 * SECOND)
    assert (monitors.all(), monitors.open_alerts()) == ([], [])
    assert told(monitors, 30 * SECOND) == ["a resolved to slack"]
    monitors.evaluate("m1", MINUTE)
    assert monitors.open_alerts() == []


def test_what_is_long_over_is_forgotten(keep: Callable[[Drawn], Monitors]) -> None:
    """History is kept for 90 days."""
    monitors = keep(Drawn("a|"))
    monitors.save(replace(MONITOR, for_ns=0))
    monitors.evaluate("m1", 0)
    monitors.evaluate("m1", SECOND)
    assert told(monitors, SECOND) == ["a firing to slack"]
    assert told(monitors, SECOND) == ["a resolved to slack"]
    day = 24 * 60 * MINUTE
    monitors.evaluate("m1", 89 * day)
    assert len(monitors.history("m1", 10)) == 1
    monitors.evaluate("m1", 91 * day)
    assert monitors.history("m1", 10) == []


# ---- tag queries as questions


def test_a_tag_query_is_a_monitor(tmp_path: Path) -> None:
    """Of the fleet web-2 exceeds 350 MiB from second 300 on: over a minute, for two minutes, that fires at 480;
    who was not measured fires nothing; a restart of the correlator changes nothing."""
    drawn = tomllib.loads(Path(__file__).with_name("tag_queries.toml").read_text(encoding="utf-8"))
    zero_ns = a_while_ago(WINDOW_S + 60)
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    question = "region:abc -container:web-3 memory.working_set > 350MiB over 1m"
    monitor = Monitor("m1", "fat", "query", question, MINUTE, 2 * MINUTE, (SLACK,), created_ns=1)
    correlator = Correlator.open(settings)
    correlator.append(fleet(drawn["host"], drawn["container"], zero_ns))
    seen = correlator.monitors.preview(monitor, zero_ns, zero_ns + WINDOW_S * SECOND, lambda: False)
    assert [(alert.entity.name, ((alert.fired_ns or 0) - zero_ns) // SECOND) for alert in seen.alerts] == [
        ("web-2", 480)
    ]
    correlator.monitors.save(monitor)
    for at in (300, 360, 420):
        correlator.monitors.evaluate("m1", zero_ns + at * SECOND)
    correlator.close()
    correlator = Correlator.open(settings)
    correlator.monitors.evaluate("m1", zero_ns + 480 * SECOND)
    (alert,) = correlator.monitors.open_alerts("m1")
    assert (alert.entity.name, alert.state, alert.figures["comparisons"][0]["value"]) == (
        "web-2",
        "firing",
        400 * 2**20,
    )
    correlator.close()
