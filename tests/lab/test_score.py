"""The lab's scoring, with results made up so that the answer is known."""

from __future__ import annotations

from typing import Any

from benchmarks.lab.record import Record, Truth, line, parse
from benchmarks.lab.report import sections
from benchmarks.lab.score import percentile, score, summarise

MS = 1_000_000


def part(cause: str, excess_ms: int, spread_ms: int = 5, entity: str = "c1") -> dict[str, Any]:
    """A part of a verdict, with a usual of 10 ms."""
    lost = (excess_ms + 10) * MS
    return {
        "cause": cause,
        "service": "s",
        "entity": {"type": "container", "id": entity, "name": "n"},
        "lost_ns": lost,
        "low_ns": lost - spread_ms * MS,
        "high_ns": lost + spread_ms * MS,
        "usual_ns": 10 * MS,
        "usual_low_ns": 10 * MS,
        "usual_high_ns": 10 * MS,
        "excess_ns": excess_ms * MS,
        "evidence": "measured",
        "by": [{"entity": {"type": "container", "id": "loud", "name": "loud"}, "share": 0.8}],
    }


def case(*parts: dict[str, Any], conclusive: bool = True, **fields: Any) -> Record:
    """A record whose verdict has these parts, every one a culprit, worst first."""
    culprits = [{"cause": one["cause"], "entity": one["entity"]} for one in parts]
    body = {
        "trace_id": "t",
        "duration_ns": 500 * MS,
        "usual_ns": 20 * MS,
        "unexplained_ns": 0,
        "parts": list(parts),
        "culprits": culprits,
        "conclusive": conclusive,
        "settled": True,
    }
    usual: dict[str, Any] = {
        "number": 1,
        "piece": 1,
        "fault": "f",
        "kind": "single",
        "app": "flask",
        "way": "sync-1+all",
        "variant": "v",
        "parameters": {"ms": 200},
        "truths": (Truth("app.cpu_busy", "c1", 200 * MS, "client"),),
        "neighbour_id": None,
        "blind": None,
        "healthy_ns": (20 * MS,),
        "faulty_ns": (220 * MS,),
        "others_ratio": 0.0,
        "disturbed": False,
        "trace_id": "t",
        "seconds": 4.0,
        "verdict": body,
    }
    return Record(**(usual | fields))


def test_a_right_verdict_is_right() -> None:
    """The expected cause at the expected entity is right, and its error is the distance to the truth."""
    one = score(case(part("app.cpu_busy", 190, 20)))
    assert one.right
    assert (one.blames[0].error_ns, one.blames[0].inside, one.blames[0].width_ratio) == (10 * MS, True, 0.2)


def test_another_entity_is_a_miss() -> None:
    """The right cause at somebody else's container is a miss, and blames nothing of the truth."""
    one = score(case(part("app.cpu_busy", 190, entity="c2")))
    assert not one.right
    assert one.blames[0].blamed_ns == 0
    assert one.reason == "app.cpu_busy expected first, app.cpu_busy found"


def test_a_cause_that_is_as_right_counts_and_is_added_up() -> None:
    """Where two causes are accepted, either may be named first, and their blames together are held to the truth."""
    truth = Truth("app.cpu_crowded", "c1", 200 * MS, "kernel", ("app.gil_waited",))
    one = score(case(part("app.gil_waited", 150), part("app.cpu_crowded", 60), truths=(truth,)))
    assert one.right
    assert (one.blames[0].blamed_ns, one.blames[0].low_ns, one.blames[0].high_ns) == (210 * MS, 200 * MS, 220 * MS)
    missed = score(case(part("app.lock_waited", 150), truths=(truth,)))
    assert missed.reason == "app.cpu_crowded or app.gil_waited expected first, app.lock_waited found"


def test_an_abstention_is_a_miss_unless_declared() -> None:
    """Not conclusive counts as a miss; where it was declared blind beforehand it counts as right."""
    record = case(part("app.cpu_busy", 190), conclusive=False)
    assert score(record).reason == "right, but not conclusive"
    declared = case(part("app.cpu_busy", 190), conclusive=False, blind="nobody measures it")
    assert [goal.value for goal in summarise([record]).goals][1] == 0
    assert [goal.value for goal in summarise([declared]).goals][1] == 1


def test_two_faults_need_two_culprits_the_larger_first() -> None:
    """Of two faults both must be culprits, and the larger the first unless they are nearly equal."""
    truths = (Truth("app.cpu_busy", "c1", 300 * MS, "client"), Truth("dependency.slow", "c1", 100 * MS, "constant"))
    large, small = part("app.cpu_busy", 300), part("dependency.slow", 100)
    assert score(case(large, small, kind="double", truths=truths)).right
    assert not score(case(small, large, kind="double", truths=truths)).right
    assert score(case(large, kind="double", truths=truths)).reason == "dependency.slow not among the culprits"
    equal = (truths[0], Truth("dependency.slow", "c1", 250 * MS, "constant"))
    assert score(case(small, large, kind="double", truths=equal)).right


def test_honest_work_may_be_named_and_nobody_else() -> None:
    """For honest work its own computing is right; another culprit with noticeable time is false blame."""
    assert score(case(part("app.cpu_busy", 190), kind="honest")).right
    assert score(case(part("host.cpu_contended", 190), kind="honest")).false_blame
    assert score(case(part("app.cpu_busy", 190), part("app.blocked", 60), kind="honest")).false_blame
    assert not score(case(part("app.blocked", 20), kind="none", truths=())).false_blame


def test_a_disturbed_case_is_set_aside() -> None:
    """A disturbed case is listed and is in no figure."""
    summary = summarise([case(part("app.blocked", 190), disturbed=True), case(part("app.cpu_busy", 200))])
    assert (len(summary.scores), len(summary.disturbed), summary.goals[1].value) == (1, 1, 1.0)


def test_a_goal_without_a_measurement_is_not_reached() -> None:
    """What was not measured is never reached."""
    goal = summarise([case(part("app.cpu_busy", 200))]).goals[2]
    assert (goal.value, goal.reached) == (None, False)


def test_the_neighbour_must_be_named_first() -> None:
    """Whether the injected neighbour heads the list is said separately."""
    assert score(case(part("app.cpu_busy", 190), neighbour_id="loud")).neighbour_named is True
    assert score(case(part("app.cpu_busy", 190), neighbour_id="quiet")).neighbour_named is False


def test_a_record_comes_back_from_its_line() -> None:
    """A record that was written can be scored again: reading it gives the same."""
    record = case(part("app.cpu_busy", 190))
    assert parse(line(record)) == record


def test_percentile_takes_a_value_that_was_measured() -> None:
    """The 90th percentile of ten is the ninth."""
    assert percentile([float(n) for n in range(1, 11)], 0.9) == 9


def table(title: str, *records: Record) -> list[list[str]]:
    """The rows of one table of the report."""
    return next(rows for head, _, rows in sections(summarise(records), ()) if head.startswith(title))


def test_figures_are_told_apart_by_way_of_running() -> None:
    """A way has its own line, over its limits; a limit has its own, over servers; who has no limit is not there."""
    right, wrong = part("app.cpu_busy", 200), part("app.blocked", 190)
    records = (
        case(right, way="gthread-4+all+20ms+own"),
        case(wrong, way="gthread-4+all+20ms+parent"),
        case(right, way="sync-1+one"),
    )
    assert [row[:3] for row in table("By way", *records)] == [
        ["gthread-4+all", "2", "50.0%"],
        ["sync-1+one", "1", "100.0%"],
    ]
    assert [row[:3] for row in table("By CPU limit", *records)] == [
        ["20ms+own", "1", "100.0%"],
        ["20ms+parent", "1", "0.0%"],
    ]


def test_a_miss_says_how_its_container_was_run() -> None:
    """A miss is listed with its way of running."""
    (row,) = table("Misses", case(part("app.blocked", 190), way="flask-16+one"))
    assert row[:3] == ["1", "flask-16+one", "f"]
