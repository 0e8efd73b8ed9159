"""What every span of this process says about where it ran: container, process, machine.

Container name, image and the host's own attributes are joined from the agent, never guessed here: inside a container
the host name is the container's short id, and a machine id may be the image's.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

from layerline import attributes, guard, uninstrumented
from layerline.cgroup import Cgroup, text
from layerline.container import identify, inside_one
from layerline.settings import Settings
from layerline.version import own_version

Value = str | int


def describe(settings: Settings, cgroup: Cgroup) -> dict[str, Value]:
    """The resource attributes of this process. What cannot be read is left out.

    ``layerline.boot_id`` (``/proc/sys/kernel/random/boot_id``) is equal inside a container and on its host: it ties a
    process to its machine. ``layerline.cgroup.inode`` ties it to its cgroup where the id is not known.
    """
    identity = identify(cgroup, settings.container_id)
    if settings.container_id and (identity is None or identity.source != "environment"):
        guard.once(
            "container_id", "LAYERLINE_CONTAINER_ID is not 64 hex digits and is ignored: %r", settings.container_id
        )
    found: dict[str, Value | None] = {
        attributes.CONTAINER_ID: identity.id if identity else None,
        attributes.CONTAINER_ID_SOURCE: identity.source if identity else None,
        attributes.BOOT_ID: text(cgroup.root / "proc/sys/kernel/random/boot_id").strip() or None,
        attributes.CGROUP_INODE: cgroup.inode(),
        attributes.VERSION: own_version(),
        attributes.CPUS: len(os.sched_getaffinity(0)),
        **without_spans(settings),
        **process(),
    }
    if not inside_one(identity, cgroup):
        found["host.name"] = socket.gethostname()
        found["host.id"] = machine_id(cgroup.root)
    return {name: value for name, value in found.items() if value is not None}


def without_spans(settings: Settings) -> dict[str, str]:
    """What is installed and leaves no spans (``layerline.uninstrumented``); nothing where that is hidden."""
    if settings.hints.strip().lower() == "off":
        return {}
    try:
        return uninstrumented.described(os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", ""))
    except Exception:
        guard.failed("resource.without_spans")
        return {}


def process() -> dict[str, Value]:
    """What changes when a process forks: its pid (as its own pid namespace counts) and the instance."""
    return {"process.pid": os.getpid(), "service.instance.id": str(uuid.uuid4())}


def machine_id(root: Path = Path("/")) -> str | None:
    """The machine's id (man 5 machine-id), as OpenTelemetry's host conventions name it."""
    return text(root / "etc/machine-id").strip() or text(root / "var/lib/dbus/machine-id").strip() or None


def without(described: Mapping[str, Value], said: Mapping[str, object]) -> dict[str, Value]:
    """``described`` less what the user has said already (variables, their own provider): theirs wins."""
    return {name: value for name, value in described.items() if name not in said}
