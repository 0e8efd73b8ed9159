"""Whether this machine's Docker Engine can run the demo, and if not, why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from layerline_api.demo.containers import Containers
from layerline_api.demo.device import disk_below
from layerline_api.demo.place import Service

PROBE = (
    "import layerline, layerline_api, waitress, pathlib;"
    "print(pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip())"
)


class NoEngine(Exception):
    """There is no engine for the demo; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the engine cannot do, by fault; each value is a reason."""

    quota: str | None
    cpuset: str | None
    write_limit: str | None


def connect(environment: Mapping[str, str] = os.environ) -> docker.DockerClient:
    """The engine of this machine. NoEngine says why there is none to use."""
    host = environment.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise NoEngine(f"DOCKER_HOST={host} is another machine, which has not this machine's programs to bind-mount")
    try:
        client = docker.from_env(timeout=60)
    except (DockerException, RequestException, OSError) as problem:
        raise NoEngine(f"no Docker Engine answers ({innermost(problem)})") from problem
    try:
        client.ping()
        if (difference := differs(client.info())) is not None:
            raise NoEngine(difference)
    except (DockerException, RequestException, OSError) as problem:
        client.close()
        raise NoEngine(f"no Docker Engine answers ({innermost(problem)})") from problem
    except NoEngine:
        client.close()
        raise
    return client


def differs(info: Mapping[str, Any]) -> str | None:
    """Why the engine is not on this very machine; None if it seems to be (the probe then makes sure)."""
    if info.get("OSType") != "linux":
        return f"the engine runs {info.get('OSType')} containers"
    kernel, here = info.get("KernelVersion"), os.uname().release
    if kernel != here:
        return (
            f"the engine ({info.get('OperatingSystem')}) runs kernel {kernel} and this machine {here}: "
            "a remote engine or Docker Desktop, whose virtual machine has not these programs to bind-mount"
        )
    return None


def probe(place: Containers) -> None:
    """Run this interpreter in a container, once. NoEngine if it is not this machine's, or does not run."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        place.start(Service("probe", ("-c", PROBE)))
        container = place.container("probe")
        status = container.wait(timeout=60)["StatusCode"]
        said = place.output("probe").strip()
        place.stop("probe")
    except (DockerException, RequestException) as problem:
        raise NoEngine(f"a container with this machine's programs does not start ({innermost(problem)})") from problem
    if status != 0:
        raise NoEngine(f"a container with this machine's programs does not run: {said.splitlines()[-1:] or status}")
    if said != boot_id:
        raise NoEngine("the engine's containers run on another machine (its boot id differs)")


def abilities(info: Mapping[str, Any]) -> Abilities:
    """What this engine can limit."""
    warnings = " ".join(info.get("Warnings") or [])
    write_limit = None
    if "write_bps_device" in warnings:
        write_limit = "the engine's kernel cannot limit a device's writes"
    else:
        try:
            disk_below(Path(info["DockerRootDir"]))
        except OSError as problem:
            write_limit = f"a write limit needs a disk of its own: {problem}"
    return Abilities(
        quota=None if info.get("CpuCfsQuota") else "the engine cannot limit CPU time",
        cpuset=None if info.get("CPUSet") else "the engine cannot keep containers on one core",
        write_limit=write_limit,
    )


def innermost(problem: BaseException) -> str:
    """The problem at the bottom of a chain of exceptions, in one line: the one that a person can act upon."""
    while problem.__cause__ or problem.__context__:
        problem = problem.__cause__ or problem.__context__ or problem
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__
