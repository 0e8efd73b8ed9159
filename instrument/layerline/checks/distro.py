"""Whether something else wants to set OpenTelemetry up, or to instrument the same app."""

from __future__ import annotations

from importlib.metadata import entry_points

from layerline.doctor import ADVICE, OK, PROBLEM, Check, Context, Finding
from layerline.uninstrumented import has

_OURS = "layerline"
#: Tracers that bring their own instrumentation: both patch the same functions.
_BESIDE = ("ddtrace", "newrelic", "elastic-apm", "scout-apm", "appdynamics", "instana")
_OFF = {"true", "1"}


def look(context: Context) -> Finding:
    """``OTEL_SDK_DISABLED``, ``OTEL_PYTHON_DISTRO`` and ``OTEL_PYTHON_CONFIGURATOR``, other distros, other tracers."""
    if context.environ.get("OTEL_SDK_DISABLED", "").strip().lower() in _OFF:
        return Finding(PROBLEM, "OTEL_SDK_DISABLED is set: nothing is traced", "unset OTEL_SDK_DISABLED")
    if context.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return Finding(PROBLEM, "OTEL_TRACES_EXPORTER is none: no span is sent", "unset OTEL_TRACES_EXPORTER")
    for variable in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"):
        named = context.environ.get(variable, "").strip()
        if named and named != _OURS:
            cure = f"start the app with `layerline run -- CMD`, which sets it, or set {variable}={_OURS}"
            return Finding(PROBLEM, f"{variable} is {named}: another distro sets OpenTelemetry up", cure)
    others = sorted({point.name for point in entry_points(group="opentelemetry_distro")} - {_OURS})
    if others:
        found = f"another distro is installed: {', '.join(others)}; with `opentelemetry-instrument` either may be taken"
        return Finding(ADVICE, found, "start the app with `layerline run -- CMD`, or set OTEL_PYTHON_DISTRO=layerline")
    if beside := [name for name in _BESIDE if has(name)]:
        found = f"{', '.join(beside)} is installed, and instruments the same libraries"
        return Finding(
            ADVICE, found, "nothing, if both shall run; each sees the other's calls to its own backend as the app's"
        )
    return Finding(OK, "no other distro and no other tracer is installed here")


CHECK = Check(order=110, title="distro", look=look)
