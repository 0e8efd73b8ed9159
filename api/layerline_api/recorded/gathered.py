"""What readers read: rows for the store, and what could not be read, with where and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from layerline_api.doors.bounds import Bounds
from layerline_correlator.store.columns import SpanColumns
from layerline_correlator.store.model import Batch, ResourceRow, resource_key

#: Resources whose keys are remembered; every span names its own again.
_REMEMBERED = 10_000


class Place(NamedTuple):
    """Where in a file reading goes on: bytes of its (decompressed) content, or rows of a table."""

    offset: int = 0
    line: int = 1
    inside: str = ""  # the list of a JSON document that this is in


@dataclass(slots=True)
class Gathered:
    """Rows that are not written yet, and counts of the file that they come from."""

    tell: Callable[[str], None]  # about something that could not be read
    batch: Batch = field(default_factory=lambda: Batch(spans=SpanColumns()))
    rejected: int = 0
    left_out: int = 0
    bounds: Bounds = field(default_factory=Bounds.now)
    _resources: set[str] = field(default_factory=set)
    _keys: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows wait."""
        batch = self.batch
        return len(batch.spans) + len(batch.points) + len(batch.events) + len(batch.logs)

    def take(self) -> Batch:
        """The rows that wait; from now on there are none."""
        batch, self.batch = self.batch, Batch(spans=SpanColumns())
        self._resources.clear()
        return batch

    def reject(self, where: str, reason: str, items: int = 1) -> None:
        """Count what could not be read. ``where`` names the place: ``line 17``, ``row 3``."""
        self.rejected += items
        self.tell(f"{where}: {reason}")

    def resource(self, attributes: Mapping[str, str]) -> str:
        """The key of this resource, whose row goes with the rows that name it."""
        pairs = tuple(attributes.items())
        key = self._keys.get(pairs)
        if key is None:
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            key = self._keys[pairs] = resource_key(attributes)
        if key not in self._resources:
            self._resources.add(key)
            self.batch.resources.append(ResourceRow(key, dict(attributes)))
        return key

    def add(self, batch: Batch) -> None:
        """Rows that were decoded elsewhere."""
        self.batch.resources.extend(batch.resources)
        self.batch.spans.extend(batch.spans)
        self.batch.series.extend(batch.series)
        self.batch.points.extend(batch.points)
        self.batch.events.extend(batch.events)
        self.batch.logs.extend(batch.logs)


#: Reads one file from a place on. Raises ``Unreadable`` where nothing can be had from it, OSError as files do.
Reader = Callable[[Path, Place, Gathered], Iterator[Place]]


class Unreadable(ValueError):
    """A file, or the rest of it, that cannot be read; the message says what was expected and found."""


def shown(value: object) -> str:
    """A value as it is shown in an error: short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
