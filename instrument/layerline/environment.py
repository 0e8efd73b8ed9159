"""OpenTelemetry's variables, looked through before OpenTelemetry reads them: what is wrong costs its own value only.

The SDK refuses to be imported where a propagator is not known or a limit is no number, and traces nothing where an
exporter is not installed. A typing error in a deployment must not keep an app from starting, or from being traced. So
what cannot be used is taken out, and a line says what was ignored and what would have been known.

Nothing of OpenTelemetry is imported here: that is what may fail.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Iterable, MutableMapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from layerline import guard

Environment = MutableMapping[str, str]
Say = Callable[[str], None]

_SIGNALS: Final = ("", "TRACES_", "METRICS_", "LOGS_")

#: Variables that name what is installed: the group of entry points, names that need none, and whether there may be
#: several.
NAMES: Final[dict[str, tuple[str, tuple[str, ...], bool]]] = {
    "OTEL_PROPAGATORS": ("opentelemetry_propagator", ("tracecontext", "baggage", "none"), True),
    "OTEL_TRACES_EXPORTER": ("opentelemetry_traces_exporter", ("otlp", "none"), True),
    "OTEL_METRICS_EXPORTER": ("opentelemetry_metrics_exporter", ("otlp", "none"), True),
    "OTEL_LOGS_EXPORTER": ("opentelemetry_logs_exporter", ("otlp", "none"), True),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": ("opentelemetry_resource_detector", ("otel", "*"), True),
    "OTEL_TRACES_SAMPLER": (
        "opentelemetry_traces_sampler",
        (
            "always_on",
            "always_off",
            "parentbased_always_on",
            "parentbased_always_off",
            "traceidratio",
            "parentbased_traceidratio",
        ),
        False,
    ),
    "OTEL_PYTHON_ID_GENERATOR": ("opentelemetry_id_generator", ("random",), False),
    "OTEL_PYTHON_CONTEXT": ("opentelemetry_context", ("contextvars_context",), False),
    "OTEL_PYTHON_TRACER_PROVIDER": ("opentelemetry_tracer_provider", (), False),
    "OTEL_PYTHON_METER_PROVIDER": ("opentelemetry_meter_provider", (), False),
    "OTEL_PYTHON_LOGGER_PROVIDER": ("opentelemetry_logger_provider", (), False),
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal}CREDENTIAL_PROVIDER": (
            "opentelemetry_otlp_credential_provider",
            (),
            False,
        )
        for signal in _SIGNALS
    },
}

#: Variables with one of a few words.
WORDS: Final[dict[str, tuple[str, ...]]] = {
    **{f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL": ("grpc", "http/protobuf") for signal in _SIGNALS},
    **{f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION": ("none", "gzip", "deflate") for signal in _SIGNALS},
}

_LIMITS: Final = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)
_BATCHES: Final = tuple(
    f"OTEL_{kind}_{what}"
    for kind in ("BSP", "BLRP")
    for what in ("SCHEDULE_DELAY", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "EXPORT_TIMEOUT")
)
_TIMES: Final = (
    *(f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT" for signal in _SIGNALS),
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
)

#: Variables with a number: the smallest, the largest, whether it is whole, and what is expected in words.
NUMBERS: Final[dict[str, tuple[float, float, bool, str]]] = {
    **dict.fromkeys(_BATCHES, (1, 2**31, True, "a whole number above 0")),
    **dict.fromkeys(_LIMITS, (0, 2**31, True, "a whole number, 0 or more")),
    **dict.fromkeys(_TIMES, (1e-3, 1e9, False, "a number above 0")),
}

_RATIOS: Final = ("traceidratio", "parentbased_traceidratio")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MOST_SHOWN: Final = 60


def mend(environ: Environment, say: Say) -> None:
    """Take out of the environment what OpenTelemetry cannot use, and say so, a line each."""
    for variable, (group, known, several) in NAMES.items():
        if environ.get(variable, "").strip():
            _names(environ, variable, group, known, several, say)
    for variable, words in WORDS.items():
        found = environ.get(variable, "").strip()
        if found and found.lower() not in words:
            _ignore(environ, variable, found, f"known: {', '.join(words)}", say)
    _protocol(environ, say)
    for variable, (least, most, whole, expected) in NUMBERS.items():
        if variable in environ:
            _number(environ, variable, least, most, whole, expected, say)
    _sampled(environ, say)
    _batch(environ, say)
    if environ.get("OTEL_RESOURCE_ATTRIBUTES", "").strip():
        _pairs(environ, "OTEL_RESOURCE_ATTRIBUTES", is_attribute, say)
    for signal in _SIGNALS:
        if environ.get(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", "").strip():
            _pairs(environ, f"OTEL_EXPORTER_OTLP_{signal}HEADERS", is_header, say)
    config = environ.get("OTEL_CONFIG_FILE", "")
    if config and not Path(config).is_file():
        _ignore(environ, "OTEL_CONFIG_FILE", config, "there is no such file", say)
    elif config and importlib.util.find_spec("opentelemetry") and not _has("opentelemetry.configuration"):
        _ignore(environ, "OTEL_CONFIG_FILE", config, "it needs `pip install opentelemetry-configuration`", say)


def mend_own() -> None:
    """Do so for this process. Never raises."""
    try:
        mend(os.environ, lambda line: guard.once(line, "%s", line))
    except Exception:
        guard.failed("environment")


def _ignore(environ: Environment, variable: str, found: str, why: str, say: Say) -> None:
    """Take the whole variable out."""
    del environ[variable]
    say(f"{variable}: {shown(found)} is ignored; {why}")


def shown(text: str) -> str:
    """A value for people, in quotes: short, and without control characters."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def _has(module: str) -> bool:
    """Whether a module is there, without running it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def installed(group: str) -> set[str]:
    """The names that are installed for one kind of component."""
    return {point.name for point in entry_points(group=group)}


def _names(environ: Environment, variable: str, group: str, known: tuple[str, ...], several: bool, say: Say) -> None:
    found = environ[variable]
    names = [name.strip() for name in found.split(",")] if several else [found.strip()]
    names = [name for name in names if name]
    if all(name.lower() in known for name in names):
        return
    there = installed(group) | set(known)
    unknown = [name for name in names if name not in there and name.lower() not in known]
    if not unknown:
        return
    rest = ",".join(name for name in names if name not in unknown)
    if rest:
        environ[variable] = rest
    else:
        del environ[variable]
    can_be = f"known: {', '.join(sorted(there))}" if there else "nothing that it could name is installed"
    say(f"{variable}: {', '.join(map(shown, unknown))} is not known and is ignored; {can_be}")


def _protocol(environ: Environment, say: Say) -> None:
    """gRPC needs an exporter of its own, which may be missing."""
    for signal in _SIGNALS:
        variable = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
        found = environ.get(variable, "").strip()
        if found == "grpc" and not _has("opentelemetry.exporter.otlp.proto.grpc"):
            _ignore(environ, variable, found, "it needs `pip install opentelemetry-exporter-otlp-proto-grpc`", say)


def _number(
    environ: Environment, variable: str, least: float, most: float, whole: bool, expected: str, say: Say
) -> None:
    found = environ[variable].strip()
    if not found:  # as if it were not set (OpenTelemetry specification, "Configuration", empty values)
        del environ[variable]
        return
    try:
        number = int(found) if whole else float(found)
    except (ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most:
        _ignore(environ, variable, found, f"expected {expected}", say)


def _sampled(environ: Environment, say: Say) -> None:
    """The ratio of a sampler that takes one."""
    found = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if found and environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() in _RATIOS:
        try:
            fine = 0 <= float(found) <= 1
        except ValueError:
            fine = False
        if not fine:
            _ignore(environ, "OTEL_TRACES_SAMPLER_ARG", found, "expected a number from 0 to 1; all is kept", say)
            environ["OTEL_TRACES_SAMPLER_ARG"] = "1.0"  # without one the SDK says so in a line of its own


def _batch(environ: Environment, say: Say) -> None:
    """A batch is no larger than its queue."""
    for kind in ("BSP", "BLRP"):
        batch, queue = f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE", f"OTEL_{kind}_MAX_QUEUE_SIZE"
        room, size = int(environ.get(queue, "2048")), int(environ.get(batch, "512"))
        if size > room:
            if batch in environ:
                say(f"{batch}: {size} is more than the queue holds; {room} is taken")
            environ[batch] = str(room)


def _pairs(environ: Environment, variable: str, fits: Callable[[str, str], bool], say: Say) -> None:
    """``name=value`` pairs, separated by commas. Values are not shown: they may be secret."""
    good, bad = [], []
    for pair in filter(None, (each.strip() for each in environ[variable].split(","))):
        name, equals, value = pair.partition("=")
        if equals and fits(name.strip(), value.strip()):
            good.append(pair)
        else:
            bad.append(shown(name.strip()) if equals and name.strip() else "an entry without name and =")
    if bad:
        say(f"{variable}: {', '.join(unique(bad))} is ignored; expected name=value,name=value, URL-encoded")
    if good:
        environ[variable] = ",".join(good)
    else:
        del environ[variable]


def unique(names: Iterable[str]) -> list[str]:
    """Each once, in their order, and not too many."""
    return list(dict.fromkeys(names))[:5]


def is_attribute(name: str, value: str) -> bool:
    """Whether that can be an attribute of the resource."""
    return bool(name) and decodes(value)


def is_header(name: str, value: str) -> bool:
    """Whether that can be a header of HTTP (RFC 9110, 5.5 and 5.6.2)."""
    if not _HEADER_NAME.fullmatch(name) or not decodes(value):
        return False
    plain = unquote(value)
    return plain.isprintable() and plain.isascii() and not plain[:1].isspace()


def decodes(value: str) -> bool:
    """Whether what is URL-encoded in it is text."""
    try:
        return "\0" not in unquote(value, errors="strict")
    except UnicodeDecodeError:
        return False
