"""Where the demo's services run: the one description of a service that containers and plain processes both take."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import requests

JOURNAL = "journal"


class DemoError(Exception):
    """The demo cannot go on; the message says what and why, in one line."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service may use."""

    cpuset: str | None = None
    """The cores it may run on, as the kernel writes them: ``0`` or ``0-1``."""
    quota_ratio: float | None = None
    """CPU limit, in cores."""
    period_us: int = 100_000
    """How often that limit's quota is filled up again; 100 ms is the kernel's and Docker's default."""
    cpu_shares: int | None = None
    """Its weight against other containers on the same core; 1024 is usual."""
    write_bytes_per_second: int | None = None
    """Limit for writes to the disk below its journal."""
    read_bytes_per_second: int | None = None
    """Limit for reads from that disk."""
    memory_bytes: int | None = None
    """Memory limit, page cache included."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program to run: ``command`` follows the interpreter (``-m module …``)."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    """The port it listens on, in a container."""
    folder: str | None = None
    """The name of a folder on disk that it writes to (``place.folder(name)``)."""
    limits: Limits = Limits()
    binds: tuple[Path, ...] = ()
    """Further paths of the machine that it reads."""
    user: str | None = None
    """``UID:GID`` in a container; None: as this process. For programs that refuse to run as root."""
    restarts: bool = False
    """Whether the engine starts it again when it ended."""
    cgroup_parent: str | None = None
    """The cgroup that its container's cgroup is made in (``docker run --cgroup-parent``); None: the engine's own."""


@dataclass(frozen=True, slots=True)
class Entity:
    """Who a verdict should name: ``type`` as in section 7.3 and what identifies it."""

    type: str
    id: str
    name: str


class Place(Protocol):
    """Containers or plain processes. A context manager that leaves nothing behind."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def listen(self, name: str, port: int) -> str:
        """``host:port`` for a service to listen on."""
        ...

    def peer(self, name: str, port: int) -> str:
        """``host:port`` at which the other services reach it."""
        ...

    def url(self, name: str) -> str:
        """The URL at which this process reaches it."""
        ...

    def folder(self, name: str) -> str:
        """The path of a folder on disk, as the service that names it sees it."""
        ...

    def start(self, service: Service) -> Entity:
        """Start a service (replacing one of the same name) and return at once."""
        ...

    def stop(self, name: str) -> None:
        """Stop a service and wait until it is gone."""
        ...

    def keep_on(self, name: str, cpuset: str) -> None:
        """Keep a running service on these cores from now on."""
        ...

    def alive(self, name: str) -> bool:
        """Whether it still runs."""
        ...

    def output(self, name: str) -> str:
        """The last lines that it printed."""
        ...

    def used_ns(self, name: str) -> int | None:
        """The CPU time that it has used, its children included; None where that is not known."""
        ...


def instrumented(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a Python service under ``layerline run``."""
    return ("-m", "layerline.command", "run", "--", sys.executable, "-m", module, *arguments)


def wrapper_environment(service: str, endpoint: str, token: str) -> dict[str, str]:
    """What tells the wrapper who it is and where to send."""
    return {"OTEL_SERVICE_NAME": service, "LAYERLINE_ENDPOINT": endpoint, "LAYERLINE_TOKEN": token}


def clean_environment() -> dict[str, str]:
    """This process's environment without what would steer a service: other OpenTelemetry settings, proxies, paths."""
    steering = ("OTEL_", "LAYERLINE_", "PYTHONPATH", "PYTHONHOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")} | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def wait_ready(place: Place, name: str, path: str = "/healthz", timeout_s: float = 40) -> None:
    """Wait until a service answers. DemoError shows its last lines if it ends or stays silent."""
    deadline = time.monotonic() + timeout_s
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline:
            if not place.alive(name):
                raise DemoError(f"{name} ended while starting:\n{place.output(name)}")
            try:
                if session.get(place.url(name) + path, timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
    raise DemoError(f"{name} did not answer {path} within {timeout_s:.0f} s:\n{place.output(name)}")
