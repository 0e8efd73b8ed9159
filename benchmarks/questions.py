"""How long questions take: every route and page on hours of intake, at rest and while spans arrive.

    python benchmarks/questions.py [--hours 2] [--spans 200000] [--containers 20] [--rates 0,1000] [--keep DIR]
    python benchmarks/questions.py --hours 24 --spans 5000000 --containers 50 --keep /tmp/a-day   # the whole
    python benchmarks/questions.py --quick --keep /tmp/a-day                                      # at most five minutes

Some minutes go through the product's own decoder, store and ledger: three services with fifteen operations and a slow
request in a hundred, an agent that reads every container each second, a Collector that reads a fifth as many others
every 15 s. They are copied in time with SQL, each copy with its own ids and with counters that keep growing. ``--keep``
keeps the store and uses it again.

First it asks at rest (rate 0), and windows end where the store ends; then it asks once more while so many spans a
second and the readings of the containers keep coming from another process, and windows end now. Prints median and
95th percentile of each question, and the CPU time of the server for one, less what it uses when nobody asks: on a busy
machine only that can be compared. The goals, of the 95th percentile: a request's verdict 100 ms, 15 minutes 300 ms,
24 hours 1 s. What arrives is written to the store: a kept one grows with each run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import platform
import shutil
import statistics
import sys
import tempfile
import time
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
from sending import Taken, sending

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
class Question:
    """An address, and what it is in a few words."""

    words: str
    path: str
    goal_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How long one question took, each time."""

    status: str
    size: int
    took_s: list[float]
    cpu_s: float

    def took_ms(self, place: float) -> float:
        """How long this share of the answers took at most."""
        ordered = sorted(self.took_s)
        return 1e3 * ordered[min(len(ordered) - 1, math.ceil(place * len(ordered)) - 1)]


def questions(server: Served, now_ns: int) -> Iterator[Question]:
    """Every route that answers something about a time, and the pages."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.port}/api/v1/requests?order=start&limit=1&{window(now_ns, 3600)}", timeout=120
    ) as answer:
        found = json.load(answer)["items"]
    trace_id = found[0]["trace_id"] if found else "0" * 31 + "1"
    yield Question("/metrics", "/metrics")
    for words, path in (
        ("verdict", "/api/v1/requests/"),
        ("spans", "/api/v1/traces/"),
        ("page", "/requests/"),
        ("page of its spans", "/traces/"),
    ):
        yield Question(f"a request: {words}", f"{path}{trace_id}", GOALS_MS["request"])
    comparison = urllib.parse.quote("memory.working_set > 1.5 * avg(memory.working_set)")
    for over, name, seconds in (("15m", "15 min", 900), ("24h", "24 h", 86_400)):
        during, goal_ms = window(now_ns, seconds), GOALS_MS[over]
        of_stock = f"{during}&service=stock"
        of_operation = f"{of_stock}&operation={urllib.parse.quote('GET /stock')}"
        for words, path in (
            ("requests", f"/api/v1/requests?{during}"),
            ("verdicts", f"/api/v1/verdicts?{during}"),
            ("verdicts of a service", f"/api/v1/verdicts?{of_stock}"),
            ("timeline", f"/api/v1/timeline?{during}"),
            ("timeline of a service", f"/api/v1/timeline?{of_stock}"),
            ("overview", f"/api/v1/overview?{during}"),
            ("services", f"/api/v1/services?{during}"),
            ("service", f"/api/v1/service?{of_stock}"),
            ("operation", f"/api/v1/service?{of_operation}"),
            ("entities", f"/api/v1/entities?{during}"),
            ("coverage", f"/api/v1/coverage?{during}"),
            ("incidents", f"/api/v1/incidents?{during}"),
            ("events", f"/api/v1/events?{during}"),
            ("containers", f"/api/v1/containers?q={comparison}+over+{over}{_ending(during)}"),
            ("page Now", f"/?{during}"),
            ("page Services", f"/services?{during}"),
            ("page of a service", f"/service?{of_stock}"),
            ("page of an operation", f"/service?{of_operation}"),
            ("page Map", f"/map?{during}"),
            ("page Containers", f"/containers?{during}"),
            ("page Timeline", f"/timeline?{during}"),
            ("page Coverage", f"/coverage?{during}"),
        ):
            yield Question(f"{name}: {words}", path, goal_ms)
    yield Question("tags", "/api/v1/tags?prefix=c")
    yield Question("causes", "/api/v1/causes")


def window(now_ns: int, seconds: int) -> str:
    """``from`` and ``to`` of the last so many seconds, in words of a query string."""
    if time.time_ns() - now_ns < 120 * S:
        return f"since={seconds // 60}m" if seconds < 86_400 else f"since={seconds // 3600}h"

    def text(at_ns: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ns // S))

    return f"from={text(now_ns - seconds * S)}&to={text(now_ns)}"


def _ending(during: str) -> str:
    """A tag query says how long; where it ends may stand beside it."""
    return "".join(f"&{one}" for one in during.split("&") if one.startswith("to="))


def ask(server: Served, path: str, times: int, budget_s: float, background_cores: float) -> Asked:
    """The same question several times, or as often as the budget allows; the first answer is not counted."""
    took_s: list[float] = []
    status, size, began_s, cpu_s = "", 0, 0.0, 0.0
    for number in range(times + 1):
        if number == 1:
            began_s, cpu_s = time.monotonic(), server.cpu_s()
        elif number > 1 and time.monotonic() - began_s > budget_s:
            break
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
        asked_s = time.monotonic()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            status, size = str(answer.status), len(answer.read())
        except OSError as problem:
            status = type(problem).__name__
        if number:
            took_s.append(time.monotonic() - asked_s)
        connection.close()
    used_s = server.cpu_s() - cpu_s - background_cores * (time.monotonic() - began_s)
    return Asked(status, size, took_s, max(0.0, used_s) / len(took_s))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--rates", default="0,1000", help="spans a second that arrive, one after the other; 0: at rest")
    parser.add_argument("--times", type=int, default=20, help="how often each question is asked, at most")
    parser.add_argument("--budget", type=float, default=20, help="how long it is asked, in seconds, at most")
    parser.add_argument("--warm-up", type=float, default=60, help="how long spans arrive before it asks, in seconds")
    parser.add_argument("--quick", action="store_true", help="each question for 2 s at most, 20 s of warm-up")
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, and use the one that is there")
    parser.add_argument("--only", help="ask only questions that have this in their words; several with commas")
    parser.add_argument("--build-only", action="store_true", help="make the store and ask nothing")
    parser.add_argument("--here", action="store_true", help="ask without a server; print the CPU time of statements")
    options = parser.parse_args()
    if options.quick:
        options.times, options.budget, options.warm_up = min(options.times, 8), 2.0, 20.0
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
    with served_from(folder) as server:
        settle(server)
        missed = [
            f"{words} ({said})"
            for rate in (int(text) for text in options.rates.split(","))
            for words, said in answer_at(server, rate, now_ns, options)
        ]
        print(f"\nresident memory at the end: {server.rss_bytes() / 2**20:.0f} MiB")
    print(f"missed: {'; '.join(missed)}" if missed else "no goal was missed")


def answer_at(server: Served, rate: int, end_ns: int, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Print a line for each question while so many spans a second arrive. Yields those that missed their goal."""
    wanted = options.only.split(",") if options.only else [""]
    # If this process dies, the sender stops by itself: asking takes no longer than this.
    longest_s = options.warm_up + 60 + 60 * (options.budget + 2 * 90)
    arriving = sending(server, rate, options.containers, longest_s) if rate else contextlib.nullcontext([])
    said = f"{rate:,} spans a second arriving" if rate else "at rest"
    taken: list[Taken]
    with arriving as taken:
        cores = 0.0  # what the server uses when nobody asks
        if rate:
            time.sleep(options.warm_up)
            began_s, cpu_s = time.monotonic(), server.cpu_s()
            time.sleep(15)
            cores = (server.cpu_s() - cpu_s) / (time.monotonic() - began_s)
        print(f"\n{said}; without questions {cores:.2f} cores; load {psutil.getloadavg()[0]:.1f}")
        print(f"{'p50 ms':>8s}{'p95 ms':>8s}{'CPU ms':>8s}{'goal':>7s}{'':9s}{'kB':>7s}  question", flush=True)
        for question in questions(server, time.time_ns() if rate else end_ns):
            if not any(text in question.words for text in wanted):
                continue
            found = ask(server, question.path, options.times, options.budget, cores)
            p95 = found.took_ms(0.95)
            is_missed = question.goal_ms is not None and (p95 > question.goal_ms or found.status != "200")
            goal = f"{question.goal_ms or '':>7}{'  missed ' if is_missed else '':9s}"
            wrong = "" if found.status == "200" else f": answered {found.status}"
            print(
                f"{found.took_ms(0.5):8.0f}{p95:8.0f}{found.cpu_s * 1e3:8.0f}{goal}{found.size / 1e3:7.0f}"
                f"  {question.words}{wrong}",
                flush=True,
            )
            if is_missed:
                yield question.words, said
    for one in taken:
        print(f"{one.spans:,} spans taken, {one.refused} bodies sent again; p50 of a body {one.acknowledged_ms:.0f} ms")


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
    while quiet < 5 and time.monotonic() < until_s:
        cpu_s = server.cpu_s()
        time.sleep(1)
        quiet = quiet + 1 if server.cpu_s() - cpu_s < 0.05 else 0


if __name__ == "__main__":
    main()
