"""Calls between services that are late, or fail, although no operation's requests show it: an incident all the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from shop import S, second
from spans import a_while_ago, batch, span_row

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.detect import STEP_NS
from layerline_correlator.incidents.watch import Watch
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import ResourceRow, SpanRow
from layerline_correlator.store.store import Store

Rows = list[tuple[ResourceRow, SpanRow]]


@dataclass
class Asked:
    """One request of a mixed operation, in milliseconds; ``own`` is its own work beside the call that it may make."""

    own: float
    callee: str | None = None  # whom it calls
    answer: float | None = None  # how long that takes to answer; None where the callee sends no spans
    gap: float = 2.0  # what the call takes beyond the answer
    fails: bool = False  # the call fails; the request does not
    caller: str = "web"
    operation: str = "GET /cart"


Draw = Callable[[random.Random, float], Asked]


def drawn(asked: Asked, number: int, at_ns: int) -> Rows:
    """Its spans."""
    call = asked.gap + (asked.answer or 0.0)
    sent = {"service": asked.caller, "container": f"{asked.caller}-1"}
    length = asked.own + (call if asked.callee else 0.0)
    spans: list[dict[str, Any]] = [
        {"id": f"a{number}", "kind": "server", "name": asked.operation, "ms": [0, length], **sent}
    ]
    if asked.callee:
        where = {"server.address": asked.callee, "server.port": "8000"}
        spans.append(
            {"id": f"b{number}", "parent": f"a{number}", "kind": "client", "name": "POST", "attributes": where, **sent}
            | {"ms": [asked.own, length]}
        )
    if asked.callee and asked.answer is not None:
        spans.append(
            {"id": f"c{number}", "parent": f"b{number}", "kind": "server", "name": "POST /", "service": asked.callee}
            | {"container": f"{asked.callee}-1", "ms": [asked.own + asked.gap / 2, length - asked.gap / 2]}
        )
    rows = [span_row(span, f"{number:032x}", at_ns) for span in spans]
    if asked.fails:
        rows[1] = (rows[1][0], rows[1][1]._replace(status=2))
    return rows


def traffic(zero_ns: int, seconds: float, rate: float, draw: Draw, seed: int = 1, first: int = 1) -> Iterator[Rows]:
    """Requests at random moments."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible test
    at_s, number = chance.expovariate(rate), first
    while at_s < seconds:
        yield drawn(draw(chance, at_s), number, zero_ns + round(at_s * S))
        at_s, number = at_s + chance.expovariate(rate), number + 1


def mixed(chance: random.Random) -> float:
    """Most requests of the operation are quick, a third takes long."""
    return chance.lognormvariate(3, 0.5) if chance.random() < 0.66 else chance.uniform(300, 1_500)


def some_call(chance: random.Random, share: float = 0.05, **more: Any) -> Asked:
    """A request that calls somebody in this share of the cases."""
    own = mixed(chance)
    return Asked(own, **more) if chance.random() < share else Asked(own)


def usually(chance: random.Random, middle: float) -> float:
    return middle * chance.lognormvariate(0, 0.4)


#: The rows of requests, as they are before any ledger is worked out.
REQUESTS = """
INSERT INTO request BY NAME
SELECT trace_id, span_id, TRUE AS root, resource.service, name AS operation, span.resource, start_ns, end_ns, status,
       0 AS unexplained_ns, 0 AS skew_adjusted_ns, FALSE AS slow, 0.0 AS join_confidence, end_ns AS judged_ns,
       0.0 AS weight, 0.0 AS planned
FROM span JOIN resource USING (resource) WHERE kind = 2
"""


def lived(store: Store, zero_ns: int, until_s: int, rows: Iterator[Rows], live_s: int = 0) -> list[Any]:
    """The incidents of these requests, without ledgers: looked for in one go until ``live_s``, then every 10 s."""
    store.append(batch([one for request in rows for one in request]))
    with store.cursor() as cursor, store.cursor() as other:
        cursor.execute(REQUESTS).fetchall()
        now_ns = zero_ns
        watch = Watch(cursor, Names(other), 0, lambda _: None, clock=lambda: now_ns)
        for until in [*range(live_s, until_s, 10), until_s] if live_s else [until_s]:
            from_ns, now_ns = now_ns, zero_ns + until * S
            watch.live_through(max(zero_ns, from_ns - STEP_NS), now_ns, by_rows=True)
        now_ns += 1_000 * S
        watch.end_of_recording()
        documents = cursor.execute(
            "SELECT document FROM incident WHERE merged_into IS NULL ORDER BY start_ns"
        ).fetchall()
    return [json.loads(document) for (document,) in documents]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Nobody works ledgers out in it."""
    opened = Store(Settings(store=tmp_path / "store", group_ns=1_000_000))
    yield opened
    opened.close()


@pytest.mark.parametrize("sends_spans", [True, False])
def test_a_twentieth_of_the_requests_is_enough(store: Store, sends_spans: bool) -> None:
    """Five per cent of a mixed operation's requests call tax, and each such call gains 600 ms on the way: one incident
    is noticed within 20 s and over with the fault, that names tax, and says that only those requests are affected."""

    def draw(chance: random.Random, at_s: float) -> Asked:
        call = usually(chance, 20) + (600 if 300 <= at_s < 380 else 0)
        return some_call(chance, callee="tax", answer=10.0 if sends_spans else None, gap=call)

    zero_ns = a_while_ago(3600) // STEP_NS * STEP_NS
    (incident,) = lived(store, zero_ns, 430, traffic(zero_ns, 430, 8.0, draw), live_s=300)
    assert incident["operations"] == [["web", "GET /cart"]]
    assert "late_calls" in incident["hit"][0]["signs"]
    assert abs(second(incident, "start", zero_ns) - 300) <= 10
    assert abs(second(incident, "end", zero_ns) - 380) <= 15  # one call every two and a half seconds
    assert second(incident, "noticed", zero_ns) <= 300 + 25
    assert incident["summary"].startswith("web GET /cart: calls to tax")
    assert 15 <= incident["affected"] <= 0.1 * incident["requests"]
    assert incident["edges"][0]["callee"].partition(":")[0] == "tax"


def test_a_rare_operation_counts_with_the_other_calls_of_its_callee(store: Store) -> None:
    """An export now and then, among carts that call nobody and orders that call tax as well: what the calls of both
    gain is one incident of both, although the export has no usual of its own."""

    def draw(chance: random.Random, at_s: float) -> Asked:
        call, kind = usually(chance, 20) + (600 if at_s >= 400 else 0), chance.random()
        if kind < 0.02:
            return Asked(mixed(chance), "tax", None, call, operation="GET /export")
        if kind < 0.1:
            return Asked(mixed(chance), "tax", None, call, operation="POST /order")
        return Asked(mixed(chance))

    zero_ns = a_while_ago(3600) // STEP_NS * STEP_NS
    (incident,) = lived(store, zero_ns, 500, traffic(zero_ns, 500, 6.0, draw))
    assert sorted(incident["operations"]) == [["web", "GET /export"], ["web", "POST /order"]]
    assert abs(second(incident, "start", zero_ns) - 400) <= 10


def test_calls_that_fail_are_an_incident_although_the_requests_succeed(store: Store) -> None:
    """A cache that refuses: its callers do without it, quickly."""

    def draw(chance: random.Random, at_s: float) -> Asked:
        return some_call(chance, 0.3, callee="cache", gap=usually(chance, 3), fails=300 <= at_s < 400)

    zero_ns = a_while_ago(3600) // STEP_NS * STEP_NS
    (incident,) = lived(store, zero_ns, 500, traffic(zero_ns, 500, 4.0, draw))
    assert incident["hit"][0]["signs"] == ["failed_calls"]
    assert incident["summary"].startswith("web GET /cart: calls to cache:8000 failed")
    assert "perhaps at cache:8000" in incident["summary"]


def test_one_fault_is_one_incident_whoever_calls(store: Store) -> None:
    """Tax answers late to all: its own requests are slow, and so are the calls of two services, of which it is a small
    part. One incident, and the callers are a part of it."""

    def draw(chance: random.Random, at_s: float) -> Asked:
        answer = usually(chance, 20) + (500 if at_s >= 400 else 0)
        return replace(some_call(chance, 0.06, callee="tax", answer=answer), caller=chance.choice(["web", "kiosk"]))

    zero_ns = a_while_ago(3600) // STEP_NS * STEP_NS
    (incident,) = lived(store, zero_ns, 500, traffic(zero_ns, 500, 14.0, draw))
    assert {name for name, _ in incident["operations"]} == {"tax", "web", "kiosk"}


def test_quiet_calls_raise_nothing(store: Store) -> None:
    """A quarter of an hour of six callers: mixed and rare operations, heavy tails, calls that fail now and then, and
    pauses of nine seconds in which all calls of one are late."""
    pauses = random.Random(7)  # noqa: S311 - a reproducible test
    starts = [[pauses.uniform(60, 900) for _ in range(3)] for _ in range(6)]

    def draw(chance: random.Random, at_s: float) -> Asked:
        caller = chance.randrange(6)
        pause = 900.0 if any(start <= at_s < start + 9 for start in starts[caller]) else 0.0
        tail = chance.uniform(200, 3_000) if chance.random() < 0.01 * caller else 0.0
        answer, gap = usually(chance, 15 + 10 * caller), usually(chance, 4) + pause + tail
        asked = some_call(chance, 0.05 + 0.1 * caller, callee=f"s{caller % 3}", answer=answer, gap=gap)
        fails = asked.callee is not None and chance.random() < 0.03 * caller
        return replace(asked, fails=fails, caller=f"c{caller}", answer=answer if caller % 2 else None)

    zero_ns = a_while_ago(3600) // STEP_NS * STEP_NS
    incidents = lived(store, zero_ns, 900, traffic(zero_ns, 900, 5.0, draw))
    assert [one["summary"] for one in incidents if {"late_calls", "failed_calls"} & {*one["hit"][0]["signs"]}] == []
