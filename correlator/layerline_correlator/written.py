"""What others write down for us, in JSON or TOML: the model that reads it, and what is said where it is wrong."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

#: How pydantic begins a sentence: "Input should be …", "List should have …".
_SHOULD = re.compile(r"^(?:Value error, )?(?:\w+ should (?:be |have |match )?)?(?:expected )?")


class Written(BaseModel):
    """An object with these fields and no others. A trailing ``_`` of a field is not part of its name."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=lambda name: name.rstrip("_"), allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_other_field(cls, given: Any) -> Any:
        if isinstance(given, dict):
            known = [name.rstrip("_") for name in cls.model_fields]
            for name in given:
                if name not in known:
                    raise PydanticCustomError("no_field", "there are: {known}", {"name": name, "known": known})
        return given


class Refusal(NamedTuple):
    """What is wrong: where (``targets.0.url``; empty for the whole), and in one sentence that names it."""

    field: str
    detail: str


def refusal(wrong: ValidationError, whole: str) -> Refusal:
    """The first thing that is wrong. ``whole``: what is read, where no field of it is to blame."""
    first = wrong.errors(include_url=False)[0]
    path = [str(step) for step in first["loc"] if not str(step).startswith("(")]
    if first["type"] == "no_field":
        name, known = str(first["ctx"]["name"])[:80], ", ".join(first["ctx"]["known"])
        inside = f" in {'.'.join(path)}" if path else " here"
        return Refusal(".".join([*path, name]), f"there is no field {name!r}{inside}; there are: {known}")
    field = ".".join(path)[:80]
    if first["type"] == "json_invalid":
        return Refusal("", f"{whole} is not JSON: {first['ctx']['error']}")
    if first["type"] == "missing":
        return Refusal(field, f"{field} is missing")
    found = json.dumps(first["input"], ensure_ascii=False, default=str)[:80]
    expected = _SHOULD.sub("", first["msg"]).replace(" after validation", "")
    return Refusal(field, f"{field or whole} is {found}; expected {expected}")
