"""Which machine a cloud provider's metric tells of.

The sender is an account, a subscription or a project; the machine stands in the attributes of each point. It gets the
``host.id`` or ``host.name`` that OpenTelemetry's resource detectors give it from inside.

Sources: AWS, "Translations with OpenTelemetry 1.0.0 format in CloudWatch" (``Namespace``, ``MetricName``,
``Dimensions``), which the Collector's awscloudwatch receiver follows (``metrics.go``; ``stat`` where it asks for single
statistics); its azuremonitor receiver (``metadata/metrics.go``: ``azuremonitor.resource_id``, ``name``, ``type``) and
googlecloudmonitoring receiver (``receiver.go``: the labels of a ``gce_instance`` are the resource's attributes).
"""

from __future__ import annotations

import json
from typing import NamedTuple

from layerline.aliases import Attributes

AWS, AZURE, GOOGLE = "amazonaws.com/", "azure_", "compute.googleapis.com/"
#: The volume of readings that name no machine. node_exporter says which machine uses it (whereabouts.sql).
VOLUME = "cloud.volume.id"
#: Who told, so that an account's thousand instances are no machines of ours (whereabouts.sql).
SOURCE = "layerline.reading.source"
#: Statistics of CloudWatch that are values of the metric.
_VALUES = frozenset({"", "Average", "Minimum", "Maximum"})


class Machine(NamedTuple):
    """The resource of the machine that a point tells of, and what is left of the point's attributes."""

    resource: dict[str, str]
    attributes: Attributes
    known: bool  # False: it tells of no machine, or of a sum over time


def is_of_a_cloud(name: str) -> bool:
    """Whether a metric of that name is a cloud provider's."""
    return name.startswith((AWS, AZURE, GOOGLE))


def machine(sender: Attributes, name: str, attributes: Attributes) -> Machine:
    """The machine that a point of such a metric tells of."""
    if name.startswith(AWS):
        return _of_aws(dict(sender), dict(attributes))
    return _of_azure(dict(sender), dict(attributes)) if name.startswith(AZURE) else _of_google(dict(sender), attributes)


def _of_aws(said: dict[str, str], labels: dict[str, str]) -> Machine:
    said.pop("aws.exporter.arn", None)  # the stream
    labels.pop("Namespace", None)
    labels.pop("MetricName", None)
    dimensions = _object(labels.pop("Dimensions", ""))
    instance, volume = dimensions.pop("InstanceId", ""), dimensions.pop("VolumeId", "")
    resource = said | {SOURCE: "cloudwatch"}
    if instance:
        resource["host.id"] = instance
    elif volume:
        resource[VOLUME] = volume
    labels |= dimensions | ({VOLUME: volume} if volume else {})
    known = bool(instance or volume) and not dimensions and labels.get("stat", "") in _VALUES
    return Machine(resource, tuple(sorted(labels.items())), known)


def _of_azure(said: dict[str, str], labels: dict[str, str]) -> Machine:
    kind = labels.pop("type", "")
    resource = said | {SOURCE: "azuremonitor", "cloud.provider": "azure"}
    if region := labels.pop("location", ""):
        resource["cloud.region"] = region
    name, identity = labels.pop("name", ""), labels.pop("azuremonitor.resource_id", "")
    labels.pop("resource_group", None)
    is_machine = "/virtualmachines" in f"{kind}/{identity}".lower()
    if name:
        resource["host.name" if is_machine else "azure.resource.name"] = name
    ours = {key.removeprefix("metadata_").lower(): value for key, value in labels.items()}
    return Machine(resource, tuple(sorted(ours.items())), is_machine and bool(name))


def _of_google(said: dict[str, str], attributes: Attributes) -> Machine:
    instance = said.pop("instance_id", "")
    resource = {"cloud.provider": "gcp", SOURCE: "googlecloudmonitoring"}
    for key, ours in (("project_id", "cloud.account.id"), ("zone", "cloud.availability_zone")):
        if value := said.pop(key, ""):
            resource[ours] = value
    if instance:
        resource["host.id"] = instance
    return Machine(said | resource, attributes, bool(instance))


def _object(text: str) -> dict[str, str]:
    """The texts of a JSON object, which is how a nested list of pairs is kept."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
