"""Where a list goes on: the sort key of the last item shown, as an opaque word."""

from __future__ import annotations

import base64
import json

from layerline_correlator.questions.model import BadCursor


def write_cursor(of: str, *key: int | str) -> str:
    """The cursor of the list ``of`` behind the item with this key."""
    return base64.urlsafe_b64encode(json.dumps([of, *key]).encode()).decode().rstrip("=")


def read_cursor(text: str, of: str, *types: type[int] | type[str]) -> list[int | str]:
    """The key that ``write_cursor`` was given. ``BadCursor`` when it is of another list, or of none."""
    key: list[int | str]
    try:
        found, *key = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError):
        raise BadCursor("expected a cursor from this list's `next`") from None
    if found != of or [type(part) for part in key] != list(types):
        raise BadCursor(f"expected a cursor of the list {of!r}")
    if any(isinstance(part, int) and abs(part) >= 2**63 for part in key):
        raise BadCursor("the cursor's number is out of bounds")
    return key
