"""Causes: everything that a verdict can blame, with its documentation."""

from __future__ import annotations

from typing_extensions import TypedDict

from layerline_correlator.ledger.causes import all_causes

CauseItem = TypedDict(
    "CauseItem",
    {
        "cause": str,
        "layer": str,
        "title": str,
        "means": str,
        "needs": list[str],
        "mistaken_for": str,
        "try": str,
        "enable": str,
        "source": str,
    },
)


def read_causes() -> list[CauseItem]:
    """Every cause, in the order in which they take time."""
    return [
        {
            "cause": cause.name,
            "layer": cause.layer,
            "title": cause.title,
            "means": cause.means,
            "needs": [" or ".join(need) for need in cause.needs],
            "mistaken_for": cause.mistaken_for,
            "try": cause.try_,
            "enable": cause.enable,
            "source": cause.source,
        }
        for cause in all_causes()
    ]
