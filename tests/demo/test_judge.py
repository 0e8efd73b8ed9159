"""Fault arithmetic: when a verdict counts as right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demo.demo_stories import MS, chapter, part, responses, verdict
from layerline_api.demo.judge import judge
from layerline_api.demo.story import Chapter


def test_injected_is_the_difference_of_the_medians() -> None:
    """Injected is what the client measured: the median with the fault less the median without it."""
    told = Chapter(chapter().fault, None, None, responses(50, 51, 52, 900), responses(340, 350, 360, 9_000, 1))
    assert told.injected_ns == round((350 - 51.5) * MS)


def test_a_constant_goes_before_the_stopwatch() -> None:
    """A fault with milliseconds of its own is held against these, not against what the client measured."""
    told = chapter(constant_ms=250)
    assert (told.measured_ns, told.injected_ns) == (300 * MS, 250 * MS)


def test_the_right_cause_with_the_right_milliseconds_is_ok() -> None:
    """Each request blames the injected cause first, with about the injected time and a narrow range."""
    judgement = judge(chapter(), [verdict(part(excess_ms=290, low_ms=280, high_ms=300))] * 5)
    assert judgement.ok
    assert (judgement.cause, judgement.agreeing, judgement.requests) == ("container.cpu_throttled", 5, 5)
    assert (judgement.blamed_ns, judgement.low_ns, judgement.high_ns) == (290 * MS, 280 * MS, 300 * MS)


def test_the_usual_is_taken_off_the_range() -> None:
    """Blamed is an excess, so its bounds are bounds of the excess, and never below zero."""
    judgement = judge(chapter(), [verdict(part(excess_ms=300, usual_ms=40, low_ms=20, high_ms=380))] * 5)
    assert (judgement.low_ns, judgement.high_ns) == (0, 340 * MS)


@pytest.mark.parametrize(
    ("verdicts", "wrong"),
    [
        ([verdict(part("app.cpu_busy"))] * 5, "first culprit in 0 of 5 requests"),
        ([verdict(part(service="web"))] * 5, "first culprit in 0 of 5 requests"),
        ([verdict(part(excess_ms=239))] * 5, "blamed 239 ms for 300 ms"),
        ([verdict(part(excess_ms=361))] * 5, "blamed 361 ms for 300 ms"),
        ([verdict(part(low_ms=200, high_ms=291))] * 5, "range 91 ms wide"),
        ([verdict(part())] * 4, "1 of 5 requests are unknown"),
        ([verdict()] * 5, "first culprit in 0 of 5 requests"),
        ([], "5 of 5 requests are unknown"),
    ],
)
def test_what_is_wrong_is_said(verdicts: list, wrong: str) -> None:
    """Another cause, another service, too few or too many milliseconds, a wide range or a lost request are not ok."""
    judgement = judge(chapter(), verdicts)
    assert not judgement.ok
    assert wrong in judgement.wrong


def test_one_disturbed_request_in_five_is_forgiven() -> None:
    """Four fifths of the requests must agree: a machine does other things too."""
    judgement = judge(chapter(), [verdict(part())] * 4 + [verdict(part("host.cpu_contended"), part())])
    assert judgement.ok
    assert judgement.agreeing == 4


def test_the_entity_must_be_the_one_that_was_hurt() -> None:
    """The right cause at another container is a wrong verdict."""
    assert judge(chapter(entity="c1"), [verdict(part())] * 5).ok
    assert not judge(chapter(entity="c2"), [verdict(part())] * 5).ok


def test_the_neighbour_must_be_named_first() -> None:
    """A contended part that names another neighbour, or none, is a wrong verdict."""
    contended = chapter(cause="host.cpu_contended", neighbour="n1")
    assert judge(contended, [verdict(part("host.cpu_contended", by=("n1", "n2")))] * 5).ok
    assert not judge(contended, [verdict(part("host.cpu_contended", by=("n2", "n1")))] * 5).ok
    assert not judge(contended, [verdict(part("host.cpu_contended"))] * 5).ok


def test_the_example_is_a_typical_request() -> None:
    """The request that is shown at the end is the one whose blame is nearest to the median."""
    blames = {"aa": 300, "bb": 295, "cc": 500, "dd": 100, "ee": 290}
    judgement = judge(chapter(), [verdict(part(excess_ms=ms), trace_id=trace) for trace, ms in blames.items()])
    assert judgement.example == "bb"


def test_a_busy_machine_is_named_where_the_verdict_is_not_ok() -> None:
    """Other work on the measured core is said beside what is wrong, and not held against a verdict that is right."""
    disturbed = replace(chapter(), others=0.8)
    said = "other work used 80% of this machine meanwhile"
    assert said in judge(disturbed, [verdict(part(excess_ms=100))] * 5).wrong
    assert judge(disturbed, [verdict(part())] * 5).ok
