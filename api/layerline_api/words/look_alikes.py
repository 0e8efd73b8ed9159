"""What a verdict could be mistaken for, and what speaks against it: by what was measured, not by what is likely."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerline_api.words.clean import clean

Json = Mapping[str, Any]

#: How the header of a cause names others: ``A busy neighbour (host.cpu_contended): there …``.
_NAMED = re.compile(r"\b(?:app|dependency|network|container|host)\.[a-z_]+\b")
#: Of what is ranked: less than that is as usual.
_AS_USUAL = 0.01


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Another cause that looks alike; ``state`` is ``ruled out``, ``open`` or ``a part of it``."""

    title: str
    cause: str
    layer: str
    state: str
    because: str


def look_alikes(verdict: Json, causes: Sequence[Json]) -> list[LookAlike]:
    """Those that the headers of the blamed causes name, each once, in the order of the blamed."""
    known = {str(cause["cause"]): cause for cause in causes}
    blamed = [str(culprit["cause"]) for culprit in verdict["culprits"]]
    named = dict.fromkeys(
        name
        for cause in blamed
        for name in _NAMED.findall(str(known.get(cause, {}).get("mistaken_for") or ""))
        if name in known and name not in blamed
    )
    return [
        LookAlike(clean(known[name]["title"]), name, name.partition(".")[0], *_state(name, verdict)) for name in named
    ]


def _state(cause: str, verdict: Json) -> Iterator[str]:
    """What is known of it, and why."""
    if (share := _share(cause, verdict)) >= _AS_USUAL:
        what = "duration" if verdict["ranked_by"] == "lost" else "excess"
        yield from ("a part of it", f"it took {share * 100:.0f} % of the {what}")
    elif (blind := next((one for one in verdict["blind"] if one["cause"] == cause), None)) is not None:
        yield from ("open", f"{clean(blind['reason'])}. To see it: {clean(blind['enable'])}")
    elif any(part["cause"] == cause for part in verdict["parts"]):
        yield from ("ruled out", "it took no more than usual")
    else:
        yield from ("ruled out", "it took no time: there was nothing of it in what was measured")


def _share(cause: str, verdict: Json) -> float:
    """Its share of what is ranked."""
    is_excess = verdict["ranked_by"] == "excess"
    whole_ns = verdict["excess_ns"] if is_excess else verdict["duration_ns"]
    if not whole_ns or whole_ns < 0:
        return 0.0
    amounts = [
        part["excess_ns" if is_excess else "lost_ns"] or 0 for part in verdict["parts"] if part["cause"] == cause
    ]
    return float(max(0, sum(amounts)) / whole_ns)
