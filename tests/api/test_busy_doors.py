"""Connections that say nothing, or too slowly, and threads that fail, do not keep others out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from api_fake import TOKEN, FakeCorrelator
from waitress.adjustments import Adjustments

from layerline_api.alerts import patrol
from layerline_api.app import create_app
from layerline_api.doors.addresses import addresses, bind, url
from layerline_api.doors.http_server import Door, _Arriving
from layerline_api.doors.intake import Intake
from layerline_api.measures import Measures
from layerline_api.settings import ServerSettings
from layerline_correlator import threads as threads_module
from layerline_correlator.threads import Threads
from waiting import PATIENCE_S, eventually


@contextmanager
def serving(threads: Threads | None = None, **door: Any) -> Iterator[tuple[str, Door]]:
    threads = threads or Threads()
    correlator, settings = FakeCorrelator(), ServerSettings()
    app = create_app(correlator, settings, Intake(correlator, settings, Measures(correlator, threads)))
    bound = bind(addresses("127.0.0.1:0")[0])
    made, stop, where = Door(app, [bound], threads, **door), threading.Event(), url(bound)
    thread = threading.Thread(target=made.serve, args=(stop,))
    thread.start()
    try:
        yield where, made
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def connected(where: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), timeout=PATIENCE_S)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: ", b"POST /v1/traces HT"])
def test_idle_connections_do_not_shut_others_out(sent: bytes) -> None:
    """Four times as many connections as there may be say nothing, or begin a request: others are answered."""
    with serving(connections=20) as (where, door), ExitStack() as clients:
        for number in range(80):
            client = clients.enter_context(connected(where))
            with suppress(OSError):
                client.sendall(sent)
            if number % 20 == 19:
                assert requests.get(f"{where}/healthz", timeout=PATIENCE_S).status_code == 200
        eventually(lambda: len(door._channels()) <= 20)
        assert requests.get(f"{where}/healthz", timeout=PATIENCE_S).status_code == 200


def test_a_request_that_was_refused_before_it_was_read_has_a_path() -> None:
    """The server names it in its log when the client has left, and must not fail over that."""
    assert _Arriving(Adjustments()).path == ""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nabc",
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ],
)
def test_a_request_that_arrives_too_slowly(sent: bytes) -> None:
    """It is answered with 408, which says how long it may take, and its connection is closed."""
    with serving(request_s=0.3) as (where, _), connected(where) as client:
        client.sendall(sent)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.")
        assert b" 408 Request Timeout" in answer
        assert b"more than 0.3 s" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 300_000, b"431"),
        (b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    ],
)
def test_a_request_without_end(sent: bytes, status: bytes) -> None:
    """Headers and bodies beyond their limits are refused as soon as that is known."""
    with serving() as (where, _), connected(where) as client:
        with suppress(OSError):
            client.sendall(sent)
        assert status in client.recv(65536)


def test_a_thread_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/readyz` is 503 and names it while it is down; afterwards it and `/metrics` still say that it failed."""
    monkeypatch.setattr(threads_module, "PAUSE_S", 0.01)
    threads, broken, end = Threads(), threading.Event(), threading.Event()
    broken.set()

    def run() -> None:
        if broken.is_set():
            raise RuntimeError("broken on purpose")
        end.wait(PATIENCE_S)

    with serving(threads) as (where, _):
        assert requests.get(f"{where}/readyz", timeout=PATIENCE_S).json() == {"status": "ready"}
        threads.start("layerline-example", run)

        def not_ready() -> bool:
            answer = requests.get(f"{where}/readyz", timeout=PATIENCE_S)
            return answer.status_code == 503 and "layerline-example ended: RuntimeError: broken" in answer.text

        eventually(not_ready)
        broken.clear()
        eventually(lambda: requests.get(f"{where}/readyz", timeout=PATIENCE_S).status_code == 200)
        (said,) = requests.get(f"{where}/readyz", timeout=PATIENCE_S).json()["failures"]
        assert "layerline-example" in said
        metrics = requests.get(f"{where}/metrics", timeout=PATIENCE_S).text
        assert 'layerline_threads{thread="layerline-example"} 1.0' in metrics
        assert 'layerline_threads{thread="layerline-http"} 24.0' in metrics
        assert 'layerline_thread_failures_total{thread="layerline-example"} 0.0' not in metrics
        end.set()


def test_the_loop_of_the_server_outlives_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in it is counted, and the next request is answered."""
    threads, failed = Threads(), threading.Event()
    with serving(threads) as (where, door):
        real = door._tidy

        def once(now: float) -> None:
            if not failed.is_set():
                failed.set()
                raise OSError("broken on purpose")
            real(now)

        monkeypatch.setattr(door, "_tidy", once)
        assert failed.wait(PATIENCE_S)
        assert requests.get(f"{where}/healthz", timeout=PATIENCE_S).status_code == 200
        assert any(state.name == "layerline-http-loop" and state.failures == 1 for state in threads.states())


@pytest.mark.parametrize("name", ["layerline-monitors", "layerline-notices"])
def test_the_rounds_recover(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A round that ends by more than an exception of its step is started again."""
    monkeypatch.setattr(threads_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(patrol, "_EVERY_S", 0.01)
    rounds: list[str] = []

    class Monitors:
        def evaluate_due(self, at_ns: int) -> None:
            self.step("layerline-monitors")

        def due_notices(self, at_ns: int, busy: Any = ()) -> list[Any]:
            self.step("layerline-notices")
            return []

        def step(self, of: str) -> None:
            if of == name:
                rounds.append(of)
                if len(rounds) == 1:
                    raise SystemExit("broken on purpose")

    threads = Threads()
    going = patrol.Patrol(Monitors(), None, threads=threads)  # type: ignore[arg-type]
    going.start()
    eventually(lambda: len(rounds) > 2)
    assert [(state.name, state.last) for state in threads.states() if state.failures] == [
        (name, "SystemExit: broken on purpose")
    ]
    going.stop()


# ---- the end of the process

Start = Callable[..., subprocess.Popen[str]]


def test_the_end_during_a_long_question(tmp_path: Path, free_port: int) -> None:
    """Told to end, once or again, while a question runs that would take minutes: exit code 0, and no abort."""
    process = subprocess.Popen(
        [sys.executable, "-m", "layerline_api.commands.serve", "--listen", f"127.0.0.1:{free_port}"],
        env={**os.environ, "LAYERLINE_STORE": str(tmp_path / "store"), "LAYERLINE_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        process.stderr.readline()
        where, headers = f"http://127.0.0.1:{free_port}", {"Authorization": f"Bearer {TOKEN}"}
        heavy = "SELECT count(*) FROM range(1000000000000) AS a(x) WHERE x % 7 = 3"

        def ask() -> None:
            with suppress(requests.ConnectionError):
                requests.post(f"{where}/api/v1/sql", json={"sql": heavy}, headers=headers, timeout=PATIENCE_S)

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        before = cpu_seconds(process.pid)
        eventually(lambda: cpu_seconds(process.pid) > before + 0.5)  # it is at it
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.05)
        assert process.wait(PATIENCE_S) == 0
        for asker in askers:
            asker.join(PATIENCE_S)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        said = process.stderr.read()
        process.stderr.close()
    assert "Traceback" not in said
    assert "terminate called" not in said


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
