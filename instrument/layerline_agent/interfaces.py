"""What ``/proc/<pid>/net`` shows of the interfaces and the TCP of one network namespace."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.sensor import Raw

#: Made by container engines for others, or talking to nobody else: never an entity's own traffic.
NOT_ITS_OWN = ("lo", "veth", "docker", "br-", "cni", "tunl", "dummy")


def traffic(prefix: str, listing: bytes) -> Iterator[Raw]:
    """Bytes, packets, errors and drops of each interface in both directions, as ``<prefix>.network.…``.

    Source: ``/proc/<pid>/net/dev`` (proc_pid_net(5)): after the name eight columns received, eight transmitted.
    """
    for line in listing.splitlines()[2:]:
        name, _, rest = line.partition(b":")
        interface = name.strip().decode(errors="replace")
        columns = rest.split()
        if interface.startswith(NOT_ITS_OWN) or len(columns) < 12:
            continue
        for direction, first in (("receive", 0), ("transmit", 8)):
            where = (("network.io.direction", direction), ("network.interface.name", interface))
            for signal, column in (("io", 0), ("packets", 1), ("errors", 2), ("dropped", 3)):
                yield Raw(f"{prefix}.network.{signal}", int(columns[first + column]), where)


def retransmits(prefix: str, snmp: bytes) -> Iterator[Raw]:
    """TCP segments sent again, as ``<prefix>.network.tcp.retransmits``.

    Source: ``/proc/<pid>/net/snmp``: two lines ``Tcp:``, the names and the values (``RetransSegs``, RFC 1213).
    """
    lines = [line.split() for line in snmp.splitlines() if line.startswith(b"Tcp:")]
    if len(lines) == 2:
        values = dict(zip(*lines, strict=False))
        if (count := values.get(b"RetransSegs")) is not None:
            yield Raw(f"{prefix}.network.tcp.retransmits", int(count))
