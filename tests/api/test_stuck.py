"""While traces are being worked out, and be it forever, everything is answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from live_server import Live
from spans import a_while_ago, batch, span_row

from layerline_api.app import create_app
from layerline_correlator import correlator as worker
from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger import careful
from layerline_correlator.questions import answers
from layerline_correlator.settings import Settings
from waiting import PATIENCE_S, eventually

KNOWN, FRESH = "0a" * 16, "0f" * 16
#: What stands in addresses.
NAMES = {
    "trace_id": FRESH, "incident": "0" * 12, "monitor_id": "none", "key": "service", "slo": "none", "service": "web",
    "name": "service",
}  # fmt: skip


def slow_request(trace_id: str, zero_ns: int) -> Any:
    return span_row({"id": "a", "kind": "server", "ms": [0, 900], "cpu": 700, "wait": 0}, trace_id, zero_ns)


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Correlator]:
    """A correlator that has worked out KNOWN, and is stuck in the pass of FRESH."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, rest_ns=0))
    let_go, entered = threading.Event(), threading.Event()
    try:
        correlator.append(batch([slow_request(KNOWN, a_while_ago(120))]))
        assert correlator.verdict(KNOWN) is not None
        work_out = worker.ledger.work_out

        def blocked(*arguments: Any, **more: Any) -> int:
            entered.set()
            let_go.wait()
            return work_out(*arguments, **more)

        monkeypatch.setattr(worker.ledger, "work_out", blocked)
        monkeypatch.setattr(worker, "FRESH_S", 0.1)
        monkeypatch.setattr(worker, "QUIET_S", 0.1)
        correlator.append(batch([slow_request(FRESH, a_while_ago(119))]))
        assert entered.wait(PATIENCE_S)
        yield correlator
    finally:
        let_go.set()
        correlator.close()


def asked(app: Flask) -> list[str]:
    """Every address that can be asked, with something in the place of its names."""
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    adapter = app.url_map.bind("localhost")
    return [adapter.build(rule.endpoint, {name: NAMES[name] for name in rule.arguments}) for rule in rules]


def test_every_route_answers_while_a_pass_is_stuck(stuck: Correlator) -> None:
    """No question waits for the worker: all answer, with what was worked out before."""
    app = create_app(stuck)
    client = app.test_client()
    addresses = asked(app)
    assert len(addresses) > 20
    more = {
        "/api/v1/containers": "?q=service:web",
        "/api/v1/timeline": f"?trace_id={FRESH}",
        "/api/v1/service": "?service=web",
        "/service": "?service=web",
        "/jaeger/api/operations": "?service=web",
        "/jaeger/api/traces": "?service=web",
        "/jaeger/api/v3/operations": "?service=web",
        "/prometheus/api/v1/query": "?query=1",
        "/prometheus/api/v1/query_range": "?query=1&start=0&end=60&step=60",
        "/prometheus/api/v1/series": "?match[]=layerline_requests_total",
    }
    answered = {address: client.get(address + more.get(address, "")).status_code for address in addresses}
    unknown = {address for address, status in answered.items() if status == 404}
    assert {address for address, status in answered.items() if status not in (200, 404)} == set()
    assert all("incidents/" in address or "monitors/" in address for address in unknown), unknown
    listed = client.get("/api/v1/requests").get_json()["items"]
    assert [item["trace_id"] for item in listed] == [KNOWN]


def test_a_trace_that_has_no_ledger_yet_is_worked_out_for_whoever_asks(stuck: Correlator) -> None:
    """It has the parts that the worker will find, nothing of it is stored, and the worker is not disturbed."""
    fresh, known = stuck.verdict(FRESH), stuck.verdict(KNOWN)
    assert fresh is not None
    assert known is not None
    assert fresh.duration_ns == known.duration_ns
    assert [(part.cause, part.lost_ns) for part in fresh.parts] == [(part.cause, part.lost_ns) for part in known.parts]
    with stuck._reading() as cursor:
        assert cursor.execute("SELECT trace_id FROM request").fetchall() == [(KNOWN,)]
    assert stuck.health().waiting_traces == 1


def test_a_list_says_that_something_is_still_being_worked_out(stuck: Correlator) -> None:
    """Where nothing else is there to show, the reason names what waits."""
    page = create_app(stuck).test_client().get("/api/v1/requests?service=other").get_json()
    assert page["items"] == []
    assert "1 traces are still being worked out" in page["reason"]


def test_the_worker_survives_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that says nothing of the traces costs a pause; afterwards they are worked out."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, rest_ns=0))
    try:
        work_out, failed = careful.Careful.work_out, threading.Event()

        def once(self: careful.Careful, traces: careful.Traces) -> None:
            if not failed.is_set():
                failed.set()
                raise OSError("No space left on device")
            work_out(self, traces)

        monkeypatch.setattr(careful.Careful, "work_out", once)
        correlator.append(batch([slow_request(KNOWN, a_while_ago(120))]))
        assert failed.wait(PATIENCE_S)
        assert eventually(lambda: correlator.health().worked_traces)
        assert correlator.ready()
    finally:
        correlator.close()


def test_a_client_that_leaves_ends_its_question(tmp_path: Path, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits for any more is not worked out."""
    begun, ended = threading.Event(), threading.Event()

    def endless(cursor: Any, _from_ns: int, _to_ns: int) -> Any:
        begun.set()
        try:
            return cursor.execute("SELECT count(*) FROM range(10_000_000_000) a, range(10_000_000_000) b").fetchall()
        finally:
            ended.set()

    monkeypatch.setattr(answers, "read_service_map", endless)
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000, rest_ns=0))
    try:
        where = urlsplit(live(correlator))
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(b"GET /api/v1/services HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert begun.wait(PATIENCE_S)
            assert not ended.is_set()
        assert ended.wait(PATIENCE_S)
    finally:
        correlator.close()
