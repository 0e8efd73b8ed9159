"""Puts the pieces together: resource, account, meters and exporters, onto a new TracerProvider or the app's own.

Two ways lead here: the distro (``layerline run``, ``opentelemetry-instrument``) before the app is loaded, and
``layerline.start()`` from its code. Both may happen in one process; the second finds all done.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import opentelemetry.attributes
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from layerline import accept, attributes, guard, share_context, streaming, tasks, work
from layerline.account import Account
from layerline.cgroup import Cgroup
from layerline.container import identify
from layerline.export import CREDENTIALS, Batches, Exporter, Masked, Sender, authorization, endpoint
from layerline.masking import Masks
from layerline.meters import Meters
from layerline.resource import describe, process, without
from layerline.session import Session
from layerline.settings import DEFAULT_ENDPOINT, Settings


@dataclass(frozen=True, slots=True)
class Destination:
    """Where spans go: a full URL of the traces endpoint, and whether a Layerline server is expected there."""

    traces: str
    ours: bool


def destinations(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Destination]:
    """Layerline's server first; OpenTelemetry's own endpoint too if it is set and is another one."""
    theirs = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or ""
    if not theirs and environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        theirs = endpoint(environ["OTEL_EXPORTER_OTLP_ENDPOINT"], "traces")
    if not settings.endpoint:
        return [Destination(theirs or endpoint(DEFAULT_ENDPOINT, "traces"), ours=True)]
    ours = endpoint(settings.endpoint, "traces")
    return [Destination(ours, ours=True)] + ([Destination(theirs, ours=False)] if theirs not in ("", ours) else [])


def batches(destination: Destination, settings: Settings) -> Batches:
    """The processor that sends to one destination over OTLP/HTTP. ``OTEL_EXPORTER_OTLP_HEADERS`` goes to all.

    What became of the spans is told to Layerline's server whatever OTEL_METRICS_EXPORTER says: it is about them.
    """
    headers = authorization(settings.token) if destination.ours else {}
    tls_ca = (settings.tls_ca or None) if destination.ours else None
    sender = Exporter(Sender(Masks(settings.capture), destination.traces, headers, tls_ca), destination.traces)
    base, _, signal = destination.traces.rpartition("/v1/")
    if destination.ours and signal == "traces":
        sender.reports = OTLPMetricExporter(
            endpoint=endpoint(base, "metrics"),
            headers=headers,
            certificate_file=tls_ca,
            timeout=1,
            session=None if any(os.environ.get(name) for name in CREDENTIALS) else Session(),
        )
    return Batches(sender, settings.exit_timeout_s)


def foreign(exporter: SpanExporter, settings: Settings) -> Batches:
    """The processor for an exporter that the user named (``OTEL_TRACES_EXPORTER``), masked and bounded like ours."""
    masked = Masked(Masks(settings.capture), exporter)
    return Batches(Exporter(masked, type(exporter).__name__), settings.exit_timeout_s)


def account(cgroup: Cgroup, settings: Settings) -> Account:
    """The processor that measures; one a process. The tasks of event loops are seen from now on."""
    global _account
    accept.install()
    try:
        tasks.install()
    except Exception:
        guard.failed("wiring.tasks")
    meters = Meters(cgroup, contained=identify(cgroup, settings.container_id) is not None)
    _account = Account(meters, settings.watch_ns)
    return _account


_account: Account | None = None
#: What the last thread gets beyond the time that sending may take, before the process ends without it.
_GRACE_S: Final = 0.5


def measured(account: Account, senders: list[Batches]) -> list[SpanProcessor]:
    """The processors to register: the first that sends measures too; without any, the account stands alone."""
    if not senders:
        return [account]
    return [senders[0].measured_by(account), *senders[1:]]


def note_requests(instrumentation: ModuleType) -> None:
    """Let an instrumentation that notes when a request came in take a reading then (``Account.now``)."""
    if _account is not None and hasattr(instrumentation, "time_ns"):
        instrumentation.time_ns = _account.now  # type: ignore[attr-defined]


def follow_requests(framework: str, instrumentation: ModuleType) -> None:
    """Follow a framework's requests further than its instrumentation does: from their arrival to their last byte."""
    try:
        if framework == "flask":
            note_requests(instrumentation)
            streaming.flask(instrumentation)
        elif framework == "tornado":
            note_requests(instrumentation)
        elif hasattr(instrumentation, "_DjangoMiddleware"):
            streaming.django(instrumentation)
    except Exception:
        guard.failed("wiring.follow_requests")


def record_work(provider: TracerProvider) -> None:
    """Let work that is handed to other threads leave records with this provider (``layerline.work``)."""
    if _account is not None:
        work.install(_account, provider)


def take_any_value() -> None:
    """Let an attribute whose ``__str__`` raises be left out.

    OpenTelemetry's SDK makes text of values that it does not know, and raises in the application what they raise.
    """
    theirs: Any = opentelemetry.attributes
    castable = getattr(theirs, "_is_non_custom_str", None)
    if castable is None or hasattr(castable, "_layerline"):
        return

    def castable_here(value: object) -> bool:
        try:
            return bool(castable(value)) and isinstance(str(value), str)
        except Exception:
            return False

    castable_here.__dict__["_layerline"] = castable
    theirs._is_non_custom_str = castable_here


def described(settings: Settings, cgroup: Cgroup, said: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Our resource attributes, less those that the user has given."""
    given = OTELResourceDetector().detect().attributes if said is None else said
    return dict(without(describe(settings, cgroup), given))


def join(provider: TracerProvider, settings: Settings) -> None:
    """Add ourselves to a provider that the application has made: its processors, sampler and resource stay."""
    if isinstance(provider._active_span_processor, ConcurrentMultiSpanProcessor):
        guard.once(
            "concurrent",
            "spans are handled on other threads than their own (ConcurrentMultiSpanProcessor): not measured",
        )
        return
    cgroup = Cgroup.of_this_process()
    update(provider, {**described(settings, cgroup, provider.resource.attributes), **sampler(provider)})
    senders = [batches(each, settings) for each in destinations(settings) if each.ours]
    for processor in measured(account(cgroup, settings), senders):
        provider.add_span_processor(processor)
    follow_forks(provider)
    record_work(provider)
    share_context.install(settings, provider)


def sampler(provider: TracerProvider) -> dict[str, str]:
    """Which spans it keeps: coverage tells a service that is sampled from one that is not."""
    return {attributes.SAMPLER: provider.sampler.get_description()}


def update(provider: TracerProvider, attributes: Mapping[str, Any]) -> None:
    """Add attributes to a provider's resource, for all its tracers, those that exist already too.

    Before 1.41 or so the SDK has no way for it, and its tracers share the resource's own dictionary.
    """
    if hasattr(provider, "_update_resource"):
        provider._update_resource(Resource(dict(attributes)))
    else:
        provider.resource._attributes._dict.update(attributes)
    share_context.publish(provider)


def follow_forks(provider: TracerProvider) -> None:
    """Spans of a forked child carry the child's pid, and are sent before it ends.

    Most children leave by ``os._exit`` (``multiprocessing``, RQ's work horses), which runs no exit handlers. Those of
    ``multiprocessing`` run handlers of their own before; Celery's pool runs none, but sends a signal.
    """

    def end_with_worker(**_: object) -> None:
        try:
            provider.shutdown()
        except Exception:
            guard.failed("wiring.end_with_worker")

    def after() -> None:
        try:
            update(provider, process())
            send_before_exit(provider)
            if "multiprocessing.util" in sys.modules:
                from multiprocessing import util

                util.register_after_fork(provider, end_with_child)
            if (celery := sys.modules.get("celery.signals")) is not None:
                celery.worker_process_shutdown.connect(end_with_worker, weak=False)
        except Exception:
            guard.failed("wiring.after_fork")

    os.register_at_fork(after_in_child=after)


def send_before_exit(provider: TracerProvider) -> None:
    """In a forked child: let ``os._exit`` send the spans that wait, and take as long as any exit may.

    Without such spans it leaves at once. They are sent by a thread of their own, because a handler of a signal may call
    it, too, in the midst of anything: whatever lock is held then, the process ends.
    """
    pid = os.getpid()
    theirs = getattr(os._exit, "_layerline", os._exit)  # ours, where a forked child forks again

    def leave(status: int) -> None:
        try:
            senders = [each for each in provider._active_span_processor._span_processors if isinstance(each, Batches)]
            if os.getpid() == pid and any(each.unsent for each in senders):
                done = _thread.allocate_lock()
                done.acquire()

                def send() -> None:
                    with contextlib.suppress(Exception):
                        provider.shutdown()
                    done.release()

                _thread.start_new_thread(send, ())
                done.acquire(timeout=max(each.exit_timeout_s for each in senders) + _GRACE_S)
        finally:
            theirs(status)

    leave.__dict__["_layerline"] = theirs
    os._exit = leave  # type: ignore[assignment]


def end_with_child(provider: TracerProvider) -> None:
    """Shut the provider down when a ``multiprocessing`` child ends."""
    from multiprocessing import util

    util.Finalize(None, provider.shutdown, exitpriority=-100)
