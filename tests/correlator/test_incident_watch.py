"""How trouble is followed from pass to pass: over gaps, from either end, and to its true start and end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from shop import During, S, carts, found, second, serve, slow_code, throttled
from spans import a_while_ago, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.facts.names import Names
from layerline_correlator.incidents import watch
from layerline_correlator.incidents.watch import Watch
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import ResourceRow, SpanRow

HOUR = 3600 * S


def test_recorded_trouble_before_a_long_silence_ends_with_its_last_request(correlator: Correlator) -> None:
    """Requests are slow until nobody asks for an hour; those after that say nothing of when the trouble was over."""
    zero_ns = a_while_ago(20 * 3600)
    morning = carts(zero_ns, 400, During(330, 401, slow_code), rate=2.0)
    later = carts(zero_ns + HOUR, 100, rate=2.0, seed=7)
    everything = [
        *morning,
        *([(owner, span._replace(trace_id=f"f{span.trace_id[1:]}")) for owner, span in rows] for rows in later),
    ]
    serve(correlator, iter(everything))
    (incident,) = found(correlator)
    assert abs(second(incident, "start", zero_ns) - 330) <= 10
    assert abs(second(incident, "end", zero_ns) - 400) <= 10


def test_a_call_that_gets_slower_is_trouble_also_in_a_long_operation(correlator: Correlator) -> None:
    """An operation of 1.2 s whose calls of prices take 160 ms longer loses less than a quarter to it; the call is
    compared with itself. The same 160 ms of its own code are no trouble."""
    zero_ns = a_while_ago(20 * 3600)
    serve(correlator, [*long_requests(zero_ns, "call"), *long_requests(zero_ns, "own")])
    (incident,) = found(correlator)
    assert (incident["cause"], incident["operations"]) == ("dependency.slow", [["web-call", "GET /export"]])
    assert abs(second(incident, "start", zero_ns) - 300) <= 10


def long_requests(zero_ns: int, slower: str) -> Iterator[list[tuple[ResourceRow, SpanRow]]]:
    """One request a second, for 400 s; from 300 s on this part of each takes 160 ms longer."""
    for number in range(400):
        more = 160 if number >= 300 else 0
        own, call = (1_180 + more, 20) if slower == "own" else (1_180, 20 + more)
        name = f"{slower[0]}{number}"
        top = {"id": name, "kind": "server", "name": "GET /export", "service": f"web-{slower}",
               "container": f"web-{slower}", "ms": [0, own + call]}  # fmt: skip
        asked = {"id": f"{name}x", "parent": name, "kind": "client", "name": "GET", "service": f"web-{slower}",
                 "container": f"web-{slower}", "ms": [100, 100 + call],
                 "attributes": {"server.address": "prices"}}  # fmt: skip
        trace_id = f"{number + (10_000 if slower == 'own' else 1):032x}"
        yield [span_row(span, trace_id, zero_ns + number * S) for span in (top, asked)]


def test_trouble_that_nobody_asks_for_any_more_ends_with_the_last_request_that_shows_it(correlator: Correlator) -> None:
    """The last requests before a silence were healthy, too few to say that it was over: they are no part of it."""
    zero_ns = a_while_ago(20 * 3600)
    serve(correlator, carts(zero_ns, 418, During(330, 400, slow_code), rate=2.0))
    (incident,) = found(correlator)
    assert abs(second(incident, "end", zero_ns) - 400) <= 3


def test_what_a_server_finds_going_on_when_it_starts_has_its_true_start_and_its_end(tmp_path: Path) -> None:
    """A backlog in which trouble goes on for long: one incident, from its first slow request to its last."""
    settings = Settings(store=tmp_path / "store", group_ns=1_000_000)
    zero_ns = a_while_ago(2700)
    everything = list(carts(zero_ns, 2700, During(1300, 2550, throttled), rate=0.7))
    correlator = Correlator.open(settings)
    try:
        serve(correlator, (rows for rows in everything if rows[0][1].start_ns < zero_ns + 2400 * S))
        (going_on,) = found(correlator)
        serve(correlator, (rows for rows in everything if rows[0][1].start_ns >= zero_ns + 2400 * S))
        (over,) = found(correlator)
    finally:
        correlator.close()
    assert going_on["state"] == "open"
    assert abs(second(going_on, "start", zero_ns) - 1300) <= 10
    assert going_on["id"] == over["id"]
    assert over["state"] == "ended"
    assert abs(second(over, "end", zero_ns) - 2550) <= 10
    assert len(over["hit"]) == 2


def test_an_end_is_no_failure_to_describe(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A description that the ending server cuts off is left for the next start, without a word; others are reported."""
    with correlator._store.cursor() as cursor, correlator._store.cursor() as other:
        cursor.execute(
            "INSERT INTO incident BY NAME SELECT 'one' AS incident, 1 AS start_ns, 1 AS noticed_ns, FALSE AS settled"
        ).fetchall()
        watched = Watch(cursor, Names(other), 0, lambda _: None)

        def fails(problem: type[duckdb.Error]) -> None:
            def described(*_: object, **__: object) -> None:
                raise problem("it was cut off")

            monkeypatch.setattr(watch, "describe", described)

        fails(duckdb.InterruptException)
        with pytest.raises(duckdb.InterruptException):
            watched._tell(10**18)
        assert not caplog.records
        fails(duckdb.OutOfMemoryException)
        watched._tell(10**18)
        assert "incident one could not be described" in caplog.text
        assert cursor.execute("SELECT told_ns FROM incident WHERE incident = 'one'").fetchall() == [(None,)]
