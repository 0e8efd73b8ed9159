"""How slow a container's requests were, in words; – where that is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerline_api.words.amounts import human

Json = Mapping[str, Any]


def duration(served: Json | None, figure: str) -> str:
    """``340 ms`` of a figure (``p50_ns``, ``p95_ns``) of the requests that it served."""
    return "–" if served is None or served[figure] is None else human(served[figure])


def slow_share(served: Json | None) -> str:
    """``12 %``: the share of them that was slow."""
    return "–" if served is None or served["slow_ratio"] is None else f"{served['slow_ratio'] * 100:.0f} %"
