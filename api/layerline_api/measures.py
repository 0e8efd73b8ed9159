"""The server about itself: ``GET /metrics``, in Prometheus's text format.

What passes through the doors is counted here; how the store and the correlator are is asked when somebody looks
(``Questions.health``). Every figure is of this process, since it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layerline_api.problems import Problem
from layerline_correlator.questions.health import Health
from layerline_correlator.questions.questions import Questions
from layerline_correlator.store.caps import KINDS
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sizes import StoreSize
from layerline_correlator.threads import Threads

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PROTOCOLS = ("grpc", "http/protobuf", "http/json")
#: What an item of each signal is called. Log records with an event name are events, and counted as such.
ITEMS = {"traces": "span", "metrics": "point", "logs": "log"}
EVENT = "event"
NOTHING: Mapping[str, int] = {}


class Measures:
    """The figures of one server, in a registry of their own."""

    def __init__(self, questions: Questions, threads: Threads | None = None) -> None:
        self.threads = threads or Threads()
        self._registry = CollectorRegistry()
        self._received = Counter(
            "layerline_received_items",
            "Spans, points, events and log records that are durable, those delivered again among them.",
            ("protocol", "item"),
            registry=self._registry,
        )
        self._rejected = Counter(
            "layerline_rejected_items",
            "Spans, points and log records that were rejected as OTLP's partial success: they are not stored.",
            ("protocol", "item"),
            registry=self._registry,
        )
        self._refused = Counter(
            "layerline_refused_requests",
            "Whole OTLP requests that were refused, by the HTTP status of the reason: 503 is to be sent again.",
            ("protocol", "status"),
            registry=self._registry,
        )
        self._write = Histogram(
            "layerline_write_seconds",
            "How long a request's rows took from being decoded to being durable.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self._registry,
        )
        for protocol in PROTOCOLS:  # a series that is there from the beginning shows its first rise
            for item in (*ITEMS.values(), EVENT):
                self._received.labels(protocol, item)
                self._rejected.labels(protocol, item)
        self._registry.register(_Heart(questions, self.threads))

    def received(
        self, protocol: str, signal: str, batch: Batch, rejected: int, left_out: Mapping[str, int] = NOTHING
    ) -> None:
        """Count the items of one request, once they are durable; ``left_out`` are those of them beyond a cap."""
        item = ITEMS[signal]
        kept = {"span": len(batch.spans), "point": len(batch.points), "log": len(batch.logs)}[item]
        self._received.labels(protocol, item).inc(kept - left_out.get(item, 0))
        self._received.labels(protocol, EVENT).inc(len(batch.events) - left_out.get(EVENT, 0))
        self._rejected.labels(protocol, item).inc(rejected)

    def written(self, seconds: float) -> None:
        """Note how long one request's rows took to become durable."""
        self._write.observe(seconds)

    @contextmanager
    def refusals(self, protocol: str) -> Iterator[None]:
        """Count a ``Problem`` that ends the block."""
        try:
            yield
        except Problem as problem:
            self._refused.labels(protocol, str(problem.status)).inc()
            raise

    def text(self) -> bytes:
        """The body of ``GET /metrics``."""
        return generate_latest(self._registry)


def _sizes(size: StoreSize) -> Iterator[Metric]:
    """What the store takes; what is not known yet is absent."""
    sealed = sum(one.bytes for one in size.sealed)
    for name, meaning, value in (
        ("layerline_store_sealed_bytes", "What sealed hours take.", sealed),
        ("layerline_store_bytes_per_span", "What a span takes, its share of the ledgers included.", size.span_bytes),
        ("layerline_store_bytes_per_container_day",
         "What the readings of a container take in a day, its machine's included.", size.container_day_bytes),
    ):  # fmt: skip
        if value is not None:
            yield GaugeMetricFamily(name, meaning, value=value)


class _Heart(Collector):
    """What the store and the correlator say of themselves."""

    def __init__(self, questions: Questions, threads: Threads) -> None:
        self._questions = questions
        self._threads = threads

    def describe(self) -> Iterator[Metric]:
        """No questions while it is registered: the store may not be open yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        health: Health = self._questions.health()
        for name, meaning, level in (
            ("layerline_write_queue_batches", "Requests that wait to be written.", health.waiting_batches),
            ("layerline_write_queue_limit_batches", "How many may wait before senders are told to come again.",
             health.waiting_limit),
            ("layerline_correlator_waiting_traces", "Traces with spans that are not worked out yet.",
             health.waiting_traces),
            ("layerline_correlator_lag_seconds",
             "By how much the ledger that is latest is late; 0 when none is.",
             health.lag_ns / 1e9),
            ("layerline_series", "Series that sent points within the last one to two minutes.", health.active.series),
            ("layerline_series_limit", "How many there may be (LAYERLINE_SERIES).", health.active.series_limit),
            ("layerline_senders", "Resources that sent something within the last one to two minutes.",
             health.active.senders),
            ("layerline_senders_limit", "How many there may be (a tenth of LAYERLINE_SERIES).",
             health.active.senders_limit),
            ("layerline_store_used_bytes", "What is in use of the database file and of sealed hours.",
             health.used_bytes),
        ):  # fmt: skip
            yield GaugeMetricFamily(name, meaning, value=level)
        for name, meaning, count in (
            ("layerline_correlator_passes", "Times that traces were worked out, many at a time.", health.passes),
            ("layerline_correlator_worked_traces",
             "Traces worked out; again where spans came late, or somebody asked before the readings were there.",
             health.worked_traces),
            ("layerline_correlator_left_out_traces",
             "Ordinary traces without a ledger: more arrived than LAYERLINE_BUDGET allows.", health.left_out_traces),
            ("layerline_correlator_failed_traces",
             "Traces that could not be worked out: kept without parts; the log says why.", health.failed_traces),
            ("layerline_correlator_unread_traces",
             "Traces that could only be worked out without any reading; the log says why.", health.unread_traces),
            ("layerline_ledgers_refused", "Ledgers whose parts did not add up: kept without parts, all unexplained.",
             health.refused_ledgers),
            ("layerline_retention_deleted_rows", "Rows deleted because they were too old or the store too large.",
             health.deleted_rows),
        ):  # fmt: skip
            yield CounterMetricFamily(name, meaning, value=count)
        if health.size is not None:
            yield from _sizes(health.size)
        exceeded = CounterMetricFamily(
            "layerline_exceeded_items",
            "What was beyond a cap and is not stored: points of series, anything of senders, tags of resources.",
            labels=("cap",),
        )
        for kind in KINDS:
            exceeded.add_metric((kind.replace(" ", "_"),), health.active.exceeded.get(kind, 0))
        yield exceeded
        yield GaugeMetricFamily(
            "layerline_ready",
            "Whether data can be taken and worked out (1): GET /readyz says why not.",
            value=int(self._questions.ready() and not health.problems),
        )
        running = GaugeMetricFamily("layerline_threads", "Threads of the server that run.", labels=("thread",))
        failures = CounterMetricFamily(
            "layerline_thread_failures", "Times a thread ended by an exception; the log says which.", labels=("thread",)
        )
        for state in self._threads.states():
            running.add_metric((state.name,), state.running)
            failures.add_metric((state.name,), state.failures)
        yield running
        yield failures
