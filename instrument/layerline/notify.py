"""What systemd wants to know of a service: that it is ready, that it is alive, that it ends. Nothing without systemd.

Source: sd_notify(3): a datagram to the socket that ``NOTIFY_SOCKET`` names; ``WATCHDOG_USEC`` is how long systemd waits
for a sign of life.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say it, if somebody wants to know. A service that cannot say it works all the same."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(1)
        out.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often a sign of life is due, in seconds; None where nobody waits for one, or for one of another process."""
    try:
        wanted_us = int(environ["WATCHDOG_USEC"])
        mine = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except (KeyError, ValueError):
        return None
    return wanted_us / 2e6 if wanted_us > 0 and mine else None
