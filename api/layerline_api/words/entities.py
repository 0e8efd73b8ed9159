"""Who something happened to, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from layerline_api.words.clean import clean

_HEX = re.compile(r"[0-9a-f]{13,}")


def whole(entity: Mapping[str, Any]) -> str:
    """``container stock-1``, ``dependency prices:8080``, ``host worker-3``; without a name 12 digits of the id.

    By the name alone where that says what it is: ``web (8 workers)``, ``postgresql at db:5432``.
    """
    kind = {"service": "dependency ", "process": ""}.get(entity["type"], f"{clean(entity['type'])} ")
    named = entity["name"] and entity["name"] != entity["id"]
    if named and entity["type"] == "service":
        kind = ""
    name = clean(entity["name"] if named else entity["id"])
    return f"{kind}{name[:12] if not named and _HEX.fullmatch(name) else short(name)}"


def short(name: str) -> str:
    """At most 40 characters of a name, ending in … where something was left out."""
    return name if len(name) <= 40 else name[:39] + "…"
