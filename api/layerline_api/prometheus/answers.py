"""Results as Prometheus' API has them: a moment in seconds, a value as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerline_api.prometheus.evaluate import Result, Scalar, Text, Vector
from layerline_api.prometheus.problems import BadData


def success(data: Any) -> dict[str, Any]:
    """An answer."""
    return {"status": "success", "data": data}


def instant(result: Result, at_ns: int) -> dict[str, Any]:
    """Of one moment."""
    at = _seconds(at_ns)
    match result:
        case Text():
            return {"resultType": "string", "result": [at, result.text]}
        case Scalar():
            return {"resultType": "scalar", "result": [at, shown(result.values[0])]}
        case Vector():
            found = [(dict(one.labels), one.values[0]) for one in result.elements]
            return {
                "resultType": "vector",
                "result": [
                    {"metric": labels, "value": [at, shown(value)]} for labels, value in found if value is not None
                ],
            }


def ranged(result: Result, steps_ns: Sequence[int]) -> dict[str, Any]:
    """Of each step; a number is a series without labels."""
    match result:
        case Text():
            raise BadData("expected a number or an instant vector, found a string")
        case Scalar():
            found: list[tuple[dict[str, str], Sequence[float | None]]] = [({}, result.values)]
        case Vector():
            found = [(dict(one.labels), one.values) for one in result.elements]
    times = [_seconds(at_ns) for at_ns in steps_ns]
    series = []
    for labels, values in found:
        known = [[at, shown(value)] for at, value in zip(times, values, strict=True) if value is not None]
        if known:
            series.append({"metric": labels, "values": known})
    return {"resultType": "matrix", "result": series}


def shown(value: float) -> str:
    """A value as Prometheus writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _seconds(at_ns: int) -> float:
    return round(at_ns / 1e9, 3)
