"""What both the page and the command say of an incident."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from layerline_api.words.clean import clean

Json = Mapping[str, Any]


def failed(incident: Json) -> Iterator[str]:
    """``48 × KeyError: 'cart' in stock, 2 in the 15 minutes before``: how requests of its first operation failed.

    Nothing of an incident that an earlier version described.
    """
    for failure in incident.get("failures") or ():
        before = f", {failure['before']:,} in the 15 minutes before" if failure.get("before") else ""
        yield f"{failure['requests']:,} × {clean(failure['because'])}{before}"
