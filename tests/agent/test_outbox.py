"""What waits to be sent: nothing is lost for a short outage, and nobody waits for a dead server."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from layerline_agent.outbox import METRICS, Outbox, retry_after_s

from .conftest import Sink

Open = Callable[..., Outbox]


@pytest.fixture
def outbox() -> Iterator[Open]:
    """Makes outboxes that hardly wait between attempts, and closes them."""
    made: list[Outbox] = []

    def make(url: str, headers: dict[str, str] | None = None, buffer_bytes: int = 1_000_000) -> Outbox:
        made.append(Outbox(url, headers or {}, buffer_bytes, backoff_s=(0.01, 0.05)))
        return made[-1]

    yield make
    for one in made:
        one.close(within_s=0.2)


def test_sent_as_otlp(sink: Sink, outbox: Open) -> None:
    """A parcel is a gzipped protobuf POST to its path, with the headers of the settings."""
    outbox(sink.url, {"authorization": "Bearer s3cret"}).put(METRICS, b"\x0a\x00", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    (got,) = sink.received
    assert (got.path, got.body) == ("/v1/metrics", b"\x0a\x00")
    assert got.headers["content-type"] == "application/x-protobuf"
    assert got.headers["content-encoding"] == "gzip"
    assert got.headers["authorization"] == "Bearer s3cret"


def test_netrc_does_not_take_the_tokens_place(
    sink: Sink, outbox: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password for that host in ~/.netrc does not replace the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    outbox(sink.url, {"authorization": "Bearer s3cret"}).put(METRICS, b"", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert sink.received[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_gets_it_later(sink: Sink, outbox: Open, status: int) -> None:
    """What a busy server did not take is sent again, in order, and nothing is lost."""
    sink.answers.extend([(status, {}, b"")] * 3)
    box = outbox(sink.url)
    for number in range(5):
        box.put(METRICS, b"%d" % number, 1)
    assert sink.wait_for(lambda: len(sink.received) == 5)
    assert [got.body for got in sink.received] == [b"0", b"1", b"2", b"3", b"4"]
    assert box.dropped == 0


def test_retry_after_is_honoured(sink: Sink, outbox: Open) -> None:
    """A server that says when to come back is not asked before."""
    sink.answers.append((503, {"Retry-After": "1"}, b""))
    began = time.monotonic()
    outbox(sink.url).put(METRICS, b"x", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert time.monotonic() - began >= 1.0


def test_retry_after_as_number_and_as_date() -> None:
    """Seconds and HTTP dates are understood, the past is now, and nonsense is as good as nothing."""
    assert retry_after_s("7") == 7.0
    assert retry_after_s(email.utils.formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


def test_refused_is_dropped_and_said(sink: Sink, outbox: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """What the server will never take is dropped, counted, and said once, with what to do about it."""
    sink.answers.extend([(401, {}, b"a token is needed")] * 2)
    box = outbox(sink.url)
    for _ in range(3):
        box.put(METRICS, b"x", 10)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert box.dropped == 20
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "401" in said
    assert "LAYERLINE_TOKEN" in said


def test_partial_success_is_counted(sink: Sink, outbox: Open) -> None:
    """Points that the server says it did not take count as dropped."""
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    sink.answers.append((200, {}, answer.SerializeToString()))
    box = outbox(sink.url)
    box.put(METRICS, b"x", 10)
    box.put(METRICS, b"y", 10)
    assert sink.wait_for(lambda: len(sink.received) == 2)
    assert box.dropped == 3


def test_a_full_buffer_drops_the_oldest(outbox: Open, sink: Sink) -> None:
    """While the server is away the buffer is bounded: the oldest goes, and is counted."""
    parcel = 40  # at least this many bytes once compressed
    sink.answers.extend([(503, {"Retry-After": "1"}, b"")])
    box = outbox(sink.url, buffer_bytes=5 * parcel)
    with sink.arrived:  # it does not answer before the last was put
        for number in range(20):
            box.put(METRICS, b"%020d" % number, 10)
    assert sink.wait_for(lambda: bool(sink.received) and sink.received[-1].body == b"%020d" % 19)
    kept = [int(got.body) for got in sink.received]
    assert kept == list(range(20 - len(kept), 20))
    assert 0 < len(kept) < 20
    assert box.dropped == 10 * (20 - len(kept))


def test_a_dead_server_holds_nobody_up(outbox: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """With nobody listening, putting and closing return all the same, and what is left is told."""
    box = outbox("http://127.0.0.1:9")
    box.put(METRICS, b"x", 10)
    assert box.close(within_s=0.3) == 10
    assert "not reachable" in capsys.readouterr().err


def test_closing_sends_what_waits(sink: Sink, outbox: Open) -> None:
    """A stopping agent leaves nothing behind when the server is there."""
    box = outbox(sink.url)
    for number in range(20):
        box.put(METRICS, b"%d" % number, 1)
    assert box.close(within_s=60.0) == 0
    assert len(sink.received) == 20
