"""CPU of the host by mode, steal included, and how many CPUs are online.

psutil has these figures, as seconds and through a file opened at every call. They are read here because a reading needs
the time at which the kernel was asked, and is taken several times a second.
"""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

#: The fields of the ``cpu`` line in order (proc(5)) by OpenTelemetry's ``cpu.mode``; user and nice hold guest time.
MODES = ("user", "nice", "system", "idle", "iowait", "interrupt", "interrupt", "steal")


def read(machine: Machine, stat: bytes) -> Iterator[Raw]:
    """CPU time of all CPUs by mode. Source: ``/proc/stat`` line ``cpu``, in ticks of 1/USER_HZ s (10 ms), only grow.

    Steal since Linux 2.6.11. Idle and iowait may step back by a tick when a CPU goes offline.
    """
    lines = stat.splitlines()
    ticks: dict[str, int] = {}
    for mode, value in zip(MODES, lines[0].split()[1:], strict=False):
        ticks[mode] = ticks.get(mode, 0) + int(value)
    for mode, total in ticks.items():
        yield Raw("system.cpu.time", total * machine.tick_ns, (("cpu.mode", mode),))
    yield Raw("system.cpu.logical.count", sum(1 for line in lines[1:] if line.startswith(b"cpu")))


SENSOR = Sensor(entity="host", sources=(Source(("proc/stat",), read, stalls=True),))
