"""Sending spans without ever being in the way: bounded queue, counted drops, a bounded end.

The SDK's own batch processor and OTLP exporter do the work. What is ours: a full queue drops the newest span without a
word and counts it; a failing server is reported once, not every second; at exit the last spans get a couple of seconds
and no more; a forked child gets connections of its own; and what was dropped is told to the server as a metric.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.utils import suppress_instrumentation
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

from layerline import guard, own
from layerline.account import Account
from layerline.encode import Encoded, Encoder, request
from layerline.masking import Masks

#: How often finished spans are sent, unless OTEL_BSP_SCHEDULE_DELAY says otherwise.
FLUSH_EVERY_MS: Final = 1_000

#: OpenTelemetry's own names for what becomes of spans (semantic conventions, SDK metrics).
EXPORTED: Final = "otel.sdk.exporter.span.exported"
PROCESSED: Final = "otel.sdk.processor.span.processed"
_REPORT_EVERY_S: Final = 10.0


class Counts:
    """What became of the spans of this process at one destination."""

    def __init__(self) -> None:
        self.since = time.time_ns()
        self.sent = self.failed = self.dropped = 0


class Sender(OTLPSpanExporter):
    """The SDK's OTLP/HTTP exporter, given spans that are encoded already."""

    def __init__(self, masks: Masks, endpoint: str, headers: dict[str, str]) -> None:
        super().__init__(endpoint=endpoint, headers=headers)
        self._masks = masks
        #: None where the SDK's inside is not as we know it: then it is given spans, and encodes them itself.
        self.encoder = Encoder(masks) if hasattr(self, "_client") else None

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send one batch, of ``Encoded`` where there is an encoder."""
        if self.encoder is None:
            return super().export(self._masks.spans(spans))
        sent = self._client.export(request(spans)).success
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE


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
        finally:
            _here.exporting = False

    def _export(self, spans: Sequence[Any]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.counts.sent += len(spans)
            self._resource = resource_of(spans[0])
            self._report()
        else:
            self.counts.failed += len(spans)
            self._resource = None
            guard.once(
                self._where,
                "spans do not reach %s (is `layerline serve` running?); still trying, the application is not affected",
                self._where,
            )
        return result

    def shutdown(self) -> None:
        """Stop at once, also while waiting to try again. The last counts are told to a server that answered last."""
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
    import requests

    new = requests.Session()
    for name in ("headers", "verify", "cert", "auth", "proxies", "trust_env"):
        setattr(new, name, getattr(old, name))
    holder._session = new


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
    return MetricsData([ResourceMetrics(resource, [scope], "")])


class Batches(BatchSpanProcessor):
    """The SDK's batch processor; a full queue costs the newest span, and the end of the process is not held up."""

    def __init__(self, exporter: Exporter, exit_timeout_s: float) -> None:
        given = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
        super().__init__(exporter, schedule_delay_millis=None if given else FLUSH_EVERY_MS)
        self._counts_of = exporter
        self._encoder = exporter.encoder
        self._account: Account | None = None
        self._exit_timeout_s = exit_timeout_s
        self._most: int = self._batch_processor._max_queue_size
        self._name_thread()
        forked = weakref.WeakMethod(self._name_thread)  # the SDK starts another thread in a forked child, before this

        def after() -> None:
            if (method := forked()) is not None:
                method()

        os.register_at_fork(after_in_child=after)

    def _name_thread(self) -> None:
        """Mark the thread that sends as ours. Under gevent it is a greenlet of the app's own thread."""
        try:
            tid = getattr(getattr(self._batch_processor, "_worker_thread", None), "native_id", None)
            if tid != threading.get_native_id():
                own.name(tid, "send")
        except Exception:
            guard.failed("export.name_thread")

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
            batches = self._batch_processor
            if len(batches._queue) >= self._most:
                self._counts_of.counts.dropped += 1
                return
            # The SDK's queue takes what its exporter takes.
            batches.emit(span if self._encoder is None else self._encoder.encode(span))  # type: ignore[arg-type]
        except Exception:
            guard.failed("export.on_end")

    def shutdown(self) -> None:
        """Send what is queued, for as long as the exit may take altogether."""
        if self._account is not None:
            self._account.shutdown()
        self._batch_processor.shutdown(timeout_millis=int(1_000 * remaining(self._exit_timeout_s)))


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
