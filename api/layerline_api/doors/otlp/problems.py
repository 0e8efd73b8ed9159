"""What can be wrong with a body, and with single items of a good body."""

from __future__ import annotations

from dataclasses import dataclass, field


class Malformed(ValueError):
    """The body is not what its headers say: the sender must not repeat it (400)."""


class TooLarge(ValueError):
    """The body is larger, or would become larger, than one request may be (413)."""


#: How many different reasons the answer names, and how long each may be.
REASONS_TOLD, REASON_LENGTH = 3, 300


@dataclass(slots=True)
class Rejections:
    """The items of one request that were not taken, and why: OTLP's partial success."""

    count: int = 0
    _told: dict[str, tuple[str, int]] = field(default_factory=dict)  # by reason: the first of it, and how many

    def add(self, item: str, reason: str, items: int = 1, found: str = "") -> None:
        """Count ``items`` more. Of each of the first reasons the first item is named, with what was found there."""
        self.count += items
        if reason in self._told:
            first, so_far = self._told[reason]
            self._told[reason] = first, so_far + items
        elif len(self._told) < REASONS_TOLD:
            first = f"{item}: {reason}" + (f" (found {found})" if found else "")
            self._told[reason] = first[:REASON_LENGTH], items

    def is_any(self) -> bool:
        """Whether there is something to say; without a rejected item it is a warning."""
        return bool(self._told)

    def message(self) -> str:
        """The first reasons, each with how many more there are of it, and how many items have other reasons."""
        said = [first + (f" (and {items - 1} more)" if items > 1 else "") for first, items in self._told.values()]
        others = self.count - sum(items for _, items in self._told.values())
        return "; ".join(said) + (f"; {others} more for other reasons" if others else "")


#: No request holds more resources, scopes, spans, metrics, points and log records than this, all counted together.
#: Exporters send 512 spans at a time, the Collector 8192.
ITEMS_LIMIT = 200_000
#: No request holds more attributes than this, the elements of lists among them.
ATTRIBUTES_LIMIT = 4_000_000


class Budget:
    """What one request may hold. A thing of two bytes takes microseconds and hundreds of bytes once it is built."""

    __slots__ = ("attributes_left", "items_left")

    def __init__(self) -> None:
        self.items_left = ITEMS_LIMIT
        self.attributes_left = ATTRIBUTES_LIMIT

    def items(self, count: int) -> None:
        """Take ``count`` items. ``TooLarge`` when there are none left."""
        self.items_left -= count
        if self.items_left < 0:
            raise TooLarge(f"the request holds more than {ITEMS_LIMIT:,} items")

    def attributes(self, count: int) -> None:
        """Take ``count`` attributes. ``TooLarge`` when there are none left."""
        self.attributes_left -= count
        if self.attributes_left < 0:
            raise TooLarge(f"the request holds more than {ATTRIBUTES_LIMIT:,} attributes")
