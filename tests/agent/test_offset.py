"""How far the machine's clock is from the server's, by the times that its answers carry."""

from __future__ import annotations

import time

import pytest
from api_fake import full, one_span

from layerline_agent.offset import HEADER, KEPT_NS, Offset, Offsets
from layerline_agent.outbox import EVERY, LONGEST_EVERY_S
from layerline_api.app import create_app

MS = 1_000_000
NOON = 10**18


def exchange(offsets: Offsets, ahead_ms: int, out_ms: int, work_ms: int, back_ms: int, at_ns: int = NOON) -> None:
    """A request that took so long on its way, at the server, and back; our clock is ahead by ``ahead_ms``."""
    received, answered = at_ns + out_ms * MS, at_ns + (out_ms + work_ms) * MS
    after_ns = answered + (back_ms + ahead_ms) * MS
    offsets.exchanged(f"{received};{answered}", at_ns + ahead_ms * MS, after_ns)


@pytest.mark.parametrize("ahead_ms", [-90_000, -3, 0, 250])
def test_the_offset_is_found_whatever_the_server_takes(ahead_ms: int) -> None:
    """With a way of equal length both ways it is exact; the server's own work does not count."""
    offsets = Offsets()
    exchange(offsets, ahead_ms, 2, 500, 2)
    assert offsets.best() == Offset(ahead_ms * MS, 2 * MS)


def test_the_truth_lies_within_what_is_said() -> None:
    """A way that takes longer in one direction moves the figure by no more than the uncertainty."""
    offsets = Offsets()
    exchange(offsets, 250, 40, 1, 0)
    found = offsets.best()
    assert found is not None
    assert abs(found.ahead_ns - 250 * MS) <= found.uncertain_ns == 20 * MS


def test_the_quickest_exchange_of_the_last_minute_counts() -> None:
    """A quick one is kept for a minute, then others count; a clock that was set back far begins anew."""
    offsets = Offsets()
    exchange(offsets, 5, 1, 0, 1)
    exchange(offsets, 5, 30, 0, 0, NOON + KEPT_NS // 2)
    assert offsets.best() == Offset(5 * MS, MS)
    exchange(offsets, 5, 20, 0, 20, NOON + KEPT_NS + KEPT_NS // 4)
    assert offsets.best() == Offset(-10 * MS, 15 * MS)
    exchange(offsets, 5, 20, 0, 20, NOON - 10 * KEPT_NS)
    assert offsets.best() == Offset(5 * MS, 20 * MS)


@pytest.mark.parametrize("header", [None, "", "1", "a;b", "2;1", f"0;{10**18}", "-1;2", "1;2;3", "9" * 40 + ";1"])
def test_a_header_that_is_none_says_nothing(header: str | None) -> None:
    """Other servers, and clocks that are set while a request is under way."""
    offsets = Offsets()
    offsets.exchanged(header, 10, 20)
    assert offsets.best() is None


def test_the_server_says_its_time() -> None:
    """In answers to OTLP, also where it refuses, and to /healthz; nowhere else."""
    client = create_app(full()).test_client()
    before_ns = time.time_ns()
    sent = client.post("/v1/traces", data=one_span().SerializeToString(), content_type="application/x-protobuf")
    began_ns, ended_ns = map(int, sent.headers[HEADER].split(";"))
    assert before_ns <= began_ns <= ended_ns <= time.time_ns()
    assert HEADER in client.post("/v1/traces", data=b"x", content_type="text/plain").headers
    assert HEADER in client.get("/healthz").headers
    assert HEADER not in client.get("/api/v1/requests").headers


def test_the_server_says_how_often_is_enough() -> None:
    """While nobody asks anything; what it refused is sent again when that is worth a try."""
    questions = full()
    client = create_app(questions).test_client()

    def answered(body: bytes = one_span().SerializeToString()) -> str | None:
        return client.post("/v1/traces", data=body, content_type="application/x-protobuf").headers.get(EVERY)

    assert answered() == f"{LONGEST_EVERY_S:g}"
    assert answered(b"nonsense") is None
    questions.somebody_asks = True
    assert answered() is None
