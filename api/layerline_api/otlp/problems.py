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
