"""When trouble begins and ends, decided on counts alone: found when it is there, silent when it is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerline_correlator.incidents.detect import (
    STEP_NS,
    Seen,
    Step,
    first_hit_ns,
    last_hit_ns,
    stretches,
    usual_ratio,
)
from profiles import examples

S = 10**9


def steps_of(requests: list[Seen]) -> list[Step]:
    """The requests counted in steps."""
    counts: dict[int, list[int]] = {}
    for one in requests:
        count = counts.setdefault(one.start_ns // STEP_NS * STEP_NS, [0, 0])
        count[0] += 1
        count[1] += one.hit
    return [Step(from_ns, *counts[from_ns]) for from_ns in sorted(counts)]


def traffic(draw: random.Random, seconds: int, rate: float, ratio: float, bursts: bool = False) -> list[Seen]:
    """Requests of which a share is slow; with ``bursts``, all of them are for some seconds now and then."""
    found, at_s, hiccup_until_s = [], draw.expovariate(rate), -1.0
    next_hiccup_s = draw.expovariate(1 / 240)
    while at_s < seconds:
        if bursts and at_s >= next_hiccup_s:
            hiccup_until_s = at_s + draw.uniform(0.5, 8)
            next_hiccup_s = hiccup_until_s + 30 + draw.expovariate(1 / 240)
        start_ns = round(at_s * S)
        found.append(Seen(start_ns, start_ns + S // 10, draw.random() < ratio or at_s < hiccup_until_s))
        at_s += draw.expovariate(rate)
    return found


@pytest.mark.parametrize("rate", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.1, 0.3])
def test_hours_of_heavy_tails_and_hiccups_raise_nothing(rate: float, ratio: float) -> None:
    """Six hours in which some requests are always slow, and all of them for seconds now and then, raise nothing."""
    draw = random.Random(f"{rate} {ratio}")  # noqa: S311 - a reproducible test
    requests = traffic(draw, 6 * 3600, rate, ratio, bursts=True)
    before, after = requests[: len(requests) // 6], requests[len(requests) // 6 :]
    usual = usual_ratio(sum(one.hit for one in before), len(before))
    assert stretches(steps_of(after), usual) == []


def test_a_part_of_the_requests_is_enough_within_half_a_minute() -> None:
    """An operation that hardly ever shows a sign, and then does in three of twenty requests: noticed after 20 s, while
    a hiccup of 15 s that hits as many is nothing."""
    usual = usual_ratio(4, 1_400)
    healthy = [Step(place * STEP_NS, 20, 0) for place in range(20)]
    part = [Step((20 + place) * STEP_NS, 20, 3) for place in range(12)]
    (found,) = stretches([*healthy, *part], usual)
    assert (found.from_ns, found.noticed_ns) == (20 * STEP_NS, 24 * STEP_NS)
    assert stretches([*healthy, *part[:3], *(Step((23 + place) * STEP_NS, 20, 0) for place in range(12))], usual) == []


@settings(max_examples=examples(20, 400))
@given(
    seed=st.integers(0, 10**6),
    rate=st.floats(2, 20),
    ratio=st.floats(0, 0.08),
    share=st.floats(0.6, 1),
    begin_s=st.integers(100, 400),
    lasts_s=st.integers(60, 300),
)
def test_a_fault_is_found_with_its_start_and_its_end(
    seed: int, rate: float, ratio: float, share: float, begin_s: int, lasts_s: int
) -> None:
    """Most requests slow from a known time until another: one stretch, its start and end within ten seconds of both."""
    draw = random.Random(seed)  # noqa: S311 - a reproducible test
    requests = [
        Seen(one.start_ns, one.end_ns, draw.random() < share)
        if begin_s * S <= one.start_ns < (begin_s + lasts_s) * S
        else one
        for one in traffic(draw, begin_s + lasts_s + 200, rate, ratio)
    ]
    usual = usual_ratio(round(ratio * 500), 500)
    (found,) = stretches(steps_of(requests), usual)
    assert found.to_ns is not None
    around_start = [one for one in requests if found.from_ns - 2 * STEP_NS <= one.start_ns < found.noticed_ns]
    around_end = [one for one in requests if abs(one.start_ns - found.to_ns) < 3 * STEP_NS]
    start_ns, end_ns = first_hit_ns(around_start, usual), last_hit_ns(around_end, usual)
    assert start_ns is not None
    assert end_ns is not None
    assert abs(start_ns - begin_s * S) <= 10 * S
    assert abs(end_ns - (begin_s + lasts_s) * S) <= 10 * S


def test_a_burst_however_large_is_no_trouble() -> None:
    """Ten seconds or a little more in which all of a thousand requests are slow are a hiccup: four steps must agree."""
    steps = [Step(n * STEP_NS, 1000, 1000 if 5 <= n <= 7 else 0) for n in range(20)]
    assert stretches(steps, 0.02) == []


@pytest.mark.parametrize(("share", "within_s"), [(0.9, 20), (0.3, 30), (0.15, 60)])
def test_trouble_is_found_soon(share: float, within_s: int) -> None:
    """Of ten requests a second nearly all, some or few are slow: found within 20 s, half a minute, a minute."""
    for seed in range(20):
        draw = random.Random(seed)  # noqa: S311 - a reproducible test
        requests = [
            Seen(one.start_ns, one.end_ns, one.start_ns >= 100 * S and draw.random() < share)
            for one in traffic(draw, 200, 10, 0.0)
        ]
        (found,) = stretches(steps_of(requests), 0.02)
        assert found.noticed_ns <= (100 + within_s) * S


def test_a_part_of_a_mixed_operation_is_enough() -> None:
    """Eight per cent of the requests where hardly any is usual: trouble, but it takes more evidence."""
    few = [Step(n * STEP_NS, 50, 4 if n >= 10 else 0) for n in range(30)]
    (found,) = stretches(few, 0.02)
    assert found.from_ns == 10 * STEP_NS
    assert found.noticed_ns >= 15 * STEP_NS
    assert stretches([Step(n * STEP_NS, 50, 2) for n in range(100)], 0.02) == []


def test_a_rarely_used_operation_is_watched_too() -> None:
    """One request a minute: the fourth slow one in a row is trouble, that began with the first."""
    steps = [Step(n * 12 * STEP_NS, 1, 1 if n >= 30 else 0) for n in range(34)]
    (found,) = stretches(steps, 0.02)
    assert found.from_ns == 30 * 12 * STEP_NS
    assert stretches(steps[:-1], 0.02) == []
    assert found.to_ns is None


def test_what_is_usual_most_of_the_time_is_no_sign() -> None:
    """Where two thirds of the requests are always slow, seeing slow ones says nothing."""
    assert stretches([Step(n * STEP_NS, 10, 10) for n in range(20)], usual_ratio(660, 1000)) == []


def test_known_trouble_is_followed_until_its_end() -> None:
    """Trouble known to go on ends with its last slow step, however long ago it began."""
    steps = [Step(n * STEP_NS, 20, 18 if n < 6 else 0) for n in range(12)]
    (found,) = stretches(steps, 0.02, open_from_ns=0)
    assert found.to_ns == 6 * STEP_NS


def test_what_was_before_known_trouble_says_nothing_of_its_end() -> None:
    """Calm steps from before the trouble do not end it, though the few since would not be enough to find it anew."""
    steps = [Step(n * STEP_NS, 20, 18 if n >= 30 else 0) for n in range(32)]
    (found,) = stretches(steps, 0.02, open_from_ns=30 * STEP_NS + 3 * S)
    assert found.to_ns is None


def test_a_pause_in_traffic_is_no_recovery() -> None:
    """Steps without requests say neither that trouble is over nor that it goes on."""
    steps = [Step(n * STEP_NS, 20, 20) for n in (*range(5), *range(60, 65))]
    (found,) = stretches(steps, 0.02)
    assert found.to_ns is None
