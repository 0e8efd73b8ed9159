"""What a timeline's series are called, and their values in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_api.words.entities import whole

Json = Mapping[str, Any]

_HEADINGS = {"requests": "requests", "causes": "where the time went, per second"}


def heading(series: Json) -> str:
    """What the series is about: requests, causes, or whose readings."""
    entity = series["entity"]
    return _HEADINGS.get(series["about"], "") if entity is None else whole(entity)


def label_of(series: Json) -> str:
    """``cpu.time user`` of a reading, a cause's whole name."""
    name = clean(series["name"])
    if series["about"] != "causes":
        name = name.partition(".")[2] or name
    return " ".join((name, *map(clean, series["attributes"].values())))


def amount_of(value: float, series: Json) -> str:
    """A value of the series with its unit."""
    if series["name"].endswith(".cpu.time"):
        return f"{value:.2f} CPUs"
    if series["unit"] == "s/s":
        return amount(value * 1e9, "ns/s")
    return f"{value:,.4g}" if series["kind"] == "count" else amount(value, series["unit"])
