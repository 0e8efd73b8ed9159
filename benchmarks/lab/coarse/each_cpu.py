"""What each CPU of this machine did, read once a second: our agent reads their sum, node_exporter and hostmetrics tell
them apart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_S = 1.0
#: What the kernel counts apart, in the words of ``cpu.mode``; psutil has Linux' names.
MODES = {"irq": "interrupt", "softirq": "interrupt"}
NOT_APART = ("guest", "guest_nice")  # within user and nice


@dataclass(frozen=True, slots=True)
class Look:
    """The counters of all CPUs at one moment: nanoseconds by number and mode."""

    time_ns: int
    cpus: dict[str, dict[str, int]]


def look() -> Look:
    """Now."""
    cpus: dict[str, dict[str, int]] = {}
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        of_cpu = cpus.setdefault(str(number), {})
        for name, seconds in times._asdict().items():
            if name not in NOT_APART:
                mode = MODES.get(name, name)
                of_cpu[mode] = of_cpu.get(mode, 0) + round(seconds * 1e9)
    return Look(time.time_ns(), cpus)


@contextmanager
def recorded(file: Path) -> Iterator[None]:
    """Write a line a second to the file, inside of the block."""
    over = threading.Event()

    def run() -> None:
        with file.open("w", buffering=1) as lines:
            while True:
                now = look()
                lines.write(json.dumps({"time_ns": now.time_ns, "cpus": now.cpus}) + "\n")
                if over.wait(EVERY_S):
                    return

    thread = threading.Thread(target=run, name="each-cpu", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def read_looks(file: Path) -> list[Look]:
    """What was recorded, in order; nothing where a recording is older than this file."""
    if not file.exists():
        return []
    return [Look(one["time_ns"], one["cpus"]) for one in map(json.loads, file.read_text().splitlines())]
