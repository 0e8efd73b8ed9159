"""Another container that keeps the disk busy (for the CPU there is ``layerline_api.demo.shop.burner``)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab.apps.node_app import BECOME
from layerline_api.demo.containers import Containers
from layerline_api.demo.place import DemoError, Entity, Limits, Service

DISK_HOG = "disk-hog"
#: The most that the hog's file may take of the disk.
LARGEST_MIB = 256


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
