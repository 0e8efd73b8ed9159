"""The servers that people run: each request and each task is measured as its own, in whatever process or thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerline.attributes import (
    ACCEPT_WAIT_NS,
    ACCOUNT,
    ACCOUNT_REASON,
    CONTAINER_USAGE_NS,
    CPU_NS,
    FIRST_REQUEST,
    POOL_WAIT_NS,
    RUNQUEUE_NS,
    SAMPLES,
    SLICES,
    THREAD_ID,
)
from waiting import PATIENCE_S
from wrapper.conftest import Received, Sink, clean_environment

pytestmark = pytest.mark.long

MS = 1_000_000
INTERNAL, SERVER, CONSUMER = 1, 2, 5  # opentelemetry.proto.trace.v1: Span.SpanKind

APP = """
import os
import time
from concurrent.futures import ThreadPoolExecutor
from flask import Flask, Response, stream_with_context
from opentelemetry import trace

app = Flask("shop")
tracer = trace.get_tracer("shop")
pool = ThreadPoolExecutor(2)


inner, spent = app.wsgi_app, os.open("spent", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def outermost(environ, start_response):
    begun = time.thread_time_ns()
    answer = inner(environ, start_response)
    os.write(spent, f"{environ['PATH_INFO']} {time.thread_time_ns() - begun}\\n".encode())
    return answer


app.wsgi_app = outermost


def burn(ms):
    end = time.thread_time() + ms / 1000
    while time.thread_time() < end:
        pass


def nap(ms):
    time.sleep(ms / 1000)


def price(ms):
    with tracer.start_as_current_span(f"price {ms}"):
        burn(ms)
    return ms


@app.get("/burn/<int:ms>")
def burning(ms):
    burn(ms)
    return "burnt"


@app.get("/nap/<int:ms>")
def napping(ms):
    nap(ms)
    return "rested"


@app.get("/prices")
def prices():
    return str(sum(pool.map(price, [30, 60])))


def lines():
    for number in range(6):
        with tracer.start_as_current_span("line"):
            burn(10)
            nap(40)
            yield f"{number}\\n"


@app.get("/stream")
def stream():
    return Response(lines(), mimetype="text/plain")


@app.get("/stream/in/context")
def stream_in_context():
    return Response(stream_with_context(lines()), mimetype="text/plain")
"""


@dataclass
class Serving:
    """A server that runs under the wrapper."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def assert_charged(self, spans: list[Received], at_least: Callable[[str], int]) -> None:
        """Each request is charged what it burnt, and at most what its thread used for it, by the thread's own clock."""
        used, charged = defaultdict(list), defaultdict(list)
        for line in (self.log.parent / "spent").read_text().splitlines():
            used[line.split()[0]].append(int(line.split()[1]))
        for span in spans:
            charged[path(span)].append(int(span.attributes[CPU_NS]))
        for of, figures in charged.items():
            for figure, most in zip(sorted(figures), sorted(used[of]), strict=True):
                # Within 50 µs of a reading the account takes the time that passed for time on a CPU.
                assert at_least(of) <= figure <= most + MS // 10, of

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:  # noqa: S310 - the app we started
            return str(answer.read().decode())

    def at_once(self, *paths: str) -> list[str]:
        with ThreadPoolExecutor(len(paths)) as threads:
            return list(threads.map(self.get, paths))


def until(true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until it is so; what is asserted afterwards says what was not."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)


@contextmanager
def running(
    command: list[str], folder: Path, ready: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``layerline run -- COMMAND`` until the block ends, then told to stop; it must stop well and log no traceback."""
    log = folder / "log"
    with log.open("wb") as to:
        process = subprocess.Popen(
            [sys.executable, "-m", "layerline.command", "run", "--", *command],
            cwd=folder,
            env=clean_environment(**variables),
            stdout=to,
            stderr=to,
        )
    try:
        until(lambda: ready in log.read_text() or process.poll() is not None)
        assert ready in log.read_text(), log.read_text()
        yield process, log
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) in (0, -signal.SIGTERM), log.read_text()  # uvicorn passes it on
        # gevent's lock of logging may no longer work as the interpreter ends, and says so: not ours.
        assert "gevent" in command or "Traceback" not in log.read_text(), log.read_text()
        assert f"{os.sep}layerline{os.sep}" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def gunicorn(folder: Path, sink: Sink, *options: str) -> Iterator[Serving]:
    """Gunicorn with the shop."""
    (folder / "shop.py").write_text(APP)
    command = [str(Path(sys.executable).with_name("gunicorn")), "-b", "127.0.0.1:0", "--no-control-socket", *options]
    with running([*command, "shop:app"], folder, "Booting worker", LAYERLINE_ENDPOINT=sink.url) as (process, log):
        url = log.read_text().partition("Listening at: ")[2].split()[0]
        yield Serving(url, process, log)


def served(sink: Sink) -> list[Received]:
    """The requests."""
    return [span for span in sink.spans if span.kind == SERVER]


def workers(sink: Sink) -> set[int]:
    return {span.resource["process.pid"] for span in served(sink)}


def path(span: Received) -> str:
    return str(span.attributes.get("url.path") or span.attributes["http.target"])


def seen(span: Received) -> list[str]:
    """What looks at it found."""
    return list(span.attributes.get(SAMPLES, []))


def begun_ns(span: Received) -> int:
    """When its handler began: a request's span starts when it arrived."""
    return span.start_ns + int(span.attributes[ACCEPT_WAIT_NS])


def at_once(one: Received, other: Received) -> bool:
    return one is not other and begun_ns(one) < other.end_ns and begun_ns(other) < one.end_ns


def pairs(sink: Sink) -> list[tuple[Received, Received]]:
    """Requests that one process handled at the same time."""
    spans = served(sink)
    return [
        (one, other)
        for one in spans
        for other in spans
        if at_once(one, other) and one.resource["process.pid"] == other.resource["process.pid"]
    ]


@pytest.mark.parametrize("model", ["-w 2", "-w 2 -k gthread --threads 2"])
def test_a_request_s_account_is_its_own_whoever_runs_beside_it(tmp_path: Path, sink: Sink, model: str) -> None:
    """Requests of different weight at once, in two processes, on two threads each: each is charged what it burnt."""
    weights = (20, 60, 120, 240)
    with gunicorn(tmp_path, sink, *model.split()) as shop:
        rounds = 0
        while rounds < 3 or (not (len(workers(sink)) == 2 and ("gthread" not in model or pairs(sink))) and rounds < 40):
            assert shop.at_once(*(f"/burn/{ms}" for ms in weights)) == ["burnt"] * 4
            rounds += 1
        until(lambda: len(served(sink)) == 4 * rounds)
        spans = served(sink)
    assert len(spans) == 4 * rounds
    assert len(workers(sink)) == 2
    assert shop.process.pid not in workers(sink)
    assert {span.attributes[ACCOUNT] for span in spans} == {"thread"}
    firsts = [span for span in spans if span.attributes.get(FIRST_REQUEST) == 1]
    assert Counter(span.resource["process.pid"] for span in firsts) == dict.fromkeys(workers(sink), 1)
    shop.assert_charged(spans, lambda of: int(of.rpartition("/")[2]) * MS)
    # A thread may lose its core between the end of its span and the reading; most do not.
    beyond = sorted(
        (span.attributes[CPU_NS] + span.attributes[RUNQUEUE_NS] - span.length_ns) / span.length_ns for span in spans
    )
    assert beyond[len(beyond) // 2] <= 0.1
    if "gthread" in model:
        assert pairs(sink)
        assert all(one.attributes[THREAD_ID] != other.attributes[THREAD_ID] for one, other in pairs(sink))


@pytest.mark.parametrize("options", [["-w", "2"], ["-w", "2", "--preload"]])
def test_slow_requests_of_forked_workers_are_watched(tmp_path: Path, sink: Sink, options: list[str]) -> None:
    """Threads do not survive a fork; each worker has a watcher of its own, which sees the sleep and where it is."""

    def asleep() -> dict[int, str]:
        """Where each worker was seen to sleep; on a busy machine it may be seen waiting for a CPU instead."""
        looks = [(span.resource["process.pid"], *look.split(" ", 2)) for span in served(sink) for look in seen(span)]
        return {pid: where for pid, _, kind, where in looks if kind == "sleep"}

    with gunicorn(tmp_path, sink, *options) as shop:
        rounds = 0
        while rounds < 2 or (len(asleep()) < 2 and rounds < 40):
            shop.at_once("/nap/400", "/nap/400")
            rounds += 1
            until(lambda: len(served(sink)) == 2 * rounds)  # noqa: B023 - it is over before the next round
    assert set(asleep()) == workers(sink)
    assert len(workers(sink)) == 2
    for where in asleep().values():
        assert "nap " in where
        assert "shop.py:" in where


def test_a_pool_inside_a_request_is_on_its_record(tmp_path: Path, sink: Sink) -> None:
    """What a request hands to a pool is its child, what the work opens is the work's, each on its thread's account."""
    with gunicorn(tmp_path, sink, "-w", "1", "-k", "gthread", "--threads", "2") as shop:
        assert shop.get("/prices") == "90"
        until(lambda: len(sink.spans) == 5)
    (request,) = served(sink)
    works = [span for span in sink.spans if span.name == "work price"]
    prices = {span.name: span for span in sink.spans if span.name.startswith("price ")}
    assert len(works) == 2
    assert {span.trace_id for span in sink.spans} == {request.trace_id}
    assert {span.parent_id for span in works} == {request.span_id}
    assert {span.parent_id for span in prices.values()} == {span.span_id for span in works}
    assert 30 * MS <= prices["price 30"].attributes[CPU_NS] <= prices["price 30"].length_ns + MS
    assert 60 * MS <= prices["price 60"].attributes[CPU_NS] <= prices["price 60"].length_ns + MS
    threads = {span.attributes[THREAD_ID] for span in works}
    assert request.attributes[THREAD_ID] not in threads
    assert {span.attributes[THREAD_ID] for span in prices.values()} == threads
    assert all(span.attributes[ACCOUNT] == "thread" for span in sink.spans)
    assert all(0 <= span.attributes[POOL_WAIT_NS] <= span.length_ns for span in works)
    opened = {span.parent_id: span.length_ns for span in prices.values()}
    for span in works:  # the work's own, without what it opened
        assert span.attributes[CPU_NS] <= span.length_ns - span.attributes[POOL_WAIT_NS] - opened[span.span_id] + MS
    shop.assert_charged([request], lambda _: 0)  # it only waited


@pytest.mark.parametrize("address", ["/stream", "/stream/in/context"])
def test_a_streamed_answer_is_charged_to_nobody_else(tmp_path: Path, sink: Sink, address: str) -> None:
    """It is charged to its own request; a span inside the generator says that it cannot be measured."""
    with gunicorn(tmp_path, sink, "-w", "1") as shop:
        assert shop.get(address).split() == [str(number) for number in range(6)]
        assert shop.get("/burn/20") == "burnt"  # on the same thread, right after
        until(lambda: len(sink.spans) == 8)
    streamed, after = sorted(served(sink), key=lambda span: span.start_ns)
    lines = [span for span in sink.spans if span.name == "line"]
    assert len(lines) == 6
    assert {(span.attributes[ACCOUNT], span.attributes[ACCOUNT_REASON]) for span in lines} == {("none", "generator")}
    assert all(CPU_NS not in span.attributes and SLICES not in span.attributes for span in lines)
    assert all(span.length_ns >= 50 * MS for span in lines)
    assert {span.parent_id for span in lines} == {streamed.span_id}
    assert streamed.end_ns >= max(span.end_ns for span in lines)
    # 60 ms were burnt while streaming, in the request: its span lasts until the last byte.
    assert 60 * MS <= streamed.attributes[CPU_NS] <= streamed.length_ns + MS
    shop.assert_charged([after], lambda of: 20 * MS)
    for request in (streamed, after):
        assert request.attributes[ACCOUNT] == "thread"
        assert request.attributes[CPU_NS] <= request.length_ns + MS
    figures = [value for span in sink.spans for value in span.attributes.values() if isinstance(value, int)]
    assert min(figures) >= 0
    assert min(value for span in sink.spans for value in span.attributes.get(SLICES, [0])) >= 0


def test_greenlets_are_said_not_to_be_measured(tmp_path: Path, sink: Sink) -> None:
    """Under gevent many requests share a thread: none is charged another's work, and the log says once what is off."""
    with gunicorn(tmp_path, sink, "-w", "1", "-k", "gevent") as shop:
        assert shop.at_once("/nap/300", "/nap/300", "/burn/30") == ["rested", "rested", "burnt"]
        assert shop.get("/prices") == "90"
        until(lambda: len(sink.spans) == 8)
    assert len(served(sink)) == 4
    assert len([span for span in sink.spans if span.name == "work price"]) == 2
    assert {(span.attributes[ACCOUNT], span.attributes[ACCOUNT_REASON]) for span in sink.spans} == {
        ("none", "greenlet")
    }
    assert not any(name in span.attributes for span in sink.spans for name in (CPU_NS, SLICES, SAMPLES))
    assert shop.log.read_text().count("slow requests are not watched: gevent has taken the threads") == 1


JOBS = """
import os
import time
from celery import Celery
from opentelemetry import trace

folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app = Celery("jobs", broker="filesystem://", broker_transport_options=folders)
tracer = trace.get_tracer("jobs")


@app.task
def crunch(ms):
    with tracer.start_as_current_span("crunch"):
        end = time.thread_time() + ms / 1000
        while time.thread_time() < end:
            pass
"""


def crunched(folder: Path, sink: Sink, tasks: int, *options: str, **variables: str) -> list[Received]:
    """The spans that Celery's worker sends of so many tasks of 30 ms; one child at a time works."""
    (folder / "jobs.py").write_text(JOBS)
    for name in ("queue", "control"):
        (folder / name).mkdir()
    celery = [str(Path(sys.executable).with_name("celery")), "-A", "jobs", "worker", "-P", "prefork", "-c", "1"]
    ask = f"import jobs\nfor _ in range({tasks}): jobs.crunch.delay(30)"
    with running([*celery, "-l", "info", *options], folder, " ready.", LAYERLINE_ENDPOINT=sink.url, **variables) as (
        _,
        log,
    ):
        subprocess.run([sys.executable, "-c", ask], cwd=folder, env=clean_environment(), check=True, timeout=PATIENCE_S)
        until(lambda: log.read_text().count("succeeded in") == tasks)
    until(lambda: len([span for span in sink.spans if span.name == "crunch"]) == tasks)
    return [span for span in sink.spans if span.name == "crunch" or span.kind == CONSUMER]


@pytest.mark.parametrize("options", [[], ["--max-tasks-per-child", "1"]], ids=["one child", "a child for each task"])
def test_a_task_s_own_span_is_measured_and_arrives(tmp_path: Path, sink: Sink, options: list[str]) -> None:
    """A span of a task is the child's, with its account; it arrives also where the child ends right after its task."""
    spans = crunched(tmp_path, sink, 3, *options, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="celery")
    assert [span.name for span in spans] == ["crunch"] * 3
    assert len({span.resource["process.pid"] for span in spans}) == (3 if options else 1)
    for span in spans:
        assert (span.kind, span.parent_id) == (INTERNAL, b"")
        assert span.attributes[ACCOUNT] == "thread"
        # The clocks are read one after the other: what passes between two readings may be counted by one of them only.
        assert 30 * MS <= span.attributes[CPU_NS] <= span.length_ns + MS
        assert span.attributes[THREAD_ID] == span.resource["process.pid"]
        assert CONTAINER_USAGE_NS in span.attributes  # a root span is an entry: it carries the container's meters
        assert FIRST_REQUEST not in span.attributes  # which is about requests


def test_a_task_s_entry_span_is_that_of_celery_s_instrumentation(tmp_path: Path, sink: Sink) -> None:
    """Where it is installed, each task is a CONSUMER span, measured, with the task's own spans below."""
    spans = crunched(tmp_path, sink, 2, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="")
    tasks = {span.span_id: span for span in spans if span.kind == CONSUMER}
    own = [span for span in spans if span.name == "crunch"]
    assert [span.name for span in tasks.values()] == ["run/jobs.crunch"] * 2
    assert sorted(span.parent_id for span in own) == sorted(tasks)
    for span in tasks.values():
        assert span.attributes[ACCOUNT] == "thread"
        below = sum(each.length_ns for each in own if each.parent_id == span.span_id)
        assert span.attributes[CPU_NS] <= span.length_ns - below + MS  # what Celery does around the task
        assert CONTAINER_USAGE_NS in span.attributes
