"""Services as plain processes of this machine: for the agent, and for all of them where there is no engine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from layerline_api.demo.layout import numbers_of
from layerline_api.demo.place import Entity, Service, clean_environment

PR_SET_PDEATHSIG = 1


class Processes:
    """A place of plain processes. Everything they write goes to one temporary folder, which goes with them."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="layerline-demo-")
        self._ports: dict[str, int] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop every process, then remove what they wrote."""
        for name in reversed(list(self._running)):
            self.stop(name)
        self._temporary.cleanup()

    # ---- where services are

    def listen(self, name: str, port: int) -> str:
        """A free port of the loopback, the same for every call with this name; ``port`` is for containers."""
        if name not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[name] = int(probe.getsockname()[1])
        return f"127.0.0.1:{self._ports[name]}"

    def peer(self, name: str, port: int) -> str:
        """The same."""
        return self.listen(name, port)

    def url(self, name: str) -> str:
        """The same, as a URL."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def folder(self, name: str) -> str:
        """A folder inside the temporary one."""
        path = Path(self._temporary.name) / name
        path.mkdir(exist_ok=True)
        return str(path)

    # ---- services

    def start(self, service: Service) -> Entity:
        """Start a process. Of its limits only the cores are possible here."""
        if service.name in self._running:
            self.stop(service.name)
        with self._log(service.name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *service.command],
                env=clean_environment() | dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
                preexec_fn=lambda: self._settle(service.limits.cpuset),
            )
        self._running[service.name] = process
        return Entity("process", str(process.pid), service.name)

    def _settle(self, cpuset: str | None) -> None:
        """In the child: end with the demo, whatever ends it, and stay on the given cores."""
        self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if cpuset is not None:
            os.sched_setaffinity(0, numbers_of(cpuset))

    def keep_on(self, name: str, cpuset: str) -> None:
        """Move every thread of the process; those it starts later stay there too."""
        for thread in Path(f"/proc/{self._running[name].pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), numbers_of(cpuset))

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL after three seconds, for the process and its children."""
        process = self._running.pop(name)
        for number, timeout_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                process.wait(timeout_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._wait_group(process.pid)

    def _wait_group(self, group: int) -> None:
        """Wait up to a second for the children: they notice by themselves that their parent is gone."""
        deadline = time.monotonic() + 1
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.02)
            os.killpg(group, signal.SIGKILL)

    def alive(self, name: str) -> bool:
        """Whether the process runs."""
        return self._running[name].poll() is None

    def output(self, name: str) -> str:
        """The last 20 lines."""
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-20:])

    def used_ns(self, name: str) -> int | None:
        """Not known: the kernel adds up a process's children only when they have ended."""
        return None

    def _log(self, name: str) -> Path:
        return Path(self._temporary.name) / f"{name}.log"
