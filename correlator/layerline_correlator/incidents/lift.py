"""What affected requests have in common that others have not: plain counting."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from layerline.tags import TAG_WORDS
from layerline_correlator.incidents.model import Radius, Share

#: A value is listed when it is this much more frequent among affected requests, and this frequent among them at all.
LEAST_LIFT, LEAST_RATIO = 1.5, 0.5
#: Others needed to compare with.
LEAST_OTHERS = 5
MOST = 12

_WORDS = {attribute: word for word, attribute in TAG_WORDS.items()}
#: Attributes that name one request, thread or connection, or that say how slow it was.
_PASSING = re.compile(
    r"^(layerline\.|thread\.|code\.|client\.(address|port)|net\.(peer|sock)|network\.peer\.|telemetry\.)|"
    r"(^|[._])(id|pid|port|timestamp|date|time|user_agent|inode)($|[._](?!version))|\.original$|^process\."
)
#: … and yet tell a group.
_KEPT = re.compile(r"^(container\.image\.id|layerline\.version|process\.runtime\.)")


@dataclass(frozen=True, slots=True)
class Count:
    """How many affected and other requests have this value."""

    is_tag: bool
    key: str
    value: str
    affected: int
    others: int
    of_affected: int
    of_others: int


def shares(counts: Iterable[Count], *, tags: bool | None = None) -> list[Share]:
    """The values that are over-represented among affected requests, most telling first."""
    found = []
    for one in counts:
        if tags is not None and one.is_tag is not tags:
            continue
        if (_PASSING.search(one.key) and not _KEPT.search(one.key)) or one.of_others < LEAST_OTHERS:
            continue
        affected, others = one.affected / one.of_affected, one.others / one.of_others
        if affected < LEAST_RATIO or affected < LEAST_LIFT * others:
            continue
        found.append(
            Share(
                key=_word(one.key),
                value=_value(one.value),
                affected=one.affected,
                others=one.others,
                affected_ratio=round(affected, 4),
                others_ratio=round(others, 4),
                lift=round(affected / others, 2) if others else None,
            )
        )
    found.sort(key=lambda share: (share.others_ratio - share.affected_ratio, share.key, share.value))
    return found[:MOST]


def radius(counts: Iterable[Count], operation: str, requests: int, affected: int) -> Radius:
    """How far the trouble reaches, in one sentence and by tag."""
    if not requests:
        return Radius("no request was affected", [])
    ratio = affected / requests
    if ratio >= 0.95:
        return Radius(f"{_percent(ratio)} of the requests of {operation}", [])
    tags = shares(counts, tags=True)
    if not tags:
        return Radius(f"{_percent(ratio)} of the requests of {operation}, whatever their tags", [])
    best = [share for share in tags if share.others_ratio <= tags[0].others_ratio + 0.05][:4]
    only = "only" if best[0].others_ratio < 0.05 and best[0].affected_ratio > 0.9 else "mostly"
    named = ", ".join(f"{share.key} {share.value}" for share in best)
    return Radius(f"{_percent(ratio)} of the requests of {operation}: {only} {named}", tags)


def _word(key: str) -> str:
    """``image`` for ``container.image.name``, as people ask for it; a label by its own name."""
    return _WORDS.get(key, key.removeprefix("container.label."))


def _value(value: str) -> str:
    """``["1.4"]`` is ``1.4``."""
    match = re.fullmatch(r'\["([^"]*)"\]', value)
    return match[1] if match else value


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"
