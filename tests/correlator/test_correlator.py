"""The correlator as the API sees it: data in, answers out, restarts in between."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, hex_id, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import coverage, verdicts
from layerline_correlator.questions.paging import BadCursor
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings, duration_ns, size_bytes
from layerline_correlator.store.model import EventRow, ResourceRow, resource_key
from layerline_correlator.store.store import Overloaded, StoreInUse

HOUR = 3600 * 10**9


def trace_id(number: int) -> str:
    return f"{number:032x}"


def request(number: int, zero_ns: int, cpu: int = 20, sleep: int = 0, **more: Any) -> Any:
    drawn = {"id": f"r{number}", "kind": "server", "ms": [0, cpu + sleep], "cpu": cpu, "switches": 1, "name": "GET /"}
    return span_row(drawn | more, trace_id(number), zero_ns)


def around(zero_ns: int) -> RequestQuery:
    return RequestQuery(zero_ns - HOUR, zero_ns + HOUR)


def healthy_then_slow(correlator: Correlator, zero_ns: int) -> None:
    """40 requests of 20 ms, one a second, and then five that slept 200 ms."""
    correlator.append(batch(request(n, zero_ns + n * 10**9) for n in range(1, 41)))
    correlator.append(batch(request(n, zero_ns + n * 10**9, sleep=200) for n in range(41, 46)))


def test_slow_requests_are_listed_with_usual_excess_and_cause(correlator: Correlator) -> None:
    """A request is slow against the usual of those before it, and the list says by how much and why."""
    zero_ns = a_while_ago(120)
    healthy_then_slow(correlator, zero_ns)
    page = correlator.requests(around(zero_ns))
    assert [item.trace_id for item in page.items] == [trace_id(n) for n in (45, 44, 43, 42, 41)]
    assert {(item.usual_ns, item.excess_ns, item.cause) for item in page.items} == {(20 * MS, 200 * MS, "app.blocked")}


def test_what_is_acknowledged_is_known(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears that its spans are durable, and asks, is answered with them: the correlator knew of them before."""
    arrived: list[Any] = []
    known = correlator._store._arrived
    monkeypatch.setattr(correlator._store, "_arrived", lambda news: (known(news), arrived.append(dict(news))))
    for number in range(1, 4):
        correlator.append(batch([request(number, a_while_ago())]))
        assert [set(news) for news in arrived] == [{trace_id(one)} for one in range(1, number + 1)]


def test_windows_are_half_open_on_the_start(correlator: Correlator) -> None:
    """A request that starts at `from` is in the window, one that starts at `to` is not."""
    zero_ns = a_while_ago(120)
    correlator.append(batch([request(1, zero_ns, cpu=600), request(2, zero_ns + 10**9, cpu=600)]))
    page = correlator.requests(RequestQuery(zero_ns, zero_ns + 10**9))
    assert [item.trace_id for item in page.items] == [trace_id(1)]


def test_pages_follow_each_other_without_gap_or_repeat(correlator: Correlator) -> None:
    """Following `next` shows every request once, in every order."""
    zero_ns = a_while_ago(120)
    correlator.append(batch(request(n, zero_ns + n * 10**9, cpu=500 + n % 3) for n in range(1, 24)))
    for order in ("excess", "duration", "start"):
        seen, cursor = [], None
        while True:
            page = correlator.requests(
                RequestQuery(zero_ns, zero_ns + HOUR, order=order, limit=5, cursor=cursor, min_duration_ns=MS)
            )
            seen += [item.trace_id for item in page.items]
            if (cursor := page.next) is None:
                break
        assert sorted(seen) == sorted(trace_id(n) for n in range(1, 24))
    with pytest.raises(BadCursor):
        correlator.requests(RequestQuery(zero_ns, zero_ns + HOUR, cursor="nonsense"))


def test_an_empty_list_says_why(correlator: Correlator) -> None:
    """Nothing received, nothing that matches, and nothing slow are three answers."""
    zero_ns = a_while_ago(120)
    assert "no request was received" in (correlator.requests(around(zero_ns)).reason or "")
    correlator.append(batch([request(1, zero_ns)]))
    assert "was slow" in (correlator.requests(around(zero_ns)).reason or "")
    query = RequestQuery(zero_ns - HOUR, zero_ns + HOUR, service="other")
    assert "matches the filters" in (correlator.requests(query).reason or "")


def test_a_span_delivered_twice_counts_once(correlator: Correlator) -> None:
    """Senders retry: the second delivery of a span changes nothing, in the same group or in a later one."""
    zero_ns = a_while_ago(120)
    span = request(1, zero_ns, cpu=600)
    correlator.append(batch([span, span]))
    first = correlator.verdict(trace_id(1))
    correlator.append(batch([span]))
    assert correlator.verdict(trace_id(1)) == first
    trace = correlator.trace(trace_id(1))
    assert trace is not None
    assert len(trace["spans"]) == 1


def test_late_spans_reopen_their_request(correlator: Correlator) -> None:
    """A callee's span that comes long after its caller's is still put into the ledger."""
    zero_ns = a_while_ago(120)
    a = {"id": "a", "kind": "server", "ms": [0, 300], "slices": [[0, 10, 10, 0], [290, 10, 10, 0]], "cpu": 20}
    b = {"id": "b", "parent": "a", "kind": "client", "ms": [10, 290], "cpu": 0, "switches": 1}
    c = {"id": "c", "parent": "b", "kind": "server", "service": "stock", "ms": [10, 290], "cpu": 280}
    correlator.append(batch(span_row(span, trace_id(1), zero_ns) for span in (a, b)))
    before = correlator.verdict(trace_id(1))
    correlator.append(batch([span_row(c, trace_id(1), zero_ns)]))
    after = correlator.verdict(trace_id(1))
    assert before is not None
    assert after is not None
    assert {part.cause for part in before.parts} == {"app.cpu_busy", "dependency.slow"}
    assert {(part.cause, part.service) for part in after.parts} == {("app.cpu_busy", "web"), ("app.cpu_busy", "stock")}


def test_a_nested_request_can_be_asked_for(correlator: Correlator) -> None:
    """`span_id` names another entry span of the trace; one that is no request is unknown."""
    zero_ns = a_while_ago(120)
    a = {"id": "a", "kind": "server", "ms": [0, 300], "cpu": 100}
    b = {"id": "b", "parent": "a", "kind": "client", "ms": [10, 290], "cpu": 0}
    c = {"id": "c", "parent": "b", "kind": "server", "service": "stock", "ms": [20, 280], "cpu": 260}
    correlator.append(batch(span_row(span, trace_id(1), zero_ns) for span in (a, b, c)))
    nested = correlator.verdict(trace_id(1), hex_id("c"))
    assert nested is not None
    assert (nested.service, nested.duration_ns) == ("stock", 260 * MS)
    assert correlator.verdict(trace_id(1), hex_id("b")) is None
    assert correlator.verdict(trace_id(2)) is None


def test_a_server_that_ends_after_its_caller_is_still_waited_for(correlator: Correlator) -> None:
    """On one host the callee's span may end microseconds after the caller has its answer: nothing is moved or lost."""
    zero_ns = a_while_ago(120)
    a = {"id": "a", "kind": "client", "ms": [0, 100], "cpu": 0}
    b = {"id": "b", "parent": "a", "kind": "server", "service": "stock", "ms": [5, 100.4], "cpu": 95}
    correlator.append(batch(span_row(span, trace_id(1), zero_ns) for span in (a, b)))
    verdict = correlator.verdict(trace_id(1))
    assert verdict is not None
    assert verdict.join.skew_adjusted_ns == 0
    lost_ns = {(part.service, part.cause): part.lost_ns for part in verdict.parts}
    assert lost_ns.keys() == {("web", "network.transit_slow"), ("stock", "app.cpu_busy")}
    assert lost_ns["web", "network.transit_slow"] == 5 * MS


def test_clocks_that_disagree_are_shifted_by_the_least_that_fits(correlator: Correlator) -> None:
    """A callee on another host that sticks out of its caller is moved just inside, and the verdict says by how much."""
    zero_ns = a_while_ago(120)
    a = {"id": "a", "kind": "client", "ms": [0, 100], "cpu": 0}
    b = {"id": "b", "parent": "a", "kind": "server", "service": "far", "host": "host-2", "ms": [-40, 30], "cpu": 70}
    correlator.append(batch(span_row(span, trace_id(1), zero_ns) for span in (a, b)))
    verdict = correlator.verdict(trace_id(1))
    assert verdict is not None
    assert verdict.join.skew_adjusted_ns == 40 * MS
    assert sum(part.lost_ns for part in verdict.parts if part.service == "far") == 70 * MS


def test_filters_by_service_operation_tag_and_duration(correlator: Correlator) -> None:
    """Every filter of the list narrows it; tags look at the service, its container and its host."""
    zero_ns = a_while_ago(120)
    correlator.append(
        batch(
            [
                request(1, zero_ns, cpu=600, service="web", container="web-1"),
                request(2, zero_ns, cpu=700, service="stock", name="POST /order"),
            ]
        )
    )

    def found(**filters: Any) -> set[str]:
        return {item.trace_id for item in correlator.requests(RequestQuery(zero_ns, zero_ns + 1, **filters)).items}

    assert found() == {trace_id(1), trace_id(2)}
    assert found(service="web") == {trace_id(1)}
    assert found(operation="POST /order") == {trace_id(2)}
    assert found(min_duration_ns=650 * MS) == {trace_id(2)}
    assert found(tags=(("service", "st*"),)) == {trace_id(2)}
    assert found(tags=(("service", "'; DROP TABLE span --"),)) == set()


def test_a_window_has_one_verdict_per_operation(correlator: Correlator) -> None:
    """The window's verdict counts what was received and what was slow, and names examples."""
    zero_ns = a_while_ago(120)
    healthy_then_slow(correlator, zero_ns)
    (verdict,) = correlator.verdicts(around(zero_ns)).items
    assert (verdict.requests, verdict.slow) == (45, 5)
    assert verdict.culprits[0].cause == "app.blocked"
    assert verdict.excess_ns == 5 * 200 * MS


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    """After kill -9 of the process the spans it acknowledged are there, once, and their verdicts too."""
    script = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from spans import batch
from test_correlator import request
correlator = Correlator.open(Settings(store=Path(sys.argv[1])))
zero_ns = time.time_ns() - 60 * 10**9
for number in range(1, 1000):
    correlator.append(batch([request(number, zero_ns, cpu=600)]))
    print(number, flush=True)
"""
    program = tmp_path / "sends.py"  # with -c DuckDB takes it for a person's session, and shows progress on its stdout
    program.write_text(script, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path / "store"), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(4)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    correlator = Correlator.open(Settings(store=tmp_path / "store"))
    try:
        for number in acknowledged:
            verdict = correlator.verdict(trace_id(number))
            assert verdict is not None, f"trace {number} was acknowledged and is lost"
            assert verdict.duration_ns == 600 * MS
    finally:
        correlator.close()


def test_a_store_has_one_owner(tmp_path: Path, correlator: Correlator) -> None:
    """A second process is told that the store is in use, by name."""
    with pytest.raises(StoreInUse, match="in use by another process"):
        Correlator.open(Settings(store=tmp_path / "store"))


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    """After close the sender is asked to come again, and the folder can be opened anew."""
    correlator = Correlator.open(Settings(store=tmp_path / "store"))
    correlator.close()
    with pytest.raises(Overloaded):
        correlator.append(batch([request(1, a_while_ago())]))
    Correlator.open(Settings(store=tmp_path / "store")).close()


def test_the_store_is_private(tmp_path: Path, correlator: Correlator) -> None:
    """Spans may say more than everybody should read: the folder is its owner's alone."""
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_settled_after_ten_seconds(tmp_path: Path) -> None:
    """A verdict on a request that ended just now may still change, and says so."""
    assert Settings(store=tmp_path).settle_ns == 10 * 10**9
    correlator = Correlator.open(Settings(store=tmp_path / "store", settle_ns=3600 * 10**9))  # no test takes an hour
    correlator.append(batch([request(1, a_while_ago(60), cpu=600), request(2, a_while_ago(2 * 3600), cpu=600)]))
    young, old = correlator.verdict(trace_id(1)), correlator.verdict(trace_id(2))
    correlator.close()
    assert young is not None
    assert old is not None
    assert (young.settled, old.settled) == (False, True)


@pytest.mark.parametrize(("text", "expected"), [("400ms", 400 * MS), ("15m", 900 * 10**9), ("1.5h", 5400 * 10**9)])
def test_durations(text: str, expected: int) -> None:
    """Durations are read as people write them."""
    assert duration_ns(text) == expected


def test_bad_settings_are_named() -> None:
    """A setting that cannot be read says which, what was expected and what was found."""
    with pytest.raises(ValueError, match=r"LAYERLINE_SLOW: expected a duration such as 400ms, 15m or 1h, found 'soon'"):
        Settings.from_environment({"LAYERLINE_SLOW": "soon"})
    assert Settings.from_environment({"LAYERLINE_SLOW": "300ms"}).slow_ns == 300 * MS
    assert size_bytes("10GB") == 10**10
    with pytest.raises(ValueError, match="expected a size"):
        size_bytes("big")


def test_a_span_of_centuries_costs_nobody_anything(correlator: Correlator) -> None:
    """A span that says it lasted from 1970 to 2262 gets its ledger like any other, and so does its neighbour."""
    zero_ns = a_while_ago(120)
    owner, row = request(1, zero_ns, cpu=600)
    series = series_rows({"signal": "system.cpu.time", "at": [0, 1000, 2000], "values": [0, 10, 20]}, zero_ns)
    correlator.append(
        batch([(owner, row._replace(start_ns=1, end_ns=2**63 - 2)), request(2, zero_ns, cpu=600)], [series])
    )
    assert correlator.verdict(trace_id(1)) is not None
    assert correlator.verdict(trace_id(2)) is not None


def test_a_cursor_of_another_list_is_refused(correlator: Correlator) -> None:
    """A cursor holds only for the order that made it, and only if its numbers are ours."""
    for value in (2**70, "x", True):
        text = base64.urlsafe_b64encode(json.dumps(["excess", value, "a"]).encode()).decode()
        with pytest.raises(BadCursor):
            correlator.requests(RequestQuery(0, HOUR, cursor=text))


def test_an_account_needs_no_label(correlator: Correlator) -> None:
    """A span that carries its thread's figures is measured, also where nobody wrote `layerline.account` beside them."""
    owner, row = request(1, a_while_ago(120), cpu=500, sleep=100)
    correlator.append(batch([(owner, row._replace(account=None, slices=None))]))
    verdict = correlator.verdict(trace_id(1))
    assert verdict is not None
    assert {part.cause: part.lost_ns for part in verdict.parts} == {"app.cpu_busy": 500 * MS, "app.blocked": 100 * MS}


def test_a_container_that_is_described_later_is_known_to_the_next_pass(correlator: Correlator) -> None:
    """What a pass learnt of containers is not kept for the passes after it."""
    zero_ns = a_while_ago()
    drawn = {"id": "a", "kind": "server", "container": "web-1", "ms": [0, 400]}
    drawn |= {"cpu": 40, "wait": 350, "throttled": 300}
    correlator.append(batch([span_row({**drawn, "container": "web-0"}, "0a" * 16, zero_ns)]))
    assert correlator.verdict("0a" * 16) is not None
    attributes = {
        "container.id": container_id("web-1"),
        "container.name": "web-1",
        "layerline.boot_id": "host-1",
        "layerline.container.cpuset": "1",
    }
    told = ResourceRow(resource_key(attributes), attributes)
    event = (told, EventRow(told.resource, zero_ns - 10**9, "container.start", "", {}))
    correlator.append(batch([span_row(drawn, "0b" * 16, zero_ns)], events=[event]))
    verdict = correlator.verdict("0b" * 16)
    assert verdict is not None
    part = next(part for part in verdict.parts if part.cause == "container.cpu_throttled")
    assert part.low_ns == 250 * MS, "on one CPU, what grew while this thread did not wait is somebody else's"


def test_ids_in_the_names_of_operations_do_not_multiply_the_work(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many operations those that lost most are judged, in pages as ever, and coverage names the service."""
    zero_ns = a_while_ago(120)
    correlator.append(batch(request(n, zero_ns, cpu=600 + n, name=f"GET /user/{n}") for n in range(1, 8)))
    monkeypatch.setattr(verdicts, "_OPERATIONS", 3)
    monkeypatch.setattr(verdicts, "_TOGETHER", 3)
    query = RequestQuery(zero_ns - HOUR, zero_ns + HOUR, limit=2)
    first = correlator.verdicts(query)
    second = correlator.verdicts(replace(query, cursor=first.next))
    assert [one.operation for one in first.items] == ["GET /user/7", "GET /user/6"]
    assert ([one.operation for one in second.items], second.next) == (["GET /user/5"], None)
    monkeypatch.setattr(coverage, "MOST_SERIES", 6)
    (many,) = correlator.coverage(zero_ns - HOUR, zero_ns + HOUR).cardinality
    assert (many.what, many.name, many.number) == ("operations", "web", 7)
