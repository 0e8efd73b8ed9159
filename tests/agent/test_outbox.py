"""What waits to be sent: nothing is lost for a short outage, and nobody waits for a dead server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from layerline_agent.outbox import LOGS, METRICS, Outbox
from layerline_agent.spool import DAMAGED, FULL, REFUSED
from waiting import eventually

from .conftest import Sink

Open = Callable[..., Outbox]


@pytest.fixture
def outbox() -> Iterator[Open]:
    """Makes outboxes that hardly wait between attempts, and closes them."""
    made: list[Outbox] = []

    def make(url: str, headers: dict[str, str] | None = None, buffer_bytes: int = 1_000_000, **more: Any) -> Outbox:
        made.append(Outbox(url, headers or {}, buffer_bytes, **{"backoff_s": (0.01, 0.05), **more}))
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


def test_a_server_says_how_long_readings_may_wait(sink: Sink, outbox: Open) -> None:
    """Its last answer counts: a few seconds at most; one that says nothing, or something else, gets them at once."""
    box = outbox(sink.url)
    for header, expected in (("5", 5.0), ("2", 2.0), ("600", 5.0), (None, 0.0), ("5", 5.0), ("soon", 0.0)):
        sink.answers.append((200, {} if header is None else {"Layerline-Send-Every": header}, b""))
        box.put(METRICS, b"", 1)
        assert eventually(lambda: box.every_s == expected), header  # noqa: B023 - asked within the loop


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_gets_it_later(sink: Sink, outbox: Open, status: int) -> None:
    """What a busy server did not take is sent again, and nothing is lost."""
    sink.answers.extend([(status, {}, b"")] * 3)
    box = outbox(sink.url)
    for number in range(5):
        box.put(METRICS, b"%d" % number, 1)
    assert sink.wait_for(lambda: len(sink.received) == 5)
    assert sorted(got.body for got in sink.received) == [b"0", b"1", b"2", b"3", b"4"]
    assert box.dropped == 0


def test_retry_after_is_honoured(sink: Sink, outbox: Open) -> None:
    """A server that says when to come back is not asked before."""
    sink.answers.append((503, {"Retry-After": "1"}, b""))
    began = time.monotonic()
    outbox(sink.url).put(METRICS, b"x", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert time.monotonic() - began >= 1.0


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
    """While the server is away the memory is bounded: the oldest goes, and is counted with its reason."""
    parcel = 40  # at least this many bytes once compressed
    sink.answers.extend([(503, {"Retry-After": "1"}, b"")])
    box = outbox(sink.url, buffer_bytes=5 * parcel)
    with sink.arrived:  # it does not answer before the last was put
        for number in range(20):
            box.put(METRICS, b"%020d" % number, 10)
    assert sink.wait_for(lambda: any(got.body == b"%020d" % 19 for got in sink.received))
    eventually(lambda: 10 * (20 - len(sink.received)) == box.dropped, "the rest")
    kept = sorted(int(got.body) for got in sink.received)
    assert kept == list(range(20 - len(kept), 20))
    assert 0 < len(kept) < 20
    assert {loss.reason for loss in eventually(box.losses)} == {FULL}


# ---- what a server may answer


def test_a_thousand_failures_end_nothing(outbox: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """After more failures than a float has powers of two, it is still sending, and has said so once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    box = outbox(url, backoff_s=(0.0, 0.0))
    box.put(METRICS, b"x", 1)
    eventually(lambda: box._failures > 1_100, "1,100 failures")
    assert box._thread.is_alive()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "connection refused" in said


@pytest.mark.parametrize("asked", ["9" * 400, "31536000", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_server_can_silence_it(sink: Sink, outbox: Open, asked: str) -> None:
    """A server that asks for a year's silence is asked again after the longest wait that we accept."""
    sink.answers.extend([(503, {"Retry-After": asked}, b"")] * 3)
    outbox(sink.url, longest_wait_s=0.05).put(METRICS, b"x", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_delivery(sink: Sink, outbox: Open, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A redirect is not followed and not taken for success: the readings are dropped, counted, and it says where to."""
    sink.answers.append((status, {"Location": f"{sink.url}/elsewhere"}, b""))
    box = outbox(sink.url, {"authorization": "Bearer s3cret"})
    box.put(METRICS, b"x", 7)
    box.put(METRICS, b"y", 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert [(got.path, got.body) for got in sink.received] == [(METRICS, b"y")]
    assert box.dropped == 7
    said = capsys.readouterr().err
    assert f"answered {status}" in said
    assert f"{sink.url}/elsewhere" in said


def test_what_is_too_large_is_sent_in_parts(sink: Sink, outbox: Open) -> None:
    """A request over the server's limit is halved until it fits; only what is one resource and too large is lost."""

    def metrics(number: int) -> Any:
        request = ExportMetricsServiceRequest()
        request.resource_metrics.add().scope_metrics.add().metrics.add(name=f"m{number}").gauge.data_points.add()
        return request.resource_metrics[0]

    whole = ExportMetricsServiceRequest(resource_metrics=[metrics(number) for number in range(4)])
    sink.answers.extend([(413, {}, b"")] * 3)  # all four, the first two, the first
    box = outbox(sink.url)
    box.put(METRICS, whole.SerializeToString(), 4)
    assert sink.wait_for(lambda: len(sink.received) == 2)
    names = [sent.scope_metrics[0].metrics[0].name for got in sink.metrics for sent in got.resource_metrics]
    assert names == ["m1", "m2", "m3"]
    eventually(lambda: box.dropped == 1)
    assert [(loss.reason, loss.points) for loss in box.losses()] == [(REFUSED, 1)]


@pytest.mark.parametrize("token", ["\u20ac-secret", "a\nsecret"])
def test_a_token_that_no_header_can_carry(
    sink: Sink, outbox: Open, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, without the token, and the readings are kept until it is mended."""
    box = outbox(sink.url, {"authorization": f"Bearer {token}"})
    box.put(METRICS, b"x", 7)
    eventually(lambda: box._failures > 2, "some attempts")
    assert box.close(within_s=0.1) == 7
    said = capsys.readouterr().err
    assert "readings are kept" in said
    assert "secret" not in said


def test_one_bad_parcel_costs_no_other(sink: Sink, outbox: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be sent for a fault of ours is dropped and said, and the next is sent."""
    sink.answers.append((413, {}, b""))
    box = outbox(sink.url)
    box.put(LOGS, b"\xff not protobuf", 1)
    box.put(LOGS, ExportLogsServiceRequest().SerializeToString(), 1)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert box.dropped == 1
    assert "DecodeError" in capsys.readouterr().err


def test_a_thread_that_ended_is_started_again(
    sink: Sink, outbox: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever ends the sending thread, it is said and another one sends."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    box = outbox(sink.url)
    monkeypatch.setattr(box, "_post", lambda _: (_ for _ in ()).throw(SystemExit))
    box.put(METRICS, b"x", 1)
    eventually(lambda: not box._thread.is_alive(), "the end of the thread")
    monkeypatch.undo()
    box.put(METRICS, b"y", 1)
    assert sink.wait_for(lambda: len(sink.received) == 2)
    assert "is started again" in capsys.readouterr().err


# ---- the spool


def test_live_readings_do_not_wait_behind_old_ones(sink: Sink, outbox: Open, tmp_path: Path) -> None:
    """After an outage what is read now is sent first, then what was kept, newest first."""
    away = outbox("http://127.0.0.1:9", spool=tmp_path / "spool")
    for number in range(3):
        away.put(METRICS, b"%d" % number, 1)
        eventually(lambda wanted=number + 1: away._spool.on_disk == wanted, "it on disk")  # type: ignore[misc]
    away.close(within_s=0.0)
    with sink.arrived:  # it does not answer before the last was put
        back = outbox(sink.url, spool=tmp_path / "spool")
        back.put(METRICS, b"live 1", 1)
        back.put(METRICS, b"live 2", 1)
    assert sink.wait_for(lambda: len(sink.received) == 5)
    bodies = [got.body for got in sink.received]
    assert [body for body in bodies if body.startswith(b"live")] == [b"live 1", b"live 2"]
    assert [body for body in bodies if not body.startswith(b"live")] == [b"2", b"1", b"0"]
    assert max(bodies.index(b"live 1"), bodies.index(b"live 2")) <= 2  # one of the old may have been under way
    eventually(lambda: not list((tmp_path / "spool").glob("*.spool")), "an empty folder")
    assert back.dropped == 0


def test_a_restart_loses_nothing(sink: Sink, outbox: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an agent could not send before it was stopped is sent by the next; what is damaged meanwhile is counted."""
    folder = tmp_path / "spool"
    first = outbox("http://127.0.0.1:9", spool=folder, backoff_s=(60.0, 60.0))
    first.put(METRICS, b"a", 5)
    eventually(lambda: first._spool.on_disk == 5, "it on disk")
    first.put(METRICS, b"b", 3)
    assert first.close(within_s=0.1) == 0
    assert "8 points are kept on disk" in capsys.readouterr().err
    oldest, newest = sorted(folder.glob("*.spool"))
    oldest.write_bytes(oldest.read_bytes()[:-3])
    second = outbox(sink.url, spool=folder)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    assert sink.received[0].body == b"b"
    eventually(lambda: second.dropped == 5, "the damaged one")
    assert [(loss.reason, loss.points) for loss in second.losses()] == [(DAMAGED, 5)]
    assert not newest.exists()


def test_a_dead_server_holds_nobody_up(outbox: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """With nobody listening, putting and closing return all the same, and what is left is told."""
    box = outbox("http://127.0.0.1:9")
    box.put(METRICS, b"x", 10)
    assert box.close(within_s=0.3) == 10
    assert "connection refused" in capsys.readouterr().err


def test_closing_sends_what_waits(sink: Sink, outbox: Open) -> None:
    """A stopping agent leaves nothing behind when the server is there."""
    box = outbox(sink.url)
    for number in range(20):
        box.put(METRICS, b"%d" % number, 1)
    assert box.close(within_s=60.0) == 0
    assert len(sink.received) == 20
