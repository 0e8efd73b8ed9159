"""The id of the container that this process runs in, how it was found, and nothing that merely looks like one.

An id is exactly 64 lower-case hexadecimal digits that stand alone. ``session-2.scope`` and ``cafe.service`` are not
ids, though known detectors answer ``2`` and ``cafe`` for them; nor is the id of a Kubernetes *sandbox* (the "pause"
container), to which the kernel's mount list points on cgroup v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from layerline.cgroup import Cgroup, Mount

#: One component of a cgroup path that names a container: ``<id>``, ``docker-<id>.scope``, ``libpod-<id>``,
#: ``libpod-payload-<id>``, ``cri-containerd-<id>.scope``, ``crio-<id>``, ``kubepods-….slice:cri-containerd:<id>``. Not its
#: monitor (conmon). ``maker`` is what stands before the id, if anything does.
COMPONENT: Final = re.compile(
    r"(?!.*conmon)(?:(?:.*:)?(?P<maker>[a-z][a-z0-9_.-]*)[-:])?(?P<id>[0-9a-f]{64})(?:\.scope|\.service|\.slice)?"
)
_ID: Final = re.compile(r"[0-9a-f]{64}")
#: An id as others report it: whole or cut to at least 12 digits, or that of a task on ECS Fargate.
_REPORTED: Final = re.compile(r"[0-9a-f]{12,64}|[0-9a-f]{32}-[0-9]{1,20}")

#: Files that an engine mounts into its container from a folder named after it.
_MOUNTED: Final = re.compile(
    r"/(?:containers|overlay-containers)/(?:[^/]+/)?([0-9a-f]{64})/(?:userdata/)?(?:hostname|hosts|resolv\.conf)"
)
_MOUNTED_AT: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A container's id and where it was read: ``environment``, ``cgroup`` or ``mountinfo``."""

    id: str
    source: str


def identify(cgroup: Cgroup, override: str = "") -> Identity | None:
    """The container of this process; None for a process on the machine itself, or where nothing tells.

    ``override`` (``LAYERLINE_CONTAINER_ID``) goes first, if it is an id. Then the process's own cgroup paths. With a
    cgroup namespace of its own those say ``/``; then the mounts tell: v1 hierarchies are mounted from the container's
    own cgroup, and Docker and Podman mount ``/etc/hostname`` and its neighbours from a folder named after it.
    """
    if _ID.fullmatch(override.strip()):
        return Identity(override.strip(), "environment")
    for path in cgroup.paths.values():
        if found := in_path(path):
            return Identity(found, "cgroup")
    if found := in_mounts(cgroup.mounts):
        return Identity(found, "mountinfo")
    return None


def in_path(path: str) -> str | None:
    """The innermost container id in a cgroup path; of nested containers the last one is ours."""
    for component in reversed(path.split("/")):
        if match := COMPONENT.fullmatch(component):
            return match["id"]
    return None


def reported(text: str) -> str | None:
    """The id in a ``container.id`` that anybody may have sent; None where it is none: ``2``, ``cafe``.

    Kubernetes writes ``containerd://<id>``, others the whole cgroup path or its last part, and some only 12 digits.
    """
    last = text.strip().rpartition("/")[2]
    if match := COMPONENT.fullmatch(last):
        return match["id"]
    return last if _REPORTED.fullmatch(last) else None


def in_mounts(mounts: Iterable[Mount]) -> str | None:
    """The container id that the mounts tell, if they do.

    Inside Kubernetes ``/etc/hostname`` and ``/etc/resolv.conf`` belong to the pod's sandbox, whatever the engine:
    then they are not believed, and no id is better than the pause container's.
    """
    mounts = list(mounts)
    for mount in mounts:
        if mount.kind == "cgroup" and (found := in_path(mount.root)):
            return found
    if any(
        "/kubelet/" in mount.root or "/sandboxes/" in mount.root or "kubernetes.io" in mount.point for mount in mounts
    ):
        return None
    for mount in mounts:
        if mount.point in _MOUNTED_AT and (match := re.search(_MOUNTED.pattern + "$", mount.root)):
            return match[1]
    return None


def inside_one(identity: Identity | None, cgroup: Cgroup) -> bool:
    """Whether this process runs in a container, even one whose id is not known.

    The marks: ``/.dockerenv`` (Docker), ``/run/.containerenv`` (Podman), a mounted Kubernetes service account. A
    machine made from a container's image has the first by mistake: who sees the machine's root cgroup is not inside.
    """
    if identity is not None:
        return True
    if any("kubernetes.io" in mount.point for mount in cgroup.mounts):
        return True
    marks = (cgroup.root / ".dockerenv", cgroup.root / "run/.containerenv")
    return any(mark.exists() for mark in marks) and not cgroup.sees_machine_root()
