"""Half an hour of everything at once: does it lose anything, does it grow, does it say what it did not see?

Containers come and go at 20 a second (``stand_in_engine.py`` says what they are), an application sends spans, and an
agent reads the machine, while the server is away twice for five minutes (told to end, then killed), the engine is
restarted, and the agent's clock steps by 45 s and back (libfaketime; package ``faketime`` of Debian). ``--minutes 6``
does the same in six, with everything shortened alike.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import psutil
from memory_bound import Bound, bound
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from stand_in_engine import Engine, Lived

PER_SECOND, TRACES_PER_SECOND = 20.0, 10.0
SECOND = 10**9
#: How the half hour is spent: what, and the share of the time in which it lasts.
PHASES = (
    ("quiet", 4 / 30), ("server away, told to end", 5 / 30), ("server back", 4 / 30), ("engine away", 0.5 / 30),
    ("engine back", 3.5 / 30), ("agent's clock 45 s ahead", 2 / 30), ("clock right again", 2 / 30),
    ("server away, killed", 5 / 30), ("server back again", 4 / 30),
)  # fmt: skip
STEP_S = 45
#: The seconds that a container lives, and in nanoseconds how long the longest may take to end.
LIVES_S, LONGEST_NS = (0.3, 3), 5 * 10**9
#: Goals: how much of its level in the middle third of the run a process may have gained in the last, in MiB.
AGENT_GROWTH, SERVER_GROWTH = 16, 128
README = Path(__file__).parent / "README.md"
TOKEN = "soak"  # noqa: S105 - SQL is answered only where there is one


@dataclass
class App:
    """An application that sends spans as exporters do: again and again until they are acknowledged."""

    port: int
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    waiting: deque[tuple[bytes, list[tuple[str, str]]]] = field(default_factory=deque)

    def work(self, seconds: float) -> None:
        """Traces of so many seconds, as one body: a request and two calls each."""
        request, now_ns, sent = ExportTraceServiceRequest(), time.time_ns(), []
        resource = request.resource_spans.add()
        resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="soak")))
        spans = resource.scope_spans.add().spans
        for _ in range(round(TRACES_PER_SECOND * seconds)):
            trace_id, root = os.urandom(16), os.urandom(8)
            for place in range(3):
                start_ns = now_ns - 50_000_000 + place * 10_000_000
                spans.add(
                    trace_id=trace_id, span_id=os.urandom(8) if place else root, parent_span_id=root if place else b"",
                    name="SELECT" if place else "GET /", kind=Span.SPAN_KIND_CLIENT if place else Span.SPAN_KIND_SERVER,
                    start_time_unix_nano=start_ns, end_time_unix_nano=now_ns - place * 15_000_000 + 10_000_000,
                )  # fmt: skip
        sent = [(span.trace_id.hex(), span.span_id.hex()) for span in spans]
        self.waiting.append((request.SerializeToString(), sent))

    def send(self) -> None:
        """What waits, oldest first, as far as it is acknowledged."""
        while self.waiting:
            body, sent = self.waiting[0]
            status, _ = ask(self.port, "/v1/traces", body)
            if status != 200:
                return
            self.acknowledged.update(sent)
            self.waiting.popleft()


def ask(port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        kind = "application/json" if path.startswith("/api/") else "application/x-protobuf"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


@dataclass(frozen=True)
class Looked:
    """What was seen at a moment: a row of the printed table."""

    at_s: float
    phase: str
    containers: int
    server_bytes: int
    agent_bytes: int


@dataclass(frozen=True)
class Stretch:
    """A phase that is over, in nanoseconds since 1970."""

    phase: str
    from_ns: int
    to_ns: int


class Soak:
    """One run. Everything it starts ends with ``close``."""

    def __init__(self, folder: Path, minutes: float, memory: Bound | None = None) -> None:
        self.folder, self.seconds, self.memory = folder, minutes * 60, memory
        self.port = free_port()
        self.engine = Engine(folder / "docker.sock", f"layerline-soak-{os.getpid()}")
        self.app = App(self.port)
        self.looked: list[Looked] = []
        self.stretches: list[Stretch] = []
        self.starts_s: list[float] = []
        self.ends: list[tuple[int, float]] = []
        """Exit code and seconds, for each SIGTERM."""
        self.answers_s: list[float] = []
        """How long coverage took to answer."""
        self.silent = 0
        """Moments at which coverage was not answered, or left a layer without readings and without a reason."""
        self._stop = threading.Event()
        self._server: subprocess.Popen[bytes] | None = None
        self._ready: subprocess.Popen[bytes] | None = None
        self._clock = folder / "clock"
        self._clock.write_text("+0")
        self.fake_clock = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), "")
        self._agent: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []

    # ---- what runs

    def start_server(self) -> None:
        store, listen = str(self.folder / "store"), f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "layerline.command", "serve", "--store", store, "--listen", listen]
        log = (self.folder / "server.log").open("ab")
        began = time.monotonic()
        self._server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "LAYERLINE_TOKEN": TOKEN})
        if self.memory is not None:
            self.memory.take(self._server.pid)
        while ask(self.port, "/readyz")[0] != 200:
            if self._server.poll() is not None or time.monotonic() - began > 120:
                raise RuntimeError(f"the server does not start; see {self.folder / 'server.log'}")
            time.sleep(0.1)
        self._ready = self._server
        self.starts_s.append(time.monotonic() - began - stood_ready_s(self._server.pid))

    def end_server(self, number: int) -> None:
        server, self._server, self._ready = self._server, None, None
        assert server is not None
        began, before_s = time.monotonic(), stood_ready_s(server.pid)
        stood_s = 0.0
        server.send_signal(number)
        while (code := server.poll()) is None:
            stood_s = max(stood_s, stood_ready_s(server.pid) - before_s)
            time.sleep(0.02)
        server.wait()
        if number == signal.SIGTERM:
            self.ends.append((code, time.monotonic() - began - stood_s))

    def start_agent(self) -> None:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.engine.socket}", "LAYERLINE_TOKEN": TOKEN}
        environment |= {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        if self.fake_clock:
            environment |= {
                "LD_PRELOAD": self.fake_clock, "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
            }  # fmt: skip
        command = [sys.executable, "-m", "layerline.command", "agent", "--endpoint", f"http://127.0.0.1:{self.port}"]
        log = (self.folder / "agent.log").open("ab")
        self._agent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def churn(self) -> None:
        """Containers at an even pace: lives of 0.3 to 3 s."""
        draw, due = random.Random(11), time.monotonic()  # noqa: S311 - lives, not secrets
        while not self._stop.is_set():
            self.engine.run(draw.uniform(*LIVES_S))
            self.engine.bury()
            due += 1 / PER_SECOND
            self._stop.wait(max(0.0, due - time.monotonic()))

    def send(self) -> None:
        while not self._stop.wait(1):
            self.app.work(1)
            self.app.send()

    # ---- the run

    def run(self, show: Callable[[Looked], None]) -> None:
        self.engine.open()
        self.start_server()
        self.start_agent()
        # Of a container that began before the agent looked, nobody can tell the start.
        while not (read := self.rows("SELECT count(*) FROM points")) or not read[0][0]:
            time.sleep(0.2)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self.churn, self.send, self.watch)]
        for thread in self._threads:
            thread.start()
        began = time.monotonic()
        for phase, share in PHASES:
            from_ns = time.time_ns()
            self._begin(phase)
            until = time.monotonic() + share * self.seconds
            while (left := until - time.monotonic()) > 0:
                self._stop.wait(min(left, max(2.0, self.seconds / 90)))
                show(self._look(time.monotonic() - began, phase))
            self.stretches.append(Stretch(phase, from_ns, time.time_ns()))
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _begin(self, phase: str) -> None:
        match phase:
            case "server away, told to end":
                self.end_server(signal.SIGTERM)
            case "server away, killed":
                self.end_server(signal.SIGKILL)
            case "server back" | "server back again":
                self.start_server()
            case "engine away":
                self.engine.shut()
            case "engine back":
                self.engine.open()
            case "agent's clock 45 s ahead":
                self._clock.write_text(f"+{STEP_S}")
            case "clock right again":
                self._clock.write_text("+0")

    def _look(self, at_s: float, phase: str) -> Looked:
        for name, process in (("agent", self._agent), ("server", self._server)):
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"the {name} ended with {process.returncode}; see {self.folder / name}.log")
        self.looked.append(
            Looked(at_s, phase, len(self.engine.all), resident_bytes(self._server), resident_bytes(self._agent))
        )
        return self.looked[-1]

    def watch(self) -> None:
        """Ask for the coverage of the last minute, again and again while the server is there."""
        while not self._stop.wait(2):
            asked_of, began = self._ready, time.monotonic()
            if asked_of is None:
                continue
            status, body = ask(self.port, "/api/v1/coverage?since=1m")
            if self._ready is not asked_of:
                continue  # it was ended meanwhile
            self.answers_s.append(time.monotonic() - began)
            layers = json.loads(body)["layers"] if status == 200 else []
            if not layers or any(not layer["readings"] and not layer["reason"] for layer in layers):
                self.silent += 1
                (self.folder / f"silent-{self.silent}.json").write_bytes(f"{status}\n".encode() + body)

    def settle(self, patience_s: float = 1800.0) -> None:
        """Wait until all containers have ended, all is sent, and the last of it is worked out; then the agent ends."""
        # Ends of containers that ran while the engine was away may or may not be reported, so they are not counted.
        away = [(one.from_ns, one.to_ns + LONGEST_NS) for one in self.stretches if one.phase == "engine away"]
        beside = " AND ".join(f"time_ns NOT BETWEEN {from_ns} AND {to_ns}" for from_ns, to_ns in away) or "true"

        def wanted() -> int:
            return sum(not any(from_ns <= one.ended_ns <= to_ns for from_ns, to_ns in away) for one in self.told())

        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            self.app.send()  # by this thread alone: the others have ended
            self.engine.bury()
            known = self.rows(f"SELECT count(*) FROM events WHERE name = 'container.die' AND {beside}")
            if not self.app.waiting and self.engine.quiet and known and known[0][0] >= wanted():
                break
            time.sleep(1)
        time.sleep(12)  # a request is settled ten seconds after its end
        if self._agent is not None:
            self._agent.terminate()
            self._agent.wait(60)

    def told(self) -> list[Lived]:
        """Containers that began and ended while the engine answered: all of these can be known."""
        away = [stretch for stretch in self.stretches if stretch.phase == "engine away"]
        return [
            one for one in self.engine.all
            if one.ended_ns and not any(one.began_ns < hole.to_ns and one.ended_ns > hole.from_ns for hole in away)
        ]  # fmt: skip

    def rows(self, sql: str) -> list[list[Any]]:
        """What the server answers to this SQL; nothing where it does not."""
        status, body = ask(self.port, "/api/v1/sql", json.dumps({"sql": sql}).encode())
        return json.loads(body)["rows"] if status == 200 else []

    def coverage(self, stretch: Stretch) -> dict[str, Any]:
        """What the server says of a phase, when all is over."""
        moment = lambda ns: datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: E731
        status, body = ask(self.port, f"/api/v1/coverage?from={moment(stretch.from_ns)}&to={moment(stretch.to_ns)}")
        found: dict[str, Any] = json.loads(body) if status == 200 else {}
        return found

    def close(self) -> None:
        self._stop.set()
        for process in (self._agent, self._server):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.engine.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def stood_ready_s(pid: int) -> float:
    """How long the thread of a process that waited most for a CPU has waited: that is the busy machine's doing.

    Source: ``/proc/PID/task/TID/schedstat``, second figure, nanoseconds.
    """
    waits_ns = [0]
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):
            waits_ns.append(int(schedstat.read_text().split()[1]))
    return max(waits_ns) / 1e9


def resident_bytes(process: subprocess.Popen[bytes] | None) -> int:
    """Source: ``VmRSS`` of ``/proc/PID/status``; 0 where it does not run."""
    if process is not None:
        with suppress(psutil.Error):
            return int(psutil.Process(process.pid).memory_info().rss)
    return 0


@dataclass(frozen=True)
class Goal:
    """A figure beside what it should be."""

    what: str
    found: str
    goal: str
    reached: bool

    def __str__(self) -> str:
        return f"{self.what:<58}{self.found:>16}   {self.goal:<22}{'' if self.reached else 'MISSED'}".rstrip()


def level(looked: list[Looked], of: Callable[[Looked], int], third: int) -> float:
    """The median of a process's memory in one third of the run, in MiB."""
    part = looked[len(looked) * third // 3 : len(looked) * (third + 1) // 3]
    return median([of(one) for one in part if of(one)] or [0]) / 2**20


def goals(soak: Soak, database: duckdb.DuckDBPyConnection, covered: dict[str, dict[str, Any]]) -> list[Goal]:
    """What came of it."""

    def number(sql: str, **parameters: Any) -> int:
        found = database.execute(sql, parameters).fetchone()
        return int(found[0]) if found and found[0] is not None else 0

    kept = database.execute("SELECT trace_id, span_id FROM span").fetchall()
    missing, doubled = len(soak.app.acknowledged - set(kept)), len(kept) - len(set(kept))
    not_adding = number("""
        SELECT count(*) FROM request
        LEFT JOIN (SELECT trace_id, span_id, sum(lost_ns) AS lost_ns FROM part GROUP BY ALL) USING (trace_id, span_id)
        WHERE coalesce(lost_ns, 0)::HUGEINT + unexplained_ns <> end_ns - start_ns""")
    alone = number("SELECT count(*) FROM span WHERE trace_id NOT IN (SELECT trace_id FROM request)")
    told = soak.told()
    events = database.execute("""
        SELECT resource.container_id, event.name, count(*) FROM event JOIN resource USING (resource)
        WHERE event.name IN ('container.start', 'container.die') GROUP BY ALL""").fetchall()
    counts = {(container_id, name): times for container_id, name, times in events}
    unknown = sum((one.id, name) not in counts for one in told for name in ("container.start", "container.die"))
    twice = sum(times > 1 for times in counts.values())
    dropped = number("""
        SELECT max(value) FROM point JOIN series USING (series) WHERE signal = 'layerline.agent.dropped_points'""")
    gone_s, codes = max((seconds for _, seconds in soak.ends), default=0.0), {code for code, _ in soak.ends}
    answer_s = median(soak.answers_s or [0.0])
    acknowledged = len(soak.app.acknowledged)
    found = [
        Goal("acknowledged spans that are missing", f"{missing} of {acknowledged:,}", "0", not missing),
        Goal("spans that are there twice", str(doubled), "0", not doubled),
        Goal("requests that do not add up", str(not_adding), "0", not not_adding),
        Goal("spans of traces without a request", str(alone), "0", not alone),
        Goal("slowest start of the server", f"{max(soak.starts_s):.1f} s", "at most 5 s", max(soak.starts_s) <= 5),
        Goal("SIGTERM: slowest end", f"{gone_s:.1f} s", "at most 10 s", gone_s <= 10),
        Goal("SIGTERM: exit codes", ", ".join(map(str, codes)), "0", codes <= {0}),
        Goal("starts and ends of containers that nobody told of", f"{unknown} of {2 * len(told):,}",
             f"what was dropped: {dropped}", unknown <= dropped),
        Goal("starts and ends that were told twice", str(twice), "0", not twice),
        Goal("moments at which coverage was silent", f"{soak.silent} of {len(soak.answers_s)}", "0", not soak.silent),
        Goal("coverage of a minute, median", f"{answer_s:.1f} s", "at most 5 s", answer_s <= 5),
    ]  # fmt: skip
    for name, of, most in (
        ("agent", lambda one: one.agent_bytes, AGENT_GROWTH), ("server", lambda one: one.server_bytes, SERVER_GROWTH)
    ):  # fmt: skip
        before, after = level(soak.looked, of, 1), level(soak.looked, of, 2)
        what = f"memory of the {name}, middle and last third"
        found.append(Goal(what, f"{before:.0f}, {after:.0f} MiB", f"at most + {most} MiB", after - before <= most))
    for stretch in soak.stretches:
        found += coverage_goals(soak, database, stretch, covered[stretch.phase])
    return found


def coverage_goals(
    soak: Soak, database: duckdb.DuckDBPyConnection, stretch: Stretch, coverage: dict[str, Any]
) -> list[Goal]:
    """Of one phase: the containers that ended in it, and the longest time without a reading of the machine."""
    if not coverage:
        return [Goal(f"{stretch.phase}: coverage", "no answer", "an answer", False)]
    ended = sum(stretch.from_ns <= one.ended_ns < stretch.to_ns for one in soak.engine.all)
    said = coverage["containers"]
    what = f"{stretch.phase}: containers that ended"
    if stretch.phase == "engine away":
        # Nobody saw when they ended: coverage owes how many it knows of, and that there may have been more.
        known = f"{said['ended']} + {said['ended_unknown']} of {ended}"
        found = [Goal(what, known, "or a reason", bool(said["reason"]) or said["ended"] == ended)]
    else:
        found = [Goal(what, f"{said['ended']} of {ended}", "all", said["ended"] == ended)]
    hole = database.execute("""
        SELECT max(next_ns - time_ns) FROM (
            SELECT time_ns, lead(time_ns) OVER (ORDER BY time_ns) AS next_ns FROM (
                SELECT DISTINCT time_ns FROM point JOIN series USING (series)
                WHERE entity_type = 'host' AND signal LIKE 'system.%' AND time_ns BETWEEN $from_ns AND $to_ns
                UNION SELECT unnest([$from_ns, $to_ns])))""",
        {"from_ns": stretch.from_ns, "to_ns": stretch.to_ns},
    ).fetchone()  # fmt: skip
    longest_s = (hole[0] or 0) / 1e9 if hole else 0.0
    host = next((layer for layer in coverage["layers"] if layer["layer"] == "host"), {})
    gap_s = (host.get("longest_gap_ns") or 0) / 1e9
    right = longest_s < 5 or gap_s >= longest_s - 2 or bool(host.get("reason"))
    what = f"{stretch.phase}: longest time without readings"
    found.append(Goal(what, f"{longest_s:.1f} s", f"said: {gap_s:.1f} s", right))
    expected_s = {"agent's clock 45 s ahead": STEP_S, "clock right again": -STEP_S}.get(stretch.phase)
    if expected_s is not None and soak.fake_clock:
        steps_s = [step["step_ns"] / 1e9 for step in coverage["clock_steps"]]
        shown = ", ".join(f"{step_s:+.1f} s" for step_s in steps_s) or "none"
        # The two phases overlap by the agent's clock: each names the other's step too.
        right = any(abs(step_s - expected_s) < 2 for step_s in steps_s)
        found.append(Goal(f"{stretch.phase}: steps of the clock", shown, f"{expected_s:+d} s", right))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long it lasts (default 30)")
    parser.add_argument("--folder", type=Path, help="where store and logs are made and stay (default: nowhere)")
    parser.add_argument(
        "--memory-mib", type=int, help="the server runs in a cgroup with so much memory (default: none)"
    )
    parser.add_argument("--write", action="store_true", help="put the result into benchmarks/README.md")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="layerline-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    with bound(options.memory_mib) if options.memory_mib else nullcontext() as memory:
        return soaked(options, folder, memory)


def soaked(options: argparse.Namespace, folder: Path, memory: Bound | None) -> int:
    """Run, print and write what came of it. Exit code 0 where every goal is reached."""
    soak = Soak(folder, options.minutes, memory)
    print("    time  phase                        containers   server    agent", flush=True)

    def show(one: Looked) -> None:
        memory = f"{one.server_bytes / 2**20:6.0f}M  {one.agent_bytes / 2**20:6.0f}M"
        print(f"{one.at_s:6.0f} s  {one.phase:<28}{one.containers:>11,}  {memory}", flush=True)

    try:
        soak.run(show)
        soak.settle()
        covered = {stretch.phase: soak.coverage(stretch) for stretch in soak.stretches}
        soak.end_server(signal.SIGTERM)
        with duckdb.connect(str(folder / "store" / "hot.duckdb"), read_only=True) as database:
            found = goals(soak, database, covered)
    finally:
        soak.close()
    pace = len(soak.engine.all) / soak.seconds
    head = [
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}; load {psutil.getloadavg()[2]:.1f}",
        f"python {' '.join(sys.argv)}",
        f"{len(soak.engine.all):,} containers, {pace:.1f} a second (real cgroups, a stand-in for the engine); "
        + ("the agent's clock stepped" if soak.fake_clock else "no libfaketime here: the clock did not step"),
        "",
    ]
    if memory is not None:
        kills = memory.kills()
        found.append(Goal(f"ended for its memory, of {options.memory_mib} MiB", str(kills), "0", not kills))
    text = "\n".join([*head, *map(str, found)])
    print(f"\n{text}")
    if options.write:
        before = README.read_text(encoding="utf-8")
        marked = f"<!-- soak -->\n```\n{text}\n```\n<!-- /soak -->"
        README.write_text(re.sub(r"<!-- soak -->.*<!-- /soak -->", lambda _: marked, before, flags=re.DOTALL), "utf-8")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0 if all(goal.reached for goal in found) else 1


if __name__ == "__main__":
    sys.exit(main())
