"""Sending spans without ever being in the way: bounded queue, counted drops, a bounded end.

The SDK's own batch processor and OTLP exporter do the work. What is ours: a full queue drops the newest span without a
word and counts it; a failing server is reported once, not every second, with what came back; answers cost bounded time
and memory (``layerline.session``), and a batch that is too large is sent in halves; at exit the last spans get a couple
of seconds and no more; a forked child gets connections of its own, and sends no span that its parent opened; and what
was dropped is told to the server as a metric.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from layerline import fast, guard, own
from layerline.account import Account
from layerline.attributes import ACCOUNT_REASON
from layerline.encode import Encoded, Encoder, in_utf8, request
from layerline.masking import Masks
from layerline.session import Outcome, Session, printable
from layerline.thread import Open

#: How often finished spans are sent, unless OTEL_BSP_SCHEDULE_DELAY says otherwise.
FLUSH_EVERY_MS: Final = 1_000

#: OpenTelemetry's own names for what becomes of spans (semantic conventions, SDK metrics).
EXPORTED: Final = "otel.sdk.exporter.span.exported"
PROCESSED: Final = "otel.sdk.processor.span.processed"
_REPORT_EVERY_S: Final = 10.0
_TOO_LARGE: Final = 413
#: How large a request may be until a server says less (Collectors take 20 MiB), and how small one needs to be at most.
_AT_FIRST_BYTES, _AT_LAST_BYTES = 16 << 20, 64 << 10
_AT_ONCE: Final = 1_000
#: By these the user names a session that signs requests: then the SDK uses it as it is.
CREDENTIALS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)


class Counts:
    """What became of the spans of this process at one destination."""

    def __init__(self) -> None:
        self.since = time.time_ns()
        self.sent = self.failed = self.dropped = 0


class Sender(OTLPSpanExporter):
    """The SDK's OTLP/HTTP exporter, given spans that are encoded already."""

    def __init__(self, masks: Masks, endpoint: str, headers: dict[str, str], tls_ca: str | None = None) -> None:
        """``tls_ca``: a file of authorities that the server's certificate is checked with; None: as the SDK does."""
        #: None where the user has named a session of his own (a "credential provider").
        self.session = None if any(os.environ.get(name) for name in CREDENTIALS) else Session()
        super().__init__(endpoint=endpoint, headers=headers, session=self.session, certificate_file=tls_ca)
        self._masks = masks
        self.lost = 0
        """Of the last batch: spans that did not arrive."""
        self.outcome: Outcome | None = None
        """Of the last batch: the first answer that was not a success, or what a partial success says."""
        self._most_bytes = _AT_FIRST_BYTES  # of one request, as far as is known
        #: None where the SDK's inside is not as we know it: then it is given spans, and encodes them itself.
        self.encoder = Encoder(masks) if hasattr(self, "_client") else None

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send one batch, of ``Encoded`` where there is an encoder. SUCCESS where any of it arrived."""
        self.lost, self.outcome = 0, None
        if self.encoder is None:
            result = super().export(self._masks.spans(spans))
            came = self.session.outcome if self.session is not None else None
            fine = result is SpanExportResult.SUCCESS and (came is None or came.delivered)
            self.lost, self.outcome = (0, None) if fine else (len(spans), came)
        else:
            self._send(spans)
        return SpanExportResult.SUCCESS if self.lost < len(spans) else SpanExportResult.FAILURE

    def _send(self, spans: Sequence[Any]) -> bool:
        """Send these, in halves where they are too large; False where it makes no sense to try others."""
        size = sum(len(body) for _, body in spans)
        if size > self._most_bytes and len(spans) > 1:
            return self._send_halves(spans)
        sent = self._client.export(request(spans)).success
        came = self.session.outcome if self.session is not None else None
        if sent and (came is None or came.delivered):
            if came is not None and came.content:
                self._rejected(came, len(spans))
            return True
        if came is not None and came.status == _TOO_LARGE:
            if len(spans) > 1:  # the next batch is not sent in vain
                self._most_bytes = max(_AT_LAST_BYTES, min(self._most_bytes, size // 2))
                return self._send_halves(spans)
            self.lost, self.outcome = self.lost + 1, self.outcome or came
            return True
        self.lost, self.outcome = self.lost + len(spans), came
        return False

    def _send_halves(self, spans: Sequence[Any]) -> bool:
        middle = len(spans) // 2
        if self._send(spans[:middle]):
            return self._send(spans[middle:])
        self.lost += len(spans) - middle
        return False

    def _rejected(self, came: Outcome, most: int) -> None:
        """What a partial success says was not taken."""
        try:
            part = ExportTraceServiceResponse.FromString(came.content).partial_success
        except DecodeError:  # accepted all the same: some servers answer JSON or text
            return
        if part.rejected_spans > 0:
            rejected = min(most, part.rejected_spans)
            self.lost += rejected
            words = f"{rejected} of {most} spans were rejected: {printable(part.error_message)}"
            self.outcome = Outcome(came.status, words)


class Masked(SpanExporter):
    """Any other exporter, given spans without what must not leave the app."""

    def __init__(self, masks: Masks, exporter: SpanExporter) -> None:
        self._masks = masks
        self._exporter = exporter
        self.shutdown = exporter.shutdown  # type: ignore[method-assign]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand one batch on."""
        return self._exporter.export(self._masks.spans(spans))


class Exporter(SpanExporter):
    """Sends through another exporter and keeps the counts."""

    def __init__(self, exporter: SpanExporter, where: str) -> None:
        self._exporter = exporter
        self._where = where
        self.counts = Counts()
        self.reports: OTLPMetricExporter | None = None
        self._reported = (0, 0, 0)
        self._next_report = time.monotonic() + _REPORT_EVERY_S
        self._resource: Resource | None = None  # of the last batch, if it arrived
        reset = weakref.WeakMethod(self._forked)

        def after() -> None:
            if (method := reset()) is not None:
                method()

        os.register_at_fork(after_in_child=after)

    @property
    def encoder(self) -> Encoder | None:
        """What encodes a span as it ends; None for an exporter that wants the spans themselves."""
        return self._exporter.encoder if isinstance(self._exporter, Sender) else None

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Called on the processor's own thread, never on the application's."""
        _here.exporting = True
        try:
            return self._export(spans)
        except Exception:  # the SDK would log it with all its lines, each time
            self.counts.failed += len(spans)
            guard.failed("export")
            return SpanExportResult.FAILURE
        finally:
            _here.exporting = False

    def _export(self, spans: Sequence[Any]) -> SpanExportResult:
        sender = self._exporter
        result = sender.export(spans)
        arrived = result is SpanExportResult.SUCCESS
        lost = sender.lost if isinstance(sender, Sender) else 0 if arrived else len(spans)
        self.counts.sent += len(spans) - lost
        self.counts.failed += lost
        self._resource = resource_of(spans[0]) if arrived else None
        if lost:
            self._say(sender.outcome if isinstance(sender, Sender) else None)
        if arrived:
            self._report()
        return result

    def _say(self, came: Outcome | None, last: bool = False) -> None:
        """Say what came back instead of a success, once for each status."""
        status = came.status if came is not None else None
        words = came.words if came is not None else "the exporter failed"
        hint = " (is `layerline serve` running?)" if "refused" in words and status is None else ""
        if status == 401:
            hint = " (set LAYERLINE_TOKEN)"
        if last:
            message = "the last spans did not reach %s: %s%s; the application is not affected"
        elif status is not None and 200 <= status < 300:
            message = "spans that were sent to %s are not kept: %s%s; the application is not affected"
        else:
            message = "spans do not reach %s: %s%s; still trying, the application is not affected"
        guard.once(f"{self._where} {status}", message, self._where, words, hint)

    def shutdown(self) -> None:
        """Stop at once, also while waiting to try again. The last counts are told to a server that answered last."""
        session = self._exporter.session if isinstance(self._exporter, Sender) else None
        if session is not None and (came := session.outcome) is not None and not came.delivered:
            self._say(came, last=True)  # what was to be tried again is lost
        _here.exporting = True
        try:
            with suppress_instrumentation():  # the SDK does so on its own thread only
                self._report(last=True)
        finally:
            _here.exporting = False
        self._exporter.shutdown()
        if self.reports is not None:
            self.reports.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True

    def _report(self, last: bool = False) -> None:
        """Tell the server what became of our spans, if anything did since the last time."""
        resource = self._resource
        now = (self.counts.sent, self.counts.failed, self.counts.dropped)
        due = last or now[1:] != self._reported[1:] or time.monotonic() >= self._next_report
        if self.reports is None or resource is None or not due or now == self._reported:
            return
        self._reported = now
        self._next_report = time.monotonic() + _REPORT_EVERY_S
        try:
            self.reports.export(report(self.counts, resource))
        except Exception:
            guard.failed("export.report")

    def _forked(self) -> None:
        """In a forked child: the parent's connections are the parent's, and so are its counts."""
        self.counts = Counts()
        self._reported = (0, 0, 0)
        for exporter in (self._exporter, self.reports):
            renew_connections(exporter)


def resource_of(span: ReadableSpan | Encoded) -> Resource:
    """Where a span ran."""
    return span[0].resource if isinstance(span, tuple) else span.resource


def renew_connections(exporter: Any) -> None:
    """Give an OTLP HTTP exporter a session of its own, without touching the one it shares with the parent process.

    The SDK keeps the session: parent and child would then write into one connection. The old one is not closed but
    forgotten, as its locks may have been held by a thread that does not exist here.
    """
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    holder = transport if transport is not None else exporter
    old = getattr(holder, "_session", None)
    if old is None:
        return
    new = Session() if isinstance(old, Session) else requests.Session()
    for name in ("headers", "verify", "cert", "auth", "proxies", "trust_env"):
        setattr(new, name, getattr(old, name))
    holder._session = new
    if isinstance(exporter, Sender) and isinstance(new, Session):
        exporter.session = new


def report(counts: Counts, resource: Resource) -> MetricsData:
    """The counts as OpenTelemetry's SDK metrics: sent, failed to send, dropped because the queue was full."""
    now = time.time_ns()

    def counter(name: str, points: list[tuple[int, dict[str, str]]]) -> Metric:
        data_points = [NumberDataPoint(attributes, counts.since, now, value) for value, attributes in points]
        return Metric(name, "", "{span}", Sum(data_points, AggregationTemporality.CUMULATIVE, is_monotonic=True))

    metrics = [
        counter(EXPORTED, [(counts.sent, {}), (counts.failed, {"error.type": "export_failed"})]),
        counter(PROCESSED, [(counts.dropped, {"error.type": "queue_full"})]),
    ]
    scope = ScopeMetrics(InstrumentationScope("layerline"), metrics, "")
    return MetricsData([ResourceMetrics(Resource(in_utf8(resource.attributes)), [scope], "")])


class Batches(BatchSpanProcessor):
    """The SDK's batch processor; a full queue costs the newest span, and the end of the process is not held up."""

    def __init__(self, exporter: Exporter, exit_timeout_s: float) -> None:
        given = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
        super().__init__(exporter, schedule_delay_millis=None if given else FLUSH_EVERY_MS)
        self._counts_of = exporter
        self._encoder = exporter.encoder
        self._account: Account | None = None
        self.exit_timeout_s = exit_timeout_s
        batches = self._batch_processor
        self._most: int = batches._max_queue_size
        # Threads that end a span at the same moment may each find room for the last one: the SDK would log that.
        batches._queue = deque(batches._queue, self._most + _AT_ONCE)
        batches._max_queue_size = self._most + _AT_ONCE
        if (
            fast.MODULE is not None
            and self._encoder is not None
            and self._encoder.fast is not None
            and is_known(batches)
        ):
            self.on_end = fast.MODULE.Queue(  # type: ignore[method-assign]
                self._encoder.fast, batches, self.on_end, ACCOUNT_REASON, self._most, batches._max_export_batch_size
            ).on_end
        self._name_thread()
        forked = weakref.WeakMethod(self._name_thread)  # the SDK starts another thread in a forked child, before this

        def after() -> None:
            if (method := forked()) is not None:
                method()

        os.register_at_fork(after_in_child=after)

    @property
    def unsent(self) -> bool:
        """Whether spans wait to be sent, or are being sent."""
        return bool(self._batch_processor._queue) or self._batch_processor._export_lock.locked()

    def _name_thread(self) -> None:
        """Mark the thread that sends as ours. Under gevent it is a greenlet of the app's own thread."""
        try:
            thread = getattr(self._batch_processor, "_worker_thread", None)
            if thread is not None:
                ends_in_silence(thread)
            tid = getattr(thread, "native_id", None)
            if tid != threading.get_native_id():
                own.name(tid, "send")
        except Exception:
            guard.failed("export.name_thread")

    def _see_to_thread(self) -> None:
        """The queue is full: if that is because the thread that empties it has ended, say so and start another."""
        batches = self._batch_processor
        thread = getattr(batches, "_worker_thread", None)
        if thread is None or thread.is_alive() or batches._shutdown:
            return
        with _ending:
            if batches._worker_thread is not thread:
                return
            batches._worker_thread = threading.Thread(name=thread.name, target=batches.worker, daemon=True)
        guard.once("export.thread", "the thread that sends spans had ended; it was started again")
        batches._worker_thread.start()
        self._name_thread()

    def measured_by(self, account: Account) -> Batches:
        """Let the SDK ask one processor instead of two: an account's hooks and ours do not overlap (0.5 µs a span)."""
        self.on_start = account.on_start  # type: ignore[method-assign]
        self._on_ending = account._on_ending  # type: ignore[method-assign]
        self._account = account
        return self

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span; when the queue is full, count it instead. Never waits, never logs."""
        try:
            context = span._context
            if context is None or not context.trace_flags.sampled:
                return
            if Open.forks and (span.attributes or {}).get(ACCOUNT_REASON) == "forked":
                return  # it is the parent's, which sends it
            batches = self._batch_processor
            if len(batches._queue) >= self._most:
                self._counts_of.counts.dropped += 1
                self._see_to_thread()
                return
            # The SDK's queue takes what its exporter takes.
            batches.emit(span if self._encoder is None else self._encoder.encode(span))  # type: ignore[arg-type]
        except Exception:
            guard.failed("export.on_end")

    def shutdown(self) -> None:
        """Send what is queued, for as long as the exit may take altogether."""
        if self._account is not None:
            self._account.shutdown()
        self._batch_processor.shutdown(timeout_millis=int(1_000 * remaining(self.exit_timeout_s)))


#: What the SDK's ``BatchProcessor.emit`` does, by the names in it: the extension does the same.
_EMIT: Final = frozenset((
    "_bsp_reset_once", "_at_fork_reinit", "_exporting", "_max_export_batch_size", "_max_queue_size", "_metrics", "_pid",
    "_queue", "_shutdown", "_worker_awaken", "_logger", "appendleft", "do_once", "drop_items", "getpid", "info",
    "is_set", "len", "os", "set", "warning",
))  # fmt: skip


def is_known(batches: Any) -> bool:
    """Whether this SDK queues a span as the extension does."""
    code = getattr(type(batches).emit, "__code__", None)
    return code is not None and frozenset(code.co_names) <= _EMIT and "emit" not in vars(batches)


def ends_in_silence(thread: threading.Thread) -> None:
    """Let a thread end without a traceback where gevent took the threads after it began.

    It looks itself up by its id when it ends, and gevent gives ids of its own.
    """
    delete = getattr(thread, "_delete", None)
    if delete is None:
        return

    def forgiving() -> None:
        with contextlib.suppress(KeyError):
            delete()

    thread.__dict__["_delete"] = forgiving


_ends_at: float | None = None
_ending = threading.Lock()


def remaining(timeout_s: float) -> float:
    """Seconds left of the time that the exit may take; it starts with the first who asks."""
    global _ends_at
    with _ending:
        if _ends_at is None:
            _ends_at = time.monotonic() + timeout_s
    return max(0.1, _ends_at - time.monotonic())


_here = threading.local()


def worth_saying(record: logging.LogRecord) -> bool:
    """Drops what the SDK logs on each of our own failed attempts: ``Exporter`` says it once, itself."""
    return not getattr(_here, "exporting", False)


for _name in ("proto.http.trace_exporter", "proto.http.metric_exporter", "common.http"):
    logging.getLogger(f"opentelemetry.exporter.otlp.{_name}").addFilter(worth_saying)


def endpoint(base: str, signal: str) -> str:
    """The URL of a signal below an OTLP base URL."""
    return f"{base.rstrip('/')}/v1/{signal}"


def authorization(token: str) -> dict[str, str]:
    """The header that carries the token."""
    return {"authorization": f"Bearer {token}"} if token else {}
