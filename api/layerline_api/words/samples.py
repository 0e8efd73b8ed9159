"""Sampled frames of spans (`layerline.samples`), read for a flame graph on the page and for speedscope.

A sample is the place where a thread stood when it was looked at, and what it did there: the wrapper counts these, so a
span's samples are a flame graph of two levels, what the thread did and where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerline.attributes import SAMPLES, SAMPLES_EVERY_NS
from layerline_api.words.clean import clean

Json = Mapping[str, Any]

_SAMPLE = re.compile(r"(\d{1,9}) (\w+) (\S+) (\S+) (.+)")
_EVERY_NS = 20_000_000
_DID = {"cpu": "computed", "lock": "waited for a lock", "pool": "waited for a connection", "disk": "waited for a disk"}


@dataclass(frozen=True, slots=True)
class Sample:
    """How many looks found a thread at one place."""

    looks: int
    did: str
    """``computed``, ``waited for a lock``, ``waited in poll_schedule_timeout``."""
    place: str
    """``function file:line``."""


def samples(span: Json) -> list[Sample]:
    """What a span of the API's JSON says its thread was seen doing; those of one kind together, most first."""
    text = (span.get("attributes") or {}).get(SAMPLES)
    try:
        lines = json.loads(text) if text else []
    except ValueError:
        return []
    found = list(_read(lines)) if isinstance(lines, list) else []
    looks: dict[str, int] = {}
    for one in found:
        looks[one.did] = looks.get(one.did, 0) + one.looks
    return sorted(found, key=lambda one: (-looks[one.did], one.did, -one.looks, one.place))


def _read(lines: Sequence[Any]) -> Iterator[Sample]:
    for line in lines:
        if (match := _SAMPLE.fullmatch(str(line))) is not None:
            looks, kind, _, wait, place = match.groups()
            yield Sample(int(looks), _DID.get(kind, f"waited in {clean(wait)}"), clean(place))


def speedscope(trace: Json) -> dict[str, Any]:
    """The samples of a trace's spans in speedscope's file format, a profile for each span that has any.

    Source: https://www.speedscope.app/file-format-schema.json
    """
    frames: dict[str, int] = {}
    profiles = []
    for span in trace["spans"]:
        found = samples(span)
        if not found:
            continue
        every = (span["attributes"] or {}).get(SAMPLES_EVERY_NS, "")
        every_ns = int(every) if str(every).isdigit() else _EVERY_NS
        stacks = [[frames.setdefault(name, len(frames)) for name in (one.did, one.place)] for one in found]
        profiles.append(
            {
                "type": "sampled",
                "name": f"{clean(span['service'])} {clean(span['name'])}",
                "unit": "nanoseconds",
                "startValue": 0,
                "endValue": sum(one.looks for one in found) * every_ns,
                "samples": stacks,
                "weights": [one.looks * every_ns for one in found],
            }
        )
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": f"trace {clean(trace['trace_id'])}",
        "exporter": "layerline",
        "shared": {"frames": [_frame(name) for name in frames]},
        "profiles": profiles,
    }


def _frame(name: str) -> dict[str, Any]:
    """``cart shop.py:3`` as function, file and line."""
    match = re.fullmatch(r"(\S+) (.+):(\d{1,9})", name)
    return {"name": name} if match is None else {"name": match[1], "file": match[2], "line": int(match[3])}
