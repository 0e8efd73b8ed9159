"""The HTTP API: every file here is a route, or a few about one thing, with a ``blueprint(shared)`` of their own.

The list of routes is this folder, and a blueprint has the name of its file. A route says what it may be asked with and
what it answers (``declared.py``), asks the correlator and returns what that says; ``/openapi.json`` follows.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from flask import Blueprint

from layerline_api.shared import Shared


def blueprints(shared: Shared) -> Iterator[Blueprint]:
    """The blueprint of every file, in the order of their names. AttributeError names a file that has none."""
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        yield importlib.import_module(f"{__name__}.{name}").blueprint(shared)
