"""What can be wrong with a body, and with single items of a good body."""

from __future__ import annotations

from dataclasses import dataclass


class Malformed(ValueError):
    """The body is not what its headers say: the sender must not repeat it (400)."""


class TooLarge(ValueError):
    """The body is larger, or would become larger, than one request may be (413)."""


@dataclass(slots=True)
class Rejections:
    """The items of one request that were not taken, and why: OTLP's partial success."""

    count: int = 0
    first: str = ""

    def add(self, reason: str, items: int = 1) -> None:
        """Count ``items`` more; the first reason is the one that is told."""
        if not self.count:
            self.first = reason
        self.count += items

    def message(self) -> str:
        """The reason of the first, and how many more there were."""
        if self.count <= 1:
            return self.first
        return f"{self.first} (and {self.count - 1} more)"


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
