"""OTLP over gRPC: what is taken, what is refused and how, and that no answer is lost when it ends."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_fake import TOKEN, TRACE, FakeCorrelator, one_span
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from layerline_api.doors import grpc_server as grpc_door
from layerline_api.doors.addresses import CannotListen, addresses, bind
from layerline_api.doors.grpc_server import GrpcDoor, credentials
from layerline_api.doors.intake import Intake
from layerline_api.doors.tls import certificate_of
from layerline_api.measures import Measures
from layerline_api.settings import ServerSettings
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import Batch
from waiting import PATIENCE_S, eventually

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
GOOD = one_span().SerializeToString()
Door = Callable[..., str]


@contextmanager
def open_door(correlator: FakeCorrelator, settings: ServerSettings) -> Iterator[tuple[GrpcDoor, str]]:
    """A gRPC server in this process and its ``HOST:PORT``."""
    bound = bind(addresses("127.0.0.1:0")[0])
    where = f"127.0.0.1:{bound.getsockname()[1]}"
    door = GrpcDoor(
        Intake(correlator, settings, Measures(correlator)), settings, [bound], credentials(certificate_of(settings))
    )
    try:
        yield door, where
    finally:
        door.stop(0)
        door.wait()


@pytest.fixture
def correlator() -> FakeCorrelator:
    return FakeCorrelator()


@pytest.fixture
def door(correlator: FakeCorrelator) -> Iterator[Door]:
    """``door(settings)`` is the address of a server that ends with the test."""
    with ExitStack() as doors:

        def begin(settings: ServerSettings | None = None, questions: FakeCorrelator = correlator) -> str:
            return doors.enter_context(open_door(questions, settings or ServerSettings()))[1]

        yield begin


def send(where: str, body: bytes, method: str = TRACES, **options: Any) -> Any:
    """The answer's bytes, or the error that came instead."""
    with grpc.insecure_channel(where) as channel:
        try:
            return channel.unary_unary(method)(body, timeout=PATIENCE_S, **options)
        except grpc.RpcError as error:
            return error


def test_a_request_is_stored_and_then_acknowledged(door: Door, correlator: FakeCorrelator) -> None:
    """An empty response of the right class, and the span has been appended, plain and gzipped alike."""
    where = door()
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        answer = send(where, GOOD * 20, compression=compression)
        assert ExportTraceServiceResponse.FromString(answer) == ExportTraceServiceResponse()
    plain, packed = correlator.batches
    assert plain == packed
    assert plain.spans[0].trace_id == TRACE


def test_metrics_and_logs_have_their_services(door: Door, correlator: FakeCorrelator) -> None:
    """Points and events arrive through the other two Export methods."""
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="system.memory.usage")
    metric.gauge.data_points.add(time_unix_nano=1, as_int=5)
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1, event_name="deploy")
    where = door()
    assert send(where, metrics.SerializeToString(), METRICS) == b""
    assert send(where, logs.SerializeToString(), LOGS) == b""
    assert [len(batch.points) for batch in correlator.batches] == [1, 0]
    assert [len(batch.events) for batch in correlator.batches] == [0, 1]


def test_a_real_exporter(door: Door, correlator: FakeCorrelator) -> None:
    """OpenTelemetry's own SDK and gRPC exporter, with its token in its headers and gzip, deliver a span."""
    where = door(ServerSettings(token=TOKEN))
    exporter = OTLPSpanExporter(
        endpoint=f"http://{where}",
        insecure=True,
        headers={"authorization": f"Bearer {TOKEN}"},
        compression=grpc.Compression.Gzip,
    )
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("GET /cart"):
        pass
    provider.shutdown()
    (batch,) = correlator.batches
    assert [span.name for span in batch.spans] == ["GET /cart"]
    assert batch.resources[0].attributes["service.name"] == "shop"


def test_what_was_rejected_is_said(door: Door, correlator: FakeCorrelator) -> None:
    """A bad span beside a good one: one kept, one in partial_success."""
    request = one_span()
    request.MergeFrom(one_span(end_time_unix_nano=1))
    partial = ExportTraceServiceResponse.FromString(send(door(), request.SerializeToString())).partial_success
    assert partial.rejected_spans == 1
    assert "ends before it starts" in partial.error_message
    assert len(correlator.batches[0].spans) == 1


BAD = {
    "no protobuf": (b"\x0a\xff", grpc.StatusCode.INVALID_ARGUMENT),
    "truncated": (GOOD[:-3], grpc.StatusCode.INVALID_ARGUMENT),
    "truncated gzip": (gzip.compress(GOOD)[:-9], grpc.StatusCode.INVALID_ARGUMENT),
    "no gzip after all": (b"\x1f\x8bnonsense", grpc.StatusCode.INVALID_ARGUMENT),
    "more than a message may be": (b"x" * (17 * 2**20), grpc.StatusCode.RESOURCE_EXHAUSTED),
    "a gzip bomb": (gzip.compress(bytes(65 * 2**20)), grpc.StatusCode.RESOURCE_EXHAUSTED),
    "millions of nothings": (b"\x0a\x00" * 2**20, grpc.StatusCode.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize(("body", "code"), BAD.values(), ids=BAD)
def test_a_message_that_cannot_be_read(
    door: Door, correlator: FakeCorrelator, body: bytes, code: grpc.StatusCode
) -> None:
    """A status that tells the sender to drop it (no RetryInfo), nothing stored, and the next request is answered."""
    where = door()
    for method in (TRACES, METRICS, LOGS) if len(body) < 2**20 else (TRACES,):
        error = send(where, body, method)
        assert error.code() is code
        assert error.details()
        assert "grpc-status-details-bin" not in dict(error.trailing_metadata())
    assert correlator.batches == []
    assert send(where, GOOD) == b""


def test_a_bomb_that_the_library_packed(door: Door) -> None:
    """A message that is compressed on the way, not by hand, is held to the same limit once it is unpacked."""
    error = send(door(ServerSettings(inflated_limit_bytes=2**20)), bytes(2**21), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "once decompressed" in error.details()


def test_what_is_not_offered(door: Door, correlator: FakeCorrelator) -> None:
    """Another compression, another method and a request without a message are refused by name."""
    where = door()
    deflated = send(where, GOOD * 20, compression=grpc.Compression.Deflate)
    assert deflated.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "deflate" in deflated.details()
    profiles = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
    assert send(where, GOOD, profiles).code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(where) as channel, pytest.raises(grpc.RpcError) as none:
        channel.stream_unary(TRACES)(iter(()), timeout=PATIENCE_S)
    assert none.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert correlator.batches == []


@pytest.mark.parametrize("trouble", ["overloaded", "broken"])
def test_a_store_that_cannot_take_it_asks_to_come_back(door: Door, correlator: FakeCorrelator, trouble: str) -> None:
    """Too much load or a full disk: UNAVAILABLE, and RetryInfo says when to come again."""
    setattr(correlator, trouble, True)
    error = send(door(), GOOD)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.seconds == 1


def test_with_a_token_it_asks_for_it(door: Door, correlator: FakeCorrelator) -> None:
    """UNAUTHENTICATED without the token or with a wrong one, however large the message; with it the span is taken."""
    where = door(ServerSettings(token=TOKEN))
    for wrong in ((), (("authorization", "Bearer s3cre"),), (("authorization", f"Basic {TOKEN}"),)):
        assert send(where, GOOD, metadata=wrong).code() is grpc.StatusCode.UNAUTHENTICATED
    assert send(where, GOOD, metadata=(("authorization", f"bearer {TOKEN}"),)) == b""
    assert len(correlator.batches) == 1


@dataclass
class Stuck(FakeCorrelator):
    """Stores nothing before the gate is opened."""

    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def append(self, batch: Batch) -> tuple[Exceeded, ...]:
        self.begun.release()
        assert self.gate.wait(60)
        return super().append(batch)


def test_beyond_its_share_senders_are_told_to_come_back(door: Door) -> None:
    """While as many are stored as may be, others get UNAVAILABLE at once, and the first keep their place."""
    stuck = Stuck()
    where = door(ServerSettings(receive_at_once=2), stuck)
    answers: list[Any] = []
    first = [threading.Thread(target=lambda: answers.append(send(where, GOOD))) for _ in range(2)]
    for sender in first:
        sender.start()
    for _ in first:
        assert stuck.begun.acquire(timeout=PATIENCE_S)
    assert [send(where, GOOD).code() for _ in range(5)] == [grpc.StatusCode.UNAVAILABLE] * 5
    stuck.gate.set()
    for sender in first:
        sender.join(PATIENCE_S)
    assert answers == [b"", b""]


def test_who_sends_nothing_does_not_keep_a_thread(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders that open requests and stay silent are cancelled, and then others are served again."""
    monkeypatch.setattr(grpc_door, "READ_S", 0.5)
    where, over = door(ServerSettings(receive_at_once=2)), threading.Event()

    def silence() -> Iterator[bytes]:
        over.wait(PATIENCE_S)
        yield from ()

    with grpc.insecure_channel(where) as channel:
        silent = [channel.stream_unary(TRACES).future(silence(), timeout=PATIENCE_S) for _ in range(2)]
        assert [call.code() for call in silent] == [grpc.StatusCode.CANCELLED] * 2
        eventually(lambda: send(where, GOOD) == b"", "that others are served again")
        over.set()


def test_what_has_begun_is_answered_when_it_ends() -> None:
    """Requests that are being stored when the server is told to stop get their answers; later ones none."""
    stuck, answers = Stuck(), []
    with open_door(stuck, ServerSettings()) as (door, where):
        senders = [threading.Thread(target=lambda: answers.append(send(where, GOOD))) for _ in range(4)]
        for sender in senders:
            sender.start()
        for _ in senders:
            assert stuck.begun.acquire(timeout=PATIENCE_S)
        door.stop(60)
        assert send(where, GOOD).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        stuck.gate.set()
        door.wait()
        for sender in senders:
            sender.join(PATIENCE_S)
    assert answers == [b""] * 4
    assert len(stuck.batches) == 4


@pytest.fixture(scope="module")
def any_door() -> Iterator[tuple[str, FakeCorrelator]]:
    correlator = FakeCorrelator()
    with open_door(correlator, ServerSettings()) as (_, where):
        yield where, correlator


@given(some.binary(max_size=200) | some.binary(max_size=100).map(lambda rest: b"\x1f\x8b" + rest))
def test_any_bytes_get_an_answer(any_door: tuple[str, FakeCorrelator], body: bytes) -> None:
    """Random bytes are taken or refused as the sender's mistake, never as ours."""
    answer = send(any_door[0], body)
    assert isinstance(answer, bytes) or answer.code() is grpc.StatusCode.INVALID_ARGUMENT


# ---- TLS


def test_tls(door: Door, correlator: FakeCorrelator, certificate: tuple[Path, Path]) -> None:
    """With a certificate a client that trusts it is served, and one that speaks plainly is not."""
    where = door(ServerSettings(tls_cert=certificate[0], tls_key=certificate[1]))
    trust = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    with grpc.secure_channel(where.replace("127.0.0.1", "localhost"), trust) as channel:
        assert channel.unary_unary(TRACES)(GOOD, timeout=PATIENCE_S) == b""
    assert send(where, GOOD).code() is grpc.StatusCode.UNAVAILABLE
    assert len(correlator.batches) == 1


def test_certificates_of_no_use(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """A missing file, half of a pair and a file that is no certificate are named."""
    cert, key = certificate
    assert certificate_of(ServerSettings()) is None
    for settings, named in (
        (ServerSettings(tls_cert=cert), "--tls-key"),
        (ServerSettings(tls_key=key), "--tls-cert"),
        (ServerSettings(tls_cert=tmp_path / "none.pem", tls_key=key), "none.pem cannot be read: No such file"),
        (ServerSettings(tls_cert=key, tls_key=cert), "expected a certificate and its key"),
    ):
        with pytest.raises(ValueError, match=named):
            certificate_of(settings)


def test_the_port_is_not_shared(door: Door) -> None:
    """A second server cannot take the port of a first, as Linux would let both."""
    with pytest.raises(CannotListen, match="in use"):
        bind(addresses(door())[0])
