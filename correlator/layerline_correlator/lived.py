"""Judges a recording as if it had been lived through: in the order of its own time, whatever this machine's clock says.

A server looks for trouble while it works out ledgers, so the time inside an incident is left out of what is usual from
then on. A recording that is worked out first and looked at afterwards would have each fault become its own usual after
some hundred requests. So it is taken in blocks of a few minutes. Of each block the rows of the requests come first,
rated by what was usual when it began; then slow and failed ones are looked for; then the ledgers are worked out, which
compare themselves with what was usual before the trouble; and then trouble that only ledgers show is looked for.

Every slow or failed request has its ledger, and of the ordinary ones so many as a budget of spans allows, the same
number of each operation (``ledger/budget.py``), each with its weight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.detect import STEP_NS
from layerline_correlator.incidents.watch import SILENT_NS, Watch
from layerline_correlator.ledger import work as ledger
from layerline_correlator.ledger.careful import Careful
from layerline_correlator.ledger.waiting import SPANS, TOGETHER
from layerline_correlator.settings import Settings
from layerline_correlator.store.backlog import Backlog
from layerline_correlator.store.stale import mark_all
from layerline_correlator.store.statements import first_row
from layerline_correlator.store.store import Extent, Store
from layerline_correlator.verdict.rate import rate
from layerline_correlator.verdict.triage import Triage

#: The first block is short, because nothing is usual before it is over; each is twice as long as the one before.
FIRST_NS, LONGEST_NS = 20 * 10**9, 300 * 10**9
#: Traces of one block, at most, and their spans.
BLOCK_TRACES, BLOCK_SPANS = 20_000, 200_000
#: Of a recording with more spans than so many, only a sample of the ordinary traces has ledgers: about so many spans.
ORDINARY_SPANS = 60_000
_MINUTE_NS = 60 * 10**9

#: What is made of spans and readings, and what is known of it.
_JUDGED = (
    *("request", "part", "stay", "refused", "failure", "failed", "blind_spot"),
    *("trouble", "incident", "hit_by_call", "watched"),
)
#: How far it is: traces judged, and the recorded time that was reached.
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was judged: traces, and how many of them have no ledger of their own, because they were not drawn."""

    traces: int
    left_out: int


class Lived:
    """A recording that is being judged. The store is this process's, and nobody else's worker is at it."""

    def __init__(self, store: Store, settings: Settings, *, whole: bool = False) -> None:
        """``whole``: every trace gets its ledger, however many there are."""
        self._cursor = store.cursor()
        self._settings = settings
        self._names = Names(store.cursor())
        self._triage = Triage(self._cursor, settings.slow_ns)
        self._careful = Careful(self._cursor, settings.store, self._attempt)
        self._now_ns = time.time_ns()
        self._again: dict[str, Extent] = {}
        self._watch = Watch(
            store.cursor(),
            self._names,
            settings.settle_ns,
            self._again.update,
            clock=lambda: self._now_ns,
            threads=store.threads,
        )
        self._backlog = Backlog(self._cursor, settings.settle_ns)
        self._stopped = threading.Event()
        self._looked_ns: int | None = None  # trouble was looked for in what began before
        found = first_row(self._cursor.execute("SELECT coalesce(sum(spans), 0)::BIGINT FROM backlog"))
        ends = first_row(self._cursor.execute("SELECT coalesce(max(end_ns), 0) FROM hot_span"))
        spans, last_ns = found[0] if found else 0, ends[0] if ends else 0
        #: The share of the ordinary traces that has ledgers.
        self.share = 1.0 if whole else min(1.0, ORDINARY_SPANS / max(1, spans))
        #: When the last request is settled, also where that is yet to come.
        self._settled_ns = last_ns + settings.settle_ns

    @property
    def left(self) -> int:
        """How many traces have yet to be judged."""
        return self._backlog.left

    def stop(self) -> None:
        """Begin nothing more. What was judged is kept, and an import of the same continues there."""
        self._stopped.set()
        self._watch.stop(wait=False)

    def judge(self, tell: Tell = lambda _done, _reached_ns: None) -> Judged:
        """Judge all of it. ``duckdb.Error`` where the store does not allow it; what was judged before is kept."""
        total = self.left
        for block, until_ns in self._blocks():
            done, from_ns = total - self.left - len(block), min(extent.from_ns for extent in block.values())
            for share in self._live(block, from_ns, until_ns):
                tell(done + int(share * len(block)), from_ns + int(share * (until_ns - from_ns)))
        if not self._stopped.is_set():
            self._end()
        return Judged(total, self._triage.left_out)

    def _blocks(self) -> Iterator[tuple[Mapping[str, Extent], int]]:
        """Traces that began together, and before which time all are known by then."""
        long_ns = FIRST_NS
        while not self._stopped.is_set() and (block := self._backlog.next(BLOCK_TRACES, long_ns, BLOCK_SPANS)):
            next_ns = self._backlog.next_ns()
            last_ns = max(extent.from_ns for extent in block.values())
            yield block, max(last_ns, self._settled_ns) + STEP_NS if next_ns is None else next_ns
            long_ns = min(LONGEST_NS, 2 * long_ns)

    def _live(self, block: Mapping[str, Extent], from_ns: int, until_ns: int) -> Iterator[float]:
        """Judge these, step by step; which share of it is done."""
        self._now_ns = until_ns
        drawn = self._triage.sort(
            block,
            2 * len(block) if self.share >= 1 else int(self.share * len(block)),  # slow ones take of it too
            as_of_ns=from_ns,
            now_ns=self._judged_ns(),
        )
        looked_ns = from_ns if self._looked_ns is None else self._looked_ns
        self._watch.live_through(looked_ns, until_ns, by_rows=True)
        yield from self._work_out({trace_id: block[trace_id] for trace_id in drawn})
        self._watch.live_through(looked_ns, until_ns)
        self._looked_ns = until_ns
        again = dict(self._again)
        self._again.clear()
        for _ in self._work_out(again):
            yield 1.0

    def _work_out(self, traces: Mapping[str, Extent]) -> Iterator[float]:
        """Their ledgers, the oldest first, so many at a time as fit into memory; which share of them is done."""
        together: dict[str, Extent] = {}
        spans = done = 0
        for trace_id, extent in sorted(traces.items(), key=lambda item: item[1].from_ns):
            if together and (len(together) >= TOGETHER or spans + extent.spans > SPANS):
                self._careful.work_out(together)
                done += len(together)
                yield done / len(traces)
                together, spans = {}, 0
            together[trace_id] = extent
            spans += extent.spans
        if together:
            self._careful.work_out(together)
        yield 1.0

    def _attempt(self, traces: Mapping[str, Extent], readings: bool) -> None:
        settings = self._settings

        def rated() -> None:
            rate(self._cursor, traces, self._names.entity, settings.slow_ns, settings.settle_ns)

        ledger.work_out(
            self._cursor,
            traces,
            min(extent.from_ns for extent in traces.values()),
            max(extent.to_ns for extent in traces.values()),
            readings=readings,
            before_commit=rated,
            now_ns=self._judged_ns(),
        )

    def _judged_ns(self) -> int:
        """When it was judged: with all that was measured, be it by a clock that is ahead of this one."""
        return max(time.time_ns(), self._settled_ns)

    def _end(self) -> None:
        """The recording is over, and so is every incident in it."""
        self._now_ns = max(time.time_ns(), self._settled_ns + SILENT_NS + _MINUTE_NS)
        self._watch.end_of_recording()


def forget(store: Store) -> None:
    """Forget all that was judged: more was recorded, and it is to be judged anew, in order."""
    with store.cursor() as cursor:
        cursor.execute("BEGIN").fetchall()
        try:
            mark_all(cursor)
            for table in _JUDGED:
                cursor.execute(f"DELETE FROM {table}").fetchall()
            cursor.execute("COMMIT").fetchall()
        except duckdb.Error:
            cursor.execute("ROLLBACK").fetchall()
            raise
