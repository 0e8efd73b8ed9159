"""How long pages take: the server's answer, and from there until a browser lets people scroll, click and drag.

    python benchmarks/page.py [--hours 24] [--keep DIR] [--times 12] [--only waterfall] [--no-browser]

A day is made as benchmarks/questions.py makes one: ten minutes go through intake and are copied in time. Here they are
51 services with a container each, 100 containers read every 15 s; then requests of 5,000 and of 50,000 spans, 500 rows
of which are shown. Asked for are Now over 24 hours, the waterfalls, and the timeline of all containers over 24 hours,
each page with what it shows. *Interactive* is when the page's scripts have run and no long task followed (a tenth of a
second in which a browser could not answer), counted from the last byte of the answer. The goals: an answer within 300
ms at the 95th percentile, interactive within a second of it.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
from load import MS, SERVICES, S, Traces, container_id, readings, served_from
from questions import SLOW_S, TEMPLATE_S, TOGETHER_S, ask, copied, settle, summed_up, window

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser import open_browser
from layerline.attributes import SPAN_FIGURES
from layerline_api.doors.otlp.decode import decode
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import (
    CLIENT,
    SERVER,
    Batch,
    ResourceRow,
    SpanRow,
    resource_key,
)

#: Each set of three services has a number in its names: 51 services.
SETS = 17
CONTAINERS = 100
TRACES_PER_S = 1.0
LARGE = (5_000, 50_000)
#: Below each call of a large request, and how many of one name: fewer than are folded.
BELOW, OF_ONE_NAME = 48, 4
ANSWER_MS, INTERACTIVE_MS = 300, 1_000
_INTERACTIVE = """
const done = arguments[arguments.length - 1];
const [page] = performance.getEntriesByType("navigation");
let last = page.domContentLoadedEventEnd;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) last = Math.max(last, task.startTime + task.duration);
}).observe({ type: "longtask", buffered: true });
setTimeout(() => done(last - page.responseEnd), 400);
"""


def of_set(batch: Batch, number: int) -> Batch:
    """The same from other services: those of a set."""
    if not number:
        return batch
    own = {}
    for row in batch.resources:
        service = row.attributes.get("service.name")
        if service in SERVICES:
            which = number * len(SERVICES) + SERVICES.index(service)
            more = {"service.name": f"{service}-{number}", "container.id": container_id(which)}
            attributes = row.attributes | more
            own[row.resource] = ResourceRow(resource_key(attributes), attributes)
    spans = [row._replace(resource=own[row.resource].resource) for row in batch.spans]
    return Batch(resources=list(own.values()), spans=spans)


def template(folder: Path, begin_ns: int) -> None:
    """Ten minutes of 51 services and 100 containers, worked out and summed up."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000, hot_ns=10**18))
    traces = Traces(max(1, round(TRACES_PER_S * TOGETHER_S)))
    for turn, second in enumerate(range(0, TEMPLATE_S, TOGETHER_S)):
        until_ns = begin_ns + (second + TOGETHER_S) * S
        found = decode("traces", traces.body(until_ns, TOGETHER_S * S), is_json=False).batch
        correlator.append(of_set(found, turn % SETS))
    for second in range(0, TEMPLATE_S, SLOW_S):
        body, _ = readings(CONTAINERS, begin_ns + second * S + S // 2, second)
        correlator.append(decode("metrics", body, is_json=False).batch)
    while correlator.behind():
        time.sleep(0.2)
    correlator.close()
    with duckdb.connect(str(folder / "hot.duckdb"), config={"memory_limit": "3GB"}) as store:
        summed_up(store, folder)


def large(trace_id: str, spans: int, begin_ns: int, owner: ResourceRow) -> Iterator[SpanRow]:
    """A request that calls in turn; each call has children of several names: few rows are folded for being alike."""
    calls = spans // (BELOW + 2)
    each_ns = 40 * MS

    def span(number: int, parent: int | None, name: str, kind: int, from_ns: int, to_ns: int) -> SpanRow:
        figures = (None,) * len(SPAN_FIGURES)
        attributes = {f"app.field_{field}": f"value {number}" for field in range(8)}
        attributes |= {"db.query.text": f"SELECT id FROM stock WHERE sku = {number}"} if kind == CLIENT else {}
        return SpanRow(
            trace_id, f"{number + 1:016x}", None if parent is None else f"{parent + 1:016x}", owner.resource, name,
            kind,
            begin_ns + from_ns, begin_ns + to_ns, 0, None, None, None, None, figures, attributes,
        )  # fmt: skip

    yield span(0, None, "GET /report", SERVER, 0, calls * each_ns)
    number = 1
    for call in range(calls):
        at_ns, this = call * each_ns, number
        yield span(this, 0, f"GET /part/{call}", CLIENT, at_ns, at_ns + each_ns)
        for child in range(BELOW):
            from_ns = at_ns + child * each_ns // BELOW
            name = f"step {child // OF_ONE_NAME}"
            yield span(this + 1 + child, this, name, CLIENT, from_ns, from_ns + each_ns // BELOW)
        number += 1 + BELOW


def build(folder: Path, hours: float) -> None:
    """The day, and the large requests in its last minutes."""
    copies = max(1, round(hours * 3600 / TEMPLATE_S))
    begin_ns = time.time_ns() // (TEMPLATE_S * S) * TEMPLATE_S * S - copies * TEMPLATE_S * S
    template(folder, begin_ns)
    copied(folder, copies, begin_ns)
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    attributes = {"service.name": SERVICES[0], "container.id": container_id(0)}
    owner = ResourceRow(resource_key(attributes), attributes)
    for spans in LARGE:
        at_ns = begin_ns + copies * TEMPLATE_S * S - 200 * S
        correlator.append(Batch(resources=[owner], spans=list(large(large_id(spans), spans, at_ns, owner))))
    while correlator.behind():
        time.sleep(0.2)
    correlator.close()


def large_id(spans: int) -> str:
    """The trace id of the request of so many spans."""
    return f"{spans:032x}"


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is asked for."""

    name: str
    path: str


def pages(now_ns: int, hours: float) -> list[Page]:
    """What is asked for."""
    day = window(now_ns, round(hours * 3600))
    over = f"{hours:g} h"
    waterfalls = [Page(f"waterfall of {spans:,} spans", f"/requests/{large_id(spans)}") for spans in LARGE]
    return [
        Page(f"Now, {SETS * len(SERVICES)} services, {over}", f"/?{day}"),
        Page(f"map, {SETS * len(SERVICES)} services, {over}", f"/map?{day}"),
        *waterfalls,
        Page(f"timeline of {CONTAINERS} containers, {over}", f"/timeline?q=container:*&{day}"),
        Page(f"containers, {over}", f"/containers?{day}"),
    ]


def p95(values: list[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=24, help="how long the store is, and what is asked about")
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, and use the one that is there")
    parser.add_argument("--times", type=int, default=12, help="how often each page is asked for")
    parser.add_argument("--only", default="", help="only pages whose name has this in it")
    parser.add_argument("--no-browser", action="store_true", help="the answers only")
    options = parser.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}", flush=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="layerline-page-"))
    try:
        if not (folder / "hot.duckdb").exists():
            build(folder, options.hours)
        measure(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Ask, and look."""
    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True) as store:
        row = store.execute(
            "SELECT max(end_ns), count(*), (SELECT count(*) FROM span), (SELECT count(*) FROM point) FROM request"
        ).fetchone()
    assert row
    now_ns, requests, spans, points = row
    print(f"{spans:,} spans, {requests:,} requests, {points:,} points", flush=True)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(served_from(folder))
        settle(server)
        browser = None
        if not options.no_browser:
            browser = open_browser(Path(opened.enter_context(tempfile.TemporaryDirectory())))
            opened.callback(browser.quit)
            browser.set_script_timeout(120)
        print(f"{'p50 ms':>8s}{'p95 ms':>8s}{'CPU ms':>8s}{'kB':>8s}{'usable ms':>11s}  page", flush=True)
        for page in pages(now_ns, options.hours):
            if options.only not in page.name:
                continue
            ask(server, page.path, 1, 60)  # templates are compiled, files are read
            found = ask(server, page.path, options.times, 120)
            took_ms = [took * 1e3 for took in found.took_s]
            usable_ms = []
            for _ in range(max(1, options.times // 2) if browser is not None else 0):
                assert browser is not None
                browser.get(f"http://127.0.0.1:{server.port}{page.path}")
                usable_ms.append(float(browser.execute_async_script(_INTERACTIVE)))
            missed = []
            if p95(took_ms) > ANSWER_MS:
                missed.append(f"an answer within {ANSWER_MS} ms")
            if usable_ms and p95(usable_ms) > INTERACTIVE_MS:
                missed.append(f"usable {INTERACTIVE_MS} ms after it")
            print(
                f"{statistics.median(took_ms):8.0f}{p95(took_ms):8.0f}{found.cpu_s * 1e3:8.0f}{found.size / 1e3:8.0f}"
                f"{p95(usable_ms) if usable_ms else 0:11.0f}  {page.name}"
                + ("" if found.status == "200" else f"  answered {found.status}")
                + (f"  MISSED: {', '.join(missed)}" if missed else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
