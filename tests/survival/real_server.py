"""``layerline serve`` as a process of its own, on this machine or in a container with a bound on its memory.

The store and the log are files of this machine in both cases: they outlive the server, whatever ends it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import docker
from docker.models.containers import Container

from layerline_api.demo import root
from waiting import PATIENCE_S, eventually

TOKEN = "t"  # noqa: S105 - a token of tests
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Ports:
    """Where a server listens on 127.0.0.1: the same ports after each restart."""

    http: int
    grpc: int


def free_ports() -> Ports:
    """Two ports that nobody listens on, below those that the kernel gives to whoever asks for any."""
    found: list[int] = []
    while len(found) < 2:
        port = random.randrange(10_000, 32_768)  # noqa: S311 - a port, not a secret
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return Ports(*found)


class Process:
    """A program of this machine's Python."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log.open("ab")
        self._popen = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        self.pid = self._popen.pid

    def ended(self) -> int | None:
        return self._popen.poll()

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def close(self) -> str:
        """Why the kernel or an engine ended it, "" where neither did."""
        self._popen.kill()
        self._popen.wait()
        self._log.close()
        return ""


class Contained:
    """The same program in a container that is killed when it needs more than ``memory``."""

    def __init__(
        self, box: Box, command: list[str], environment: Mapping[str, str], log: Path, writable: Path, memory: str
    ) -> None:
        self._log = log
        volumes = {str(path): {"bind": str(path), "mode": "ro"} for path in box.binds}
        volumes[str(writable)] = {"bind": str(writable), "mode": "rw"}
        self._container: Container = box.client.containers.run(
            box.image, command, environment={"HOME": "/tmp", **environment}, volumes=volumes,  # noqa: S108 - inside
            network_mode="host", mem_limit=memory, memswap_limit=memory, detach=True, name=box.next_name(),
            user=f"{os.getuid()}:{os.getgid()}",
        )  # fmt: skip
        self._container.reload()
        self.pid = int(self._container.attrs["State"]["Pid"])

    def ended(self) -> int | None:
        self._container.reload()
        state = self._container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def signal(self, number: int) -> None:
        with suppress(docker.errors.APIError):  # it has ended meanwhile
            self._container.kill(number)

    def close(self) -> str:
        self._container.reload()
        starved = bool(self._container.attrs["State"]["OOMKilled"])
        with self._log.open("ab") as log:
            log.write(self._container.logs())
        self._container.remove(force=True)
        return "the kernel ended it for its memory" if starved else ""


class Box:
    """What containers of this machine's own Python are made of. Nothing is pulled."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.image = f"layerline-survival-{secrets.token_hex(4)}"
        place = root.plan([*root.interpreter_paths(), HERE])
        self.binds = place.binds
        self._made = 0
        client.api.import_image_from_data(
            root.archive(place, os.getuid(), os.getgid()), repository=self.image, tag="latest"
        )

    def next_name(self) -> str:
        self._made += 1
        return f"{self.image}-{self._made}"

    def close(self) -> None:
        for container in self.client.containers.list(all=True, filters={"name": self.image}):
            container.remove(force=True)
        self.client.images.remove(self.image, force=True)


Program = Path | ModuleType
#: Runs a command with these variables and this log, here or in a container.
Run = Callable[[list[str], Mapping[str, str], Path], "Process | Contained"]


def command(program: Program, *options: str) -> list[str]:
    """This program, in this Python."""
    return [
        sys.executable,
        *(["-m", program.__name__] if isinstance(program, ModuleType) else [str(program)]),
        *options,
    ]


class Server:
    """One run of the server. ``store`` is in its folder; its log may be elsewhere: that folder may be a full disk."""

    def __init__(
        self, run: Run, folder: Path, log: Path, ports: Ports, program: Program, environment: Mapping[str, str]
    ) -> None:
        self.ports, self.store, self.log = ports, folder / "store", log
        self.peak_bytes, self.started_s = 0, 0.0
        self.running = True
        listen = ("--listen", f"127.0.0.1:{ports.http}", "--grpc-listen", f"127.0.0.1:{ports.grpc}")
        self.process = run(
            command(program, "--store", str(self.store), *listen), {"LAYERLINE_TOKEN": TOKEN, **environment}, self.log
        )
        self._began = time.monotonic()

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, timeout_s: float = PATIENCE_S, **headers: str
    ) -> Answer:
        """One request on a connection of its own. OSError or HTTPException where there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=timeout_s)
        try:
            connection.request(method, path, body, {**AUTHORIZED, **headers})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {key.lower(): text for key, text in answer.getheaders()})
        finally:
            connection.close()

    def until_ready(self) -> float:
        """How many seconds of its own it took until it was ready; AssertionError where it ended instead."""
        self.until("/readyz")
        self.started_s = time.monotonic() - self._began - stood_ready_s(self.process.pid)
        return self.started_s

    def until(self, path: str) -> None:
        """Return when this path is answered with 200; AssertionError where the server ended instead."""

        def answers() -> bool:
            code = self.process.ended()
            assert code is None, f"the server ended with {code} instead of starting; its log:\n{self.said()[-3000:]}"
            with suppress(OSError, http.client.HTTPException):
                return self.ask(path, timeout_s=5).status == 200
            return False

        # Minutes, on a machine that has twenty times as much to do as it has CPUs: what counts is its own time.
        eventually(answers, f"a server that answers {path}", within_s=5 * PATIENCE_S)

    def figures(self) -> dict[str, float]:
        """``GET /metrics``; those with labels are added up."""
        found: dict[str, float] = {}
        for line in self.ask("/metrics").body.decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def rows(self, sql: str) -> list[list[Any]]:
        """What the server itself answers to this SQL."""
        answer = self.ask(
            "/api/v1/sql", "POST", json.dumps({"sql": sql}).encode(), **{"Content-Type": "application/json"}
        )
        assert answer.status == 200, (answer.status, answer.body[:500])
        rows: list[list[Any]] = answer.json()["rows"]
        return rows

    def look_at_memory(self) -> int:
        """The most resident memory that it has had, in bytes. Remembered beyond its end."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
        return self.peak_bytes

    def kill(self) -> None:
        """``kill -9``; AssertionError where the kernel had ended it for its memory."""
        self.look_at_memory()
        self.running = False
        self.process.signal(9)
        eventually(lambda: self.process.ended() is not None, "the end of a killed process")
        assert not (why := self.process.close()), why

    def end(self) -> tuple[int, float]:
        """SIGTERM: the exit code, and how many seconds of its own it took."""
        self.look_at_memory()
        began, stood_s = time.monotonic(), 0.0
        before_s = stood_ready_s(self.process.pid)
        self.process.signal(15)
        while (code := self.process.ended()) is None:
            assert time.monotonic() - began < PATIENCE_S, f"still there {PATIENCE_S:.0f} s after SIGTERM"
            stood_s = max(stood_s, stood_ready_s(self.process.pid) - before_s)
            time.sleep(0.01)
        took_s = time.monotonic() - began
        self.running = False
        assert not (why := self.process.close()), why
        return code, took_s - stood_s

    def said(self) -> str:
        """Its log, all runs of it; that of a container is there when it has ended."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def stood_ready_s(pid: int) -> float:
    """How long the one of its threads that waited most for a CPU has waited, in seconds: that is the machine's doing.

    Source: ``/proc/PID/task/TID/schedstat``, second figure, nanoseconds.
    """
    longest_ns = 0
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError, IndexError):
                longest_ns = max(longest_ns, int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[1]))
    return longest_ns / 1e9


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size (tmpfs) in a new folder. ``PermissionError`` where this user may not mount any."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise PermissionError(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
