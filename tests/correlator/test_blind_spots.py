"""What could not be seen is kept once for all requests that were seen from the same spot, and told of each."""

from __future__ import annotations

from typing import Any

from spans import MS, a_while_ago, batch, span_row

from layerline_correlator.correlator import Correlator

#: With our account, from one container.
SEEN: dict[str, Any] = {
    "id": "a", "kind": "server", "container": "web-1", "ms": [0, 400], "cpu": 100, "wait": 250, "usage": 100,
    "runnable": 300, "throttled": 0, "switches": 1,
}  # fmt: skip
#: By another SDK, on a machine that nobody reads.
STRANGE: dict[str, Any] = {"id": "a", "kind": "server", "service": "shop", "host": "host-2", "ms": [0, 400]}


def trace(number: int) -> str:
    return f"{number:032x}"


def rows(correlator: Correlator, query: str) -> list[tuple[Any, ...]]:
    with correlator._store.cursor() as cursor:
        return cursor.execute(query).fetchall()


def send(correlator: Correlator, drawn: dict[str, Any], numbers: range, zero_ns: int) -> None:
    correlator.append(batch([span_row(drawn, trace(number), zero_ns + number * 500 * MS) for number in numbers]))
    correlator.look_for_incidents()


def blind(correlator: Correlator, number: int) -> set[tuple[str, str]]:
    verdict = correlator.verdict(trace(number))
    assert verdict is not None
    return {(one.cause, one.reason) for one in verdict.blind}


def test_alike_requests_share_what_could_not_be_seen(correlator: Correlator) -> None:
    """Forty more requests of the same kind add no row, and each reports the same blind causes as the first."""
    zero_ns = a_while_ago(120)
    send(correlator, SEEN, range(1, 3), zero_ns)
    spots = rows(correlator, "FROM blind_spot ORDER BY ALL")
    assert spots
    send(correlator, SEEN, range(3, 43), zero_ns)
    assert rows(correlator, "FROM blind_spot ORDER BY ALL") == spots
    ((fewest, most, requests),) = rows(
        correlator,
        "SELECT min(causes), max(causes), count(*) FROM (SELECT count(*) AS causes FROM blind GROUP BY trace_id)",
    )
    assert (fewest, most, requests) == (len(spots), len(spots), 42)
    assert blind(correlator, 1) == blind(correlator, 42) != set()


def test_other_spots_are_told_apart(correlator: Correlator) -> None:
    """Another service on another machine, of which nothing was measured, is blind in other causes, and in more."""
    zero_ns = a_while_ago(120)
    send(correlator, SEEN, range(1, 2), zero_ns)
    send(correlator, STRANGE, range(2, 3), zero_ns)
    told = {
        number: set(rows(correlator, f"SELECT cause FROM blind WHERE trace_id = '{trace(number)}'"))
        for number in (1, 2)
    }
    assert told[2] - told[1]
    assert {service for (service,) in rows(correlator, "SELECT DISTINCT service FROM blind")} == {"web", "shop"}


def test_a_cause_in_two_visits_is_told_once(correlator: Correlator) -> None:
    """A service that is visited twice in a request, seen a little differently, has each blind cause once."""
    zero_ns = a_while_ago(120)
    spans: list[dict[str, Any]] = [
        {"id": "a", "kind": "server", "service": "shop", "host": "host-2", "ms": [0, 400]},
        {"id": "b", "parent": "a", "kind": "client", "service": "shop", "host": "host-2", "ms": [50, 350]},
        {"id": "c", "parent": "b", "kind": "server", "service": "shop", "host": "host-2", "pid": 9, "ms": [60, 340]},
    ]
    correlator.append(batch([span_row(one, trace(1), zero_ns) for one in spans]))
    correlator.look_for_incidents()
    found = rows(correlator, "SELECT span_id, cause, service, facts, why, count(*) FROM blind GROUP BY ALL")
    assert found
    assert {count for *_, count in found} == {1}


def test_who_sees_everything_is_not_worked_out_again(correlator: Correlator) -> None:
    """Each spot that a request refers to is known; one without a blind cause has a row that says so and is not told."""
    zero_ns = a_while_ago(120)
    send(correlator, SEEN, range(1, 3), zero_ns)
    with correlator._store.cursor() as cursor:
        cursor.execute("INSERT INTO blind_spot (spot) VALUES (7)").fetchall()
        cursor.execute(
            "INSERT INTO request (trace_id, span_id, start_ns, blind_spots) VALUES ('t', 'a', 5, [7])"
        ).fetchall()
    assert rows(correlator, "SELECT count(*) FROM blind WHERE trace_id = 't'") == [(0,)]
    unknown = "SELECT unnest(blind_spots) AS spot FROM request EXCEPT SELECT spot FROM blind_spot"
    assert rows(correlator, unknown) == []


def test_spots_go_with_the_last_request_that_has_them(correlator: Correlator) -> None:
    """Retention deletes what no request refers to any more."""
    zero_ns = a_while_ago(120)
    send(correlator, STRANGE, range(1, 2), zero_ns)
    send(correlator, SEEN, range(100, 101), zero_ns)
    services = "SELECT DISTINCT service FROM blind_spot WHERE cause IS NOT NULL ORDER BY service"
    assert rows(correlator, services) == [("shop",), ("web",)]
    correlator._delete(zero_ns + 10_000 * MS)
    assert rows(correlator, services) == [("web",)]


def test_asked_before_it_is_kept(correlator: Correlator) -> None:
    """A request worked out only to answer a question reports the same blind causes as once it is stored."""
    zero_ns = a_while_ago(120)
    correlator.append(batch([span_row(STRANGE, trace(1), zero_ns)]))
    first = blind(correlator, 1)
    correlator.look_for_incidents()
    with correlator._store.cursor() as cursor:
        cursor.execute("DELETE FROM request").fetchall()
        cursor.execute("DELETE FROM blind_spot").fetchall()
    assert blind(correlator, 1) == first != set()
