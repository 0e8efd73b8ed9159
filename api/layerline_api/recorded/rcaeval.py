"""One case of RCAEval: a folder with metrics, logs and traces around the moment at which a fault was injected.

* ``traces``: ``traceID``, ``spanID``, ``serviceName``, ``startTime`` and ``duration`` in microseconds;
  ``parentSpanID``, ``operationName``, ``methodName``, ``statusCode`` (gRPC's or HTTP's). Kinds are not recorded: a span
  whose parent is in another service entered its own, so it is a server's.
* ``metrics``, ``simple_metrics``, ``data``, ``simple_data``: a row per second, ``time`` in seconds, and columns
  ``<service>_<metric>`` or ``<node>_node-<metric>``. They are gauges under their own names: some are called totals and
  hold rates, so they are put on the timeline and never taken for counters. An empty cell was not measured.
* ``logs``: ``timestamp`` in nanoseconds, ``container_name``, ``message``, ``level``. Lines that tell of errors become
  events ``log.error``; the others are counted.
* ``inject_time.txt``: seconds since 1970; becomes the event ``rcaeval.fault_injected``.

Tables are CSV or Parquet. Source: github.com/phamquiluan/RCAEval (README.md, "Data format"; RCAEval/e2e/tracerca.py),
and descriptions of the published cases of its datasets RE1, RE2 and RE3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from sys import intern
from typing import Any

from layerline.attributes import SPAN_FIGURES
from layerline_api.doors.bounds import VALUE_LIMIT
from layerline_api.recorded.gathered import Gathered, Place, Reader, Unreadable, shown
from layerline_api.recorded.tables import EXTENSIONS, Bad, Row, opened
from layerline_correlator.store.model import (
    SERVER,
    STATUS_ERROR,
    STATUS_UNSET,
    UNSPECIFIED,
    EventRow,
    PointRow,
    SeriesRow,
    SpanRow,
    resource_key,
    series_key,
)

INJECT_TIME = "inject_time.txt"
ERROR_LEVELS = frozenset(("error", "err", "severe", "critical", "fatal", "panic", "alert", "emergency"))

_HEX = re.compile(r"[0-9a-fA-F]+")
_NO_FIGURES: tuple[int | None, ...] = (None,) * len(SPAN_FIGURES)
_NOTHING = ("", "nan", "NaN", "None", "null")


# ---- tables


def _columns(names: Row, wanted: Sequence[str], optional: Sequence[str] = ()) -> list[Callable[[Row], Any]]:
    """A getter for each column; of an optional one that is not there, None. ``Unreadable``."""
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Unreadable(
            f"expected the columns {', '.join(wanted)}; found {', '.join(map(str, names[:12])) or 'none'}"
            f" (missing: {', '.join(missing)})"
        )
    return [itemgetter(names.index(name)) if name in names else _none for name in (*wanted, *optional)]


def _none(_: Row) -> None:
    return None


def _table(converter: Callable[[Path, Row, Gathered], Callable[[Row], None]]) -> Reader:
    """A reader that goes row by row. The converter is given the columns' names and answers with what takes a row."""

    def read(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
        names, rows = opened(path)
        take = converter(path, names, gathered)
        what = "row" if path.suffix == ".parquet" else "line"
        for number, line, row in rows:
            if number < begin.offset or not row:
                continue
            try:
                if len(row) != len(names):
                    raise Bad(f"it has {len(row)} cells; expected {len(names)}")
                take(row)
            except Bad as problem:
                gathered.reject(f"{what} {line}", str(problem))
            yield Place(number + 1, line)

    return read


# ---- traces


def _traces(path: Path, names: Row, gathered: Gathered) -> Callable[[Row], None]:
    trace_of, span_of, service_of, start_of, duration_of, parent_of, operation_of, method_of, status_of = _columns(
        names,
        ("traceID", "spanID", "serviceName", "startTime", "duration"),
        ("parentSpanID", "operationName", "methodName", "statusCode"),
    )
    services = _services(path, span_of, service_of)

    def take(row: Row) -> None:
        trace_id, span_id = _id("traceID", trace_of(row), 32), _id("spanID", span_of(row), 16)
        parent = None if _nothing(parent_of(row)) else _id("parentSpanID", parent_of(row), 16)
        service = _text(service_of(row))
        start_us, duration_us = _whole("startTime", start_of(row)), _whole("duration", duration_of(row))
        reason = gathered.bounds.wrong_span(start_us * 1000, (start_us + duration_us) * 1000)
        if reason is not None or duration_us < 0:
            why = reason or "it ends before it starts"
            raise Bad(f"startTime {start_us} and duration {duration_us} are not microseconds since 1970: {why}")
        crosses = parent is not None and services.get(int(parent, 16), service) != service
        status, attributes = _status(status_of(row))
        gathered.batch.spans.append(
            SpanRow(
                trace_id,
                span_id,
                parent,
                gathered.resource({"service.name": service}),
                _text(operation_of(row)) or _text(method_of(row)),
                SERVER if crosses else UNSPECIFIED,
                start_us * 1000,
                (start_us + duration_us) * 1000,
                status,
                None,
                None,
                None,
                None,
                _NO_FIGURES,
                attributes,
            )
        )

    return take


def _services(path: Path, span_of: Callable[[Row], Any], service_of: Callable[[Row], Any]) -> dict[int, str]:
    """The service of each span: some 120 bytes a span, 130 MB for the largest published case."""
    names, rows = opened(path)
    services: dict[int, str] = {}
    for _, _, row in rows:
        if len(row) == len(names) and _HEX.fullmatch(span := _text(span_of(row))):
            services[int(span, 16)] = intern(_text(service_of(row)))
    return services


def _status(value: Any) -> tuple[int, dict[str, str]]:
    """gRPC's codes (0 to 16) or HTTP's. An error is what OpenTelemetry takes for one where nothing more is known."""
    if _nothing(value):
        return STATUS_UNSET, {}
    code = _whole("statusCode", value)
    if code < 100:
        return STATUS_ERROR if code else STATUS_UNSET, {"rpc.response.status_code": str(code)}
    return STATUS_ERROR if code >= 500 else STATUS_UNSET, {"http.response.status_code": str(code)}


# ---- metrics


def _metrics(path: Path, names: Row, gathered: Gathered) -> Callable[[Row], None]:
    (time_of,) = _columns(names, ("time",))
    owners: list[tuple[int, str, dict[str, str], str]] = []  # place in the row, series, resource, signal
    for at, name in enumerate(names):
        entity, _, metric = str(name).partition("_")
        if not metric:
            if name not in ("time", "time.1"):  # the datasets have the time twice
                gathered.reject("line 1", f"the column {shown(name)} is not named <service>_<metric>")
            continue
        attributes = {"host.name" if metric.startswith("node-") else "service.name": entity}
        owners.append((at, series_key(resource_key(attributes), metric, {}), attributes, metric))
    named: set[str] = set()

    def take(row: Row) -> None:
        time_ns = round(_number("time", time_of(row)) * 1e9)
        if (reason := gathered.bounds.wrong_time(time_ns)) is not None:
            raise Bad(f"its time is {shown(time_of(row))}; expected seconds since 1970: {reason}")
        points = gathered.batch.points
        if not points:
            named.clear()
        bad: list[str] = []
        for at, series, attributes, metric in owners:
            if _nothing(cell := row[at]):
                continue
            try:
                value = float(cell)
            except (TypeError, ValueError):
                bad.append(f"{names[at]} is {shown(cell)}")
                continue
            if math.isnan(value):
                continue
            if abs(value) > VALUE_LIMIT:
                bad.append(f"{names[at]} is {shown(cell)}, beyond {VALUE_LIMIT:g}")
                continue
            if series not in named:
                named.add(series)
                gathered.batch.series.append(SeriesRow(series, gathered.resource(attributes), metric, "", "gauge", {}))
            points.append(PointRow(series, 0, time_ns, value))
        if bad:
            gathered.rejected += len(bad) - 1
            raise Bad(f"{bad[0]}; expected a number" + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""))

    return take


# ---- logs


def _logs(_: Path, names: Row, gathered: Gathered) -> Callable[[Row], None]:
    time_of, container_of, message_of, level_of, error_of, path_of = _columns(
        names, ("timestamp", "container_name", "message"), ("level", "error", "req_path")
    )

    def take(row: Row) -> None:
        level = _text(level_of(row))
        if level.lower() not in ERROR_LEVELS and _nothing(error_of(row)):
            gathered.left_out += 1
            return
        time_ns = _whole("timestamp", time_of(row))
        if (reason := gathered.bounds.wrong_time(time_ns)) is not None:
            raise Bad(f"its timestamp is {time_ns}; expected nanoseconds since 1970: {reason}")
        named = {"level": level, "error": _text(error_of(row)), "req_path": _text(path_of(row))}
        gathered.batch.events.append(
            EventRow(
                gathered.resource({"service.name": _text(container_of(row))}),
                time_ns,
                "log.error",
                _text(message_of(row)),
                {key: value for key, value in named.items() if value not in _NOTHING},
            )
        )

    return take


# ---- the moment of the fault


def _inject_time(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    try:
        time_ns = round(_number("the time", found) * 1e9)
        if (reason := gathered.bounds.wrong_time(time_ns)) is not None:
            raise Bad(f"it is {shown(found)}: {reason}")
    except Bad as problem:
        raise Unreadable(f"expected seconds since 1970: {problem}") from None
    resource = gathered.resource({"layerline.recorded.as": "rcaeval"})
    gathered.batch.events.append(EventRow(resource, time_ns, "rcaeval.fault_injected", "a fault was injected", {}))
    yield Place(1, 2)


# ---- cells


def _nothing(cell: Any) -> bool:
    return cell is None or cell in _NOTHING or cell != cell  # NaN


def _text(cell: Any) -> str:
    return "" if _nothing(cell) else str(cell).encode("utf-8", "replace").decode()


def _number(name: str, cell: Any) -> float:
    try:
        found = float(cell)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise Bad(f"{name} is {shown(cell)}; expected a number")
    return found


def _whole(name: str, cell: Any) -> int:
    """A whole number, which may be written as ``17.0``; nanoseconds keep their digits."""
    if type(cell) is int:
        return cell
    try:
        return int(cell)
    except (TypeError, ValueError, OverflowError):
        return int(_number(name, cell))


def _id(name: str, cell: Any, digits: int) -> str:
    text = _text(cell)
    if len(text) > digits or not _HEX.fullmatch(text):
        raise Bad(f"{name} is {shown(cell)}; expected up to {digits} hex digits")
    return text.lower().rjust(digits, "0")


#: What a file of a case is read by, by its name without extension.
TABLES: dict[str, Reader] = {
    "traces": _table(_traces),
    "metrics": _table(_metrics),
    "simple_metrics": _table(_metrics),
    "data": _table(_metrics),
    "simple_data": _table(_metrics),
    "logs": _table(_logs),
}


def files_of(case: Path) -> list[tuple[Path, Reader]]:
    """The files of a case that are read, and by what; none when the folder is no case."""
    found: list[tuple[Path, Reader]] = [(case / INJECT_TIME, _inject_time)] if (case / INJECT_TIME).is_file() else []
    for name, reader in TABLES.items():
        found += [(path, reader) for extension in EXTENSIONS if (path := case / f"{name}{extension}").is_file()]
    return found
