"""Facts about this machine that do not change while the agent runs, and the names and speeds of its devices."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from layerline.attributes import INSTANCE_ID


def _line(path: str) -> str:
    """The first line of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return ""


#: How long a link's speed is taken for granted: to ask takes the kernel's lock of all network settings.
LINK_SPEED_S = 60.0


@dataclass(frozen=True)
class Machine:
    """A host as seen below ``root``: ``/``, or where the host's file system is mounted, or a captured tree."""

    root: str = "/"
    tick_ns: int = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    """What ``/proc/stat`` counts in (USER_HZ), in ns."""
    _devices: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _speeds: dict[str, tuple[float, int | None]] = field(default_factory=dict, repr=False, compare=False)

    def path(self, *parts: str) -> str:
        """A path of the host, as this process must spell it."""
        return os.path.join(self.root, *(part.lstrip("/") for part in parts))

    @cached_property
    def boot_id(self) -> str:
        """Equal inside a container and on its host, another one after each boot."""
        return _line(self.path("proc/sys/kernel/random/boot_id"))

    @cached_property
    def name(self) -> str:
        """The host's name: of this UTS namespace where the root is our own."""
        return socket.gethostname() if self.root == "/" else _line(self.path("etc/hostname"))

    @cached_property
    def id(self) -> str:
        """The machine id; the name where there is none."""
        return _line(self.path("etc/machine-id")) or _line(self.path("var/lib/dbus/machine-id")) or self.name

    @cached_property
    def instance(self) -> dict[str, str]:
        """What the firmware of an EC2 instance says of it: its id, by which CloudWatch names it, and its type.

        Source: AWS, "Detect whether a host is an EC2 instance" (``board_asset_tag`` on Nitro); ``sys_vendor`` and
        ``product_name`` of DMI there. Nothing is asked over the network. Elsewhere nothing is said.
        """
        said = {
            name: _line(self.path("sys/devices/virtual/dmi/id", name))
            for name in ("sys_vendor", "board_asset_tag", "product_name")
        }
        if said["sys_vendor"] != "Amazon EC2" or not re.fullmatch(r"i-[0-9a-f]{8,17}", said["board_asset_tag"]):
            return {}
        found = {"cloud.provider": "aws", INSTANCE_ID: said["board_asset_tag"]}
        if re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", said["product_name"]):
            found["host.type"] = said["product_name"]
        return found

    @cached_property
    def booted_ns(self) -> int:
        """When the host's counters began: ``btime`` of ``/proc/stat``, in ns since 1970; 0 where unknown."""
        try:
            stat = Path(self.path("proc/stat")).read_text(encoding="ascii")
        except OSError:
            return 0
        return next((int(line.split()[1]) * 10**9 for line in stat.splitlines() if line.startswith("btime ")), 0)

    @property
    def process(self) -> str:
        """The process below ``/proc`` that has the host's network: ours, or the first of a host mounted elsewhere."""
        return "self" if self.root == "/" else "1"

    def link_speed_megabit(self, interface: str) -> int | None:
        """What ``/sys/class/net/<interface>/speed`` says, Mbit/s, asked once a minute; None where it says nothing."""
        now_s = time.monotonic()
        asked_s, speed = self._speeds.get(interface, (-LINK_SPEED_S, None))
        if now_s - asked_s >= LINK_SPEED_S:
            said = _line(self.path("sys/class/net", interface, "speed"))
            speed = int(said) if said.isdigit() and int(said) > 0 else None
            self._speeds[interface] = (now_s, speed)
        return speed

    def device_name(self, number: str) -> str:
        """``vda`` for ``254:0``, as ``/proc/diskstats`` names it; the number itself where it is not listed."""
        if number not in self._devices:
            try:
                listing = Path(self.path("proc/diskstats")).read_text(encoding="ascii")
            except OSError:
                listing = ""
            for line in listing.splitlines():
                major, minor, device = line.split()[:3]
                self._devices[f"{major}:{minor}"] = device
            self._devices.setdefault(number, number)
        return self._devices[number]
