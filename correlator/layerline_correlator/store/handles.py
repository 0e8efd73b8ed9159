"""By what a container or a machine is known, and what a process says of where it runs: the two ends of the join.

Both are handles, made alike from resource attributes when they arrive; ``join.sql`` puts equal ones together and judges
what it found. A resource with a ``service.name`` speaks of itself; one without is somebody's description of a container
or of a machine (the agent, or receivers such as ``docker_stats`` and ``hostmetrics``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from layerline.attributes import BOOT_ID
from layerline.container import reported

#: An image that only holds a pod's namespaces: ``registry.k8s.io/pause``, ``rancher/mirrored-pause``.
_PAUSE = re.compile(r"(?:.*/)?(?:mirrored-|podman-)?pause(?:-[a-z0-9]+)?")
#: Labels by which engines mark such a container, and what they say then (cri-dockerd, containerd, CRI-O).
_SANDBOX_MARKS = {
    "container.label.io.kubernetes.docker.type": "podsandbox",
    "container.label.io.cri-containerd.kind": "sandbox",
    "container.label.io.kubernetes.cri.container-type": "sandbox",
    "container.label.io.kubernetes.cri-o.ContainerType": "sandbox",
    "container.label.io.kubernetes.container.name": "POD",
    "k8s.container.name": "POD",  # the kubelet's cAdvisor
}
_POD = ("k8s.pod.uid", "container.label.io.kubernetes.pod.uid")
_CONTAINER_OF_POD = ("k8s.container.name", "container.label.io.kubernetes.container.name")
#: Where addresses stand: the agent's, OpenTelemetry's host and Kubernetes conventions, those of old, Jaeger's clients.
_ADDRESSES = ("layerline.container.addresses", "host.ip", "k8s.pod.ip", "net.host.ip", "ip")
#: What tells one sender, container or machine from another, beside ``layerline.*`` and ``k8s.*``.
_IDENTITY = frozenset(
    {
        "service.name", "service.instance.id", "service.namespace", "service.version", "process.pid",
        "container.id", "container.name", "container.hostname", "container.image.name", "container.image.tags",
        "host.id", "host.name", *_SANDBOX_MARKS, *_POD, *_CONTAINER_OF_POD, *_ADDRESSES,
    }
)  # fmt: skip


class Handle(NamedTuple):
    """One way to find a container or a machine. Handles of the same ``key`` and ``value`` mean the same one."""

    #: "id" | "inode" | "pod container" | "name" | "host name" | "pod" | "address" | "machine id" | "machine name"
    key: str
    value: str
    attribute: str  # where it stands; what a join by it is called


def handles(attributes: Mapping[str, str]) -> list[Handle]:
    """The handles in these resource attributes."""
    speaks = "service.name" in attributes
    return list(_spoken(attributes) if speaks else _described(attributes))


def is_sandbox(attributes: Mapping[str, str]) -> bool:
    """Whether this describes the container that holds a pod's namespaces and runs nothing of the application."""
    return any(attributes.get(mark) == value for mark, value in _SANDBOX_MARKS.items()) or bool(
        _PAUSE.fullmatch(attributes.get("container.image.name", ""))
    )


def machine_name(attributes: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
    """The machine's name and where it stands. In a pod ``host.name`` is the pod's name, which is no machine's."""
    if node := attributes.get("k8s.node.name"):
        return node, "k8s.node.name"
    name = attributes.get("host.name")
    return (name, "host.name") if name and name != attributes.get("k8s.pod.name") else (None, None)


def machine(attributes: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
    """The machine in one word, and the attribute that names it."""
    for name in (BOOT_ID, "host.id"):
        if attributes.get(name):
            return attributes[name], name
    return machine_name(attributes)


def identifies(name: str) -> bool:
    """Whether a resource attribute says who sends, or where: without it senders would be taken for one another."""
    return name in _IDENTITY or name.startswith(("layerline.", "k8s."))


def stand_in(attributes: Mapping[str, str]) -> str | None:
    """What stands for the id of a container that is described without one: ``pod uid/container``, ``machine/name``.

    kubeletstats sends no ``container.id`` unless asked for it. The slash tells it from a real id, with which it is put
    together when somebody tells that (``settle.sql``).
    """
    pod, name = _first(attributes, _POD), _first(attributes, _CONTAINER_OF_POD)
    if pod and name:
        return f"{pod}/{name}"
    if name := attributes.get("container.name"):
        return f"{machine_name(attributes)[0] or 'container'}/{name}"
    return None


def _spoken(attributes: Mapping[str, str]) -> Iterator[Handle]:
    """What a process says. Its own host name may be a container's, a pod's or the machine's."""
    yield from _of_container(attributes)
    if name := attributes.get("host.name"):
        yield Handle("host name", name, "host.name")
    yield from _of_machine(attributes)


def _of_machine(attributes: Mapping[str, str]) -> Iterator[Handle]:
    if identity := attributes.get("host.id"):
        yield Handle("machine id", identity, "host.id")
    match machine_name(attributes):
        case str(name), str(attribute):
            yield Handle("machine name", name, attribute)


def _described(attributes: Mapping[str, str]) -> Iterator[Handle]:
    """What is known of a container, or of a machine. A container's description names its machine too."""
    if "container.id" in attributes or stand_in(attributes):
        yield from _of_container(attributes)
        if container_id := reported(attributes.get("container.id", "")):
            yield Handle("host name", container_id[:12], "host.name")
        name = attributes.get("container.hostname")
        if name and name != attributes.get("host.name"):  # in the network of its machine it has the machine's name
            yield Handle("host name", name, "host.name")
        if "layerline.boot_id" in attributes:
            return  # the agent describes its machine by itself as well
    yield from _of_machine(attributes)


def _of_container(attributes: Mapping[str, str]) -> Iterator[Handle]:
    if container_id := reported(attributes.get("container.id", "")):
        yield Handle("id", container_id[:12], "container.id")  # what follows is compared when it is known on both sides
    boot_id, inode = attributes.get("layerline.boot_id"), attributes.get("layerline.cgroup.inode")
    # A process of the machine itself stands in another hierarchy, where the same number means another cgroup.
    if boot_id and inode and ("host.id" not in attributes or "container.id" in attributes):
        yield Handle("inode", f"{boot_id} {inode}", "layerline.cgroup.inode")
    if pod := _first(attributes, _POD):
        if name := _first(attributes, _CONTAINER_OF_POD):
            yield Handle("pod container", f"{pod} {name}", "k8s.container.name")
        yield Handle("pod", pod, "k8s.pod.uid")
    if name := attributes.get("container.name"):
        yield Handle("name", name, "container.name")
    for attribute in _ADDRESSES:
        for address in _addresses(attributes.get(attribute, "")):
            yield Handle("address", address, attribute)


def _first(attributes: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := attributes.get(name))), None)


def _addresses(text: str) -> list[str]:
    """One address, or a list of them as JSON; those that mean "here" to everybody are left out."""
    found = [text]
    if text.startswith("["):
        try:
            found = [item for item in json.loads(text) if isinstance(item, str)]
        except (ValueError, TypeError):
            return []
    return [address for address in found if address and not address.startswith(("127.", "::1", "fe80:"))]
