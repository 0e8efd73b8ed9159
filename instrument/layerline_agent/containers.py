"""A container as the agent knows it, and the OTLP resource that says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def time_ns(text: str) -> int:
    """Docker's ``2026-11-23T03:52:50.764439571Z`` in ns since 1970; 0 for its zero time and for anything else.

    ``datetime`` alone would cut the nanoseconds to microseconds.
    """
    match = _RFC3339.fullmatch(text)
    if match is None or text.startswith("0001-"):
        return 0
    whole, fraction, zone = match.groups()
    return int(datetime.fromisoformat(whole + zone).timestamp()) * 10**9 + int((fraction or "").ljust(9, "0")[:9])


def image_name(reference: str) -> tuple[str, str]:
    """``(name, tag)`` of an image reference; either may be empty.

    ``registry:5000/shop/web:1.2`` is ``registry:5000/shop/web`` and ``1.2``; a digest is neither name nor tag.
    """
    name = "" if reference.startswith("sha256:") else reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return name, ""


@dataclass(frozen=True, slots=True)
class Container:
    """Identity, tags and place of one container. Its environment is never looked at."""

    id: str
    directories: Mapping[str, str] = field(default_factory=dict)
    """Its cgroup directory by hierarchy: ``cpu``, …, ``unified``."""
    name: str = ""
    image: str = ""
    """The reference it was started from, with its tag."""
    image_id: str = ""
    runtime: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Names that others on its networks call it by, besides its own."""
    hostname: str = ""
    """What it calls itself, where somebody chose that; else it is the short id."""
    pod_uid: str = ""
    """Of its Kubernetes pod; empty where it is in none or nobody tells."""
    pod: Mapping[str, str] = field(default_factory=dict)
    """Attributes that name its pod (``pods.py``); empty where nobody tells."""
    started_ns: int = 0
    """When it was last started, in ns since 1970; 0 where unknown."""
    inode: int = 0
    """Of its cgroup directory, which its processes can see too; 0 where unknown."""
    cpuset: str = ""
    """The CPUs it may use in the kernel's list format, ``0-1,4``; empty where unknown."""

    @property
    def attributes(self) -> dict[str, str | list[str] | int]:
        """Its OTLP resource attributes, without the host's. What is not known is absent."""
        image, tag = image_name(self.image)
        named: dict[str, str | list[str] | int] = {
            "container.id": self.id,
            "container.name": self.name,
            "container.image.name": image,
            "container.image.tags": [tag] if tag else [],
            "container.image.id": self.image_id,
            "container.runtime": self.runtime,
            "container.hostname": self.hostname,
            "k8s.pod.uid": self.pod_uid,
            **self.pod,
            "layerline.cgroup.inode": self.inode,
            "layerline.container.cpuset": self.cpuset,
            "layerline.container.networks": list(self.networks),
            "layerline.container.addresses": list(self.addresses),
            "layerline.container.aliases": list(self.aliases),
            **{f"container.label.{key}": value for key, value in self.labels.items()},
        }
        return {key: value for key, value in named.items() if value}


def from_inspect(
    answer: Mapping[str, Any], directories: Mapping[str, str] | None = None, inode: int = 0, cpuset: str = ""
) -> Container:
    """The container that Docker's ``GET /containers/<id>/json`` describes. Of ``Config``: image, labels, host name."""
    networks: Mapping[str, Mapping[str, Any]] = (answer.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [
        address
        for network in networks.values()
        for key in ("IPAddress", "GlobalIPv6Address")
        if (address := network.get(key))
    ]
    own = {answer["Id"][:12], answer["Name"].lstrip("/")}
    hostname = answer["Config"].get("Hostname") or ""
    names = [
        name
        for network in networks.values()
        for key in ("Aliases", "DNSNames")
        for name in network.get(key) or ()
        if name not in own
    ]
    return Container(
        id=answer["Id"],
        directories=directories or {},
        name=answer["Name"].lstrip("/"),
        image=answer["Config"]["Image"],
        image_id=answer.get("Image", ""),
        runtime="docker",
        labels=answer["Config"].get("Labels") or {},
        networks=tuple(networks),
        addresses=tuple(addresses),
        aliases=tuple(dict.fromkeys(names)),
        hostname="" if hostname in own else hostname,
        started_ns=time_ns(answer["State"]["StartedAt"]),
        inode=inode,
        cpuset=cpuset,
    )


#: What Docker puts beside the labels into an event's attributes.
EVENT_WORDS = frozenset({"name", "image", "exitCode", "execDuration", "signal", "oldName"})


def from_event(container_id: str, attributes: Mapping[str, str]) -> Container:
    """As much of a container as an event tells, for one that is gone before it could be asked about."""
    return Container(
        id=container_id,
        name=attributes.get("name", ""),
        image=attributes.get("image", ""),
        runtime="docker",
        labels={key: value for key, value in attributes.items() if key not in EVENT_WORDS},
    )
