"""What was done when: the labels of a recording, as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

LABELS = "labels.json"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a recording with one fault, or a quiet one. Times are nanoseconds since 1970."""

    name: str
    from_ns: int
    to_ns: int
    fault: str | None
    """None: nothing was done."""
    entities: tuple[str, ...] = ()
    """Ids and names, any of which is right."""
    layers: tuple[str, ...] = ()
    """Layers, any of which is right."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The windows of a recording in order of time, and the containers that were there, by their ids."""

    windows: tuple[Window, ...]
    containers: Mapping[str, str] = field(default_factory=dict)
    """Service by container id."""

    def write(self, folder: Path) -> None:
        """Keep them."""
        (folder / LABELS).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read_labels(folder: Path) -> Labels:
    """The labels of a folder. ValueError if it holds no recording."""
    if not (path := folder / LABELS).exists():
        raise ValueError(f"{folder} holds no recording: there is no {LABELS} in it")
    body = json.loads(path.read_text())
    windows = (
        Window(**{**one, "entities": tuple(one["entities"]), "layers": tuple(one["layers"])}) for one in body["windows"]
    )
    return Labels(tuple(windows), body["containers"])
