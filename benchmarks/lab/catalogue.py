"""The faults: one for each file in ``faults``."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.lab import faults
from benchmarks.lab.fault import Fault


def all_faults() -> dict[str, Fault]:
    """Faults by name. ValueError if a file's fault has another name than the file."""
    found: dict[str, Fault] = {}
    for module in sorted(pkgutil.iter_modules(faults.__path__), key=lambda module: module.name):
        fault: Fault = importlib.import_module(f"{faults.__name__}.{module.name}").FAULT
        if fault.name != module.name:
            raise ValueError(f"faults/{module.name}.py holds a fault named {fault.name!r}, expected {module.name!r}")
        found[fault.name] = fault
    return found
