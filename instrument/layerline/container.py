"""The id of the container that this process runs in, how it was found, and nothing that merely looks like one.

An id is exactly 64 lower-case hexadecimal digits that stand alone; on ECS Fargate it is the task's 32 digits, a dash
and a number. ``session-2.scope`` and ``cafe.service`` are not ids, though known detectors answer ``2`` and ``cafe`` for
them; nor is the id of a Kubernetes *sandbox* (the "pause" container), to which the mount list points on cgroup v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from layerline.cgroup import Cgroup, Mount, text

#: One component of a cgroup path that names a container: ``<id>``, ``docker-<id>.scope``, ``libpod-<id>``,
#: ``libpod-payload-<id>``, ``cri-containerd-<id>.scope``, ``crio-<id>``, ``kubepods-….slice:cri-containerd:<id>``. Not
#: its monitor (conmon). ``maker`` is what stands before the id, if anything does.
COMPONENT: Final = re.compile(
    r"(?!.*conmon)(?:(?:.*:)?(?P<maker>[a-z][a-z0-9_.-]*)[-:])?(?P<id>[0-9a-f]{64})(?:\.scope|\.service|\.slice)?"
)
_ID: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}-[0-9]{1,10}")
#: A container of an ECS task on Fargate: the task's id and a number.
_FARGATE: Final = re.compile(r"([0-9a-f]{32})-[0-9]{1,10}")
#: An id as others report it: whole or cut to at least 12 digits, or that of a task on ECS Fargate.
_REPORTED: Final = re.compile(r"[0-9a-f]{12,64}|[0-9a-f]{32}-[0-9]{1,20}")

#: Files that an engine mounts into its container from a folder named after it.
_MOUNTED: Final = re.compile(
    r"/(?:containers|overlay-containers)/(?:[^/]+/)?([0-9a-f]{64})/(?:userdata/)?(?:hostname|hosts|resolv\.conf|\.containerenv)"
)
#: Where, the most telling first: containers that share a network (a Podman pod) share the last two.
_MOUNTED_AT: Final = ("/run/.containerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
#: Files that CRI-O and Podman make for the container itself, in Kubernetes too (cri-o: container_create_linux.go).
_OWN: Final = re.compile(r"/overlay-containers/([0-9a-f]{64})/userdata/(?:passwd|group|run/secrets)")
_OWN_AT: Final = frozenset({"/etc/passwd", "/etc/group", "/run/secrets", "/var/run/secrets"})
#: What Podman says about itself and the container, in ``/run/.containerenv``; other engines leave the file empty, and
#: CRI-O writes of the pod's sandbox there.
_PODMAN: Final = re.compile(r'^engine="podman\b.*^id="([0-9a-f]{64})"$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """A container's id and where it was read: ``environment``, ``cgroup``, ``mountinfo`` or ``containerenv``."""

    id: str
    source: str


def identify(cgroup: Cgroup, override: str = "") -> Identity | None:
    """The container of this process; None for a process on the machine itself, or where nothing tells.

    ``override`` (``LAYERLINE_CONTAINER_ID``) goes first, if it is an id. Then the process's own cgroup paths. With a
    cgroup namespace of its own those say ``/``; then the mounts tell: v1 hierarchies are mounted from the container's
    own cgroup, and engines mount files of the container from a folder named after it. Podman writes the id into a file.
    """
    if _ID.fullmatch(override.strip()):
        return Identity(override.strip(), "environment")
    for path in cgroup.paths.values():
        if found := in_path(path):
            return Identity(found, "cgroup")
    if not in_kubernetes(cgroup.mounts) and (match := _PODMAN.search(text(cgroup.root / "run/.containerenv"))):
        return Identity(match[1], "containerenv")
    if found := in_mounts(cgroup.mounts):
        return Identity(found, "mountinfo")
    return None


def in_path(path: str) -> str | None:
    """The innermost container id in a cgroup path; of nested containers the last one is ours."""
    for component in reversed(path.split("/")):
        if match := COMPONENT.fullmatch(component):
            return match["id"]
    *above, last = path.split("/")
    if (match := _FARGATE.fullmatch(last)) and ("ecs" in above or above[-1:] == [match[1]]):
        return last
    return None


def reported(said: str) -> str | None:
    """The id in a ``container.id`` that anybody may have sent; None where it is none: ``2``, ``cafe``.

    Kubernetes writes ``containerd://<id>``, others the whole cgroup path or its last part, and some only 12 digits.
    """
    last = said.strip().rpartition("/")[2]
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
    for mount in mounts:
        if mount.point in _OWN_AT and (match := re.search(_OWN.pattern + "$", mount.root)):
            return match[1]
    if in_kubernetes(mounts):
        return None
    for point in _MOUNTED_AT:
        for mount in mounts:
            if mount.point == point and (match := re.search(_MOUNTED.pattern + "$", mount.root)):
                return match[1]
    return None


def in_kubernetes(mounts: Iterable[Mount]) -> bool:
    """Whether the kubelet has made some of these mounts, or a sandbox's files are among them."""
    return any(
        "/kubelet/" in mount.root
        or "/sandboxes/" in mount.root
        or "kubernetes.io" in mount.point
        or mount.point == "/dev/termination-log"
        or (mount.point == "/etc/hosts" and mount.root.endswith("/etc-hosts"))
        for mount in mounts
    )


def inside_one(identity: Identity | None, cgroup: Cgroup) -> bool:
    """Whether this process runs in a container, even one whose id is not known.

    The marks: ``/.dockerenv`` (Docker), ``/run/.containerenv`` (Podman), a mounted Kubernetes service account. A
    machine made from a container's image has the first by mistake: who sees the machine's root cgroup is not inside.
    """
    if identity is not None:
        return True
    if in_kubernetes(cgroup.mounts):
        return True
    marks = (cgroup.root / ".dockerenv", cgroup.root / "run/.containerenv")
    return any(mark.exists() for mark in marks) and not cgroup.sees_machine_root()
