"""Which traces wait: those that just arrived, and those whose ledger is to be worked out, each at its time.

A trace is worked out when its readings are there, and only then, unless somebody asks for it. Those of one pass began
within minutes of each other: a pass reads what was measured around its traces, and one trace of yesterday beside one of
now would have it read all that was measured in between.
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
#: Traces of which no rows were made yet, in memory, at most. More are looked for in the store when these are done.
MOST_FRESH = 250_000
#: Rows are made of more traces at a time than ledgers: they cost much less.
ROWS_TIMES = 4


class Waits(NamedTuple):
    """A trace that waits: its spans, since when, and the number of its first news that is in no ledger.

    From ``ready_ns`` on its ledger can be worked out, because its readings are there; at ``due_ns`` it has to be.
    """

    extent: Extent
    since_ns: int
    news: int  # 0: all spans are in its ledger, but not yet its readings
    due_ns: int
    ready_ns: int
    is_urgent: bool = False  # slow or failed: whoever asks for a list asks for its ledger


class Waiting:
    """The traces that wait. Not safe for threads: who shares it brings a lock."""

    def __init__(self) -> None:
        self._fresh: dict[str, Waits] = {}  # spans arrived: rows of their requests are to be made
        self._chosen: dict[str, Waits] = {}  # whose ledger is to be worked out
        self._times: list[tuple[int, str]] = []  # a heap: when each of them is due; some are there no more
        self._urgent: set[str] = set()  # those of them that are
        self._sorting: dict[str, Waits] = {}  # fresh ones of which rows are being made
        self.at_work: dict[str, Waits] = {}
        #: Whether traces arrived beyond what is remembered: they are to be looked for in the store.
        self.has_forgotten = False
        self.news = 0  # how often something arrived
        self._turns = {"fresh": False, "chosen": False}  # whether the last turn was that of the newest

    def __len__(self) -> int:
        """How many have spans that are in no ledger yet."""
        return sum(1 for waits in self._all() if waits.news)

    @property
    def fresh(self) -> int:
        """How many just arrived."""
        return len(self._fresh)

    @property
    def chosen(self) -> int:
        """How many wait for their ledger."""
        return len(self._chosen)

    def arrived(self, traces: Mapping[str, Extent], now_ns: int) -> None:
        """Spans of these traces arrived."""
        self.news += 1
        for trace_id, extent in traces.items():
            known = self._fresh.get(trace_id)
            if known is None and len(self._fresh) >= MOST_FRESH:
                self.has_forgotten = True
                continue
            self._fresh[trace_id] = (
                Waits(extent, now_ns, self.news, now_ns, now_ns)
                if known is None
                else known._replace(extent=_both(known.extent, extent))
            )

    def take_fresh(self, most: int = ROWS_TIMES * TOGETHER) -> dict[str, Extent]:
        """Those of which rows are to be made now. They are being sorted until ``all_sorted``."""
        self._sorting = self._together("fresh", self._fresh, most, ROWS_TIMES * SPANS)
        for trace_id in self._sorting:
            del self._fresh[trace_id]
        return {trace_id: waits.extent for trace_id, waits in self._sorting.items()}

    def choose(
        self,
        trace_id: str,
        due_ns: int,
        extent: Extent | None = None,
        *,
        ready_ns: int | None = None,
        is_urgent: bool = False,
    ) -> None:
        """Work its ledger out at that time, or from ``ready_ns`` on together with others that are due.

        ``extent`` of one that does not come from ``take_fresh``.
        """
        ready_ns = due_ns if ready_ns is None else ready_ns
        sorted_now = self._sorting.get(trace_id)
        if sorted_now is None and extent is None:
            return
        waits = sorted_now or Waits(extent or Extent(0, 0), due_ns, 0, due_ns, ready_ns)
        if (known := self._chosen.get(trace_id)) is not None:
            waits = Waits(
                _both(known.extent, waits.extent),
                min(known.since_ns, waits.since_ns),
                known.news or waits.news,
                due_ns,
                ready_ns,
                known.is_urgent,
            )
        self._chosen[trace_id] = waits._replace(
            due_ns=due_ns, ready_ns=ready_ns, is_urgent=is_urgent or waits.is_urgent
        )
        heapq.heappush(self._times, (due_ns, trace_id))
        if self._chosen[trace_id].is_urgent:
            self._urgent.add(trace_id)

    def all_sorted(self) -> None:
        """Whatever was taken to be sorted and is not chosen needs no ledger."""
        self._sorting = {}

    def give_back(self) -> None:
        """What was taken could not be done: it waits again."""
        for trace_id, waits in self._sorting.items():
            other = self._fresh.get(trace_id)
            self._fresh[trace_id] = waits if other is None else waits._replace(extent=_both(waits.extent, other.extent))
        for trace_id, waits in self.at_work.items():
            self._sorting = {trace_id: waits}
            self.choose(trace_id, waits.due_ns, ready_ns=waits.ready_ns, is_urgent=waits.is_urgent)
        self._sorting, self.at_work = {}, {}

    def due_ns(self) -> int | None:
        """When the next ledger is due; None while none waits."""
        while self._times:
            at_ns, trace_id = self._times[0]
            waits = self._chosen.get(trace_id)
            if waits is not None and waits.due_ns == at_ns:
                return at_ns
            heapq.heappop(self._times)
        return None

    def is_due(self, now_ns: int) -> bool:
        """Whether there is something to do."""
        return bool(self._fresh) or self.is_ledger_due(now_ns) or self.is_to_look()

    def is_to_look(self) -> bool:
        """Whether what was forgotten is to be looked for now: nothing else waits."""
        return self.has_forgotten and not any(self._dictionaries())

    def is_ledger_due(self, now_ns: int) -> bool:
        """Whether a ledger is to be worked out."""
        due_ns = self.due_ns()
        return due_ns is not None and due_ns <= now_ns

    def take(
        self, now_ns: int, most: int = TOGETHER, *, early: bool = False, urgent: bool = False
    ) -> dict[str, Extent]:
        """What to work out now, at most so many traces of the same minutes. They are ``at_work`` until ``done``.

        What is due, and then also what is ready; with ``early`` also what is not yet, with ``urgent`` what of that is
        slow or failed.
        """
        ready: dict[str, Waits] = {}
        while self.is_ledger_due(now_ns):
            _, trace_id = heapq.heappop(self._times)
            ready[trace_id] = self._chosen[trace_id]
        if early:  # what was worked out early lacks its readings only, and is not asked for again
            ready |= {trace_id: waits for trace_id, waits in self._chosen.items() if waits.news}
        elif urgent:
            ready |= {trace_id: self._chosen[trace_id] for trace_id in self._urgent if self._chosen[trace_id].news}
        if ready:
            ready |= {trace_id: waits for trace_id, waits in self._chosen.items() if waits.ready_ns <= now_ns}
        self.at_work = self._together("chosen", ready, most, SPANS)
        for trace_id, waits in ready.items():
            if trace_id in self.at_work:
                del self._chosen[trace_id]
                self._urgent.discard(trace_id)
            else:
                heapq.heappush(self._times, (waits.due_ns, trace_id))
        return {trace_id: waits.extent for trace_id, waits in self.at_work.items()}

    def _together(self, turn: str, waiting: Mapping[str, Waits], most: int, most_spans: int) -> dict[str, Waits]:
        """At most so many of them, of the same minutes.

        The oldest first, because what is usual for a request is made of those before it; but when there are traces of
        several times, every other turn is that of the newest: who asks about now does not wait for the past.
        """
        if not waiting:
            return {}
        begins = [waits.extent.from_ns for waits in waiting.values()]
        oldest_ns, newest_ns = min(begins), max(begins)
        from_ns, until_ns = oldest_ns, oldest_ns + ALONGSIDE_NS
        if newest_ns > until_ns:
            self._turns[turn] = not self._turns[turn]
            if self._turns[turn]:
                from_ns, until_ns = newest_ns - ALONGSIDE_NS, newest_ns
        chosen = heapq.nsmallest(
            most,
            (item for item in waiting.items() if from_ns <= item[1].extent.from_ns <= until_ns),
            key=lambda item: item[1].extent.from_ns,
        )
        spans = 0
        taken: dict[str, Waits] = {}
        for trace_id, waits in chosen:
            spans += waits.extent.spans
            if taken and spans > most_spans:
                break
            taken[trace_id] = waits
        return taken

    def done(self) -> None:
        """What was taken is worked out."""
        self.at_work = {}

    def extent_of(self, trace_id: str) -> Extent | None:
        """The spans of this trace that arrived and are in no ledger yet; None where all are."""
        found = [one[trace_id] for one in self._dictionaries() if trace_id in one]
        extents = [waits.extent for waits in found if waits.news]
        if not extents:
            return None
        whole = extents[0]
        for extent in extents[1:]:
            whole = _both(whole, extent)
        return whole

    def is_ready(self, trace_id: str, now_ns: int) -> bool:
        """Whether the next pass works this trace out."""
        waits = self._chosen.get(trace_id)
        return trace_id in self._fresh or trace_id in self.at_work or (waits is not None and waits.due_ns <= now_ns)

    def is_behind(self, news: int, now_ns: int, *, early: bool) -> bool:
        """Whether something of what had arrived by this news has yet to be worked out: due, slow or failed.

        ``early``: also what is not due yet.
        """
        if any(waits.news <= news for waits in (*self._fresh.values(), *self._sorting.values())):
            return True
        if any(0 < waits.news <= news for waits in self.at_work.values()) or self.is_ledger_due(now_ns):
            return True
        if early:
            return any(0 < waits.news <= news for waits in self._chosen.values())
        return any(0 < self._chosen[trace_id].news <= news for trace_id in self._urgent)

    def ready(self, now_ns: int) -> int:
        """How many could be worked out now."""
        return len(self._fresh) + sum(1 for waits in self._chosen.values() if waits.ready_ns <= now_ns)

    def is_left_over(self, since_ns: int) -> bool:
        """Whether something waits that could have been taken at that time, had it not been too much."""
        due_ns = self.due_ns()
        oldest = next(iter(self._fresh.values()), None)
        return (due_ns is not None and due_ns <= since_ns) or (oldest is not None and oldest.since_ns <= since_ns)

    def lag_ns(self, now_ns: int) -> int:
        """By how much the one that is latest is late."""
        return max(
            (now_ns - max(waits.since_ns, waits.due_ns) for waits in self._all()),
            default=0,
        )

    def _dictionaries(self) -> tuple[dict[str, Waits], ...]:
        return self._fresh, self._sorting, self._chosen, self.at_work

    def _all(self) -> Iterable[Waits]:
        for one in self._dictionaries():
            yield from one.values()


def _both(one: Extent, other: Extent) -> Extent:
    return Extent(min(one.from_ns, other.from_ns), max(one.to_ns, other.to_ns), one.spans + other.spans)
