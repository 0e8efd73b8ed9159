"""A tool's answer: a few lines to be read, and the same as data. Both are small: an agent pays for each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layerline_api.words.clean import clean

#: How long the text may be, in bytes, with all that stands below the answer.
MOST_BYTES = 2_000
#: Causes that could not be seen are named up to so many.
_BLIND = 3


@dataclass(frozen=True, slots=True)
class Said:
    """What a tool answers. ``items`` have the fields of the API's own answers, fewer of them."""

    lines: Sequence[str]
    """The answer, the most important first: what does not fit is left out from the end."""
    page: str
    """Where the whole of it is to be seen."""
    sure: Sequence[str] = ()
    blind: Sequence[str] = ()
    items: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    is_error: bool = False

    @property
    def text(self) -> str:
        """At most ``MOST_BYTES``: how sure it is, what is blind and the page are always there."""
        below = []
        if self.sure:
            below.append(f"How sure: {_short(' '.join(self.sure), 400)}")
        if self.blind:
            more = len(self.blind) - _BLIND
            named = "; ".join(_short(one, 120) for one in self.blind[:_BLIND])
            below.append(f"Not measured: {named}{f'; and {more} more' if more > 0 else ''}.")
        below.append(f"Page: {self.page}")
        left = MOST_BYTES - sum(len(line.encode()) + 1 for line in below)
        lines: list[str] = []
        for number, line in enumerate(self.lines):
            one = clean(line)
            rest = f"({len(self.lines) - number} more lines: see the page)"
            if len(one.encode()) + len(rest) + 2 > left:
                lines.append(rest)
                break
            lines.append(one)
            left -= len(one.encode()) + 1
        return "\n".join([*lines, *below])

    @property
    def data(self) -> dict[str, Any]:
        """The same as data."""
        return {
            "answer": [clean(line) for line in self.lines[:20]],
            "sure": list(self.sure),
            "blind": list(self.blind[:10]),
            "page": self.page,
            "items": [dict(one) for one in self.items],
        }


def _short(text: str, most: int) -> str:
    text = clean(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
