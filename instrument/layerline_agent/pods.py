"""Names of Kubernetes' containers, as the node's file system has them: nothing of the cluster's API is asked.

Source: the kubelet's links ``/var/log/containers/<pod>_<namespace>_<container>-<container id>.log``, which log
collectors rely on (kubernetes/kubernetes, ``pkg/kubelet/kuberuntime/legacy.go``).
"""

from __future__ import annotations

import os
import re
from typing import Final

from layerline_agent.machine import Machine

FOLDER: Final = "var/log/containers"
_LINK: Final = re.compile(
    r"(?P<pod>[a-z0-9.-]{1,253})_(?P<namespace>[a-z0-9-]{1,63})_(?P<container>[a-z0-9-]{1,63})-(?P<id>[0-9a-f]{64})\.log"
)


def names(machine: Machine) -> dict[str, dict[str, str]]:
    """By container id, the attributes that its link says; empty where there is no such folder or it may not be read."""
    try:
        links = os.listdir(machine.path(FOLDER))
    except OSError:
        return {}
    return {
        found["id"]: {
            "k8s.pod.name": found["pod"],
            "k8s.namespace.name": found["namespace"],
            "k8s.container.name": found["container"],
        }
        for link in links
        if (found := _LINK.fullmatch(link))
    }
