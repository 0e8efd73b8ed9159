"""Tables of the Collector's ClickHouse exporter, and of RCABench, become spans, points and log records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from recordings import read

from layerline_api.recorded import clickhouse
from layerline_api.recorded.gathered import Place, Unreadable
from layerline_api.recorded.sources import sources
from layerline_correlator.store.model import SERVER, STATUS_ERROR

#: 2024-01-15T21:00:00.123456789Z
ZERO_NS = 1_705_352_400_123_456_789
TRACE, SPAN, PARENT = "a" * 32, "b" * 16, "c" * 16
TRACES_CSV = (
    '"Timestamp","TraceId","SpanId","ParentSpanId","SpanName","SpanKind","ServiceName","ResourceAttributes",'
    '"SpanAttributes","Duration","StatusCode","StatusMessage","Events.Timestamp","Events.Name","Events.Attributes"\n'
    f'"2024-01-15 21:00:00.123456789","{TRACE}","{SPAN}","{PARENT}","GET /cart","Server","cart",'
    "\"{'service.name':'cart','container.id':'it\\'s'}\",\"{'http.request.method':'GET'}\",5000000,\"Error\",\"no\","
    "\"['2024-01-15 21:00:00.124']\",\"['exception']\",\"[{'exception.type':'KeyError'}]\"\n"
    f'"yesterday","{TRACE}","{SPAN}","","GET /cart","Server","cart","{{}}","{{}}",1,"Unset","","[]","[]","[]"\n'
    f'"2024-01-15 21:00:01","{TRACE}","xyz","","GET /cart","Server","cart","{{}}","{{}}",1,"Unset","","[]","[]","[]"\n'
)
MAP = pa.map_(pa.string(), pa.string())


def _parquet(path: Path, columns: dict[str, pa.Array]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def _times(*times_ns: int) -> pa.Array:
    return pa.array(times_ns, pa.timestamp("ns", "UTC"))


def test_spans_in_csv(tmp_path: Path) -> None:
    """Ids, kind, status, times to the nanosecond, maps and events; a bad row costs itself and is named."""
    path = tmp_path / "export.csv"
    path.write_text(TRACES_CSV)
    found = read(clickhouse.read, path)
    (row,) = found.batch.spans
    assert (row.trace_id, row.span_id, row.parent_span_id) == (TRACE, SPAN, PARENT)
    assert (row.name, row.kind, row.status) == ("GET /cart", SERVER, STATUS_ERROR)
    assert (row.start_ns, row.end_ns) == (ZERO_NS, ZERO_NS + 5_000_000)
    assert row.attributes == {"http.request.method": "GET"}
    assert [(event.name, event.attributes) for event in row.details.events or []] == [
        ("exception", {"exception.type": "KeyError"})
    ]
    assert found.batch.resources[0].attributes["service.name"] == "cart"
    assert found.rejected == 2
    assert "line 3: Timestamp is 'yesterday'; expected a time such as" in found.problems[0]
    assert "line 4: SpanId is 'xyz'; expected up to 16 hex digits" in found.problems[1]
    assert read(clickhouse.read, path, Place(3, 4)).batch.spans == []


def _metrics(**more: pa.Array) -> dict[str, pa.Array]:
    resource = [[("k8s.pod.name", "cart-1"), ("container.id", "d" * 64)]] * 2
    return {
        "ResourceAttributes": pa.array(resource, MAP),
        "ServiceName": pa.array(["", ""]),
        "MetricName": pa.array(["container.cpu.time"] * 2),
        "MetricUnit": pa.array(["s"] * 2),
        "Attributes": pa.array([[]] * 2, MAP),
        "StartTimeUnix": _times(ZERO_NS - 10**9, ZERO_NS - 10**9),
        "TimeUnix": _times(ZERO_NS, ZERO_NS + 10**9),
        "Value": pa.array([1.0, 2.5]),
        **more,
    }


def test_sums_and_gauges_in_parquet(tmp_path: Path) -> None:
    """A cumulative sum becomes our signal in our unit, of its container; a gauge stays one."""
    path = _parquet(
        tmp_path / "sum.parquet",
        _metrics(AggregationTemporality=pa.array([2, 2]), IsMonotonic=pa.array([True, True])),
    )
    found = read(clickhouse.read, path).batch
    assert [(one.signal, one.kind) for one in found.series] == [("container.cpu.time", "cumulative")]
    assert [(point.time_ns, point.value) for point in found.points] == [
        (ZERO_NS, 1.0 * 10**9),
        (ZERO_NS + 10**9, 2.5 * 10**9),
    ]
    level = _metrics(MetricName=pa.array(["queue.length"] * 2))
    gauge = read(clickhouse.read, _parquet(tmp_path / "gauge.parquet", level)).batch
    assert {one.kind for one in gauge.series} == {"gauge"}


def test_histograms_are_counted(tmp_path: Path) -> None:
    """No signal is made of them, and the import says how many rows were not kept."""
    counts = pa.array([[1, 2]] * 2, pa.list_(pa.uint64()))
    found = read(clickhouse.read, _parquet(tmp_path / "h.parquet", _metrics(BucketCounts=counts)))
    assert (found.left_out, found.batch.points) == (2, [])


def test_logs(tmp_path: Path) -> None:
    """A record keeps its trace, severity, text and attributes."""
    path = _parquet(
        tmp_path / "logs.parquet",
        {
            "Timestamp": _times(ZERO_NS),
            "TraceId": pa.array([TRACE.encode()]),  # as ClickHouse writes strings by default
            "SpanId": pa.array([SPAN.encode()]),
            "SeverityText": pa.array(["ERROR"]),
            "SeverityNumber": pa.array([17], pa.int32()),
            "ServiceName": pa.array(["cart"]),
            "Body": pa.array(["no stock"]),
            "LogAttributes": pa.array([[("code", "7")]], MAP),
        },
    )
    (record,) = read(clickhouse.read, path).batch.logs
    assert (record.trace_id, record.span_id, record.severity, record.body) == (TRACE, SPAN, 17, "no stock")
    assert record.attributes == {"code": "7"}


def test_a_folder_of_rcabench(tmp_path: Path) -> None:
    """Its tables are found by their columns; Kubernetes' attributes are the resource's, kind and status are taken."""
    traces: dict[str, Any] = {
        "time": _times(ZERO_NS),
        "trace_id": pa.array([TRACE]),
        "span_id": pa.array([SPAN]),
        "parent_span_id": pa.array([""]),
        "service_name": pa.array(["geo"]),
        "span_name": pa.array(["Nearby"]),
        "duration": pa.array([7_000], pa.uint64()),
        "attr.span_kind": pa.array(["Server"]),
        "attr.status_code": pa.array(["Error"]),
        "attr.k8s.pod.name": pa.array(["geo-1"]),
        "attr.http.method": pa.array([None], pa.string()),
    }
    _parquet(tmp_path / "normal_traces.parquet", traces)
    metrics = {"time": _times(ZERO_NS), "metric": pa.array(["cpu"]), "value": pa.array([0.5])}
    _parquet(tmp_path / "normal_metrics.parquet", metrics)
    _parquet(tmp_path / "conclusion.parquet", {"SpanName": pa.array(["Nearby"])})
    (tmp_path / "injection.json").write_text("{}")
    found = sources([tmp_path], "auto")
    assert [(one.path.name, one.format) for one in found] == [
        ("normal_metrics.parquet", "clickhouse"),
        ("normal_traces.parquet", "clickhouse"),
    ]
    batch = read(clickhouse.read, tmp_path / "normal_traces.parquet").batch
    (row,) = batch.spans
    assert (row.kind, row.status, row.parent_span_id, row.end_ns - row.start_ns) == (SERVER, STATUS_ERROR, None, 7_000)
    assert batch.resources[0].attributes == {"k8s.pod.name": "geo-1", "service.name": "geo"}
    assert read(clickhouse.read, tmp_path / "normal_metrics.parquet").batch.points[0].value == 0.5


def test_another_table_is_refused(tmp_path: Path) -> None:
    """The error says which columns were expected and found."""
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(Unreadable, match=r"expected a table of ClickHouse's .* found a, b"):
        read(clickhouse.read, path)
