"""Labels: what really happened in each case. One file for a case, or one line for each.

``label.toml`` or ``label.json`` stands in the folder of its case; ``labels.jsonl`` has a label in JSON on each line,
for cases that share a store. docs/EVALUATE.md describes the fields.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from layerline_api.parameters import instant_ns
from layerline_api.problems import Problem

FILES, LINES = ("label.toml", "label.json"), "labels.jsonl"
LAYERS = ("app", "dependency", "network", "container", "host")


class BadLabel(ValueError):
    """A label that cannot be read; the message names the file, what was expected and what was found."""


def _known_layer(layer: str) -> str:
    if layer not in LAYERS:
        raise ValueError(f"expected one of {', '.join(LAYERS)}; found {layer!r}")
    return layer


Layer = Annotated[str, AfterValidator(_known_layer)]


class Fault(BaseModel):
    """One thing that was wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entity: str | None = None
    """Id or name of the container, host or process, name of the service; None: whoever it is."""
    layer: Layer | None = None
    cause: str | None = None
    also: tuple[str, ...] = ()
    """Causes that are as right."""
    ms: float | None = Field(default=None, ge=0)
    """How much it added to a request, where that is known."""

    @property
    def causes(self) -> tuple[str, ...]:
        """Every cause that is right; empty where none is named."""
        return (self.cause, *self.also) if self.cause is not None else self.also

    @property
    def layers(self) -> frozenset[str]:
        """Every layer that is right; empty where nothing says it."""
        named = frozenset(cause.partition(".")[0] for cause in self.causes)
        return named or (frozenset() if self.layer is None else frozenset({self.layer}))


class Label(BaseModel):
    """One case."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = ""
    data: tuple[str, ...] = ()
    """Files or folders with recorded data, from the label's folder on; without any: everything beside the label."""
    store: str | None = None
    """A folder with a store instead."""
    format: str = "auto"
    from_: str | None = Field(default=None, alias="from")
    to: str | None = None
    trace: str | None = None
    """One request is judged, instead of a window."""
    quiet: bool = False
    """Nothing was wrong: whoever is blamed is blamed falsely, but for ``faults`` that are always there."""
    faults: tuple[Fault, ...] = Field(default=(), alias="fault")
    expects_blind: bool = False
    """It was known beforehand that nothing could see this: saying so is right."""
    set_aside: str | None = None
    """Why this case is not counted."""

    @model_validator(mode="after")
    def _is_whole(self) -> Label:
        if self.trace is None and (self.from_ is None or self.to is None):
            raise ValueError("expected from and to, or trace")
        if not self.quiet and not self.faults:
            raise ValueError("expected at least one fault, or quiet = true")
        try:
            window = self.window_ns
        except Problem as problem:
            raise ValueError(problem.detail) from None
        if window is not None and window[0] >= window[1]:
            raise ValueError(f"expected from before to; found {self.from_} and {self.to}")
        return self

    @property
    def window_ns(self) -> tuple[int, int] | None:
        """From and to; None where one request is judged."""
        if self.from_ is None or self.to is None:
            return None
        return instant_ns("from", self.from_), instant_ns("to", self.to)


def labels_below(folder: Path) -> list[tuple[Path, Label]]:
    """The labels of all cases of a folder, each with the folder that it stands in. ``BadLabel``, OSError."""
    found: list[tuple[Path, Label]] = []
    for file in sorted(folder.rglob("*")):
        if file.name in FILES:
            found.append((file.parent, _label(_read(file), str(file), file.parent.name)))
        elif file.name == LINES:
            found += [(file.parent, label) for label in _lines(file)]
    return found


def _lines(file: Path) -> Iterator[Label]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            where = f"{file}, line {number}"
            try:
                found = json.loads(line)
            except ValueError as problem:
                raise BadLabel(f"{where}: it is not JSON: {problem}") from None
            yield _label(found, where, f"{file.parent.name} {number}")


def _read(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as problem:
        raise BadLabel(f"{file}: it cannot be read: {problem}") from None


def _label(found: Any, where: str, name: str) -> Label:
    try:
        label = Label.model_validate(found)
    except ValidationError as problem:
        first = problem.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise BadLabel(f"{where}: {f'{at}: ' if at else ''}{first['msg']}") from None
    return label if label.name else label.model_copy(update={"name": name})
