"""A row per service, for the pages that list them: figures, lines over the window, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from layerline_api.page.drawn import Layers, Lines, layers, lines
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.times import ns_of
from layerline_api.words.verdicts import Story

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service in the list. ``trouble`` says what is not usual about it: "" where all is."""

    service: str
    link: str
    rate: str
    errors: str
    p50: str
    p95: str
    p99: str
    counts: Lines
    latency: Lines
    layers: Layers
    trouble: str
    is_slower: bool
    is_failing: bool


def service_rows(
    found: Json, length_ns: int, window: Mapping[str, str], ongoing: Sequence[Json], stories: Sequence[Story]
) -> Iterator[ServiceRow]:
    """The rows of an overview's JSON. ``ongoing`` are the open incidents, ``stories`` what changed."""
    in_incident = {clean(service) for one in ongoing for service in one["services"]}
    slower = {story.service for story in stories if not story.failed}
    failing = {story.service for story in stories if story.failed}
    for one in found["items"]:
        service = clean(one["service"])
        trouble = [
            word
            for word, holds in (
                ("incident", service in in_incident),
                ("fails more", service in failing),
                ("changed", service in slower and service not in in_incident),
            )
            if holds
        ]
        yield ServiceRow(
            service=service or "(no name)",
            link="/service?" + urlencode({"service": one["service"], **window}),
            rate=rate(one["requests"], length_ns),
            errors=share(one["errors"], one["requests"]),
            p50=human(one["p50_ns"]),
            p95=human(one["p95_ns"]),
            p99=human(one["p99_ns"]),
            counts=lines(
                [("count", whole_steps(one["counts"], found)), ("errors", whole_steps(one["errors_by_step"], found))],
                f"requests and errors: {one['requests']:,} and {one['errors']:,}",
            ),
            latency=lines(
                [("p50", one["p50"]), ("p95", one["p95"]), ("p99", one["p99"])],
                f"latency: median {human(one['p50_ns'])}, p95 {human(one['p95_ns'])}, p99 {human(one['p99_ns'])}",
            ),
            layers=layers(one["layers"]),
            trouble=", ".join(trouble),
            is_slower=service in slower or service in in_incident,
            is_failing=service in failing,
        )


def whole_steps(values: Sequence[float | None], found: Json) -> list[float | None]:
    """Counts of steps, without the first and the last where the window holds less than all of them."""
    origin_ns, from_ns, to_ns = (ns_of(found[name]) for name in ("origin", "from", "to"))
    if len(values) < 4:
        return list(values)
    is_cut = to_ns < origin_ns + found["step_ns"] * len(values)
    return [None if from_ns > origin_ns else values[0], *values[1:-1], None if is_cut else values[-1]]


def rate(count: int, length_ns: int) -> str:
    """``4.1 /s``; per minute or hour where that is less than one."""
    for unit, unit_ns in (("s", 10**9), ("min", 60 * 10**9), ("h", 3600 * 10**9)):
        if (per := count * unit_ns / length_ns) >= 1 or unit == "h":
            break
    return f"{per:,.0f} /{unit}" if per >= 100 else f"{per:.3g} /{unit}"


def share(part: int, of: int) -> str:
    """``0.3 %``; "0" where there is none."""
    if not part or not of:
        return "0"
    percent = 100 * part / of
    return "< 0.1 %" if percent < 0.1 else f"{percent:.{0 if percent >= 10 else 1}f} %"
