"""Services in containers: an imported image, a private bridge network, labels on everything that is made."""

from __future__ import annotations

import os
import secrets
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import Mount
from requests.exceptions import RequestException

from layerline_api.demo import owner, root
from layerline_api.demo.device import disk_below
from layerline_api.demo.place import Entity, Limits, Service

REPOSITORY = "layerline-demo"
RUN = "layerline.demo.run"
OWNER = "layerline.demo.owner"
CGROUPS = Path("/sys/fs/cgroup")
#: Where a container's CPU time stands, and the unit: v1 ``cpuacct.usage`` (ns), v2 ``cpu.stat`` (``usage_usec`` first).
#: The folder above is the engine's own (``docker``, ``system.slice``) or the service's ``cgroup_parent``.
USAGE_FILES = (
    ("cpuacct*/*/{}/cpuacct.usage", 1),
    ("cpu,cpuacct/*/{}/cpuacct.usage", 1),
    ("*/docker-{}.scope/cpu.stat", 1_000),
    ("*/{}/cpu.stat", 1_000),
)


class Containers:
    """A place of containers. ``problems`` collects what could not be cleaned up, in words."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.run = secrets.token_hex(3)
        self.problems: list[str] = []
        self._client = client
        self._root = root.plan(root.interpreter_paths())
        self._labels = {RUN: self.run, OWNER: str(owner.current())}
        self._network = f"{REPOSITORY}-{self.run}"
        self._tag = f"{REPOSITORY}:{self.run}"
        self._services: dict[str, Service] = {}
        self._started: dict[str, Container] = {}

    # ---- the place as a whole

    def __enter__(self) -> Self:
        """Remove what crashed demos left, then make image and network. DockerException says what failed."""
        remove_leftovers(self._client)
        try:
            labels = [f"LABEL {name}={value}" for name, value in self._labels.items()]
            self._client.api.import_image_from_data(
                root.archive(self._root, os.getuid(), os.getgid()),
                repository=REPOSITORY,
                tag=self.run,
                changes=labels,
            )
            self._client.networks.create(self._network, driver="bridge", labels=self._labels, check_duplicate=True)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything this run made, whatever happened to it meanwhile."""
        self.problems += remove(self._client, f"{RUN}={self.run}", lambda _: True)

    # ---- where services are

    def listen(self, name: str, port: int) -> str:
        """All addresses of the container."""
        return f"0.0.0.0:{port}"

    def peer(self, name: str, port: int) -> str:
        """The service's name on the private network."""
        return f"{name}:{port}"

    def url(self, name: str) -> str:
        """The port published on the machine's loopback."""
        container = self._started[name]
        port = self._services[name].port
        container.reload()
        published = container.ports.get(f"{port}/tcp") or []
        for binding in published:
            return f"http://127.0.0.1:{binding['HostPort']}"
        return "http://127.0.0.1:9"  # discard: not published yet, so nobody answers

    def folder(self, name: str) -> str:
        """A volume's mount point."""
        return f"/{name}"

    # ---- services

    def start(self, service: Service) -> Entity:
        """Run a container; one of the same name is removed first. It keeps its name when it is made anew."""
        if service.name in self._started:
            self.stop(service.name)
        limits = service.limits
        settings: dict[str, Any] = {}
        for option, rate in (
            ("device_write_bps", limits.write_bytes_per_second),
            ("device_read_bps", limits.read_bytes_per_second),
        ):
            if rate is not None:
                disk = str(disk_below(Path(self._client.info()["DockerRootDir"])))
                settings[option] = [{"Path": disk, "Rate": rate}]
        if limits.memory_bytes is not None:
            settings |= {"mem_limit": limits.memory_bytes, "memswap_limit": -1}
        if service.restarts:
            settings["restart_policy"] = {"Name": "always"}
        if limits.quota_ratio is not None:
            settings |= {"cpu_period": limits.period_us, "cpu_quota": round(limits.period_us * limits.quota_ratio)}
        if limits.cpuset is not None:
            settings["cpuset_cpus"] = limits.cpuset
        if limits.cpu_shares is not None:
            settings["cpu_shares"] = limits.cpu_shares
        if service.cgroup_parent is not None:
            settings["cgroup_parent"] = service.cgroup_parent
        if service.port is not None:
            settings["ports"] = {f"{service.port}/tcp": ("127.0.0.1", None)}
        container = self._client.containers.create(
            self._tag,
            [sys.executable, *service.command],
            name=f"{service.name}-{self.run}",
            labels=self._labels,
            user=service.user or f"{os.getuid()}:{os.getgid()}",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges", "label=disable"],
            environment={
                "HOME": "/tmp",  # noqa: S108 - inside the container, whose /tmp is its own
                "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                **service.environment,
            },
            working_dir="/tmp",  # noqa: S108 - idem
            stop_signal="SIGINT",  # the first process of a container ignores SIGTERM unless it asked for it
            mounts=list(self._mounts(service)),
            network=self._network,
            networking_config={self._network: self._client.api.create_endpoint_config(aliases=[service.name])},
            detach=True,
            **settings,
        )
        self._started[service.name], self._services[service.name] = container, service
        container.start()
        return Entity("container", container.id or "", container.name or "")

    def _mounts(self, service: Service) -> Iterable[Mount]:
        for path in root.outermost((*self._root.binds, *service.binds)):
            yield Mount(target=str(path), source=str(path), type="bind", read_only=True)
        if service.folder is not None:
            yield Mount(
                target=self.folder(service.folder),
                source=f"{self._network}-{service.folder}",
                type="volume",
                labels=self._labels,
            )

    def update(self, name: str, limits: Limits) -> None:
        """Change the CPU and memory limits of a running container. A quota that is not given is lifted; cores and
        memory that are not given stay as they are. The device limit cannot be changed: start it anew.
        """
        quota = -1 if limits.quota_ratio is None else round(limits.period_us * limits.quota_ratio)
        settings: dict[str, Any] = {"cpu_period": limits.period_us, "cpu_quota": quota}
        if limits.cpuset is not None:
            settings["cpuset_cpus"] = limits.cpuset
        if limits.memory_bytes is not None:
            settings |= {"mem_limit": limits.memory_bytes, "memswap_limit": -1}
        self._started[name].update(**settings)
        self._services[name] = replace(self._services[name], limits=limits)

    def keep_on(self, name: str, cpuset: str) -> None:
        """Change the container's cpuset."""
        self._started[name].update(cpuset_cpus=cpuset)

    def stop(self, name: str) -> None:
        """Let it flush and end, then remove it."""
        container = self._started.pop(name)
        container.stop(timeout=3)
        container.remove(force=True)

    def alive(self, name: str) -> bool:
        """Whether the container runs."""
        container = self._started[name]
        container.reload()
        return container.status in ("created", "running")

    def output(self, name: str) -> str:
        """The last 20 lines."""
        return self._started[name].logs(tail=20).decode(errors="replace")

    def copy(self, name: str, path: str, folder: Path) -> None:
        """Copy a file or folder of a container into this folder."""
        chunks, _ = self._started[name].get_archive(path)
        with tempfile.TemporaryFile() as archive:
            archive.writelines(chunks)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                # Debian 12 has Python 3.11.2, which knows no filters yet; the folder is one of ours.
                safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(folder, **safely)  # noqa: S202

    def used_ns(self, name: str) -> int | None:
        """The CPU time of the container: from its cgroup where that is in the usual place, else from the engine.

        The engine may take a second or two to say it, in which a busy container goes on.
        """
        container = self._started[name]
        for pattern, unit_ns in USAGE_FILES:
            for path in CGROUPS.glob(pattern.format(container.id)):
                with suppress(OSError, ValueError, IndexError):
                    return int(path.read_text(encoding="ascii").split()[unit_ns != 1]) * unit_ns
        stats: Any = container.stats(stream=False, one_shot=True)
        return int(stats["cpu_stats"]["cpu_usage"]["total_usage"])

    def container(self, name: str) -> Container:
        """The container itself."""
        return self._started[name]


def remove_leftovers(client: docker.DockerClient) -> list[str]:
    """Remove what demos left whose process is dead. Never another's, and never one that still runs."""
    here = owner.current()

    def left(labels: Mapping[str, str]) -> bool:
        known = owner.parse(labels.get(OWNER, ""))
        return known is not None and owner.is_gone(known, here)

    return remove(client, RUN, left)


def remove(client: docker.DockerClient, label: str, which: Callable[[Mapping[str, str]], bool]) -> list[str]:
    """Remove labelled containers, networks, volumes and images. Returns what could not be removed, in words."""
    problems: list[str] = []
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        if which(container.labels):
            problems += attempt(f"container {container.name}", partial(container.remove, force=True, v=True))
    for network in client.networks.list(filters={"label": label}):
        if which(network.attrs.get("Labels") or {}):
            problems += attempt(f"network {network.name}", network.remove)
    for volume in client.volumes.list(filters={"label": label}):
        if which(volume.attrs.get("Labels") or {}):
            problems += attempt(f"volume {volume.name}", partial(volume.remove, force=True))
    for image in client.images.list(filters={"label": label}):
        if which(image.labels):
            problems += attempt(f"image {image.id}", partial(image.remove, force=True))
    return problems


def attempt(what: str, action: Callable[[], object]) -> list[str]:
    """Remove one thing, again for a second while Docker is busy with it. What is gone already is well."""
    problem: Exception | None = None
    for _ in range(4):
        try:
            action()
        except NotFound:
            return []
        except APIError as refused:
            problem = refused
            time.sleep(0.3)
        except (DockerException, RequestException) as failed:
            problem = failed
            break
        else:
            return []
    return [f"{what} is still there: {problem}"]
