"""A case of RCAEval, in CSV and in Parquet, becomes spans, gauges and events."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from recordings import Read, read

from layerline_api.recorded import rcaeval
from layerline_api.recorded.gathered import Unreadable
from layerline_correlator.store.model import SERVER, STATUS_ERROR, STATUS_UNSET, UNSPECIFIED

#: 2024-01-15T21:00:00Z
ZERO_S = 1_705_352_400
TRACES = (
    "time,traceID,spanID,serviceName,methodName,operationName,startTimeMillis,startTime,duration,statusCode,parentSpanID\n"
    f"21:00,a1,01,frontend,GET,GET /cart,{ZERO_S}000,{ZERO_S}000000,5000,0.0,\n"
    f"21:00,a1,02,cartservice,GetCart,hipstershop.CartService/GetCart,{ZERO_S}001,{ZERO_S}001000,3000,2.0,01\n"
    f"21:00,a1,03,cartservice,Get,,{ZERO_S}001,{ZERO_S}001500,1000,,02\n"
    f"21:00,a2,04,frontend,POST,POST /cart,{ZERO_S}002,{ZERO_S}002000,9000,503,\n"
)
METRICS = (
    "time,time.1,frontend_container-cpu-usage-seconds-total,cartservice_latency-90,node-1_node-memory-free\n"
    f"{ZERO_S},0,0.25,,1000\n"
    f"{ZERO_S + 1},1,0.5,NaN,\n"
)
LOGS = (
    "time,timestamp,container_name,message,level,req_path,error\n"
    f'21:00,{ZERO_S}000000001,frontend,"it took\nlong",info,/cart,\n'
    f'21:00,{ZERO_S}000000002,cartservice,"could not, at all",ERROR,,\n'
    f"21:00,{ZERO_S}000000003,cartservice,odd,info,/x,deadline exceeded\n"
)


def case(folder: Path, extension: str, **texts: str) -> Path:
    folder.mkdir()
    for name, text in {"traces": TRACES, "metrics": METRICS, "logs": LOGS, **texts}.items():
        path = folder / f"{name}{extension}"
        if extension == ".csv":
            path.write_text(text)
        else:
            parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
            ids = {name: pa.string() for name in ("traceID", "spanID", "parentSpanID", "time")}
            convert = pyarrow.csv.ConvertOptions(column_types=ids if name == "traces" else {}, strings_can_be_null=True)
            pyarrow.parquet.write_table(
                pyarrow.csv.read_csv(io.BytesIO(text.encode()), parse_options=parse, convert_options=convert), path
            )
    (folder / "inject_time.txt").write_text(f"{ZERO_S + 720}\n")
    return folder


def tables(folder: Path) -> dict[str, Read]:
    found = {path.stem: read(reader, path) for path, reader in rcaeval.files_of(folder)}
    assert not [problem for one in found.values() for problem in one.problems]
    return found


@pytest.mark.parametrize("extension", rcaeval.EXTENSIONS)
def test_a_case_becomes_spans_gauges_and_events(tmp_path: Path, extension: str) -> None:
    """Every file of the case is read; what no column says is not made up."""
    found = tables(case(tmp_path / "case", extension))
    spans = found["traces"].batch.spans
    parents = [row.parent_span_id and int(row.parent_span_id, 16) for row in spans]
    assert [(int(row.trace_id, 16), int(row.span_id, 16)) for row in spans] == [(161, 1), (161, 2), (161, 3), (162, 4)]
    assert parents == [None, 1, 2, None]
    assert [row.name for row in spans] == ["GET /cart", "hipstershop.CartService/GetCart", "Get", "POST /cart"]
    assert [row.kind for row in spans] == [UNSPECIFIED, SERVER, UNSPECIFIED, UNSPECIFIED]
    assert [row.status for row in spans] == [STATUS_UNSET, STATUS_ERROR, STATUS_UNSET, STATUS_ERROR]
    assert [row.attributes for row in spans] == [
        {"rpc.response.status_code": "0"}, {"rpc.response.status_code": "2"}, {}, {"http.response.status_code": "503"}
    ]  # fmt: skip
    assert (spans[0].start_ns, spans[0].end_ns) == (ZERO_S * 10**9, ZERO_S * 10**9 + 5_000_000)

    metrics = found["metrics"].batch
    signals = {row.series: (row.signal, row.kind) for row in metrics.series}
    assert sorted((*signals[row.series], row.time_ns - ZERO_S * 10**9, row.value) for row in metrics.points) == [
        ("container-cpu-usage-seconds-total", "gauge", 0, 0.25),
        ("container-cpu-usage-seconds-total", "gauge", 10**9, 0.5),
        ("node-memory-free", "gauge", 0, 1000.0),
    ], "an empty cell was not measured, and is not zero"
    owners = {row.resource: row.attributes for row in metrics.resources}
    assert {row.signal: owners[row.resource] for row in metrics.series} == {
        "container-cpu-usage-seconds-total": {"service.name": "frontend"},
        "node-memory-free": {"host.name": "node-1"},
    }

    logs = found["logs"]
    assert [(row.name, row.body) for row in logs.batch.events] == [
        ("log.error", "could not, at all"), ("log.error", "odd")
    ]  # fmt: skip
    assert logs.batch.events[1].attributes == {"level": "info", "error": "deadline exceeded", "req_path": "/x"}
    assert logs.left_out == 1

    (event,) = found["inject_time"].batch.events
    assert (event.name, event.time_ns) == ("rcaeval.fault_injected", (ZERO_S + 720) * 10**9)


@pytest.mark.parametrize("extension", rcaeval.EXTENSIONS)
def test_reading_goes_on_from_any_row(tmp_path: Path, extension: str) -> None:
    """Wherever reading stopped, the rest is the rest."""
    for path, reader in rcaeval.files_of(case(tmp_path / "case", extension)):
        whole = read(reader, path)
        for number, place in enumerate(whole.places[:-1], 1):
            rest = read(reader, path, place)
            assert rest.places == whole.places[number:]
            if path.stem == "traces":
                assert rest.batch.spans == whole.batch.spans[number:], "kinds too"


BAD_ROWS: dict[str, tuple[str, str]] = {
    "cells": ("21:00,a1,05", "it has 3 cells; expected 11"),
    "id": (f"21:00,t1,05,x,GET,GET,0,{ZERO_S}000000,1,0,", "traceID is 't1'; expected up to 32 hex digits"),
    "time": ("21:00,a1,05,x,GET,GET,0,soon,1,0,", "startTime is 'soon'; expected a number"),
    "milliseconds": ("21:00,a1,05,x,GET,GET,0,0,1,0,", "are not microseconds since 1970"),
    "duration": (f"21:00,a1,05,x,GET,GET,0,{ZERO_S}000000,-1,0,", "are not microseconds since 1970"),
    "status": (f"21:00,a1,05,x,GET,GET,0,{ZERO_S}000000,1,fine,", "statusCode is 'fine'; expected a number"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_costs_itself(tmp_path: Path, name: str) -> None:
    """The row is counted with its line, what was expected and found; the others are read."""
    row, told = BAD_ROWS[name]
    path = case(tmp_path / "case", ".csv", traces=f"{TRACES}{row}\n{TRACES.splitlines()[1]}\n") / "traces.csv"
    found = read(rcaeval.TABLES["traces"], path)
    assert len(found.batch.spans) == 5
    (problem,) = found.problems
    assert problem.startswith("line 6: ")
    assert told in problem
    assert found.rejected == 1


def test_bad_cells_cost_themselves(tmp_path: Path) -> None:
    """Two cells of a row of metrics are no numbers: both are counted, and the third is kept."""
    path = tmp_path / "metrics.csv"
    path.write_text(f"time,a_cpu,b_cpu,c_cpu\n{ZERO_S},high,1.5,low\n")
    found = read(rcaeval.TABLES["metrics"], path)
    assert [row.value for row in found.batch.points] == [1.5]
    assert found.problems == ["line 2: a_cpu is 'high'; expected a number (and 1 more)"]
    assert found.rejected == 2


@pytest.mark.parametrize("name", rcaeval.TABLES)
def test_a_table_without_its_columns_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the columns that were expected, those found and those missing; an empty file is one such."""
    for text in ("when,what\n1,2\n", ""):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        with pytest.raises(Unreadable, match=r"expected the columns .*; found (when, what|none) \(missing: .+\)"):
            read(rcaeval.TABLES[name], path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """The ending promises Parquet; the error says so."""
    path = tmp_path / "traces.parquet"
    path.write_text(TRACES)
    with pytest.raises(Unreadable, match="expected Parquet"):
        read(rcaeval.TABLES["traces"], path)


def test_a_moment_that_is_none_is_refused(tmp_path: Path) -> None:
    """`inject_time.txt` holds one number, and the error says what was found."""
    folder = case(tmp_path / "case", ".csv")
    (folder / "inject_time.txt").write_text("at noon")
    path, reader = rcaeval.files_of(folder)[0]
    with pytest.raises(Unreadable, match="expected seconds since 1970: the time is 'at noon'"):
        read(reader, path)


def test_long_messages_are_no_obstacle(tmp_path: Path) -> None:
    """A stack trace of a megabyte is one cell."""
    path = tmp_path / "logs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["timestamp", "container_name", "message", "level"], [f"{ZERO_S}000000000", "web", "x" * 10**6, "error"]]
        )
    (event,) = read(rcaeval.TABLES["logs"], path).batch.events
    assert len(event.body) == 10**6
