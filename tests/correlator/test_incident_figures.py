"""What an incident says at one place agrees with what it says at every other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from agreement import disagreements, of_verdict, of_words
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import During, Request, carts, found, second, serve, throttled
from spans import a_while_ago

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings
from layerline_correlator.verdict.judge import Ledger, LedgerPart, Ran, Usual, judge
from profiles import examples

#: Where each operation's time goes when its code is slow.
PLACES = {
    "GET /cart": "add_up cart.py:7",
    "GET /list": "sort list.py:10",
    "GET /search": "find search.py:20",
}
FUNCTIONS = {operation: frozenset({place.split()[0]}) for operation, place in PLACES.items()}
FUNCTIONS["GET /stock"] = frozenset()
OPERATIONS = tuple(PLACES)


@pytest.fixture(scope="module")
def incidents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """A shop whose web runs outside of containers with eight workers that serve three operations.

    The code of one operation is slow, then that of another; later stock is held back, and all code is a little slower.
    """
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("workers"), group_ns=1_000_000))
    zero_ns = a_while_ago(900)

    def change(request: Request, at_s: float, draw: random.Random) -> None:
        operation = draw.choice(OPERATIONS)
        slow = {"GET /list": (330, 400), "GET /search": (430, 500)}.get(operation, (0, 0))
        if slow[0] <= at_s < slow[1]:
            request.web_cpu += draw.uniform(200, 260)
        if 650 <= at_s < 720:
            request.web_cpu += draw.uniform(50, 70)
        request.web = {"container": None, "pid": 100 + draw.randrange(8), "name": operation}
        request.web |= {"samples": [f"9 cpu R - {PLACES[operation]}"]}
        request.web_attributes = {"http.route": operation.split()[1]}

    serve(correlator, carts(zero_ns, 750, During(650, 720, throttled), rate=4.0, change=change))
    yield found(correlator), zero_ns
    correlator.close()


def test_figures_agree(incidents: tuple[list[dict[str, Any]], int]) -> None:
    """Counts, shares, names and lines of code of every incident agree, in the JSON and in words."""
    for incident in incidents[0]:
        assert disagreements(incident, FUNCTIONS) == []


def test_slow_code_of_two_operations_is_two_incidents(incidents: tuple[list[dict[str, Any]], int]) -> None:
    """The same workers serve both: that the service and the cause agree does not make one fault of two."""
    documents, zero_ns = incidents
    first, second_one, third = documents
    assert [one["operations"] for one in (first, second_one)] == [[["web", "GET /list"]], [["web", "GET /search"]]]
    assert [one["cause"] for one in (first, second_one)] == ["app.cpu_busy"] * 2
    assert abs(second(second_one, "start", zero_ns) - 430) <= 10
    assert third["cause"] == "container.cpu_throttled"
    assert {operation for _, operation in third["operations"]} == {*OPERATIONS, "GET /stock"}


def test_a_service_of_eight_workers_is_one_culprit(incidents: tuple[list[dict[str, Any]], int]) -> None:
    """Neither the verdict nor the series nor the summary has a process id; the entity is the service's processes."""
    first = incidents[0][0]
    assert first["entity"] == {"type": "process", "id": "web", "name": "web (8 workers)"}
    assert "web (8 workers) its own code computed" in first["summary"]
    processes = [one["entity"] for one in first["verdict"]["parts"] if one["entity"]["type"] == "process"]
    assert {one["id"] for one in processes} == {"web"}
    drawn = [one for one in first["excess"]["series"] if one["cause"] == "app.cpu_busy" and one["service"] == "web"]
    assert len(drawn) == 1
    (without, *_) = first["without"]
    assert without["p95_without_ns"] < without["p95_ns"] / 2


# ---- whatever the ledgers are

SERVICES, CAUSES = (
    ("web", "stock"),
    ("app.cpu_busy", "host.cpu_contended", "container.cpu_throttled", "dependency.slow"),
)
TYPES = {"app": "process", "host": "host", "container": "container", "dependency": "service"}


@st.composite
def parts(draw: st.DrawFn) -> LedgerPart:
    cause = draw(st.sampled_from(CAUSES))
    lost_ns = draw(st.integers(0, 10**9))
    number = draw(st.integers(0, 3))
    ran = tuple(Ran("process", f"gunicorn (pid {pid})", 100) for pid in range(draw(st.integers(0, 3))))
    return LedgerPart(
        cause,
        draw(st.sampled_from(SERVICES)),
        TYPES[cause.partition(".")[0]],
        f"{number}",
        lost_ns,
        draw(st.integers(0, lost_ns)),
        lost_ns,
        inferred=draw(st.booleans()),
        neighbours=ran,
    )


def distinct(drawn: list[LedgerPart]) -> tuple[LedgerPart, ...]:
    """A ledger has one part for each cause, service and entity."""
    return tuple({(one.cause, one.service, one.entity_type, one.entity_id): one for one in drawn}.values())


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[Ledger], list[Usual | None]]:
    ledgers, usuals = [], []
    for number in range(draw(st.integers(1, 5))):
        its = distinct(draw(st.lists(parts(), max_size=8)))
        unexplained_ns = draw(st.integers(0, 10**9))
        duration_ns = sum(one.lost_ns for one in its) + unexplained_ns
        ledgers.append(Ledger(f"{number}", "s", "web", "GET /", number, duration_ns, unexplained_ns, its))
        usual = distinct(draw(st.lists(parts(), max_size=8)))
        usual = tuple({one.key: one for one in usual}.values())
        rest_ns = draw(st.integers(0, 10**9))
        known = Usual(sum(one.lost_ns for one in usual) + rest_ns, tuple(replace(one, neighbours=()) for one in usual))
        usuals.append(draw(st.sampled_from([known, None])))
    return ledgers, usuals


@settings(max_examples=examples(200, 5_000))
@given(judged(), st.booleans(), st.integers(0, 9))
def test_figures_of_any_verdict_agree(drawn: tuple[list[Ledger], list[Usual | None]], window: bool, more: int) -> None:
    """Whatever the ledgers are: each culprit once, shares up to 100 %, exact sums, one entity for each service."""
    ledgers, usuals = drawn
    ledgers, usuals = (ledgers, usuals) if window else (ledgers[:1], usuals[:1])
    count = len(ledgers)
    verdict = judge(ledgers, usuals, _named, window=window, received=count + more, slow=count)
    assert [*of_verdict(plain(verdict)), *of_words(plain(verdict))] == []
    assert sum(one.lost_ns for one in verdict.parts) + verdict.unexplained_ns == verdict.duration_ns
    if verdict.usual_ns is not None:
        usual_ns = sum(one.usual_ns or 0 for one in verdict.parts)
        assert usual_ns + (verdict.unexplained_usual_ns or 0) == verdict.usual_ns
    assert all(culprit.without_ns >= 0 for culprit in verdict.culprits)
    if window:
        assert {one.entity.id for one in verdict.parts if one.entity.type == "process"} <= set(SERVICES)
        assert all(len({by.entity for by in one.by}) == len(one.by) for one in verdict.parts)


def _named(kind: str, identity: str) -> Entity:
    return Entity(kind, identity, identity)
