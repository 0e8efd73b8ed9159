"""Where the server listens: ``HOST:PORT`` to bound sockets, and whether they are this machine's own."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

DEFAULT, GRPC_DEFAULT = "127.0.0.1:4318", "127.0.0.1:4317"


class CannotListen(Exception):
    """An address that is not one, is in use, or is not ours to bind; the message is for people."""


@dataclass(frozen=True, slots=True)
class Address:
    """One socket address that a ``--listen`` or ``--grpc-listen`` stands for."""

    given: str
    family: socket.AddressFamily
    socket_address: tuple[Any, ...]

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(str(self.socket_address[0]).partition("%")[0]).is_loopback


def addresses(listen: str) -> list[Address]:
    """What ``HOST:PORT`` (``[::1]:4318`` for IPv6) stands for. ``CannotListen`` when it is not an address."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^:\s\[\]]+):([0-9]{1,5})", listen, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise CannotListen(f"{listen!r} is not an address; expected HOST:PORT such as {DEFAULT}")
    try:
        found = socket.getaddrinfo(match[1].strip("[]"), int(match[2]), type=socket.SOCK_STREAM)
    except OSError as problem:
        raise CannotListen(f"{listen}: {problem.strerror}") from None
    return [Address(listen, socket.AddressFamily(family), address) for family, _, _, _, address in found]


def bind(address: Address) -> socket.socket:
    """A socket bound to it, not yet listening. ``CannotListen`` when it is in use or not ours."""
    bound = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address.socket_address)
        bound.listen()
    except OSError as problem:
        bound.close()
        raise CannotListen(f"cannot listen on {address.given}: {problem.strerror}") from None
    return bound


def url(bound: socket.socket, scheme: str = "http") -> str:
    """How this machine reaches it: ``http://127.0.0.1:4318``."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
