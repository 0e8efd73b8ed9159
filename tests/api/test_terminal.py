"""A verdict for people: 80 columns, whatever the names; it adds up as shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_fake import CAUSES, MS, STOCK, part, verdict, window_verdict
from hypothesis import given
from hypothesis import strategies as some
from rich.cells import cell_len

from layerline_api.terminal.text import bar
from layerline_api.terminal.verdicts import request, window
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.verdicts import tell
from layerline_correlator.entity import Entity
from layerline_correlator.plain import plain
from layerline_correlator.verdict.model import (
    Against,
    Blind,
    CauseChange,
    Change,
    Culprit,
    Join,
    Neighbour,
    Part,
    Standing,
    Verdict,
)

GOLDEN = Path(__file__).parent / "golden"


def shown(one: Verdict, causes: list[dict[str, Any]] = CAUSES) -> str:
    return "\n".join(line.plain for line in request(tell(plain(one), causes))) + "\n"


def shown_window(*many: Verdict) -> str:
    return "\n".join(line.plain for line in window([tell(plain(one), CAUSES) for one in many])) + "\n"


NO_USUAL = replace(
    verdict(),
    usual_ns=None,
    excess_ns=None,
    ranked_by="lost",
    unexplained_usual_ns=None,
    parts=[
        replace(one, usual_ns=None, usual_low_ns=None, usual_high_ns=None, excess_ns=None) for one in verdict().parts
    ],
    culprits=[Culprit("container.cpu_throttled", STOCK, 400 / 700, 300 * MS)],
)
INCONCLUSIVE = replace(
    verdict(),
    parts=[part("app.cpu_busy", 160.0, 140.0)],
    unexplained_ns=540 * MS,
    unexplained_usual_ns=10 * MS,
    culprits=[],
    conclusive=False,
    settled=False,
    join=Join(None, 0.0, 0),
)
PAYMENT = Entity("service", "payment:50051", "payment")
RATES = Entity("container", "7" * 64, "rates-1")
BEFORE = Against("2026-11-23T09:45:00Z", "2026-11-23T10:00:00Z", 890, 0, 118 * MS, 180 * MS)
CHANGED = replace(
    window_verdict(),
    requests=900,
    slow=45,
    errors=0,
    ranked_by="change",
    conclusive=False,
    against=BEFORE,
    culprits=[
        Culprit(
            *("unexplained", PAYMENT, 0.9, 300 * MS, 2 * MS, 27 * MS),
            [
                CauseChange("unexplained", Entity("container", "8" * 64, "payment-1"), MS, 18 * MS),
                CauseChange("network.transit_slow", PAYMENT, MS, 9 * MS),
            ],
        ),
        Culprit(
            "app.cpu_busy", RATES, 0.1, 600 * MS, 80 * MS, 3 * MS, [CauseChange("app.cpu_busy", RATES, 80 * MS, 3 * MS)]
        ),
    ],
    standing=[Standing("app.cpu_busy", STOCK, 60 * MS, 60 * MS, 0.41)],
    change=Change(
        *("changed", "longer", 1.0, 0.989, 120 * MS, 760 * MS, 148 * MS, 118 * MS, 30 * MS, ["payment 1.5"]),
    ),
)
QUIET = replace(
    CHANGED,
    culprits=[],
    change=Change("nothing", "as before", 1.0, 0.989, 120 * MS, 180 * MS, 119 * MS, 118 * MS, MS, []),
)
WIDE = replace(
    verdict(),
    service="the-service-with-the-very-long-name-that-somebody-generated-from-a-template",
    operation="GET /" + "漢字" * 60,
    parts=[part(entity=Entity("container", "1" * 64, "x" * 300)), part("app.cpu_busy", 300.0, 150.0)],
    unexplained_ns=0,
    culprits=[Culprit("container.cpu_throttled", Entity("container", "1" * 64, "x" * 300), 0.7, 300 * MS)],
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("request", shown(verdict())),
        ("no_usual", shown(NO_USUAL)),
        ("inconclusive", shown(INCONCLUSIVE)),
        ("wide", shown(WIDE)),
        ("window", shown_window(window_verdict(), INCONCLUSIVE)),
        ("changed", shown_window(CHANGED, *(replace(QUIET, operation=f"GET /{name}") for name in ("a", "b")))),
        ("quiet", shown_window(QUIET)),
    ],
)
def test_as_it_was_approved(name: str, text: str) -> None:
    """What people see is what was looked at and found good (tests/api/golden), in 80 columns, no blanks at ends."""
    path = GOLDEN / f"{name}.txt"
    assert text == path.read_text(encoding="utf-8")
    for line in text.splitlines():
        assert cell_len(line) <= 80
        assert line == line.rstrip()


names = some.text(max_size=120) | some.text(alphabet="漢é\u202e\x1b[]31m \n\t", max_size=120)
amounts = some.integers(0, 10**12)
entities = some.builds(Entity, some.sampled_from(["container", "host", "process", "service"]), names, names)
parts = some.builds(
    Part,
    cause=names,
    layer=names,
    service=names,
    entity=entities,
    lost_ns=amounts,
    low_ns=amounts,
    high_ns=amounts,
    usual_ns=amounts,
    excess_ns=some.integers(-(10**12), 10**12),
    evidence=some.sampled_from(["measured", "inferred"]),
    by=some.lists(some.builds(Neighbour, entities, some.floats(0, 1)), max_size=5),
    where=some.none() | some.fixed_dictionaries({"function": names, "file": names, "line": amounts}),
    because=names,
    try_=names,
)


@some.composite
def verdicts(draw: some.DrawFn) -> Verdict:
    """A verdict that adds up and is otherwise anything."""
    ledger = draw(some.lists(parts, max_size=8))
    unexplained_ns = draw(amounts)
    duration_ns = sum(one.lost_ns for one in ledger) + unexplained_ns
    usual_ns = draw(some.none() | amounts)
    blamed = [one for one in ledger if draw(some.booleans())]
    return replace(
        verdict(),
        service=draw(names),
        operation=draw(names),
        start=draw(names),
        duration_ns=duration_ns,
        usual_ns=usual_ns,
        excess_ns=None if usual_ns is None else duration_ns - usual_ns,
        ranked_by="lost" if usual_ns is None else "excess",
        parts=ledger,
        unexplained_ns=unexplained_ns,
        blind=draw(some.lists(some.builds(Blind, names, names, names), max_size=3)),
        culprits=[Culprit(one.cause, one.entity, 0.5, one.lost_ns) for one in blamed],
        conclusive=draw(some.booleans()),
        settled=draw(some.booleans()),
        join=Join(draw(some.none() | names), 0.5, draw(amounts)),
        requests=(slow := draw(some.none() | some.integers(1, 1000))),
        slow=slow,
        examples=None if slow is None else draw(some.lists(names, max_size=5)),
    )


@given(verdicts())
def test_no_line_is_wider_than_a_terminal(one: Verdict) -> None:
    """Whatever services, containers and routes are called: 80 columns, one line each, no control characters."""
    for text in (shown(one), shown_window(one)):
        for line in text.split("\n"):
            assert cell_len(line) <= 80
            assert line.isprintable()


@given(verdicts())
def test_the_ledger_adds_up_as_it_is_shown(one: Verdict) -> None:
    """The rounded amounts sum to the rounded total, to the last digit."""
    story = tell(plain(one), CAUSES)
    total = float(story.total.lost.replace(",", ""))
    assert sum(float(line.lost.replace(",", "")) for line in story.lines) == pytest.approx(total, abs=1e-4, rel=1e-9)
    assert story.lines[-1].title == "unexplained"


def test_the_answer_names_cause_entity_and_share() -> None:
    """The first sentence says who, what, how long and how much of it."""
    assert tell(plain(verdict()), CAUSES).answer[0] == (
        "Mostly container stock-1: held back by its CPU limit, 400 ms (73 % of the excess)."
    )


def test_a_cause_without_documentation_is_shown_by_its_name() -> None:
    """A server with more causes than it documents costs the title, not the answer."""
    assert "container.cpu_throttled" in shown(verdict(), [])


def test_what_is_blamed_was_measured() -> None:
    """A cause that is blamed for sure is not listed as not measured, though a reading that names who did it was not."""
    blind = [Blind("container.cpu_throttled", "why", "do this"), Blind("host.io_saturated", "why not", "do that")]
    text = shown(replace(verdict(), blind=blind))
    assert "do this" not in text
    assert "do that" in text
    assert "do this" in shown(replace(verdict(), blind=blind, conclusive=False))


def test_differences_and_percentages_are_those_that_a_reader_finds() -> None:
    """379 ms less 55 ms are 324 ms, whatever the rounding, and shares of one whole are at most 100 % together."""
    odd = replace(verdict(), duration_ns=378_600_000, usual_ns=55_400_000, excess_ns=323_200_000, unexplained_ns=0)
    odd = replace(odd, parts=[part("container.cpu_throttled", 378.6, 55.4)], unexplained_usual_ns=0)
    assert tell(plain(odd), CAUSES).took == "took 379 ms, usually 55 ms: 324 ms too slow"
    many = [part(f"app.{number}", 1_000 / 6, 0.0) for number in range(6)]
    shared = [Culprit(one.cause, one.entity, 0.1666, one.lost_ns) for one in many]
    six = replace(
        verdict(), parts=many, culprits=shared, duration_ns=1_000 * MS, usual_ns=0, excess_ns=1_000 * MS,
        unexplained_ns=0, unexplained_usual_ns=0,
    )  # fmt: skip
    answer = " ".join(tell(plain(six), CAUSES).answer)
    assert sum(int(share) for share in re.findall(r"\((\d+) %", answer)) == 100


def test_not_slow_blames_nobody() -> None:
    """A request that took no longer than usual has a ledger and nothing to blame."""
    text = shown(replace(verdict(), usual_ns=700 * MS, excess_ns=0, culprits=[]))
    assert "not slower than usual" in text
    assert "Mostly" not in text


@pytest.mark.parametrize(
    ("amount_ns", "said"),
    [
        (0, "0 ms"), (340_000, "340 µs"), (3_400_000, "3.4 ms"), (700_000_000, "700 ms"), (2_005_000_000, "2,005 ms"),
        (12_400_000_000, "12.4 s"), (200_000_000_000, "3 min 20 s"), (-5_000_000, "5.0 ms"),
    ],
)  # fmt: skip
def test_times_as_people_say_them(amount_ns: int, said: str) -> None:
    """Three digits are enough to decide by."""
    assert human(amount_ns) == said


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a\x1b[31mb", "a�[31mb"), ("a\nb\t c", "a b c"), ("\u202egnp.exe", "�gnp.exe"), ("漢 é", "漢 é"), (None, "None")],
)
def test_names_are_cleaned(name: object, kept: str) -> None:
    """Escape sequences and direction overrides do not reach a terminal; markup is left as the text it is."""
    assert clean(name) == kept


@pytest.mark.parametrize(("share", "length"), [(0.0, 0), (1e-9, 1), (0.5, 9), (1.0, 18), (7.0, 18)])
def test_bars(share: float, length: int) -> None:
    """A bar is as long as its share; what is not nothing is seen; nothing leaves its column."""
    assert len(bar(share, 18)) == length
