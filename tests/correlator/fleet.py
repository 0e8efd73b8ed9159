"""A fleet of containers for the tests of tag queries, drawn in TOML (tag_queries.toml)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spans import container_id, span_row

from layerline_correlator.store.model import (
    Batch,
    EventRow,
    PointRow,
    ResourceRow,
    SeriesRow,
    attribute_text,
    resource_key,
    series_key,
)

SECOND, MIB = 10**9, 2**20
WINDOW_S = 900


def fleet(hosts: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]], zero_ns: int) -> Batch:
    """What the receivers would hand over of it; ``zero_ns`` is the window's start."""
    batch = Batch()
    for host in hosts:
        owner = _described({"layerline.boot_id": host["name"], "host.name": host["name"], **host["tags"]})
        _read(
            batch, owner, "system.memory.limit", "gauge", zero_ns, 0, _every_minute(0, WINDOW_S, lambda at: 8 * 2**30)
        )
    for container in containers:
        _put(batch, container, zero_ns)
    return batch


def _put(batch: Batch, drawn: Mapping[str, Any], zero_ns: int) -> None:
    owner = _owner(drawn, drawn["name"])
    born, end = drawn.get("born", -3600), drawn.get("died", WINDOW_S)
    first = (max(born, 0) if end > 0 else born) + drawn.get("read_after", 0)
    if "memory" in drawn:
        levels = _every_minute(first, end, lambda at: _level(drawn["memory"], at))
        _read(batch, owner, "container.memory.working_set", "gauge", zero_ns, 0, levels)
    for word, signal in (("cpu", "container.cpu.time"), ("throttled", "container.cpu.throttled")):
        if word in drawn:
            again = drawn.get("restarted", drawn.get("renamed", end))
            began = again if "restarted" in drawn else born
            before = _owner(drawn, drawn.get("was", drawn["name"]))
            rate = drawn[word] * SECOND
            _read(batch, before, signal, "cumulative", zero_ns, born, _grown(rate, born, first, again))
            _read(batch, owner, signal, "cumulative", zero_ns, began, _grown(rate, began, again + 30, end))
    for reading in drawn.get("readings", []):
        sender = _stranger(drawn, reading["by"]) if "by" in reading else _owner(drawn, drawn["name"])
        since, until = reading.get("at", [first, end])
        kind, values = _values(reading, born, since, until)
        _read(batch, sender, reading["signal"], kind, zero_ns, born, values, reading.get("tags", {}))
    batch.resources.append(owner)
    for what, at in (("container.start", drawn.get("born")), ("container.die", drawn.get("died"))):
        if at is not None:
            batch.events.append(EventRow(owner.resource, zero_ns + round(at * SECOND), what, "", {}))
    if "service" in drawn:
        _serve(batch, drawn, zero_ns)


def _values(
    reading: Mapping[str, Any], born: float, since: float, until: float
) -> tuple[str, list[tuple[float, float]]]:
    """The kind and the values of a series as drawn."""
    if "level" in reading:
        return "gauge", _every_minute(since, until, lambda at: reading["level"])
    if "each" in reading:
        return "delta", _every_minute(since + 60, until, lambda at: reading["each"])
    return "cumulative", _grown(reading["rate"], born, since, until)


def _serve(batch: Batch, drawn: Mapping[str, Any], zero_ns: int) -> None:
    sender, _ = span_row(_request(drawn, 0, 1), f"{0:032x}", zero_ns)
    batch.resources.append(sender)
    for number, (at, took_ms, failed) in enumerate(_requests(drawn.get("requests", []))):
        trace_id = f"{container_id(drawn['name'])[:24]}{number:08x}"
        _, span = span_row(_request(drawn, number, took_ms), trace_id, zero_ns + at * SECOND)
        batch.spans.append(span._replace(status=2 if failed else 0))


def _stranger(drawn: Mapping[str, Any], name: str) -> ResourceRow:
    """Another collector that reads the same container."""
    return _described(
        {"telemetry.sdk.name": name, "host.name": drawn["host"], "container.id": container_id(drawn["name"])}
    )


def _owner(drawn: Mapping[str, Any], name: str) -> ResourceRow:
    """What says who the container is."""
    return _described(
        {
            "layerline.boot_id": drawn["host"],
            "host.name": drawn["host"],
            "container.id": container_id(drawn["name"]),
            "container.name": name,
            "container.image.name": drawn["image"],
            "container.image.tags": attribute_text([drawn["version"]]),
            **{f"container.label.{key}": value for key, value in drawn["labels"].items()},
        }
    )


def _described(attributes: dict[str, str]) -> ResourceRow:
    return ResourceRow(resource_key(attributes), attributes)


def _every_minute(first: float, end: float, value: Any) -> list[tuple[float, float]]:
    """A reading at the start, and one each minute as long as it lives."""
    return [(at, float(value(at))) for at in (first + 60 * n for n in range(100)) if at < end]


def _grown(rate: float, born: float, first: float, end: float) -> list[tuple[float, float]]:
    """A counter that has grown by so much per second since it began."""
    return _every_minute(first, end, lambda at: rate * (at - born))


def _level(steps: Sequence[Sequence[float]], at: float) -> float:
    return MIB * next(level for since, level in reversed(steps) if since <= at)


def _read(
    batch: Batch,
    owner: ResourceRow,
    signal: str,
    kind: str,
    zero_ns: int,
    start: float,
    values: list[tuple[float, float]],
    tags: Mapping[str, str] | None = None,
) -> None:
    attributes = dict(tags or {})
    series = SeriesRow(series_key(owner.resource, signal, attributes), owner.resource, signal, "", kind, attributes)
    batch.resources.append(owner)
    batch.series.append(series)
    for at, value in values:
        began = at - 60 if kind == "delta" else start
        batch.points.append(
            PointRow(series.series, zero_ns + round(began * SECOND), zero_ns + round(at * SECOND), value)
        )


def _requests(drawn: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, bool]]:
    """Second, milliseconds and whether it failed, of each."""
    for since, count, took_ms, failed in drawn:
        for number in range(count):
            yield since + number, took_ms, number < failed


def _request(drawn: Mapping[str, Any], number: int, took_ms: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "name": "GET /",
        "kind": "server",
        "ms": [0, took_ms],
        "service": drawn["service"],
        "container": drawn["name"],
        "host": drawn["host"],
    }
