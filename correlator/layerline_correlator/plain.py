"""Answers as plain data: the fields of our dataclasses are, name for name, the JSON of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

#: Metadata of a field that is left out of the JSON where it is None. Any other field that is None is ``null``.
LEFT_OUT: Mapping[str, bool] = {"left_out": True}


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries with JSON's names, ready for ``json.dumps``; ``try_`` becomes ``try``."""
    if value is None or isinstance(value, str | int | float):  # most of an answer
        return value
    if is_dataclass(value) and not isinstance(value, type):
        optional = left_out(type(value))
        return {
            item.name.rstrip("_"): plain(getattr(value, item.name))
            for item in fields(value)
            if not (item.name in optional and getattr(value, item.name) is None)
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def left_out(of: type[Any]) -> frozenset[str]:
    """The fields of a dataclass that ``plain`` leaves out where they are None."""
    return frozenset(item.name for item in fields(of) if item.metadata.get("left_out"))
