"""How long questions take: every route and page on hours of what looks like real intake, at rest or under load.

    python benchmarks/questions.py [--hours 2] [--spans 200000] [--containers 20] [--load 1000] [--keep DIR]
    python benchmarks/questions.py --hours 24 --spans 5000000 --containers 50 --keep /tmp/a-day   # the whole

Some minutes go through the product's own decoder, store and ledger: three services with fifteen operations and a slow
request in a hundred, an agent that reads every container each second, a Collector that reads a fifth as many others
every 15 s. They are copied in time with SQL, each copy with its own ids and with counters that keep growing. ``--keep``
keeps the store and uses it again; windows then end where the store ends. With ``--load`` spans and readings keep coming
while it asks. Prints median and 95th percentile of each question, and the CPU time of the server for one: on a busy
machine only that can be compared. The goals: a request's verdict 100 ms, 15 minutes 300 ms, 24 hours 1 s.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
from load import SHAPE, S, Served, Traces, readings, served_from
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from steady import Sent, send_readings, send_spans

from layerline_api.doors.otlp.decode import decode
from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Naming
from layerline_correlator.facts.names import Names
from layerline_correlator.questions.coverage import read_coverage
from layerline_correlator.questions.entities import EntityQuery, read_entities
from layerline_correlator.questions.requests import RequestQuery, read_requests
from layerline_correlator.questions.services import read_service_map
from layerline_correlator.questions.timeline import TimelineQuery, read_timeline
from layerline_correlator.questions.trace import read_trace
from layerline_correlator.questions.verdicts import read_verdict, read_verdicts
from layerline_correlator.settings import Settings
from layerline_correlator.store.disk import Disk
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sealed import HOUR_NS, due, seal
from layerline_correlator.store.statements import begin
from layerline_correlator.summaries.summing import TABLES, Summing
from layerline_correlator.tagquery.evaluate import evaluate
from layerline_correlator.tagquery.parse import parse
from layerline_correlator.threads import Threads

#: The time that goes through intake, and how much of it is one batch, in seconds.
TEMPLATE_S, TOGETHER_S = 600, 10
#: How many operations each kind has; a number in the name tells them apart.
VARIANTS = 5
#: A Collector's docker_stats receiver reads every 15 s, and names another machine.
SLOW_S, COLLECTED_FROM = 15, 1_000
COPIED = ("hot_span", "hot_point", "request", "part", "stay", "failure")
SUMMED = ("edge_minute", *(table for tables in TABLES.values() for table in tables))
#: Of the store that is made, hours that ended longer before its end are sealed, as with LAYERLINE_HOT=2h.
HOT_NS = 2 * HOUR_NS
#: Milliseconds at the 95th percentile.
GOALS_MS = {"request": 100, "15m": 300, "24h": 1_000}
#: A verdict may change until the readings of so long after its request are there.
SETTLE_NS = 10 * S


def collected(containers: int, time_ns: int, second: int) -> bytes:
    """What a Collector sends of containers of its own: no boot id, another machine."""
    body, _ = readings(containers, time_ns, second)
    request = ExportMetricsServiceRequest.FromString(body)
    del request.resource_metrics[-1]
    for number, group in enumerate(request.resource_metrics):
        kept = [one for one in group.resource.attributes if one.key not in ("layerline.boot_id", "host.id")]
        for one in kept:
            if one.key == "container.id":
                one.value.string_value = f"{COLLECTED_FROM + number:064x}"
            elif one.key in ("container.name", "host.name"):
                one.value.string_value = f"collected-{number}" if one.key == "container.name" else "vm-2"
        del group.resource.attributes[:]
        group.resource.attributes.extend(kept)
    return request.SerializeToString()


def template(folder: Path, begin_ns: int, traces_per_s: float, containers: int) -> None:
    """Fill a new store with ``TEMPLATE_S`` of intake, worked out and summed up."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000, hot_ns=10**18))
    traces = Traces(max(1, round(traces_per_s * TOGETHER_S)))
    for second in range(0, TEMPLATE_S, TOGETHER_S):
        whole = Batch()
        until_ns = begin_ns + (second + TOGETHER_S) * S
        bodies = [("traces", traces.body(until_ns, TOGETHER_S * S))]
        for at in range(second, second + TOGETHER_S):
            bodies.append(("metrics", readings(containers, begin_ns + at * S + S // 2, at)[0]))
            if at % SLOW_S == 0:
                bodies.append(("metrics", collected(max(1, containers // 5), begin_ns + at * S + S // 3, at)))
        for signal, body in bodies:
            batch = decode(signal, body, is_json=False).batch
            for kind in ("resources", "series", "points"):
                getattr(whole, kind).extend(getattr(batch, kind))
            for row in batch.spans:
                variant = int(row.trace_id[:4], 16) % VARIANTS
                whole.spans.append(row._replace(name=f"{row.name}/{variant}") if variant else row)
        correlator.append(whole)
    while correlator.behind():
        time.sleep(0.2)
    correlator.close()
    with duckdb.connect(str(folder / "hot.duckdb"), config={"memory_limit": "3GB"}) as store:
        summed_up(store, folder)


def summed_up(store: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """What a server does when it has time."""
    Summing(store.cursor(), Disk(folder), Threads()).catch_up()


def copied(folder: Path, copies: int, begin_ns: int) -> None:
    """The template again and again, each copy after the one before, as if it had arrived and been sealed so."""
    length_ns = TEMPLATE_S * S
    with duckdb.connect(str(folder / "hot.duckdb"), config={"memory_limit": "3GB"}) as store:
        store.execute("DELETE FROM incident").execute("DELETE FROM trouble").execute("DELETE FROM watched")
        columns = {}
        for table in (*COPIED, *SUMMED):
            columns[table] = [name for (name, *_) in store.execute(f"DESCRIBE {table}").fetchall()]
            by = next(name for name in ("minute", "time_ns", "start_ns") if name in columns[table])
            store.execute(f"CREATE TEMP TABLE template_{table} AS FROM {table} ORDER BY {by}")
        store.execute(
            "CREATE TEMP TABLE growth AS"
            " SELECT series, (max(value) - min(value)) * count(*) / greatest(1, count(*) - 1) AS rise"
            " FROM template_hot_point JOIN series USING (series) WHERE kind = 'cumulative' GROUP BY series"
        )
        for copy in range(1, copies):
            values = {"copy": copy, "moved": copy * length_ns}
            store.execute("BEGIN")
            for table in (*COPIED, *SUMMED):
                moved = [one for name in columns[table] if (one := _moved(table, name, columns[table]))]
                source = f"template_{table}" + (" LEFT JOIN growth USING (series)" if "point" in table else "")
                store.execute(
                    f"INSERT INTO {table} SELECT template_{table}.* REPLACE ({', '.join(moved)}) FROM {source}"
                    " WHERE $copy > 0 AND $moved > 0",
                    values,
                )
            store.execute("COMMIT")
            for hour in due(store, HOT_NS, begin_ns + copies * length_ns):
                if hour.from_ns + HOUR_NS <= begin_ns + (copy + 1) * length_ns:
                    for path in seal(store, folder, hour):
                        path.unlink()
            if copy % 6 == 0:
                print(f"copy {copy} of {copies}", file=sys.stderr, flush=True)
        summed_up(store, folder)  # quarters of an hour: no copy is one
        store.execute("CHECKPOINT")


def _moved(table: str, column: str, columns: list[str]) -> str | None:
    """What a column of a copy is made of, where it is not the template's."""
    if column in ("trace_id", "span_id", "parent_span_id", "failed_span_id"):
        return f"left(md5({column} || $copy), length({column})) AS {column}"
    if column in ("minute", "passed"):
        return f"{column} + $moved // 60_000_000_000 AS {column}"
    if column in ("judged_ns", "first_ns", "last_ns") or (column in ("start_ns", "end_ns") and "value" not in columns):
        return f"{column} + $moved AS {column}"
    if column == "time_ns":
        return "time_ns + $moved AS time_ns"
    if table in ("hot_point", "point_minute") and column in ("value", "first_value", "last_value", "lowest", "highest"):
        return f"{column} + coalesce(growth.rise, 0) * $copy AS {column}"
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and how long it took."""

    path: str
    status: str
    size: int
    took_s: list[float]
    cpu_s: float


def paths(server: Served, now_ns: int) -> list[str]:
    """Every route that answers something about a time, and the pages."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.port}/api/v1/requests?order=start&limit=1&{window(now_ns, 3600)}", timeout=120
    ) as answer:
        found = json.load(answer)["items"]
    trace_id = found[0]["trace_id"] if found else "0" * 31 + "1"
    comparison = urllib.parse.quote("memory.working_set > 1.5 * avg(memory.working_set)")
    asked = ["/metrics", f"/api/v1/requests/{trace_id}", f"/api/v1/traces/{trace_id}", f"/requests/{trace_id}"]
    for seconds in (900, 86_400):
        during = window(now_ns, seconds)
        over = "15m" if seconds == 900 else "24h"
        asked += [
            f"/api/v1/requests?{during}",
            f"/api/v1/verdicts?{during}",
            f"/api/v1/timeline?{during}",
            f"/api/v1/timeline?{during}&service=stock",
            f"/api/v1/services?{during}",
            f"/api/v1/entities?{during}",
            f"/api/v1/coverage?{during}",
            f"/api/v1/incidents?{during}",
            f"/api/v1/events?{during}",
            f"/api/v1/containers?q={comparison}+over+{over}",
            f"/timeline?{during}",
        ]
    return [*asked, "/", "/api/v1/tags?prefix=c", "/api/v1/causes"]


def window(now_ns: int, seconds: int) -> str:
    """``from`` and ``to`` of the last so many seconds, in words of a query string."""
    if time.time_ns() - now_ns < 120 * S:
        return f"since={seconds // 60}m" if seconds < 86_400 else f"since={seconds // 3600}h"

    def text(at_ns: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ns // S))

    return f"from={text(now_ns - seconds * S)}&to={text(now_ns)}"


def ask(server: Served, path: str, times: int, budget_s: float) -> Asked:
    """The same question several times, or as often as the budget allows."""
    took_s, status, size = [], "", 0
    cpu_s, began_s = server.cpu_s(), time.monotonic()
    while len(took_s) < times and (not took_s or time.monotonic() - began_s < budget_s):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
        asked_s = time.monotonic()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            status, size = str(answer.status), len(answer.read())
        except OSError as problem:
            status = type(problem).__name__
        took_s.append(time.monotonic() - asked_s)
        connection.close()
    return Asked(path, status, size, took_s, (server.cpu_s() - cpu_s) / len(took_s))


def goal_ms(path: str) -> int | None:
    if path.startswith("/api/v1/requests/") and "?" not in path:
        return GOALS_MS["request"]
    is_day = "24h" in path or ("from=" in path and _is_long(path))
    return GOALS_MS["24h"] if is_day else GOALS_MS["15m"] if "15m" in path or "from=" in path else None


def _is_long(path: str) -> bool:
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    return asked["from"][0][:10] != asked["to"][0][:10] and asked["from"][0][11:16] == asked["to"][0][11:16]


@contextlib.contextmanager
def loaded(server: Served, rate: int, containers: int) -> Iterator[None]:
    """Spans and readings keep coming inside of it."""
    if not rate:
        yield
        return
    sent, stop = Sent(), threading.Event()
    senders = [
        threading.Thread(target=send_spans, args=(server, rate, sent, stop), daemon=True),
        threading.Thread(target=send_readings, args=(server, containers, stop), daemon=True),
    ]
    for sender in senders:
        sender.start()
    time.sleep(20)
    try:
        yield
    finally:
        stop.set()
        for sender in senders:
            sender.join(timeout=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--load", type=int, default=0, help="spans a second that arrive meanwhile")
    parser.add_argument("--times", type=int, default=8, help="how often each question is asked, at most")
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, and use the one that is there")
    parser.add_argument("--only", help="ask only questions whose address has this in it; several with commas")
    parser.add_argument("--build-only", action="store_true", help="make the store and ask nothing")
    parser.add_argument("--here", action="store_true", help="ask without a server; print the CPU time of statements")
    options = parser.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}", flush=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="layerline-questions-"))
    try:
        if not (folder / "hot.duckdb").exists():
            copies = max(1, round(options.hours * 3600 / TEMPLATE_S))
            begin_ns = time.time_ns() // (TEMPLATE_S * S) * TEMPLATE_S * S - copies * TEMPLATE_S * S
            per_s = options.spans / len(SHAPE) / (copies * TEMPLATE_S)
            template(folder, begin_ns, per_s, options.containers)
            copied(folder, copies, begin_ns)
        if options.here:
            answer_here(folder, options)
        elif not options.build_only:
            answer_all(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


def answer_all(folder: Path, options: argparse.Namespace) -> None:
    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True) as store:
        row = store.execute(
            "SELECT (SELECT count(*) FROM span), (SELECT count(*) FROM point), (SELECT count(*) FROM request),"
            " (SELECT count(*) FROM part), (SELECT max(end_ns) FROM request)"
        ).fetchone()
    assert row
    *counts, now_ns = row
    sizes = ", ".join(f"{n:,} {what}" for n, what in zip(counts, ("spans", "points", "requests", "parts"), strict=True))
    print(f"{sizes}; {(folder / 'hot.duckdb').stat().st_size / 1e6:,.0f} MB", flush=True)
    wanted = options.only.split(",") if options.only else [""]
    with served_from(folder) as server, loaded(server, options.load, options.containers):
        settle(server)
        now_ns = time.time_ns() if options.load else now_ns
        print(f"{'p50 ms':>8s}{'p95 ms':>8s}{'CPU ms':>8s}{'kB':>8s}  question", flush=True)
        for path in paths(server, now_ns):
            if not any(text in path for text in wanted):
                continue
            found = ask(server, path, options.times, 40)
            took_ms = sorted(took * 1e3 for took in found.took_s)
            p95 = took_ms[min(len(took_ms) - 1, round(0.95 * (len(took_ms) - 1)))]
            goal = goal_ms(path)
            missed = "" if goal is None or p95 <= goal else f"  MISSED: the goal is {goal} ms"
            wrong = "" if found.status == "200" else f"  answered {found.status}"
            print(
                f"{statistics.median(took_ms):8.0f}{p95:8.0f}{found.cpu_s * 1e3:8.0f}{found.size / 1e3:8.0f}"
                f"  {path[:100]}{wrong}{missed}",
                flush=True,
            )
        print(f"resident memory at the end: {server.rss_bytes() / 2**20:.0f} MiB")


class Timed:
    """A cursor that notes the CPU time of each statement."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor, self._last = cursor, ""
        self.cpu_s: Counter[str] = Counter()

    def execute(self, sql: Any, *values: Any) -> Timed:
        began_s, self._last = time.process_time(), getattr(sql, "query", None) or str(sql)
        self._cursor.execute(sql, *values)
        self.cpu_s[self._last] += time.process_time() - began_s
        return self

    def fetchall(self) -> list[Any]:
        began_s = time.process_time()
        rows = self._cursor.fetchall()
        self.cpu_s[self._last] += time.process_time() - began_s
        return rows

    @property
    def description(self) -> Any:
        """The columns of the last statement."""
        return self._cursor.description


def answer_here(folder: Path, options: argparse.Namespace) -> None:
    wanted = options.only.split(",") if options.only else [""]
    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True, config={"memory_limit": "3GB"}) as store:
        name = Names(store.cursor()).entity
        (now_ns,) = store.execute("SELECT max(end_ns) FROM request").fetchall()[0]
        (trace_id,) = store.execute(
            "SELECT trace_id FROM request WHERE slow AND root ORDER BY start_ns DESC LIMIT 1"
        ).fetchall()[0]
        asked: dict[str, Callable[[Any], Any]] = {
            "a request's verdict": lambda cursor: read_verdict(cursor, trace_id, None, name, SETTLE_NS),
            "a request's trace": lambda cursor: read_trace(cursor, trace_id),
        }
        for over, seconds in (("15m", 900), ("24h", 86_400)):
            asked |= {f"{what}, {over}": read for what, read in about(now_ns - seconds * S, now_ns, over, name).items()}
        print(f"{'CPU ms':>8s}  question")
        for what, read in asked.items():
            if not any(text in what for text in wanted):
                continue
            found = []
            for _ in range(options.times):
                with store.cursor() as cursor:
                    begin(cursor)
                    timed, began_s = Timed(cursor), time.process_time()
                    read(timed)
                    found.append(time.process_time() - began_s)
            print(f"{statistics.median(found) * 1e3:8.0f}  {what}", flush=True)
            for sql, cpu_s in timed.cpu_s.most_common(3):
                print(f"{'':10s}{cpu_s * 1e3:8.0f}  {' '.join(sql.split())[:90]}", flush=True)


def about(from_ns: int, to_ns: int, over: str, name: Naming) -> dict[str, Callable[[Any], Any]]:
    """The questions about a window."""
    query = parse(f"memory.working_set > 1.5 * avg(memory.working_set) over {over}")
    return {
        "requests": lambda cursor: read_requests(cursor, RequestQuery(from_ns, to_ns), 0),
        "verdicts": lambda cursor: read_verdicts(cursor, RequestQuery(from_ns, to_ns), name, SETTLE_NS, 0),
        "timeline": lambda cursor: read_timeline(cursor, TimelineQuery(from_ns, to_ns), name),
        "timeline of a service": lambda cursor: read_timeline(
            cursor, TimelineQuery(from_ns, to_ns, service="stock"), name
        ),
        "services": lambda cursor: read_service_map(cursor, from_ns, to_ns),
        "entities": lambda cursor: read_entities(cursor, EntityQuery(from_ns, to_ns)),
        "coverage": lambda cursor: read_coverage(cursor, name, from_ns, to_ns),
        "containers": lambda cursor: evaluate(cursor, query, to_ns, name),
    }


def settle(server: Served) -> None:
    """Wait until the server has nothing left to catch up with."""
    quiet, until_s = 0, time.monotonic() + 1200
    while quiet < 3 and time.monotonic() < until_s:
        cpu_s = server.cpu_s()
        time.sleep(1)
        quiet = quiet + 1 if server.cpu_s() - cpu_s < 0.3 else 0


if __name__ == "__main__":
    main()
