"""Tables of the Collector's ClickHouse exporter, as somebody exported them: Parquet, or CSV with names (also gzip).

* ``otel_traces``: ``Timestamp``, ``TraceId``, ``SpanId``, ``Duration`` (ns), ``SpanName``; ``ParentSpanId``,
  ``SpanKind``, ``StatusCode``, ``StatusMessage``, ``ResourceAttributes``, ``SpanAttributes``, ``Events.*``.
* ``otel_metrics_gauge``, ``otel_metrics_sum``: ``MetricName``, ``TimeUnix``, ``Value``; ``MetricUnit``,
  ``Attributes``, ``StartTimeUnix``, ``ResourceAttributes``; of sums ``AggregationTemporality``, ``IsMonotonic``.
* ``otel_metrics_histogram``: no signal is made of histograms; their rows are counted.
* ``otel_logs``: ``Timestamp``, ``Body``, ``SeverityText``; ``TraceId``, ``SpanId``, ``SeverityNumber``,
  ``LogAttributes``.
* The tables of RCABench's data (``ops-lite``, OpenRCA 2): ``time``, ``trace_id``, ``span_id``, ``parent_span_id``,
  ``service_name``, ``span_name``, ``duration`` (ns); ``time``, ``metric``, ``value``; both with ``attr.*``.

A file is known by its columns, whatever it is called. Its rows become OTLP and go through the decoders of what is
received, so that limits, masks and the words of other sources hold here too.
Source: opentelemetry-collector-contrib, exporter/clickhouseexporter (internal/sqltemplates); ClickHouse's documentation
of the formats Parquet and CSVWithNames (maps and arrays in single quotes, times without a zone are UTC); RCABench's
specification of its data ("File Contents").
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline_api.doors.otlp import DECODERS
from layerline_api.doors.otlp.masking import BY_DEFAULT
from layerline_api.recorded.gathered import Gathered, Place, Unreadable, shown
from layerline_api.recorded.tables import EXTENSIONS, Bad, Numbered, opened

#: By which columns each table is known.
TRACES = ("Timestamp", "TraceId", "SpanId", "SpanName", "Duration")
METRICS = ("MetricName", "TimeUnix", "Value")
HISTOGRAMS = ("MetricName", "TimeUnix", "BucketCounts")
LOGS = ("Timestamp", "Body", "SeverityText")
BENCH_TRACES = ("time", "trace_id", "span_id", "service_name", "span_name", "duration")
BENCH_METRICS = ("time", "metric", "value")

#: Rows that are decoded together.
_TOGETHER = 500
_KIND = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_STATUS = {"ok": 1, "error": 2}
_TEMPORALITY = {"1": 1, "2": 2, "delta": 1, "cumulative": 2}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|\+00:?00| UTC)?")
_TRUE = (True, 1, "1", "true", "True")


def tables_in(folder: Path) -> list[Path]:
    """The files of a folder that are such tables."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_table(path)]


def is_table(path: Path) -> bool:
    """Whether this file, by its columns, is one of these tables. OSError."""
    if not path.name.removesuffix(".gz").endswith(EXTENSIONS):
        return False
    try:
        names, _ = opened(path)
    except Unreadable:
        return False
    return _reader_of(set(map(str, names))) is not None


def read(path: Path, begin: Place, gathered: Gathered) -> Iterator[Place]:
    """The rows of the file from ``begin`` on, some hundreds at a time. ``Unreadable`` when it is none of the tables."""
    names, rows = opened(path)
    found = _reader_of(set(map(str, names)))
    if found is None:
        raise Unreadable(
            "expected a table of ClickHouse's OpenTelemetry exporter, such as one with the columns"
            f" {', '.join(TRACES)}; found {', '.join(map(str, names[:12])) or 'none'}"
        )
    signal, add = found
    what = "row" if path.suffix == ".parquet" else "line"
    left = (row for row in rows if row[0] >= begin.offset)
    while together := list(islice(left, _TOGETHER)):
        _decode(signal, add, names, together, what, gathered)
        number, line, _ = together[-1]
        yield Place(number + 1, line)


Row = Mapping[str, Any]
#: Adds a row to the request; ``Bad`` where it cannot.
_Add = Callable[[Any, Row], None]


def _reader_of(names: set[str]) -> tuple[str, _Add | None] | None:
    for wanted, signal, add in (
        (TRACES, "traces", _span),
        (HISTOGRAMS, "metrics", None),
        (METRICS, "metrics", _point),
        (LOGS, "logs", _record),
        (BENCH_TRACES, "traces", _bench_span),
        (BENCH_METRICS, "metrics", _bench_point),
    ):
        if names.issuperset(wanted):
            return signal, add
    return None


_REQUEST: dict[str, Callable[[], Any]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}


def _decode(
    signal: str, add: _Add | None, names: Sequence[Any], rows: Sequence[Numbered], what: str, gathered: Gathered
) -> None:
    """These rows as one request. A row that cannot be read costs itself."""
    if add is None:
        gathered.left_out += len(rows)
        return
    request = _REQUEST[signal]()
    for _, line, cells in rows:
        try:
            if len(cells) != len(names):
                raise Bad(f"it has {len(cells)} cells; expected {len(names)}")
            add(request, dict(zip(names, cells, strict=True)))
        except Bad as problem:
            gathered.reject(f"{what} {line}", str(problem))
    batch, rejections = DECODERS[signal].rows(request.SerializeToString(), gathered.bounds, None, BY_DEFAULT)
    if rejections.count:
        gathered.reject(f"{what} {rows[0][1]} and those after it", rejections.message(), rejections.count)
    gathered.add(batch)


def _span(request: Any, row: Row) -> None:
    trace_id, span_id = _bytes("TraceId", row, 16), _bytes("SpanId", row, 8)
    begin_ns, duration_ns = _time("Timestamp", row), _whole("Duration", row)
    name, kind, status = _text(row, "SpanName"), _word(row, "SpanKind"), _word(row, "StatusCode")
    group = request.resource_spans.add()
    _attributes(group.resource.attributes, _resource(row))
    span = group.scope_spans.add().spans.add(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=_bytes("ParentSpanId", row, 8) if _text(row, "ParentSpanId").strip("0") else b"",
        trace_state=_text(row, "TraceState"),
        name=name,
        kind=_KIND.get(kind, 0),
        start_time_unix_nano=begin_ns,
        end_time_unix_nano=begin_ns + duration_ns,
    )
    span.status.code = _STATUS.get(status, 0)
    span.status.message = _text(row, "StatusMessage")
    _attributes(span.attributes, _map("SpanAttributes", row))
    times, names, attributes = (_list(f"Events.{part}", row) for part in ("Timestamp", "Name", "Attributes"))
    for at, event_name, of_event in zip(times, names, attributes, strict=False):
        event = span.events.add(time_unix_nano=_moment("Events.Timestamp", at), name=str(event_name))
        _attributes(event.attributes, _as_map("Events.Attributes", of_event))


def _point(request: Any, row: Row) -> None:
    try:
        value = float(row["Value"])
    except (TypeError, ValueError):
        raise Bad(f"Value is {shown(row['Value'])}; expected a number") from None
    at_ns = _time("TimeUnix", row)
    begin_ns = _time("StartTimeUnix", row) if row.get("StartTimeUnix") else 0
    group = request.resource_metrics.add()
    _attributes(group.resource.attributes, _resource(row))
    metric = group.scope_metrics.add().metrics.add(name=_text(row, "MetricName"), unit=_text(row, "MetricUnit"))
    if "AggregationTemporality" in row:
        metric.sum.aggregation_temporality = _TEMPORALITY.get(_word(row, "AggregationTemporality"), 0)
        metric.sum.is_monotonic = row.get("IsMonotonic") in _TRUE
    into = metric.sum.data_points if "AggregationTemporality" in row else metric.gauge.data_points
    point = into.add(time_unix_nano=at_ns, start_time_unix_nano=begin_ns, as_double=value)
    _attributes(point.attributes, _map("Attributes", row))


def _record(request: Any, row: Row) -> None:
    at_ns = _time("Timestamp", row)
    group = request.resource_logs.add()
    _attributes(group.resource.attributes, _resource(row))
    record = group.scope_logs.add().log_records.add(
        time_unix_nano=at_ns,
        severity_number=min(24, _whole("SeverityNumber", row)) if row.get("SeverityNumber") else 0,
        severity_text=_text(row, "SeverityText"),
        trace_id=_bytes("TraceId", row, 16) if _text(row, "TraceId") else b"",
        span_id=_bytes("SpanId", row, 8) if _text(row, "SpanId") else b"",
        event_name=_text(row, "EventName"),
    )
    record.body.string_value = _text(row, "Body")
    _attributes(record.attributes, _map("LogAttributes", row))


# ---- RCABench


def _bench_span(request: Any, row: Row) -> None:
    resource, attributes = _bench_attributes(row)
    _span(
        request,
        {
            "Timestamp": row["time"],
            "TraceId": row["trace_id"],
            "SpanId": row["span_id"],
            "ParentSpanId": row.get("parent_span_id"),
            "ServiceName": row["service_name"],
            "SpanName": row["span_name"],
            "Duration": row["duration"],
            "SpanKind": attributes.pop("span_kind", ""),
            "StatusCode": attributes.pop("status_code", ""),
            "ResourceAttributes": resource,
            "SpanAttributes": attributes,
        },
    )


def _bench_point(request: Any, row: Row) -> None:
    resource, attributes = _bench_attributes(row)
    told = {"MetricName": row["metric"], "TimeUnix": row["time"], "Value": row["value"]}
    service = {"ServiceName": row.get("service_name")}
    _point(request, {**told, **service, "ResourceAttributes": resource, "Attributes": attributes})


def _bench_attributes(row: Row) -> tuple[dict[str, str], dict[str, str]]:
    """Those of the resource (Kubernetes, container and host), and the others."""
    resource: dict[str, str] = {}
    others: dict[str, str] = {}
    for column, value in row.items():
        name = str(column).removeprefix("attr.")
        if name != column and value is not None and value != "":
            (resource if name.startswith(("k8s.", "container.", "host.")) else others)[name] = _cell(value)
    return resource, others


# ---- cells


def _resource(row: Row) -> dict[str, str]:
    """Its attributes; the service stands in a column of its own, too."""
    found = _map("ResourceAttributes", row)
    if service := _text(row, "ServiceName"):
        found.setdefault("service.name", service)
    return found


def _attributes(into: Any, found: Mapping[str, str]) -> None:
    for key, value in found.items():
        into.add(key=key).value.string_value = value


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "replace").decode()


def _word(row: Row, name: str) -> str:
    """A kind or status, as the exporter has written it since its beginning: ``SPAN_KIND_SERVER`` or ``Server``."""
    return _text(row, name).removeprefix("SPAN_KIND_").removeprefix("STATUS_CODE_").lower()


def _bytes(name: str, row: Row, length: int) -> bytes:
    text = _text(row, name)
    try:
        found = bytes.fromhex(text.rjust(2 * length, "0"))
    except ValueError:
        found = b""
    if len(found) != length or not text:
        raise Bad(f"{name} is {shown(text)}; expected up to {2 * length} hex digits")
    return found


def _whole(name: str, row: Row) -> int:
    try:
        found = int(row[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        found = -1
    if not 0 <= found < 2**63:
        raise Bad(f"{name} is {shown(row.get(name))}; expected a whole number")
    return found


def _time(name: str, row: Row) -> int:
    return _moment(name, row[name])


def _moment(name: str, value: Any) -> int:
    """Nanoseconds since 1970, of a text, or of a number of seconds or nanoseconds."""
    if type(value) is int:
        return value if value > 10**17 else value * 10**9
    match = _TIME.fullmatch(str(value))
    if match is None:
        raise Bad(f"{name} is {shown(value)}; expected a time such as 2026-11-23 10:00:00.123456789, in UTC")
    day, clock, fraction = match.groups()
    try:
        seconds = int(datetime.fromisoformat(f"{day}T{clock}+00:00").timestamp())
    except ValueError:
        raise Bad(f"{name} is {shown(value)}; expected a time") from None
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))


def _map(name: str, row: Row) -> dict[str, str]:
    return _as_map(name, row.get(name))


def _as_map(name: str, value: Any) -> dict[str, str]:
    """A map as Arrow has it (pairs), as ClickHouse writes it into CSV, or as JSON."""
    found = _parsed(name, value)
    if isinstance(found, Mapping):
        found = found.items()
    try:
        return {_cell(key): _cell(of_key) for key, of_key in found or ()}
    except (TypeError, ValueError):
        raise Bad(f"{name} is {shown(value)}; expected a map") from None


def _list(name: str, row: Row) -> list[Any]:
    found = _parsed(name, row.get(name))
    return list(found) if isinstance(found, list | tuple) else []


def _parsed(name: str, value: Any) -> Any:
    if not isinstance(value, str | bytes):
        return value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not text.strip():
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Bad(f"{name} is {shown(text)}; expected a map or a list") from None


def _cell(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "replace").decode()
