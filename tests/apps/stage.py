"""Real apps on real servers under ``layerline run``, and what Layerline's own server says of their requests.

Each file beside this one is one app: its text, how it is started, and what is expected of each *case*, a request that
sleeps, computes, calls a slow service, waits for a lock, streams or fails. ``docs/APPS.md`` is made of what came out.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from layerline_correlator.correlator import Correlator
from layerline_correlator.verdict.model import Part, Verdict
from waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
#: The environment of the apps: a bare install of Layerline, and what is in requirements.txt (made by the Makefile).
PYTHON = ROOT / ".venv-apps/bin/python"
#: What a case does, in seconds: long enough for the watcher, which looks at what takes longer than 50 ms.
LONG_S = 0.3
MS = 1_000_000
#: Kinds of spans, as they are stored.
SERVER, CONSUMER = 2, 5
_ROUNDS = 5  # on a machine that is busy, a request may be held up by others, or pass without being looked at
_ENTRIES = """
SELECT kind, name, coalesce(account, 'none'), account_reason FROM span
WHERE trace_id IN (SELECT unnest($1)) AND parent_span_id IN (SELECT unnest($2))
"""
#: What every app of this folder can import: one way to do each case.
CASES = '''
import threading, time

def nap():
    time.sleep({long})

def burn():
    end = time.thread_time() + {long}
    while time.thread_time() < end:
        pass

lock = threading.Lock()

def hold():
    """Hold the lock for a while, in a thread that belongs to no request, and return when it is held."""
    held = threading.Event()

    def holder():
        with lock:
            held.set()
            time.sleep({long})

    # Started past the wrapper: who holds the lock is no part of the request.
    import _thread
    _thread.start_new_thread(holder, ())
    held.wait()

def wait_for_lock():
    with lock:
        pass

SLOW = "http://127.0.0.1:{slow}/slow"
'''


@dataclass(frozen=True)
class Expected:
    """The largest part that is the app's or a dependency's, and what its place or words have in them."""

    cause: str
    place: str = ""

    def fits(self, words: str) -> bool:
        return words.startswith(f"{self.cause} ") and self.place in words


SLEEP = Expected("app.blocked", "nap")
COMPUTE = Expected("app.cpu_busy", "burn")
LOCK = Expected("app.lock_waited", "wait_for_lock")
CALL = Expected("dependency.slow")


@dataclass(frozen=True)
class App:
    """An app, and how it is started, with ``{port}``, ``{python}``, ``{bin}`` (its folder) and ``{environment}``."""

    name: str
    text: str
    command: str
    cases: Mapping[str, Expected]
    packages: tuple[str, ...]
    """Whose versions the table shows; the first is what the app is."""
    kind: int = SERVER
    streams: bool = True
    fails: str | None = "KeyError"
    """What is said of ``/fail``: its exception's type, or only its status; None where the app has no such page."""
    send: str = ""
    """For jobs: a script that hands in the cases that are its arguments, as ``case=traceparent``."""
    ready: str = ""
    """What the app logs when it is ready; without it, its port is waited for."""
    reason: str = ""
    """Why its spans are not measured, where they cannot be (``layerline.account.reason``)."""
    notes: str = ""
    """What else the table says."""
    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Results:
    """The apps that were played, and passed: for the table."""

    played: list[App] = field(default_factory=list)


@dataclass
class Stage:
    """A server of Layerline's own, a slow service, and a folder."""

    correlator: Correlator
    url: str
    slow: int
    folder: Path
    results: Results

    def play(self, app: App) -> None:
        """Start the app, send it each case, and compare what is said of it with what is expected."""
        folder = self.folder / app.name
        folder.mkdir()
        with self.running(app, folder) as port:
            waiting = dict(app.cases)
            said: dict[str, str] = {}
            for _ in range(_ROUNDS):
                asked = self.ask(app, port, [*waiting, *self.others(app)])
                self.assert_measured(app, asked)
                while self.correlator._pass(early=True):  # many ledgers are worked out in the time of one
                    pass
                streamed, failed = asked.pop("stream", None), asked.pop("fail", None)
                said = {case: self.says(app, trace_id) for case, trace_id in asked.items()}
                waiting = {case: waiting[case] for case, words in said.items() if not waiting[case].fits(words)}
                if streamed is not None:
                    self.assert_streamed(app, streamed)
                if failed is not None:
                    self.assert_failed(app, failed)
                if not waiting:
                    break
            assert not waiting, (app.name, {case: (waiting[case], said[case]) for case in waiting})
        self.results.played.append(app)

    @contextlib.contextmanager
    def running(self, app: App, folder: Path) -> Iterator[int]:
        """The app, for as long as the block lasts. It must answer, and leave no word of ours in its log."""
        port = free_port()
        (folder / "cases.py").write_text(CASES.format(long=LONG_S, slow=self.slow), encoding="utf-8")
        (folder / "app.py").write_text(app.text, encoding="utf-8")
        for name, text in app.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        places = {"python": PYTHON, "bin": PYTHON.parent, "environment": PYTHON.parents[1]}
        command = app.command.format(port=port, **places).split()
        with self.started(app, folder, command) as (process, log):

            def ready() -> bool:
                return app.ready in log.read_text() if app.ready else listens(port)

            eventually(lambda: ready() or process.poll() is not None, f"{app.name} that is ready")
            assert process.poll() is None, log.read_text()
            yield port

    @contextlib.contextmanager
    def started(self, app: App, folder: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """``layerline run -- COMMAND``, told to stop at the end of the block."""
        log = folder / "log"
        with log.open("wb") as to:
            process = subprocess.Popen(
                [PYTHON, "-m", "layerline.command", "run", "--", *command],
                cwd=folder, env=environment(app, self.url), stdout=to, stderr=to, start_new_session=True,
            )  # fmt: skip
        try:
            yield process, log
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE_S)
            said = log.read_text()
            assert "the application is not affected" not in said, said
            assert "has no spans" not in said, said
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too, where it did not end them
            process.wait()

    def get(self, port: int, path: str, traceparent: str) -> int:
        """Ask, as somebody whose own spans are not sent here. Returns the status."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers={"traceparent": traceparent})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def others(self, app: App) -> list[str]:
        """Cases that are not about a part of the ledger."""
        return (["stream"] if app.streams else []) + (["fail"] if app.fails is not None else [])

    def ask(self, app: App, port: int, cases: list[str]) -> dict[str, str]:
        """Ask for each case, or hand it in. Returns their trace ids."""
        ids = {case: os.urandom(16).hex() for case in cases}
        parents = {case: f"00-{trace_id}-{parent_of(trace_id)}-01" for case, trace_id in ids.items()}
        if app.send:
            handed = [f"{case}={parent}" for case, parent in parents.items()]
            folder = self.folder / app.name
            subprocess.run([PYTHON, "-c", app.send, *handed], cwd=folder, env=environment(app, self.url), check=True)
        else:
            for case, parent in parents.items():
                status = self.get(port, f"/{case}", parent)
                assert status == (500 if case == "fail" else 200), (app.name, case, status)
        return ids

    # ---- what is said

    def says(self, app: App, trace_id: str) -> str:
        """The largest part of the request with that trace id, in words."""
        verdict = self.verdict(app, trace_id)
        part = largest(verdict)
        return f"{part.cause} {part.where} {part.because}" if part else f"nothing: {verdict.unexplained_ns}"

    def verdict(self, app: App, trace_id: str) -> Verdict:
        """Of the request with that trace id."""
        return eventually(
            lambda: self.correlator.verdict(trace_id, None, absolute=True), f"a request of {app.name}", every_s=0.1
        )

    def entries(self, trace_ids: Collection[str]) -> list[tuple[Any, ...]]:
        """Kind, name, account and its reason of the requests' own spans, when all have come.

        They are those that were called from outside. What they called has ended, and was sent, before.
        """
        with self.correlator._reading() as cursor:
            parents = [parent_of(trace_id) for trace_id in trace_ids]
            found = cursor.execute(_ENTRIES, [list(trace_ids), parents]).fetchall()
        return found if len(found) >= len(trace_ids) else []

    def assert_measured(self, app: App, asked: Mapping[str, str]) -> None:
        """Each has a span of the app's kind, whose account is measured, or says why not."""
        for kind, name, account, reason in eventually(
            lambda: self.entries(asked.values()), f"the requests of {app.name}", every_s=0.1
        ):
            assert kind == app.kind, (app.name, name, kind)
            if app.reason:
                assert (account, reason) == ("none", app.reason), (app.name, name)
            else:
                assert account in ("thread", "task"), (app.name, name, account, reason)

    def assert_streamed(self, app: App, trace_id: str) -> None:
        """A streamed response lasts as long as its pieces are made, whatever comes after its first byte."""
        verdict = self.verdict(app, trace_id)
        assert verdict.duration_ns >= LONG_S * 1e9 * 0.99, (app.name, verdict.duration_ns)

    def assert_failed(self, app: App, trace_id: str) -> None:
        """A request that raises says with which type."""
        verdict = self.verdict(app, trace_id)
        assert app.fails is not None
        assert app.fails in str(verdict.failures), (app.name, verdict.failures)


def parent_of(trace_id: str) -> str:
    """The span of who asks, which is not sent."""
    return trace_id[:16]


def largest(verdict: Verdict) -> Part | None:
    """The largest part that is not the machine's: whoever runs beside the tests takes CPUs from the app."""
    parts = [part for part in verdict.parts if part.layer in ("app", "dependency")]
    return max(parts, key=lambda part: part.lost_ns, default=None)


def environment(app: App, url: str) -> dict[str, str]:
    """What an app is given: nothing but where to send, what to be called, and what it asks for."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
    ours = {"LAYERLINE_ENDPOINT": url, "OTEL_SERVICE_NAME": app.name, "PYTHONUNBUFFERED": "1"}
    ours["OTEL_EXPORTER_OTLP_TIMEOUT"] = f"{PATIENCE_S:.0f}"  # a busy machine is no failure
    return {**kept, **ours, **app.variables}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


@contextlib.contextmanager
def slow_service() -> Iterator[int]:
    """A service outside of all instrumentation that takes its time; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(LONG_S)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
