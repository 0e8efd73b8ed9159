"""What the app has installed and nobody instruments: it leaves no spans, and a request in it is not seen.

OpenTelemetry keeps the list of libraries and of the packages that instrument them, in
``opentelemetry.instrumentation.bootstrap_gen``: ``opentelemetry-bootstrap`` installs from it. Here it is only read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from layerline import attributes

_PREFIX: Final = "opentelemetry-instrumentation-"
#: What says nothing of requests, calls or jobs: figures of the process, templates, command lines, log records.
_BESIDE: Final = frozenset({"system-metrics", "jinja2", "click", "asyncclick", "structlog", "logging", "threading"})
#: What is listed for a library that it does not need: pydantic stands there for Tortoise.
_ONLY_WITH: Final = {"pydantic": "tortoise-orm", "asgiref": "django"}
#: Whose instrumentation another one brings along.
_WITHIN: Final = {"starlette": "fastapi"}
_JOBS: Final = "OpenTelemetry has no instrumentation for its jobs, so open a span in each (`layerline docs apps`)"
_OWN: Final = "it brings its own instrumentation, which the app has to add (`layerline docs apps`)"
#: What OpenTelemetry's list does not have, and what to do. A line of its own says so until an instrumentation of that
#: name is installed, or ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` names it.
_BY_HAND: Final = {"apscheduler": _JOBS, "arq": _JOBS, "dramatiq": _JOBS, "rq": _JOBS, "litestar": _OWN}
#: What takes requests or jobs: without one of these no request has a span unless the app makes it.
_SERVING: Final = frozenset(
    {
        "aio-pika", "aiohttp-server", "aiokafka", "asgi", "boto3sqs", "celery", "confluent-kafka", "django", "falcon",
        "fastapi", "flask", "grpc", "kafka-python", "pika", "pyramid", "remoulade", "starlette", "tornado", "wsgi",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A library that is installed, and what instruments it."""

    library: str
    package: str
    """As pip takes it: with the version that fits."""
    instrumented: bool
    unfit: str = ""
    """Its version and what the instrumentation takes, where these do not go together."""
    by_hand: str = ""
    """What the app has to do itself, where OpenTelemetry has no package."""

    @property
    def short(self) -> str:
        """What the instrumentation is called: ``aiohttp-client``."""
        return name_of(self.package).removeprefix(_PREFIX)


def name_of(requirement: str) -> str:
    """The name in ``celery >= 4.0, < 6.0``, as packages are compared (PEP 503)."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""


def has(name: str) -> bool:
    """Whether a distribution of that name is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def unfit(requirement: str) -> str:
    """Why an installed library is not one that ``sqlalchemy >= 1.0.0, < 2.1.0`` means; empty where it is one."""
    try:
        asked = Requirement(requirement)
        there = version(asked.name)
        if asked.specifier.contains(there, prereleases=True):
            return ""
        return f"version {there} is installed, and its instrumentation takes {asked.specifier}"
    except (PackageNotFoundError, InvalidRequirement, InvalidVersion):
        return ""


def look(listed: Iterable[Mapping[str, str]] | None = None) -> list[Found]:
    """What is installed of the libraries that OpenTelemetry knows to instrument, each instrumentation once; then those
    that it does not know.
    """
    if listed is None:
        from opentelemetry.instrumentation.bootstrap_gen import libraries as listed
    found: dict[str, Found] = {}
    for entry in listed or ():
        library, package = name_of(entry["library"]), entry["instrumentation"]
        if name_of(package) not in found and has(library):
            needs = _ONLY_WITH.get(library)
            if needs is None or has(needs):
                found[name_of(package)] = Found(library, package, has(name_of(package)), unfit(entry["library"]))
    for library, what_to_do in _BY_HAND.items():
        package = f"{_PREFIX}{library}"
        if has(library) and not has(package):
            found[package] = Found(library, package, False, by_hand=what_to_do)
    return list(found.values())


def missing(found: Iterable[Found], disabled: str = "") -> list[Found]:
    """Of these, what leaves no spans and could. ``disabled`` as in ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``: whoever
    names it there knows.
    """
    known = _asked_for(found, disabled)
    libraries = {each.library for each in known}
    return [
        each
        for each in known
        if not each.instrumented and not each.unfit and not each.by_hand and _WITHIN.get(each.library) not in libraries
    ]


def unfits(found: Iterable[Found], disabled: str = "") -> dict[str, str]:
    """Of these, what no instrumentation takes in its version, and why."""
    return {each.library: each.unfit for each in _asked_for(found, disabled) if each.unfit}


def by_hand(found: Iterable[Found], disabled: str = "") -> dict[str, str]:
    """Of these, what no package instruments, and what the app has to do."""
    return {each.library: each.by_hand for each in _asked_for(found, disabled) if each.by_hand}


def _asked_for(found: Iterable[Found], disabled: str) -> list[Found]:
    """What says something of requests, calls or jobs, and nobody has disabled."""
    if "*" in disabled:
        return []
    off = {name_of(name) for name in disabled.split(",") if name.strip()}
    return [each for each in found if each.short not in _BESIDE and each.short not in off]


def hints(found: Iterable[Found], disabled: str = "") -> list[str]:
    """What to tell the person who starts the app: lines for what leaves no spans. ``disabled`` as for ``missing``."""
    if "*" in disabled:
        return []
    found = list(found)
    without = missing(found, disabled)
    lines = []
    if without:
        names = ", ".join(dict.fromkeys(each.library for each in without))
        command = shlex.join(["pip", "install", *(each.package for each in without)])
        lines.append(f"installed, but without spans, as nothing instruments it: {names}. To see it: {command}")
    others: dict[str, list[str]] = {}
    for name, why in (unfits(found, disabled) | by_hand(found, disabled)).items():
        others.setdefault(why, []).append(name)
    if others:
        each = "; ".join(f"{', '.join(names)}: {why}" for why, names in others.items())
        lines.append(f"without spans: {each}")
    if not any(each.instrumented and not each.unfit and each.short in _SERVING for each in _asked_for(found, disabled)):
        lines.append("nothing here that takes requests or jobs is instrumented: only spans that the app makes are seen")
    return lines


def described(disabled: str = "") -> dict[str, str]:
    """The same for the server, as attributes of a resource: ``library package==version, …``, ``library: why; …``.

    A library that no package instruments stands alone.
    """
    found = look()
    named = [f"{each.library} {each.package}" for each in missing(found, disabled)]
    without = ", ".join([*named, *by_hand(found, disabled)])
    others = "; ".join(f"{library}: {why}" for library, why in unfits(found, disabled).items())
    said = {attributes.UNINSTRUMENTED: without, attributes.NOT_INSTRUMENTED: others}
    return {name: text for name, text in said.items() if text}


def pinned() -> list[str]:
    """The distributions of OpenTelemetry that are installed, each with its version: what pip shall leave as it is."""
    names = {name for each in distributions() if (name := name_of(each.name or "")).startswith("opentelemetry-")}
    return [f"{name}=={version(name)}" for name in sorted(names)]
