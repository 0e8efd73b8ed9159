"""What the Docker stats API says of containers whose cgroup is not within reach: another machine's, or behind a socket.

It costs the Engine some ms per container and answer, and has neither pressure nor limits nor refaults. Source:
``GET /containers/<id>/stats``, moby ``api/types/container/stats.go``. With ``one-shot`` (API 1.41, Engine 20.10) it
answers at once; before that it takes two samples, one to two seconds apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import InvalidVersion

from layerline_agent.containers import time_ns
from layerline_agent.sensor import Raw

#: Answers that are waited for at the same time.
AT_ONCE = 4

#: What says that readings come from here, on their resource.
SOURCE = {"layerline.reading.source": "docker_stats"}

CPU = {
    "periods": "container.cpu.periods",
    "throttled_periods": "container.cpu.throttled_periods",
    "throttled_time": "container.cpu.throttled",  # nanoseconds with both cgroup versions
}
DISK = {"io_service_bytes_recursive": "container.disk.io", "io_serviced_recursive": "container.disk.operations"}
NETWORK = {"bytes": "io", "packets": "packets", "errors": "errors", "dropped": "dropped"}


@dataclass(frozen=True, slots=True)
class Told:
    """What Docker said of a container."""

    container_id: str
    time_ns: int
    """When Docker read it, by its clock."""
    raws: tuple[Raw, ...]


def told(container_id: str, answer: Mapping[str, Any]) -> Told | None:
    """An answer as readings; None where it does not run: Docker then answers with zeros."""
    at_ns = time_ns(answer.get("read", ""))
    raws = tuple(_raws(answer)) if at_ns else ()
    return Told(container_id, at_ns, raws) if raws else None


def _raws(answer: Mapping[str, Any]) -> Iterator[Raw]:
    cpu, memory = answer.get("cpu_stats") or {}, answer.get("memory_stats") or {}
    if not (used_ns := (cpu.get("cpu_usage") or {}).get("total_usage")):  # who runs has used some
        return
    yield Raw("container.cpu.time", used_ns)
    for key, signal in CPU.items():
        if (value := (cpu.get("throttling_data") or {}).get(key)) is not None:
            yield Raw(signal, value)
    stat = memory.get("stats") or {}
    if (usage := memory.get("usage")) is not None:
        yield Raw("container.memory.usage", usage)
        if (inactive := stat.get("total_inactive_file", stat.get("inactive_file"))) is not None:
            yield Raw("container.memory.working_set", max(0, usage - inactive))
    if (faults := stat.get("total_pgmajfault", stat.get("pgmajfault"))) is not None:
        yield Raw("container.memory.major_faults", faults)
    for key, signal in DISK.items():
        for entry in (answer.get("blkio_stats") or {}).get(key) or ():
            if (way := entry["op"].lower()) in {"read", "write"}:
                device = f"{entry['major']}:{entry['minor']}"  # as a number: names are those of Docker's machine
                yield Raw(signal, entry["value"], (("disk.io.direction", way), ("system.device", device)))
    for interface, figures in (answer.get("networks") or {}).items():
        for way, short in (("receive", "rx"), ("transmit", "tx")):
            where = (("network.io.direction", way), ("network.interface.name", interface))
            for key, what in NETWORK.items():
                if (value := figures.get(f"{short}_{key}")) is not None:
                    yield Raw(f"container.network.{what}", value, where)
    if (pids := (answer.get("pids_stats") or {}).get("current")) is not None:
        yield Raw("container.pids", pids)


class DockerStats:
    """Asks Docker in threads of its own; ``tell`` is called from them."""

    def __init__(self, tell: Callable[[Told], None]) -> None:
        self._tell = tell
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="layerline-stats")
        self._each = threading.local()
        self._asked: set[str] = set()

    def ask(self, container_ids: Iterable[str]) -> None:
        """Ask about these, but for those whose last answer is still awaited. Never waits."""
        for container_id in container_ids:
            if container_id not in self._asked:
                self._asked.add(container_id)
                self._pool.submit(self._ask, container_id)

    def _ask(self, container_id: str) -> None:
        try:
            if not hasattr(self._each, "client"):
                self._each.client = docker.from_env(timeout=10)
            stats = self._each.client.api.stats
            try:
                answer = stats(container_id, stream=False, one_shot=True)
            except InvalidVersion:
                answer = stats(container_id, stream=False)
            if (found := told(container_id, answer)) is not None:
                self._tell(found)
        except Exception:  # gone meanwhile, or Docker is away, which discovery says
            return
        finally:
            self._asked.discard(container_id)

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
