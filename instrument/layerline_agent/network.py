"""Network files say the same of every network namespace: parsers for containers and the host, and whose is whose.

``/proc/<pid>/net`` shows the network namespace of that process. Sources: proc_pid_net(5), network_namespaces(7),
Documentation/networking/statistics.rst.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from layerline.aliases import INTERFACES_LEFT_OUT
from layerline_agent.machine import Machine
from layerline_agent.sensor import Dimensions, Raw

#: Where a line of ``net/dev`` has what, by direction, counting after the name from 0.
COLUMNS = {"receive": 0, "transmit": 8}


def namespace(machine: Machine, process: str) -> str:
    """The network namespace of a process, as ``net:[4026531833]``; empty where it may not be seen."""
    try:
        return os.readlink(machine.path("proc", process, "ns/net"))
    except OSError:
        return ""


def directory(machine: Machine, pid: int) -> str | None:
    """Where the network files of a container's process are; None where it shares the host's network, or may do so."""
    own = namespace(machine, str(pid))
    others = {namespace(machine, process) for process in ("1", machine.process)} - {""}
    return machine.path("proc", str(pid), "net") if own and others and own not in others else None


def _where(direction: str, interface: str) -> Dimensions:
    return (("network.io.direction", direction), ("network.interface.name", interface))


def interfaces(prefix: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """Bytes, packets, errors and dropped packets of each interface, by direction.

    Source: ``net/dev``, after two lines of headings; only grow. Since Linux 2.6.24 it is of one namespace.
    """

    def read(_: Machine, content: bytes) -> Iterator[Raw]:
        for line in content.splitlines()[2:]:
            name, _colon, figures = line.decode().rpartition(":")
            interface = name.strip()
            if INTERFACES_LEFT_OUT.fullmatch(interface):
                continue
            columns = figures.split()
            for direction, first in COLUMNS.items():
                where = _where(direction, interface)
                for number, what in enumerate(("io", "packets", "errors", "dropped"), first):
                    yield Raw(f"{prefix}.{what}", int(columns[number]), where)

    return read


def retransmits(signal: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """TCP segments sent again. Source: ``net/snmp``, ``RetransSegs`` of its two lines ``Tcp:``; only grows."""

    def read(_: Machine, content: bytes) -> Iterator[Raw]:
        yield Raw(signal, int(_named(content, b"Tcp:")[b"RetransSegs"]))

    return read


#: Segments that the other end said it had already: so many (Linux 5.11), or how often it said so.
NEEDLESS = (b"TCPDSACKRecvSegs", b"TCPDSACKRecv")


def needless_retransmits(signal: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """TCP segments that were sent again though they had arrived, as the other end said (duplicate SACK, RFC 2883).

    Source: ``net/netstat``, ``TCPDSACKRecvSegs`` (Linux 5.11) or ``TCPDSACKRecv`` of its two lines ``TcpExt:``; only
    grows.
    """

    def read(_: Machine, content: bytes) -> Iterator[Raw]:
        named = _named(content, b"TcpExt:")
        found = next((name for name in NEEDLESS if name in named), None)
        if found is not None:
            yield Raw(signal, int(named[found]))

    return read


def _named(content: bytes, heading: bytes) -> dict[bytes, bytes]:
    """The figures of a heading that has two lines, one of names and one of figures; none where it has not."""
    lines = [line.split() for line in content.splitlines() if line.startswith(heading)]
    return dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
