"""Whatever arrives: no failure of the server's own, nothing that does not add up, and no thread that ends over it.

Half a minute here, longer with ``make fuzz`` (``--minutes``): a real server, over HTTP and gRPC, is sent what nobody
should send, and is asked about it meanwhile by every route. What it answered wrongly is kept in the folder, byte by
byte.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import kept
import pytest
from hostile import Hostile, odd_requests
from real_server import AUTHORIZED, PATIENCE_S, Server
from senders import GRPC_METHODS, Acknowledged, sending
from stage import Stage

from waiting import eventually

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(7200)]

#: The most resident memory that it may have, in bytes.
MEMORY_BYTES = 2**30
#: How it may answer. 503 says when to come again; 501 and 505 are HTTP's own words for what it does not speak.
RECEIVES = {200, 400, 401, 403, 413, 415, 501, 503}
ANSWERS = {
    200,
    201,
    202,
    204,
    301,
    302,
    303,
    308,
    400,
    401,
    403,
    404,
    405,
    409,
    411,
    413,
    414,
    415,
    422,
    431,
    501,
    503,
    505,
}
CALLS = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED", "UNAVAILABLE"}


@dataclass
class Seen:
    """How it answered, and what of that is wrong."""

    folder: Path
    answers: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    """One example of each kind: what it was, and what was seen."""
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, answer: str, allowed: bool, sent: bytes, said: str, took_s: float) -> None:
        """An answer to something that was sent."""
        kind = f"{what}: {answer}"
        with self.lock:
            self.answers[kind] += 1
            self.slowest_s = max(self.slowest_s, took_s)
            if not allowed and kind not in self.wrong:
                path = self.folder / f"wrong-{len(self.wrong)}.bin"
                path.write_bytes(sent)
                self.wrong[kind] = f"after {took_s:.1f} s: {said[:400]!r}; sent: {path}"

    def summary(self) -> str:
        """How many of each answer, by door."""
        doors: Counter[str] = Counter()
        for kind, count in self.answers.items():
            what, _, answer = kind.rpartition(": ")
            door = what.split()[0] if what.startswith(("POST", "gRPC", "nearly")) and "/" not in what else "questions"
            doors[f"{door} {answer.partition(' ')[2][:3] if door == 'nearly' else answer}"] += count
        counts = ", ".join(f"{door} × {count}" for door, count in sorted(doors.items()))
        return f"{sum(doors.values())} requests, slowest {self.slowest_s:.1f} s: {counts}"


def send_http(server: Server, drawn: Hostile, seen: Seen) -> None:
    signal, body, headers = drawn.otlp()
    began = time.monotonic()
    try:
        answer = server.ask(f"/v1/{signal}", "POST", body, **headers)
    except (http.client.HTTPException, ValueError, UnicodeError, ConnectionError, BrokenPipeError) as problem:
        # It may close on a request that it does not understand; a client of Python's refuses some headers itself.
        odd = not {"Content-Type", "Content-Encoding"}.issuperset(headers) or len(body) > 2**20
        seen.note(f"POST {signal}", type(problem).__name__, odd, body, str(headers), time.monotonic() - began)
        return
    except OSError as problem:
        seen.note(f"POST {signal}", type(problem).__name__, False, body, str(headers), time.monotonic() - began)
        return
    allowed = answer.status in RECEIVES and (answer.status != 503 or "retry-after" in answer.headers)
    said = f"{answer.body[:300]!r} to {headers}"
    seen.note(f"POST {signal}", str(answer.status), allowed, body, said, time.monotonic() - began)


def send_grpc(channel: grpc.Channel, drawn: Hostile, seen: Seen) -> None:
    signal, body, headers = drawn.otlp()
    compression = grpc.Compression.Gzip if "Content-Encoding" in headers else grpc.Compression.NoCompression
    began, code, said = time.monotonic(), "OK", ""
    try:
        channel.unary_unary(GRPC_METHODS[signal])(
            body, timeout=PATIENCE_S, metadata=[("authorization", AUTHORIZED["Authorization"])], compression=compression
        )
    except grpc.RpcError as problem:
        code, said = problem.code().name, str(problem.details())
    seen.note(f"gRPC {signal}", code, code in CALLS, body, said, time.monotonic() - began)


def send_odd(server: Server, request: bytes, seen: Seen) -> None:
    began = time.monotonic()
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.ports.http), timeout=2) as connection:
        connection.sendall(request)
        line = connection.recv(64).split(b"\r\n")[0].decode("latin-1")
        status = int(line.split()[1]) if line.startswith("HTTP/") else 0
        seen.note("nearly HTTP", line, status in ANSWERS or not line, request, line, time.monotonic() - began)


def ask(server: Server, drawn: Hostile, paths: dict[str, dict[str, object]], seen: Seen) -> None:
    method, address, body = drawn.question(paths)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    began = time.monotonic()
    what, sent = f"{method} {address.partition('?')[0][:60]}", f"{method} {address}".encode() + b"\n" + (body or b"")
    try:
        answer = server.ask(address, method, body, **headers)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        seen.note(
            what, type(problem).__name__, isinstance(problem, ValueError), sent, address, time.monotonic() - began
        )
        return
    allowed = answer.status in ANSWERS and (answer.status != 503 or "retry-after" in answer.headers)
    said = f"{answer.body[:300]!r} to {address}"
    seen.note(what, str(answer.status), allowed, sent, said, time.monotonic() - began)


def test_whatever_arrives(stage: Stage, seconds: float, capfd: pytest.CaptureFixture[str]) -> None:
    """OTLP that is absurd or broken over HTTP and gRPC, requests that are nearly HTTP, and every question about it: no
    5xx but 503 with Retry-After, everything adds up, its memory has a bound, and afterwards it works as before."""
    server, seen = stage.start(), Seen(stage.folder)
    server.until_ready()
    paths = server.ask("/openapi.json").json()["paths"]
    stop = threading.Event()

    def on_and_on(name: str, act: Callable[[Hostile], None]) -> threading.Thread:
        def run() -> None:
            drawn = Hostile(stage.draw(name))
            while not stop.is_set():
                act(drawn)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    odd = list(odd_requests())
    odd_draw = stage.draw("nearly HTTP")
    with grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc}") as channel:
        threads = [
            on_and_on("http-1", lambda drawn: send_http(server, drawn, seen)),
            on_and_on("http-2", lambda drawn: send_http(server, drawn, seen)),
            on_and_on("grpc", lambda drawn: send_grpc(channel, drawn, seen)),
            on_and_on("questions-1", lambda drawn: ask(server, drawn, paths, seen)),
            on_and_on("questions-2", lambda drawn: ask(server, drawn, paths, seen)),
            on_and_on("odd", lambda _: (send_odd(server, odd_draw.choice(odd), seen), stop.wait(0.2))),  # type: ignore[func-returns-value]
        ]
        until = time.monotonic() + seconds
        while time.monotonic() < until and server.process.ended() is None and all(one.is_alive() for one in threads):
            server.look_at_memory()
            stop.wait(0.5)
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S + 10)
    problems = [f"{kind} ({seen.answers[kind]} times) {example}" for kind, example in seen.wrong.items()]
    if (code := server.process.ended()) is not None:
        problems.append(f"it ended with {code}")
    else:
        problems += works_as_before(stage, server)
    if server.peak_bytes > MEMORY_BYTES:
        problems.append(
            f"it had {server.peak_bytes / 2**20:.0f} MiB of memory, at most {MEMORY_BYTES / 2**20:.0f} were due"
        )
    if "Traceback" in server.said():
        problems.append("its log:\n" + server.said()[server.said().index("Traceback") :][:3000])
    with capfd.disabled():
        print(f"\n  {seen.summary()}", end="")
    assert not problems, "\n".join([f"--seed {stage.seed}", *problems])


def works_as_before(stage: Stage, server: Server) -> list[str]:
    """What does not work after all that; the server has ended then."""
    known, found, patience = Acknowledged(), [], 10
    try:
        with sending(stage.ports, stage.seed, known):
            eventually(lambda: known.spans and known.points and known.events, "acknowledgements of valid data")
        trace_id = next(iter(known.so_far().spans))[0]
        eventually(lambda: server.ask(f"/api/v1/requests/{trace_id}").status == 200, "the verdict of a valid trace")
        for path in ("/readyz", "/healthz", "/", "/api/v1/verdicts"):
            while (answer := server.ask(path)).status == 503 and "retry-after" in answer.headers and patience:
                patience -= 1  # 503: the machine is busy, not the server
                time.sleep(float(answer.headers["retry-after"]))
            if answer.status != 200:
                found.append(f"{path}: {answer.status} {answer.body[:200]!r}")
        if failed := server.figures()["layerline_correlator_failed_traces_total"]:
            found.append(f"{failed:.0f} traces could not be worked out")
    except (AssertionError, OSError, http.client.HTTPException) as problem:
        found.append(f"afterwards: {type(problem).__name__} {problem}; acknowledged: {known}")
    try:
        code, _ = server.end()
    except AssertionError as problem:
        return [*found, str(problem)]
    if code != 0:
        found.append(f"it ended with {code}")
    return found + kept.problems(server.store, known)
