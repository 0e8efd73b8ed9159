"""Network of containers and of the host, against a captured machine: whose namespace, which interfaces, how fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layerline_agent import network
from layerline_agent.machine import Machine
from layerline_agent.readings import Entity
from layerline_agent.sensor import all_sensors

from .conftest import HYBRID

PID = 31370


def namespaces(root: Path, **links: str) -> None:
    """Give processes their network namespaces, by pid after an underscore."""
    for process, inode in links.items():
        link = root / "proc" / process.lstrip("_") / "ns/net"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"net:[{inode}]")


def read(kind: str, root: Path, where: str) -> dict[tuple[str, ...], int | float | None]:
    """What the network sensors say of this directory: by signal, direction and interface."""
    watched = Entity.of(kind, {}, 0, {"network": f"{root}/{where}"}, all_sensors(), Machine(str(root)), lambda: 1)
    for sensor in ("container_network", "host_network"):
        watched.read(sensor, full=True)
    watched.close()
    return {(one.signal, *(value for _, value in one.dimensions)): one.value for one in watched.series}


def test_container() -> None:
    """A container's own interface is read in both directions, its loopback is not."""
    values = read("container", HYBRID / "first", f"proc/{PID}/net")
    assert values == {
        ("container.network.io", "receive", "eth0"): 736,
        ("container.network.packets", "receive", "eth0"): 8,
        ("container.network.errors", "receive", "eth0"): 0,
        ("container.network.dropped", "receive", "eth0"): 0,
        ("container.network.io", "transmit", "eth0"): 0,
        ("container.network.packets", "transmit", "eth0"): 0,
        ("container.network.errors", "transmit", "eth0"): 0,
        ("container.network.dropped", "transmit", "eth0"): 0,
    }


def test_host(copied: Callable[[Path], Path]) -> None:
    """The host's interfaces are read without loopback and veth, with what they drop; speed is bytes per second."""
    root = copied(HYBRID / "first")
    for name, speed in (("eth0", "10000\n"), ("docker0", "-1\n")):
        (root / "sys/class/net" / name).mkdir(parents=True)
        (root / "sys/class/net" / name / "speed").write_text(speed)
    values = read("host", root, "proc/1/net")
    assert {key[2] for key in values if key[0] == "system.network.io"} == {"ifb0", "ifb1", "eth0", "docker0"}
    assert values["system.network.io", "receive", "eth0"] == 2_634_916_516
    assert values["system.network.packets", "transmit", "eth0"] == 38_966
    assert values["system.network.dropped", "transmit", "docker0"] == 5
    assert values["system.network.tcp.retransmits",] == 2203
    assert {key: value for key, value in values.items() if key[0] == "system.network.speed"} == {
        ("system.network.speed", "eth0"): 1_250_000_000
    }


def test_dropped_and_errors_are_their_own_columns(copied: Callable[[Path], Path]) -> None:
    """Every column goes to its signal and direction, also where a large figure touches the name."""
    root = copied(HYBRID / "first")
    (root / "proc/1/net/dev").write_text("a|b|c\n face|bytes\neth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
    values = read("host", root, "proc/1/net")
    got = [
        values[f"system.network.{what}", direction, "eth0"]
        for direction in ("receive", "transmit")
        for what in ("io", "packets", "errors", "dropped")
    ]
    assert got == [1, 2, 3, 4, 9, 10, 11, 12]


def test_retransmits_are_found_by_name(copied: Callable[[Path], Path]) -> None:
    """Retransmits are found by their column's name: kernels add columns. They are the container's own."""
    root = copied(HYBRID / "first")
    (root / f"proc/{PID}/net/snmp").write_text("Ip: A\nIp: 7\nTcp: New MaxConn RetransSegs X\nTcp: 5 -1 42 0\n")
    assert read("container", root, f"proc/{PID}/net")["container.network.tcp.retransmits",] == 42


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("TcpExt: A TCPDSACKRecv TCPDSACKRecvSegs\nTcpExt: 1 4 9\nIpExt: B\nIpExt: 7\n", 9),
        ("TcpExt: TCPDSACKRecv A\nTcpExt: 4 1\n", 4),  # before Linux 5.11
        ("TcpExt: A\nTcpExt: 1\n", None),
        ("IpExt: B\nIpExt: 7\n", None),
    ],
)
def test_what_was_sent_again_for_nothing(copied: Callable[[Path], Path], content: str, found: int | None) -> None:
    """Segments that had arrived are counted by name, by the newer of two counters that a kernel may have."""
    root = copied(HYBRID / "first")
    (root / f"proc/{PID}/net/netstat").write_text(content)
    assert read("container", root, f"proc/{PID}/net").get(("container.network.tcp.needless_retransmits",)) == found


@pytest.mark.parametrize(
    ("links", "own"),
    [
        ({"_1": "1", "_31370": "2"}, True),
        ({"_1": "1", "_31370": "1"}, False),  # docker run --network host
        ({"_31370": "2"}, False),  # the host's namespace may not be seen: nothing is claimed
        ({"_1": "1"}, False),  # the container's may not be seen, or it is gone
    ],
)
def test_whose_network(copied: Callable[[Path], Path], links: dict[str, str], own: bool) -> None:
    """Only a network that is known to be another than the host's is a container's own."""
    root = copied(HYBRID / "first")
    namespaces(root, **links)
    expected = f"{root}/proc/{PID}/net" if own else None
    assert network.directory(Machine(str(root)), PID) == expected
