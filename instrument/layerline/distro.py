"""Layerline as an OpenTelemetry distro: ``opentelemetry-instrument`` with ``OTEL_PYTHON_DISTRO=layerline`` is enough.

The SDK's configurator does the work; what the distro adds is defaults, a resource and processors. Every ``OTEL_*``
variable keeps its meaning: who names an exporter, a sampler or an instrumentation to leave out gets it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from opentelemetry.instrumentation.dependencies import DependencyConflictError
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import _initialize_components, _OTelSDKConfigurator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_tracer_provider
from opentelemetry.util._importlib_metadata import EntryPoint

from layerline import attributes, guard, share_context, wiring
from layerline.cgroup import Cgroup
from layerline.delayed import DELAYED
from layerline.environment import mend_own
from layerline.guest import welcome
from layerline.settings import Settings

#: What OpenTelemetry leaves to the distro. No exporter is named here, as others obey these variables too: with
#: OTEL_TRACES_EXPORTER=otlp ddtrace leaves its own agent, and sends us each request a second time. Without a name
#: traces are sent (``configure``), metrics and logs are not: readings come from the agent.
DEFAULTS = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def expected(record: logging.LogRecord) -> bool:
    """Drops the warning that another installed distro's configurator is not loaded: that is what was asked for."""
    return not str(record.msg).startswith("Configuration of %s not loaded")


class LayerlineDistro(BaseDistro):  # type: ignore[misc]
    """Sets defaults, and instruments only what nobody has instrumented yet."""

    def _configure(self, **kwargs: Any) -> None:
        mend_own()
        try:
            wiring.take_any_value()
        except Exception:
            guard.failed("wiring.take_any_value")
        for variable, value in DEFAULTS.items():
            os.environ.setdefault(variable, value)
        logging.getLogger("opentelemetry.instrumentation.auto_instrumentation._load").addFilter(expected)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Activate one instrumentation, unless the application has done so. One that fails does not stop the others.

        One that would break the app now is activated later (``layerline.delayed``).
        """
        wait = DELAYED.get(entry_point.name)
        if wait is None:
            instrument(entry_point, **kwargs)
        else:
            wait(lambda: late(entry_point, **kwargs))


def instrument(entry_point: EntryPoint, **kwargs: Any) -> None:
    """Activate an instrumentation. What is not installed as it needs it raises, for OpenTelemetry to deal with."""
    name = entry_point.name
    try:
        instrumentor = entry_point.load()()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            instrumentor.instrument(**kwargs)
    except (ImportError, DependencyConflictError):
        raise
    except Exception as problem:
        guard.once(f"instrument {name}", "%s could not be instrumented and has no spans: %r", name, problem)
        skipped(name, problem)
        return
    if name in ("flask", "django", "tornado"):
        wiring.follow_requests(name, sys.modules[type(instrumentor).__module__])


def late(entry_point: EntryPoint, **kwargs: Any) -> None:
    """Activate one whose time has come: here nobody else deals with what is not installed."""
    try:
        instrument(entry_point, **kwargs)
    except Exception as problem:
        name = entry_point.name
        guard.once(f"instrument {name}", "%s could not be instrumented and has no spans: %r", name, problem)
        skipped(name, problem)


def skipped(name: str, problem: Exception) -> None:
    """Let the server know which instrumentation has failed, and why."""
    provider = get_tracer_provider()
    if isinstance(provider, TracerProvider):
        before = provider.resource.attributes.get(attributes.NOT_INSTRUMENTED, "")
        said = f"{name}: {type(problem).__name__}"
        wiring.update(provider, {attributes.NOT_INSTRUMENTED: f"{before}; {said}" if before else said})


class LayerlineConfigurator(_OTelSDKConfigurator):
    """Sets the SDK up with our processors, or joins a TracerProvider that is there already."""

    def _configure(self, settings: Settings | None = None, **kwargs: Any) -> None:
        try:
            self._set_up(settings, **kwargs)
        except Exception:
            guard.failed("start")

    def _set_up(self, settings: Settings | None, **kwargs: Any) -> None:
        if configured(get_tracer_provider()):
            return
        settings = settings or Settings.read()
        if os.environ.get("OTEL_CONFIG_FILE"):  # everything is said there: the SDK does it, and we join
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
        provider = get_tracer_provider()
        if isinstance(provider, TracerProvider):
            wiring.join(provider, settings)
        else:
            configure(settings, **kwargs)
            provider = get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.__dict__[_MARK] = True


_MARK = "_layerline"


def configured(provider: object) -> bool:
    """Whether Layerline is on that provider already."""
    return _MARK in getattr(provider, "__dict__", {})


def configure(settings: Settings, **kwargs: Any) -> None:
    """Make the TracerProvider of this process."""
    cgroup = Cgroup.of_this_process()
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    grpc = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", ""))
        == "grpc"
    )
    # An endpoint that speaks gRPC is served by the SDK's own exporter, if it is installed.
    http = ("otlp" in names and not grpc) or "otlp_proto_http" in names
    senders = [
        wiring.batches(destination, settings)
        for destination in wiring.destinations(settings)
        if http or (destination.ours and settings.endpoint)
    ]
    others = [
        name for name in names if name not in ("otlp", "otlp_proto_http", "none", "") or (name == "otlp" and grpc)
    ]
    processors = wiring.measured(wiring.account(cgroup, settings), senders)
    described = wiring.described(settings, cgroup)
    before = os.environ.get("OTEL_TRACES_EXPORTER")
    os.environ["OTEL_TRACES_EXPORTER"] = ",".join(others) or "none"  # the rest is ours already
    try:
        _initialize_components(
            **kwargs,
            resource_attributes=dict(described),
            span_processors=processors,
            export_span_processor=lambda exporter: wiring.foreign(exporter, settings),
        )
    finally:
        if before is None:
            del os.environ["OTEL_TRACES_EXPORTER"]
        else:
            os.environ["OTEL_TRACES_EXPORTER"] = before
    provider = get_tracer_provider()
    if isinstance(provider, TracerProvider):
        wiring.update(provider, wiring.sampler(provider))
        wiring.follow_forks(provider)
        wiring.record_work(provider)
        share_context.install(settings, provider)
        welcome(provider, processors, described)
    else:
        guard.once("provider", "OpenTelemetry's SDK did not make a TracerProvider; nothing is traced")
