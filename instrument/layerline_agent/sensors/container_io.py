"""Block I/O of a container: bytes and operations by device and direction, and the limits set on devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Dimensions, Raw, Sensor, Source

#: Both versions count discards too; a discard is neither a read nor a write and is left out.
DIRECTIONS_V1 = {b"Read": "read", b"Write": "write"}
COUNTERS_V2 = {
    b"rbytes": ("container.disk.io", "read"),
    b"wbytes": ("container.disk.io", "write"),
    b"rios": ("container.disk.operations", "read"),
    b"wios": ("container.disk.operations", "write"),
}
LIMITS_V2 = {
    b"rbps": ("container.disk.limit", "read"),
    b"wbps": ("container.disk.limit", "write"),
    b"riops": ("container.disk.operations.limit", "read"),
    b"wiops": ("container.disk.operations.limit", "write"),
}


#: It touched no device: measured to be none, which is not the same as not measured.
NONE_YET = tuple(
    Raw("container.disk.operations", 0, (("disk.io.direction", way), ("system.device", "none")))
    for way in ("read", "write")
)


def _where(machine: Machine, device: bytes, direction: str) -> Dimensions:
    return (("disk.io.direction", direction), ("system.device", machine.device_name(device.decode())))


def counter_v1(signal: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """What it read and wrote, its children included.

    Source: v1 ``blkio.throttle.io_service_bytes_recursive`` (bytes) and ``io_serviced_recursive`` (operations), lines
    of ``major:minor Operation value``; only grow. A device is listed once it was touched; before any was, there are no
    operations on the device ``none``.
    """

    def read(machine: Machine, content: bytes) -> Iterator[Raw]:
        touched = False
        for line in content.splitlines():
            words = line.split()
            if len(words) == 3 and (direction := DIRECTIONS_V1.get(words[1])):
                touched = True
                yield Raw(signal, int(words[2]), _where(machine, words[0], direction))
        if not touched and signal == NONE_YET[0].signal:
            yield from NONE_YET

    return read


def limit_v1(signal: str, direction: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """What it may read or write per second.

    Source: v1 ``blkio.throttle.{read,write}_{bps,iops}_device``, lines of ``major:minor value``; empty without limits.
    """

    def read(machine: Machine, content: bytes) -> Iterator[Raw]:
        for line in content.splitlines():
            device, value = line.split()
            yield Raw(signal, int(value), _where(machine, device, direction))

    return read


def keyed_v2(signals: dict[bytes, tuple[str, str]]) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """What it read and wrote, or may per second.

    Source: v2 ``io.stat`` (bytes and operations, only grow) and ``io.max``, Linux 4.5, lines of
    ``major:minor key=value …``; a limit of ``max`` is none. Some kernels leave the line of a device without figures
    open, so that the next device stands on the same line: the last one named is meant. Before any device was touched
    there are no operations on the device ``none``.
    """

    def read(machine: Machine, content: bytes) -> Iterator[Raw]:
        if b"rios=" not in content and b"rios" in signals:
            yield from NONE_YET
        for line in content.splitlines():
            device = b""
            for word in line.split():
                key, equals, value = word.partition(b"=")
                if not equals:
                    device = word
                elif key in signals and value != b"max":
                    signal, direction = signals[key]
                    yield Raw(signal, int(value), _where(machine, device, direction))

    return read


def above_v2(machine: Machine, stat: bytes | None, limit: bytes | None) -> Iterator[Raw]:
    """The limits of a cgroup above it on devices, and what all below it read and wrote there.

    Source: v2 ``io.stat`` and ``io.max``. With v1 there is nothing to read: ``blkio.throttle`` limits hold for their
    own group only (Documentation/admin-guide/cgroup-v1/blkio-controller.rst, "Hierarchical Cgroups").
    """
    for content, signals in ((stat, COUNTERS_V2), (limit, LIMITS_V2)):
        for raw in keyed_v2(signals)(machine, content or b""):
            yield Raw(raw.signal.replace("container.", "container.ancestor."), raw.value, raw.dimensions)


SENSOR = Sensor(
    entity="container",
    totals=True,
    sources=(
        Source(("unified/io.stat",), keyed_v2(COUNTERS_V2)),
        Source(("unified/io.max",), keyed_v2(LIMITS_V2)),
    ),
    above=(Source(("unified/io.stat", "unified/io.max"), above_v2),),
    controller="blkio",
    sources_v1=(
        Source(("blkio/blkio.throttle.io_service_bytes_recursive",), counter_v1("container.disk.io")),
        Source(("blkio/blkio.throttle.io_serviced_recursive",), counter_v1("container.disk.operations")),
        Source(("blkio/blkio.throttle.read_bps_device",), limit_v1("container.disk.limit", "read")),
        Source(("blkio/blkio.throttle.write_bps_device",), limit_v1("container.disk.limit", "write")),
        Source(("blkio/blkio.throttle.read_iops_device",), limit_v1("container.disk.operations.limit", "read")),
        Source(("blkio/blkio.throttle.write_iops_device",), limit_v1("container.disk.operations.limit", "write")),
    ),
)
