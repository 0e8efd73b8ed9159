"""Lost packets and a slow link, for one container only.

They are dropped where they *arrive* (nftables' ``netdev`` ingress hook), never where they are sent: a drop on the way
out is reported to the sending kernel at once, and TCP then does not count it as a loss. What the container receives is
dropped at its own device, inside its network namespace; what it sends, at the other end of its veth pair.

A dropped segment that ends a write (it carries PSH; no bare acknowledgement does) is sent again after the smallest
retransmission timeout of Linux, 200 ms (``TCP_RTO_MIN``), if it was the only one in
flight. With two or more in flight the tail loss probe comes after two round trips, so the loss costs milliseconds:
so it is with uvicorn, which writes head and body apart. Node answers a small request in one segment.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from benchmarks.lab.subject import PARTNER, PORT, Subject
from layerline_api.demo.place import DemoError

Direction = Literal["in", "out"]
#: The device of a container on one network.
DEVICE = "eth0"
#: How many bytes pass a slow link at once: more than one packet of 1500, so that none is too big for it.
BURST_BYTES = 3_200
#: How many bytes wait for it before it drops.
QUEUE_BYTES = 4 * 1024 * 1024
EVER = 2**32 - 1


def run(command: Sequence[str]) -> str:
    """A command's output. DemoError names what is missing or what it said."""
    if os.geteuid() != 0:
        raise DemoError(f"{command[0]} needs root: this process runs as user {os.geteuid()}")
    for tool in ("nsenter", "nft", "tc"):
        if tool in command and shutil.which(tool) is None:
            raise DemoError(f"there is no program named {tool}; it is in util-linux, nftables and iproute2")
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)} failed (a missing kernel module, perhaps): {done.stderr.strip()}")
    return done.stdout


def inside(container: Any) -> tuple[str, ...]:
    """What goes before a command to run it in the container's network namespace. DemoError if it does not run."""
    container.reload()
    process = int(container.attrs["State"]["Pid"])
    if process == 0:
        raise DemoError(f"container {container.name} does not run, so it has no network namespace")
    return ("nsenter", "-t", str(process), "-n")


def veth(container: Any) -> str:
    """The machine's end of the container's veth pair: the device whose number its own end names."""
    shown = run([*inside(container), "ip", "-o", "link", "show", DEVICE])
    if (number := re.search(rf"{DEVICE}@if(\d+)", shown)) is None:
        raise DemoError(f"{DEVICE} of container {container.name} is no end of a veth pair: {shown.strip()}")
    for line in run(["ip", "-o", "link", "show", "type", "veth"]).splitlines():
        if line.startswith(f"{number[1]}: "):
            return line.split(": ")[1].partition("@")[0]
    raise DemoError(f"the machine has no veth device number {number[1]}, the other end of {container.name}'s {DEVICE}")


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Undo on leaving, and at the end of this process if that never comes."""
    atexit.register(undo)
    try:
        yield
    finally:
        atexit.unregister(undo)
        undo()


@contextmanager
def dropping(container: Any, port: int, which: str, direction: Direction, server: bool) -> Iterator[Callable[[], int]]:
    """Drop the data segments that ``which`` (an nftables expression) selects; yields how many were dropped so far."""
    before, device = (inside(container), DEVICE) if direction == "in" else ((), veth(container))
    table = f"layerline_lab_{secrets.token_hex(4)}"
    end = "sport" if (direction == "in") != server else "dport"
    rule = f"tcp {end} {port} tcp flags & psh == psh {which} counter drop"
    hook = f"type filter hook ingress device {device} priority 0; policy accept;"

    def undo() -> None:
        # A container that has ended took its devices and their rules with it.
        subprocess.run([*before, "nft", "delete", "table", "netdev", table], capture_output=True, timeout=20)

    def dropped() -> int:
        shown = run([*before, "nft", "list", "table", "netdev", table])
        found = re.search(r"counter packets (\d+)", shown)
        return int(found[1]) if found else 0

    with undone(undo):
        run([*before, "nft", f"table netdev {table} {{ chain drop_some {{ {hook} {rule}; }}; }}"])
        yield dropped


def loss(container: Any, port: int, every: int, direction: Direction = "in", server: bool = False) -> Any:
    """Drop each ``every``-th data segment, beginning with the first; ``port`` as in ``drop_next``."""
    return dropping(container, port, f"numgen inc mod {every} 0" if every > 1 else "", direction, server)


def drop_next(container: Any, port: int, count: int = 1, direction: Direction = "in", server: bool = False) -> Any:
    """Drop exactly the next ``count`` data segments.

    ``port`` is the peer's, whom the container calls; with ``server`` it is the container's own, at which it is called.
    """
    return dropping(container, port, f"numgen inc mod {EVER} < {count}", direction, server)


@contextmanager
def slow_link(container: Any, bits_per_second: int) -> Iterator[None]:
    """What the container sends leaves at this rate (``tc-tbf(8)``)."""
    before = inside(container)

    def undo() -> None:
        subprocess.run([*before, "tc", "qdisc", "del", "dev", DEVICE, "root"], capture_output=True, timeout=20)

    shape = ("rate", f"{bits_per_second}bit", "burst", str(BURST_BYTES), "limit", str(QUEUE_BYTES))
    with undone(undo):
        run([*before, "tc", "qdisc", "add", "dev", DEVICE, "root", "tbf", *shape])
        yield


@contextmanager
def lost(subject: Subject, count: int) -> Iterator[None]:
    """The next ``count`` segments to the partner are dropped where they arrive."""
    with drop_next(subject.stage.place.container(PARTNER), PORT, count, "in", server=True):
        yield


@contextmanager
def slow(subject: Subject, bits_per_second: int) -> Iterator[None]:
    """What the partner sends leaves slowly."""
    with slow_link(subject.stage.place.container(PARTNER), bits_per_second):
        yield
