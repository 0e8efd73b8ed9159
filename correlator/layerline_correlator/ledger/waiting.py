"""Which traces wait to be worked out, and which of them are worked out together.

Those of one pass began within minutes of each other: a pass reads what was measured around its traces, and one trace of
yesterday beside one of now would have it read all that was measured in between.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from layerline_correlator.store.store import Extent

#: Traces that are worked out together, at most, and as few as that when they turn out to be a lot of work.
TOGETHER, FEWEST = 2_000, 100
#: How many spans they have together, at most; a trace with more is worked out alone.
SPANS = 50_000
#: How far apart in time they may have begun.
ALONGSIDE_NS = 5 * 60 * 10**9


class Waits(NamedTuple):
    """A trace that waits: its spans, since when it waits, and the number of the first news that is in no ledger yet."""

    extent: Extent
    since_ns: int
    news: int


class Waiting:
    """The traces that wait. Not safe for threads: who shares it brings a lock."""

    def __init__(self) -> None:
        self._fresh: dict[str, Waits] = {}  # spans arrived since they were worked out
        self._again: list[tuple[int, str, Extent]] = []  # a heap: from when on to work a trace out again
        self._due: dict[str, Waits] = {}  # those of them whose time has come
        self.at_work: dict[str, Waits] = {}
        self.news = 0  # how often something arrived
        self._newest_first = False

    def __len__(self) -> int:
        """How many have spans that are in no ledger yet."""
        return len(self._fresh) + len(self.at_work)

    @property
    def fresh(self) -> int:
        """How many of them are not being worked out."""
        return len(self._fresh)

    def arrived(self, traces: Mapping[str, Extent], now_ns: int) -> None:
        """Spans of these traces arrived."""
        self.news += 1
        for trace_id, extent in traces.items():
            known = self._fresh.get(trace_id)
            self._fresh[trace_id] = (
                Waits(extent, now_ns, self.news)
                if known is None
                else known._replace(extent=_both(known.extent, extent))
            )

    def again(self, trace_id: str, at_ns: int, extent: Extent) -> None:
        """Work it out again at that time: its readings will be there."""
        heapq.heappush(self._again, (at_ns, trace_id, extent))

    def is_due(self, now_ns: int) -> bool:
        """Whether there is something to do."""
        return bool(self._fresh or self._due or (self._again and self._again[0][0] <= now_ns))

    def take(self, now_ns: int, most: int = TOGETHER) -> dict[str, Extent]:
        """What to work out now, at most so many traces of the same minutes. They are ``at_work`` until ``done``.

        The oldest first, because what is usual for a request is made of those before it; but when there are traces of
        several times, every other turn is that of the newest: who asks about now does not wait for the past.
        """
        while self._again and self._again[0][0] <= now_ns:
            at_ns, trace_id, extent = heapq.heappop(self._again)
            self._due.setdefault(trace_id, Waits(extent, at_ns, 0))
        waiting = self._due | self._fresh
        if not waiting:
            return {}
        begins = [waits.extent.from_ns for waits in waiting.values()]
        oldest_ns, newest_ns = min(begins), max(begins)
        from_ns, until_ns = oldest_ns, oldest_ns + ALONGSIDE_NS
        if newest_ns > until_ns:
            self._newest_first = not self._newest_first
            if self._newest_first:
                from_ns, until_ns = newest_ns - ALONGSIDE_NS, newest_ns
        together = heapq.nsmallest(
            most,
            (item for item in waiting.items() if from_ns <= item[1].extent.from_ns <= until_ns),
            key=lambda item: item[1].extent.from_ns,
        )
        spans = 0
        for trace_id, waits in together:
            spans += waits.extent.spans
            if self.at_work and spans > SPANS:
                break
            self.at_work[trace_id] = waits
            self._fresh.pop(trace_id, None)
            self._due.pop(trace_id, None)
        return {trace_id: waits.extent for trace_id, waits in self.at_work.items()}

    def done(self) -> None:
        """What was taken is worked out."""
        self.at_work = {}

    def extent_of(self, trace_id: str) -> Extent | None:
        """The spans of this trace that arrived and are in no ledger yet; None where all are."""
        found = [one[trace_id].extent for one in (self._fresh, self.at_work) if trace_id in one]
        return None if not found else found[0] if len(found) == 1 else _both(*found)

    def is_behind(self, news: int, now_ns: int) -> bool:
        """Whether something of what had arrived by this news, or was due then, has yet to be worked out."""
        if self._due or (self._again and self._again[0][0] <= now_ns):
            return True
        return any(waits.news <= news for waits in self._all_fresh())

    def lag_ns(self, now_ns: int) -> int:
        """How long the one that waits longest has been waiting."""
        return max((now_ns - waits.since_ns for waits in self._all_fresh()), default=0)

    def _all_fresh(self) -> Iterable[Waits]:
        yield from self.at_work.values()
        yield from self._fresh.values()


def _both(one: Extent, other: Extent) -> Extent:
    return Extent(min(one.from_ns, other.from_ns), max(one.to_ns, other.to_ns), one.spans + other.spans)
