"""What the verdict says, given ledgers: plain arithmetic, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layerline_correlator.entity import Entity
from layerline_correlator.verdict.judge import Ledger, LedgerPart, Ran, Usual, is_slow, judge
from layerline_correlator.verdict.model import Join

MS = 1_000_000


def part(cause: str, lost: int, low: int | None = None, entity: str = "c1", **more: object) -> LedgerPart:
    kind = {"app": "container", "container": "container", "host": "host", "dependency": "service"}[cause.split(".")[0]]
    low_ns = (lost if low is None else low) * MS
    return replace(LedgerPart(cause, "web", kind, entity, lost * MS, low_ns, lost * MS), **more)  # type: ignore[arg-type]


def ledger(duration: int, *parts: LedgerPart, trace_id: str = "t1") -> Ledger:
    unexplained_ns = duration * MS - sum(one.lost_ns for one in parts)
    return Ledger(trace_id, "s1", "web", "GET /", 0, duration * MS, unexplained_ns, parts)


def usual(duration: int, *parts: LedgerPart) -> Usual:
    return Usual(duration * MS, parts)


def test_excess_is_ranked_not_size() -> None:
    """An operation that always burns 100 ms of CPU is not slow because of it."""
    verdict = judge(
        [ledger(250, part("app.cpu_busy", 105), part("container.cpu_throttled", 90), part("app.blocked", 50))],
        [usual(150, part("app.cpu_busy", 100), part("app.blocked", 48))],
        named,
    )
    assert [culprit.cause for culprit in verdict.culprits] == ["container.cpu_throttled"]
    assert verdict.ranked_by == "excess"
    assert verdict.culprits[0].without_ns == 160 * MS
    assert verdict.culprits[0].share_of_excess == 0.9
    assert verdict.conclusive


def test_two_faults_give_two_blames() -> None:
    """Two causes at once are both culprits, the larger first."""
    verdict = judge(
        [ledger(400, part("container.cpu_throttled", 150), part("dependency.slow", 200, entity="db:1"))],
        [usual(50, part("dependency.slow", 10, entity="db:1"))],
        named,
    )
    assert [culprit.cause for culprit in verdict.culprits] == ["dependency.slow", "container.cpu_throttled"]


def test_without_a_usual_the_largest_is_ranked() -> None:
    """The first requests of an operation have nothing to compare with: null, and ranked by what was lost."""
    verdict = judge([ledger(600, part("app.cpu_busy", 590))], [None], named)
    assert verdict.ranked_by == "lost"
    assert verdict.usual_ns is None
    assert verdict.excess_ns is None
    assert verdict.parts[0].excess_ns is None
    assert verdict.culprits[0].without_ns == 10 * MS


def test_absolute_ranks_without_usual() -> None:
    """A container that has been throttled since its first minute has a usual that hides it; `absolute` does not."""
    throttled = part("container.cpu_throttled", 400)
    plain = judge([ledger(500, throttled)], [usual(490, throttled)], named)
    absolute = judge([ledger(500, throttled)], [usual(490, throttled)], named, absolute=True)
    assert plain.culprits == []
    assert absolute.culprits[0].cause == "container.cpu_throttled"
    assert absolute.ranked_by == "lost"
    assert absolute.parts[0].usual_ns == 400 * MS


def test_usual_parts_that_did_not_happen_are_shown() -> None:
    """The usual's parts add up to the usual, also those that this request did not have."""
    verdict = judge(
        [ledger(300, part("app.cpu_busy", 300))], [usual(100, part("dependency.slow", 90, entity="db:1"))], named
    )
    absent = next(one for one in verdict.parts if one.cause == "dependency.slow")
    assert (absent.lost_ns, absent.usual_ns, absent.excess_ns) == (0, 90 * MS, -90 * MS)
    assert sum(one.usual_ns or 0 for one in verdict.parts) + (verdict.unexplained_usual_ns or 0) == verdict.usual_ns


def test_a_container_made_anew_keeps_its_usual() -> None:
    """A part is compared by cause and service, so a new container id is not an excess of its own."""
    verdict = judge(
        [ledger(100, part("app.cpu_busy", 90, entity="new"))],
        [usual(100, part("app.cpu_busy", 90, entity="old"))],
        named,
    )
    assert [one.excess_ns for one in verdict.parts] == [0]


def test_two_containers_of_a_service_share_its_usual() -> None:
    """Where two containers have the same part, the usual is divided as their time was, to the nanosecond."""
    verdict = judge(
        [ledger(100, part("app.cpu_busy", 60, entity="c1"), part("app.cpu_busy", 30, entity="c2"))],
        [usual(31, LedgerPart("app.cpu_busy", "web", "container", "c0", 10, 10, 10))],
        named,
    )
    assert [one.usual_ns for one in verdict.parts] == [7, 3]


def test_a_guess_is_never_the_first_culprit() -> None:
    """An inferred part whose range reaches down to nothing stands behind one that is sure."""
    guess = part("host.io_saturated", 300, low=0, inferred=True)
    verdict = judge([ledger(500, guess, part("app.blocked", 150))], [usual(20)], named)
    assert [culprit.cause for culprit in verdict.culprits] == ["app.blocked", "host.io_saturated"]
    assert not verdict.conclusive


def test_inconclusive_when_lower_bounds_do_not_carry_half() -> None:
    """Culprits whose lower bounds cover less than half of the excess do not make a conclusive verdict."""
    verdict = judge([ledger(500, part("container.cpu_throttled", 400, low=100))], [usual(50)], named)
    assert verdict.culprits
    assert not verdict.conclusive


def test_a_window_adds_up_its_requests() -> None:
    """A verdict over a window is the sum of its slow requests, and their usual's."""
    verdict = judge(
        [
            ledger(200, part("app.cpu_busy", 190), trace_id="t1"),
            ledger(300, part("app.cpu_busy", 290), trace_id="t2"),
        ],
        [usual(50, part("app.cpu_busy", 40)), usual(60, part("app.cpu_busy", 50))],
        named,
        window=True,
        received=10,
        slow=2,
    )
    assert verdict.trace_id is None
    assert verdict.duration_ns == 500 * MS
    assert verdict.usual_ns == 110 * MS
    assert verdict.parts[0].excess_ns == 390 * MS
    assert verdict.examples == ["t2", "t1"]
    assert (verdict.requests, verdict.slow) == (10, 2)


def test_a_host_that_two_services_waited_for_is_one_culprit() -> None:
    """A culprit is a cause and an entity, however many services lost time to it, and small losses add up."""
    behind = [
        replace(part("host.cpu_contended", lost, entity="h1"), service=service)
        for lost, service in ((120, "web"), (90, "stock"), (9, "prices"))
    ]
    verdict = judge([ledger(300, *behind, part("app.cpu_busy", 60))], [usual(50, part("app.cpu_busy", 50))], named)
    (culprit,) = verdict.culprits
    assert (culprit.entity.id, culprit.without_ns) == ("h1", (300 - 219) * MS)
    assert culprit.share_of_excess == 0.876
    assert len(verdict.parts) == 4


def test_shares_of_culprits_never_exceed_the_whole() -> None:
    """Where one part took less time than usual, the others exceed the excess: shares are of what was added."""
    verdict = judge(
        [ledger(200, part("container.cpu_throttled", 90), part("dependency.slow", 80, entity="db:1"))],
        [usual(100, part("dependency.slow", 40, entity="db:1"), part("app.cpu_busy", 60))],
        named,
    )
    assert [one.share_of_excess for one in verdict.culprits] == [0.5625, 0.25]
    assert [one.without_ns for one in verdict.culprits] == [110 * MS, 160 * MS]
    assert sum(one.share_of_excess for one in verdict.culprits) <= 1


def test_a_window_says_how_many_requests_it_sums() -> None:
    """Slow requests without a usual are counted and not summed: averages are over those that are."""
    ledgers = [ledger(200, part("app.cpu_busy", 190)), ledger(900, part("app.cpu_busy", 890))]
    verdict = judge(ledgers, [usual(50, part("app.cpu_busy", 40)), None], named, window=True, received=9, slow=2)
    assert (verdict.slow, verdict.judged, verdict.duration_ns) == (2, 1, 200 * MS)


@pytest.mark.parametrize(
    ("system", "kind", "statement", "shown", "advice"),
    [
        ("postgresql", "database", "SELECT * FROM t WHERE id = 7", "SELECT * FROM t WHERE id = ?", "EXPLAIN"),
        ("redis", "cache", "GET session:7", "GET ?", "SLOWLOG"),
        ("kafka", "message broker", "", "", "broker"),
        ("", "http service", "", "", "layerline run"),
    ],
)
def test_a_dependency_is_named_and_treated_as_what_it_is(
    system: str, kind: str, statement: str, shown: str, advice: str
) -> None:
    """`postgresql at db:1`, with the statement, masked, and advice for a database; its id stays its address."""
    said = {"dependency": system, "dependency_type": kind, "statement": statement, "because": "it was"}
    slow = part("dependency.slow", 200, entity="db:1", **said)
    verdict = judge([ledger(300, slow)], [usual(50, part("dependency.slow", 20, entity="db:1"))], named)
    (shown_part,) = verdict.parts
    assert shown_part.entity == Entity("service", "db:1", f"{system} at db:1" if system else "db:1")
    assert verdict.culprits[0].entity == shown_part.entity
    assert shown_part.because == (f"it was; the statement: {shown}" if shown else "it was")
    assert advice in shown_part.try_


def test_neighbours_are_named_worst_first_with_shares() -> None:
    """The neighbours' shares are of what ran meanwhile; those below a hundredth are left out."""
    contended = part(
        "host.cpu_contended",
        200,
        neighbours=(Ran("container", "a", 100), Ran("container", "b", 299), Ran("container", "z", 1)),
    )
    verdict = judge([ledger(300, contended)], [None], named)
    assert [(one.entity.id, one.share) for one in verdict.parts[0].by] == [("b", 0.7475), ("a", 0.25)]


def test_the_weakest_join_is_told() -> None:
    """A window's join is that of its least surely tied request."""
    sure = replace(ledger(600), join=Join("container.id", 1.0, 0))
    unsure = replace(ledger(600), join=Join("container.id", 0.9, 0))
    assert judge([sure, unsure], [None, None], named, window=True).join.confidence == 0.9


@pytest.mark.parametrize(
    ("duration", "usual_ms", "expected"),
    [(500, None, True), (499, None, False), (121, 60, True), (120, 60, False), (59, 10, False), (60, 10, True)],
)
def test_slow(duration: int, usual_ms: int | None, expected: bool) -> None:
    """Slow is longer than twice the usual and by 50 ms; without a usual, half a second."""
    assert is_slow(duration * MS, None if usual_ms is None else usual_ms * MS, 500 * MS) is expected


def named(kind: str, identity: str) -> Entity:
    return Entity(kind, identity, identity)
