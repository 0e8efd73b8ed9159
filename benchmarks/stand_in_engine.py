"""A stand-in for a Docker Engine: real cgroups with real processes, described over a socket as Docker describes them.

A real engine starts few containers a second on a machine with two cores, and restarting it would disturb
whoever else uses it. Here a container is a process in cgroups of its own in all of the machine's hierarchies, which is
all that an agent reads of one; what Docker would say of it is said on a Unix socket (API 1.41).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
#: How many events Docker remembers.
REMEMBERED = 256


def hierarchies() -> list[Path]:
    """Where the cgroup hierarchies of this machine are mounted: one with v2, one for each controller with v1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted({path.resolve() for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()})


@dataclass
class Lived:
    """A container, and what is known of it from outside."""

    id: str
    name: str
    began_ns: int
    process: subprocess.Popen[bytes]
    ended_ns: int = 0


class Engine:
    """Containers that come and go, and a socket that can be closed and opened again."""

    def __init__(self, socket: Path, group: str) -> None:
        self.socket = socket
        self.all: list[Lived] = []
        """Every container that ever was, in order."""
        self._roots = [root / group for root in hierarchies()]
        self._running: dict[str, Lived] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._count = 0
        self._changed = threading.Condition()
        self._server: _Server | None = None
        for root in self._roots:
            root.mkdir()
            if (root / "cpuset.cpus").exists():  # v1: a new cpuset has no CPUs, and its children would have none
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (root / name).write_text((root.parent / name).read_text())
                (root / "cgroup.clone_children").write_text("1")

    # ---- the containers

    def run(self, seconds: float) -> Lived:
        """A new container that lives for so long. OSError where its cgroups cannot be made."""
        container_id = secrets.token_hex(32)
        for root in self._roots:
            (root / container_id).mkdir()
        process = subprocess.Popen(["sleep", f"{seconds:.3f}"], stdin=subprocess.DEVNULL)
        for root in self._roots:
            (root / container_id / "cgroup.procs").write_text(str(process.pid))
        with self._changed:
            lived = Lived(container_id, f"soak-{len(self.all)}", time.time_ns(), process)
            self.all.append(lived)
            self._running[container_id] = lived
            self._tell("start", lived, lived.began_ns)
        return lived

    @property
    def quiet(self) -> bool:
        """Whether no container runs."""
        return not self._running

    def bury(self) -> None:
        """Notice which have ended, as an engine does: tell of it, and remove their cgroups."""
        for lived in [one for one in list(self._running.values()) if one.process.poll() is not None]:
            with self._changed:
                if lived.id not in self._running:
                    continue  # noticed by another thread
                lived.ended_ns = time.time_ns()
                del self._running[lived.id]
                self._tell("die", lived, lived.ended_ns, exitCode=str(lived.process.returncode))
            for root in self._roots:
                with suppress(OSError):
                    (root / lived.id).rmdir()

    def _tell(self, action: str, lived: Lived, at_ns: int, **told: str) -> None:
        attributes = {"name": lived.name, "image": "soak:1", "batch": "soak", **told}
        self._events.append(
            {
                "Type": "container", "Action": action, "time": at_ns // 10**9, "timeNano": at_ns,
                "Actor": {"ID": lived.id, "Attributes": attributes},
            }
        )  # fmt: skip
        self._count += 1
        self._changed.notify_all()

    # ---- the socket

    @property
    def answers(self) -> bool:
        return self._server is not None

    def open(self) -> None:
        """Begin to answer."""
        self.socket.unlink(missing_ok=True)
        self._server = _Server(str(self.socket), self)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def shut(self) -> None:
        """Stop answering, and break every connection; what was remembered is forgotten, as when a daemon restarts."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.drop()
        self.socket.unlink(missing_ok=True)
        with self._changed:
            self._events.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """End all containers, and remove what was made."""
        self.shut()
        for lived in list(self._running.values()):
            lived.process.kill()
            lived.process.wait()
        self.bury()
        for root in self._roots:
            with suppress(OSError):
                root.rmdir()

    # ---- what it says

    def inspected(self, container_id: str) -> dict[str, Any] | None:
        with self._changed:
            lived = self._running.get(container_id)
        if lived is None:
            return None
        return {
            "Id": lived.id, "Name": f"/{lived.name}", "Image": "sha256:" + "5" * 64,
            "Created": _docker_time(lived.began_ns),
            "State": {
                "Status": "running", "Running": True, "Paused": False, "Pid": lived.process.pid, "ExitCode": 0,
                "StartedAt": _docker_time(lived.began_ns), "FinishedAt": "0001-01-01T00:00:00Z",
            },
            "Config": {"Image": "soak:1", "Labels": {"batch": "soak"}, "Hostname": lived.id[:12]},
            "NetworkSettings": {"Networks": {}}, "HostConfig": {},
        }  # fmt: skip

    def listed(self) -> list[dict[str, Any]]:
        with self._changed:
            return [
                {"Id": one.id, "Names": [f"/{one.name}"], "Created": one.began_ns // 10**9, "State": "running"}
                for one in self._running.values()
            ]

    def remembered(self, since: float, until: float) -> list[dict[str, Any]]:
        with self._changed:
            return [event for event in self._events if since <= event["timeNano"] / 1e9 <= until]

    def follow(self, since: float, server: _Server) -> Iterator[dict[str, Any]]:
        """What it remembers since then, and whatever comes, until the server ends."""
        with self._changed:
            waiting = [event for event in self._events if event["timeNano"] / 1e9 >= since]
            count = self._count
        yield from waiting
        while self._server is server:
            with self._changed:
                if self._count == count:
                    self._changed.wait(timeout=1)
                fresh = list(self._events)[-(self._count - count) :] if self._count > count else []
                count = self._count
            yield from fresh


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: str, engine: Engine) -> None:
        self.engine = engine
        self._open: set[Any] = set()
        super().__init__(path, _Handler)
        os.chmod(path, 0o600)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop(self) -> None:
        """Break what is connected."""
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        engine, address = self.server.engine, urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(address.query))
        path = address.path.removeprefix("/v1.41")
        if path == "/version":
            self._answer({"Version": "20.10", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})
        elif path == "/containers/json":
            self._answer([] if "filters" in asked else engine.listed())
        elif path == "/events" and "until" in asked:
            events = engine.remembered(float(asked.get("since", 0)), float(asked["until"]))
            self._stream(iter(events))
        elif path == "/events":
            self._stream(engine.follow(float(asked.get("since", 0)), self.server))
        elif path.startswith("/containers/") and (found := engine.inspected(path.split("/")[2])) is not None:
            self._answer(found)
        else:
            self._answer({"message": f"nothing at {path}"}, 404)

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _docker_time(time_ns: int) -> str:
    """As Docker writes times: ``2026-11-23T03:52:50.764439571Z``."""
    second = datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{time_ns % 10**9:09d}Z"
