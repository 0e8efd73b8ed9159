"""Who a point tells of, where its sender is only the one who scraped it.

The Collector's Prometheus receiver names the target as the resource (``service.name`` is the job,
``service.instance.id`` its address); that the figures are those of a container stands in the labels of each point. So
a point of cAdvisor or node_exporter gets the resource that it would have had from a receiver that knows containers and
hosts: the container or the machine, with what the sender says of the machine.

Source: opentelemetry-collector-contrib, ``receiver/prometheusreceiver/README.md`` (resource attributes of a target);
cAdvisor ``docs/storage/prometheus.md``, ``metrics/prometheus.go`` (``BaseContainerLabels``, ``container_label_``,
``container_env_``); Kubernetes' own cAdvisor labels ``namespace``, ``pod`` and ``container``; kube-state-metrics
``docs/metrics/workload/pod-metrics.md``, and Prometheus' ``honor_labels``: without it, labels that the target
has too are called ``exported_…``.
"""

from __future__ import annotations

from typing import NamedTuple

from layerline.aliases import Attributes
from layerline.container import in_path

#: What a scrape target is, and not what it tells of.
_OF_THE_TARGET = frozenset(
    {"service.name", "service.instance.id", "server.port", "net.host.port", "url.scheme", "http.scheme"}
)
#: Labels that say which container it is, by the attributes they become.
_OF_A_CONTAINER = {
    "name": "container.name",
    "container": "k8s.container.name",
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
}
#: What the kubelet's cAdvisor calls the container that holds a pod's namespaces, where it names it.
SANDBOX = "POD"
_LABEL, _ENVIRONMENT = "container_label_", "container_env_"
#: The same in the words of kube-state-metrics, which knows no ids of containers.
_OF_A_POD = {
    "container": "k8s.container.name",
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
    "uid": "k8s.pod.uid",
    "node": "k8s.node.name",
}
_POD, _EXPORTED = "kube_pod_container_", "exported_"


class Whose(NamedTuple):
    """The resource that a point tells of, and the attributes that are left to it."""

    resource: dict[str, str]
    attributes: Attributes
    known: bool  # False: a figure of containers, but of a group that is none; no signal of ours


def is_scraped(name: str) -> bool:
    """Whether a metric of that name is cAdvisor's, node_exporter's or kube-state-metrics'."""
    return name.startswith(("container_", "node_", "machine_", _POD))


def whose(sender: Attributes, name: str, attributes: Attributes) -> Whose:
    """The container or the machine that a scraped point tells of."""
    if name.startswith(_POD):
        return _pods_container(attributes)
    machine = _machine(sender)
    if not name.startswith("container_"):
        return Whose(machine, attributes, True)
    labels = dict(attributes)
    # Only the last component: a group inside a container is not that container.
    container_id = in_path(labels.get("id", "").rpartition("/")[2])
    if container_id is None:
        return Whose(machine, attributes, False)
    resource = machine | {"container.id": container_id}
    left = []
    for label, value in attributes:
        if label == "image":
            resource |= _image(value)
        elif label in _OF_A_CONTAINER:
            resource |= {_OF_A_CONTAINER[label]: value} if value else {}
        elif label.startswith(_LABEL):
            resource["container.label." + label.removeprefix(_LABEL)] = value
        elif label != "id" and not label.startswith(_ENVIRONMENT):  # environments hold secrets
            left.append((label, value))
    if "k8s.pod.name" in resource:  # the one that holds the pod's network; with containerd it has no name of its own
        resource.setdefault("k8s.container.name", SANDBOX)
    return Whose(resource, tuple(left), True)


def _pods_container(attributes: Attributes) -> Whose:
    """A container by its pod, as the API server knows it: the target says nothing of its machine."""
    labels, resource = dict(attributes), dict[str, str]()
    for label, attribute in _OF_A_POD.items():
        value = labels.pop(_EXPORTED + label, "") or labels.get(label, "")
        labels.pop(label, "")
        resource |= {attribute: value} if value else {}
    labels.pop("unit", "")  # "core", "byte": the signal says it
    known = "k8s.pod.uid" in resource and "k8s.container.name" in resource
    return Whose(resource, tuple(sorted(labels.items())), known)


def _machine(sender: Attributes) -> dict[str, str]:
    """What the sender says of the machine; the target's address, unless it is only good on the spot."""
    said = {key: value for key, value in sender if key not in _OF_THE_TARGET}
    address = said.pop("net.host.name", "") or said.pop("server.address", "")
    if address and address != "localhost" and not address.startswith(("127.", "::1", "[::1]")):
        said["server.address"] = address
    return said


def _image(value: str) -> dict[str, str]:
    """``registry:5000/web:1.2@sha256:…`` as image name and tag."""
    name, _, _ = value.partition("@")
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
        return {"container.image.name": name, "container.image.tags": f'["{tag}"]'}
    return {"container.image.name": name} if name else {}
