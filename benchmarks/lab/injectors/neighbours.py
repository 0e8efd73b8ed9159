"""Another container that keeps the CPU or the disk busy."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab.apps.node_app import BECOME
from benchmarks.lab.subject import Subject
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import DemoError, Entity, Limits, Service

DISK_HOG = "disk-hog"
#: The most that the hog's file may take of the disk.
LARGEST_MIB = 256
#: Heavier than the subject, so that it leaves it a ninth of the core.
NEIGHBOUR_SHARES = 8 * 1024


@contextmanager
def disk_hog(
    place: Containers, seconds: int, size_mib: int = LARGEST_MIB, depth: int = 32, limits: Limits | None = None
) -> Iterator[Entity]:
    """``fio(1)``: direct random writes to a file on a volume, with so many in flight; it ends by itself.

    The file is unlinked when fio ends and goes with the volume otherwise.
    """
    if (fio := shutil.which("fio")) is None:
        raise DemoError("the disk hog needs fio, and there is no program of that name on PATH")
    if not 0 < size_mib <= LARGEST_MIB:
        raise DemoError(f"the hog's file may have 1 to {LARGEST_MIB} MiB, found {size_mib}")
    work = ("--rw=randwrite", "--bs=256k", f"--size={size_mib}M", "--direct=1", "--ioengine=libaio", "--unlink=1")
    until = ("--time_based", f"--runtime={seconds}", f"--iodepth={depth}", f"--directory={place.folder(DISK_HOG)}")
    command = ("-c", BECOME, os.path.realpath(fio), "--name=hog", *work, *until)
    entity = place.start(Service(DISK_HOG, command, folder=DISK_HOG, limits=limits or Limits(), binds=(Path(fio),)))
    try:
        yield entity
    finally:
        place.stop(DISK_HOG)


@contextmanager
def neighbour(subject: Subject, shares: int = NEIGHBOUR_SHARES) -> Iterator[None]:
    """A container that keeps the subject's cores busy, two processes for each; it has the same cpuset, or none."""
    command = ("-m", "layerline_api.demo.shop.burner", "--processes", str(2 * len(subject.cores)))
    limits = Limits(cpuset=subject.service.limits.cpuset, cpu_shares=shares)
    subject.neighbour_id = subject.stage.place.start(Service("neighbour", command, limits=limits)).id
    try:
        wait_busy(subject.stage.place, "neighbour")
        subject.visitors.append("neighbour")
        yield
    finally:
        subject.visitors = [name for name in subject.visitors if name != "neighbour"]
        subject.stage.place.stop("neighbour")


@contextmanager
def disk_busy(subject: Subject, seconds: int, depth: int) -> Iterator[None]:
    """Another container that keeps the disk busy."""
    with disk_hog(subject.stage.place, seconds, depth=depth) as hog:
        subject.neighbour_id = hog.id
        subject.visitors.append(DISK_HOG)
        time.sleep(1)  # until it has made its file
        try:
            yield
        finally:
            subject.visitors.remove(DISK_HOG)


def wait_busy(place: Containers, name: str, timeout_s: float = 10) -> None:
    """Wait until a burner burns: it has used CPU time between two looks. DemoError if it does not."""
    deadline, before = time.monotonic() + timeout_s, place.used_ns(name) or 0
    while time.monotonic() < deadline:
        time.sleep(0.15)
        now = place.used_ns(name) or 0
        if now - before > 50_000_000:
            return
        before = now
    raise DemoError(f"{name} was expected to keep a core busy within {timeout_s:.0f} s:\n{place.output(name)}")
