"""One fault after another without healthy time between: two incidents, each with its own cause and times."""

from __future__ import annotations

import random

import pytest
from shop import (
    During,
    Request,
    S,
    carts,
    crowded_out,
    found,
    happened,
    second,
    serve,
    slow_code,
    slow_prices,
    throttled,
)
from spans import a_while_ago, container_id

from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.detect import Stretch
from layerline_correlator.incidents.signs import Lasted, Sign
from layerline_correlator.incidents.takeover import divided, takeovers

pytestmark = pytest.mark.long

SLOW = Sign("slow")
QUOTA = Sign("cause", "container.cpu_throttled", "stock")
CODE = Sign("cause", "app.cpu_busy", "web")
PRICES = Sign("cause", "dependency.slow", "stock", "prices:8000")


def lasted(sign: Sign, from_s: float, to_s: float | None) -> Lasted:
    return sign, Stretch(round(from_s * S), round((from_s + 30) * S), None if to_s is None else round(to_s * S))


def pairs(until_s: float, *seen: Lasted) -> list[tuple[Sign, Sign]]:
    return [(one.over, one.began) for one in takeovers(seen, round(until_s * S))]


# ---- when each sign was seen, drawn


def test_a_cause_that_follows_another_has_taken_over_after_a_minute() -> None:
    """The first is over, the second goes on for a minute: sooner, it may be what the first left behind."""
    seen = (lasted(SLOW, 0, None), lasted(QUOTA, 0, 70), lasted(CODE, 68, None))
    assert pairs(129, *seen) == []
    assert pairs(130, *seen) == [(QUOTA, CODE)]


def test_what_comes_long_after_has_not_taken_over() -> None:
    """Where something else was wrong for more than a minute between two causes, neither follows the other."""
    assert pairs(900, lasted(SLOW, 0, None), lasted(QUOTA, 0, 70), lasted(CODE, 131, None)) == []
    assert pairs(900, lasted(SLOW, 0, None), lasted(QUOTA, 0, 70), lasted(CODE, 130, None)) == [(QUOTA, CODE)]


def test_what_the_first_left_behind_is_its_own() -> None:
    """A cause that ends less than a minute after the one before it has not taken over."""
    assert pairs(900, lasted(QUOTA, 0, 70), lasted(CODE, 68, 120)) == []


def test_what_is_shared_for_most_of_its_time_is_one() -> None:
    """Two causes that share half of the time of either, or more, are one fault, however long one of them lasts."""
    assert pairs(900, lasted(QUOTA, 0, 100), lasted(CODE, 40, 300)) == []
    assert pairs(900, lasted(QUOTA, 0, 600), lasted(CODE, 500, 690)) == []
    assert pairs(900, lasted(QUOTA, 0, 100), lasted(CODE, 60, 300)) == [(QUOTA, CODE)]


def test_a_cause_that_is_gone_for_less_than_a_minute_was_never_away() -> None:
    """Two causes that take turns every half a minute are one fault; with two minutes each, they follow one another."""
    turns = [lasted(QUOTA if n % 2 else CODE, 30 * n, 30 * n + 30) for n in range(8)]
    assert pairs(900, *turns) == []
    assert pairs(900, lasted(CODE, 0, 120), lasted(QUOTA, 120, 240), lasted(CODE, 240, 360)) != []


def test_what_goes_on_through_a_takeover_is_on_both_sides() -> None:
    """The first cause is before, the second after, and slow requests are on either side as long as each lasts."""
    seen = [lasted(SLOW, 0, None), lasted(QUOTA, 0, 70), lasted(CODE, 68, None)]
    before, after = divided(seen, 70 * S, 68 * S)
    assert [(sign, stretch.from_ns // S, stretch.to_ns) for sign, stretch in before] == [
        (SLOW, 0, 70 * S),
        (QUOTA, 0, 70 * S),
    ]
    assert [(sign, stretch.from_ns // S, stretch.to_ns) for sign, stretch in after] == [
        (SLOW, 68, None),
        (CODE, 68, None),
    ]


# ---- in the shop


def test_three_faults_back_to_back_are_three_incidents(correlator: Correlator) -> None:
    """Quota, then slow code, then a neighbour, without healthy time between: each with its own times and signs."""

    def neighbour(request: Request, draw: random.Random) -> None:
        crowded_out(request, draw)
        request.web_cpu += 45  # and a little of it in another layer, in the same requests

    def deployed(request: Request, at_s: float, draw: random.Random) -> None:
        request.web_version = "1.5" if 430 <= at_s < 550 else "1.4"

    zero_ns = a_while_ago(900)
    faults = (During(330, 430, throttled), During(430, 550, slow_code), During(550, 660, neighbour))
    events = [happened("stock-1", "container.update", zero_ns + 329 * S)]
    serve(correlator, carts(zero_ns, 760, *faults, rate=2.0, change=deployed), [], events)
    incidents = found(correlator)
    assert [one["cause"] for one in incidents] == ["container.cpu_throttled", "app.cpu_busy", "host.cpu_contended"]
    assert [one["entity"]["type"] for one in incidents] == ["container", "container", "host"]
    assert [one["entity"]["id"] for one in incidents[:2]] == [container_id("stock-1"), container_id("web-1")]
    for one, began_s, over_s in zip(incidents, (330, 430, 550), (430, 550, 660), strict=True):
        assert abs(second(one, "start", zero_ns) - began_s) <= 10
        assert abs(second(one, "end", zero_ns) - over_s) <= 10
        assert one["first_signs"][0]["cause"] == one["cause"]
        assert one["verdict"]["culprits"][0]["share_of_excess"] > 0.8
    assert [one["services"] for one in incidents] == [["stock", "web"], ["web"], ["stock", "web"]]
    changes = [next(change for change in one["changes"] if change["likely"]) for one in incidents[:2]]
    assert [(change["kind"], change["entity"]["id"]) for change in changes] == [
        ("container.update", container_id("stock-1")),
        ("version", container_id("web-1")),
    ]
    assert not [change for change in incidents[2]["changes"] if change["likely"]]
    assert len({one["id"] for one in incidents}) == 3


def test_an_open_incident_is_split_when_the_next_fault_has_taken_over(correlator: Correlator) -> None:
    """As it happens, pass by pass: one open incident at first; then it is over under its id, and another is open."""
    zero_ns = a_while_ago(900)
    faults = (During(330, 430, throttled), During(422, 900, slow_prices))
    everything = list(carts(zero_ns, 640, *faults, rate=2.0))
    told = []
    for from_s, to_s in ((0, 420), (420, 450), (450, 480), (480, 510), (510, 540), (540, 570), (570, 640)):
        serve(correlator, (rows for rows in everything if from_s * S <= rows[0][1].start_ns - zero_ns < to_s * S))
        told.append(found(correlator))
    assert [one["cause"] for one in told[0]] == ["container.cpu_throttled"]
    first, then = told[-1]
    assert first["id"] == told[0][0]["id"]
    assert (first["cause"], first["state"]) == ("container.cpu_throttled", "ended")
    assert (then["cause"], then["state"]) == ("dependency.slow", "open")
    assert abs(second(first, "start", zero_ns) - 330) <= 10
    assert abs(second(first, "end", zero_ns) - 430) <= 10
    assert abs(second(then, "start", zero_ns) - 422) <= 10
    assert then["entity"]["id"] == "prices:8000"
    assert then["first_signs"][0]["cause"] == "dependency.slow"
    # Once split they stay so, and each is told under one id from then on.
    ids = [[one["id"] for one in each] for each in told]
    assert all(each in ([first["id"]], [first["id"], then["id"]]) for each in ids)
    assert len(then["hit"]) == len({(one["service"], one["operation"]) for one in then["hit"]})


def test_a_weaker_fault_that_overlaps_a_strong_one_keeps_its_own_cause(correlator: Correlator) -> None:
    """Where two overlap a little, each is judged by the time that it had to itself, however strong the other is."""

    def very_slow(request: Request, draw: random.Random) -> None:
        request.prices += draw.uniform(2300, 2700)

    zero_ns = a_while_ago(900)
    faults = (During(330, 430, throttled), During(390, 560, very_slow))
    serve(correlator, carts(zero_ns, 660, *faults, rate=2.0))
    incidents = found(correlator)
    assert [one["cause"] for one in incidents] == ["container.cpu_throttled", "dependency.slow"]
    assert abs(second(incidents[0], "end", zero_ns) - 430) <= 10
    assert abs(second(incidents[1], "start", zero_ns) - 390) <= 10


def test_the_same_cause_in_another_service_is_another_fault(correlator: Correlator) -> None:
    """Web's code is slow, then stock's: two incidents; what web still cost when the second began is no sign of that."""

    def slow_stock(request: Request, draw: random.Random) -> None:
        request.stock_cpu += draw.uniform(140, 180)

    zero_ns = a_while_ago(900)
    faults = (During(330, 430, slow_code), During(410, 560, slow_stock))
    serve(correlator, carts(zero_ns, 660, *faults, rate=2.0))
    incidents = found(correlator)
    assert [(one["cause"], one["entity"]["id"]) for one in incidents] == [
        ("app.cpu_busy", container_id("web-1")),
        ("app.cpu_busy", container_id("stock-1")),
    ]
    assert incidents[1]["first_signs"][0]["entity"]["id"] == container_id("stock-1")
    assert incidents[1]["first_signs"][0]["offset_ns"] < 5 * S


def test_what_follows_a_fault_of_more_than_an_hour_has_its_usual_still(correlator: Correlator) -> None:
    """What is usual is that of the last healthy hour, also where the fault before has taken up all of the last one."""
    zero_ns = a_while_ago(6300)
    serve(correlator, carts(zero_ns, 6000, During(1200, 5200, throttled), During(5190, 5700, slow_prices), rate=0.3))
    _, then = found(correlator)
    assert (then["cause"], then["verdict"]["ranked_by"]) == ("dependency.slow", "excess")
    assert then["verdict"]["usual_ns"] < 100_000_000 * then["verdict"]["slow"]
    assert all(0 < hit["usual_p95_ns"] < 400_000_000 for hit in then["hit"])


def test_two_faults_that_share_most_of_their_time_are_one_incident(correlator: Correlator) -> None:
    """The one that cost most is its cause, the other stands beside it."""
    zero_ns = a_while_ago(900)
    faults = (During(330, 450, throttled), During(350, 570, slow_prices))
    serve(correlator, carts(zero_ns, 670, *faults, rate=2.0))
    (incident,) = found(correlator)
    assert {one["cause"] for one in incident["verdict"]["culprits"]} == {"container.cpu_throttled", "dependency.slow"}
    assert abs(second(incident, "end", zero_ns) - 570) <= 10


@pytest.mark.parametrize("turn_s", [5, 30])
def test_causes_that_take_turns_are_one_incident(correlator: Correlator, turn_s: int) -> None:
    """A ranking that flickers does not split an incident."""

    def flickering(request: Request, at_s: float, draw: random.Random) -> None:
        if 330 <= at_s < 570:
            (throttled, slow_code)[int(at_s / turn_s) % 2](request, draw)

    zero_ns = a_while_ago(900)
    serve(correlator, carts(zero_ns, 670, rate=2.0, change=flickering))
    (incident,) = found(correlator)
    assert abs(second(incident, "start", zero_ns) - 330) <= 10
    assert abs(second(incident, "end", zero_ns) - 570) <= 10


def test_a_replica_that_takes_over_is_the_same_fault(correlator: Correlator) -> None:
    """Another container of the same service, held back by the same limit, is the same culprit: one incident."""

    def other_replica(request: Request, at_s: float, draw: random.Random) -> None:
        if 330 <= at_s < 550:
            throttled(request, draw)
        if at_s >= 440:
            request.stock = {"container": "stock-2", "pid": 77}

    zero_ns = a_while_ago(900)
    serve(correlator, carts(zero_ns, 650, rate=2.0, change=other_replica))
    (incident,) = found(correlator)
    assert incident["cause"] == "container.cpu_throttled"
