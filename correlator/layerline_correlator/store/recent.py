"""Whether spans and points may have been written before: a memory of the last ones, so that the store is hardly asked.

It never says no where the store has one; where it says yes, the store is asked. Of spans the ids are remembered, at
most 200,000 and those of ten seconds; of points the last time of each series, because they nearly always arrive in
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: How much time is remembered or forgotten at once, in nanoseconds.
_STRETCH_NS = 10 * 10**9
#: How many spans are remembered at most, beside those of the last stretch.
_REMEMBERED = 200_000


class Recent:
    """The span ids that were written, by when the spans started. Owned by the thread that writes."""

    def __init__(self, since_ns: int, written: Iterable[tuple[int, str]] = ()) -> None:
        """``written`` holds start and id of every span in the store that started at ``since_ns`` or later."""
        self._since_ns = since_ns
        self._stretches: dict[int, set[int]] = {}
        for start_ns, span_id in written:
            self._stretches.setdefault(start_ns // _STRETCH_NS, set()).add(hash(span_id))

    def may_hold(self, span_ids: Iterable[str], from_ns: int, to_ns: int) -> bool:
        """Whether the store may have any of them with a start between the two times."""
        if from_ns < self._since_ns:
            return True
        wanted = set(map(hash, span_ids))
        first, last = from_ns // _STRETCH_NS, to_ns // _STRETCH_NS
        return any(
            not known.isdisjoint(wanted) for stretch, known in self._stretches.items() if first <= stretch <= last
        )

    def add(self, span_ids: Sequence[str], starts_ns: Sequence[int]) -> None:
        """They are in the store now."""
        first, last = min(starts_ns) // _STRETCH_NS, max(starts_ns) // _STRETCH_NS
        if first == last:
            self._stretches.setdefault(first, set()).update(map(hash, span_ids))
        else:
            for span_id, start_ns in zip(span_ids, starts_ns, strict=True):
                self._stretches.setdefault(start_ns // _STRETCH_NS, set()).add(hash(span_id))
        while len(self._stretches) > 1 and sum(map(len, self._stretches.values())) > _REMEMBERED:
            oldest = min(self._stretches)
            del self._stretches[oldest]
            self._since_ns = max(self._since_ns, (oldest + 1) * _STRETCH_NS)


class LastPoints:
    """When the last point of each series was. Owned by the thread that writes."""

    def __init__(self, until_ns: int) -> None:
        """Nothing in the store is later than ``until_ns``."""
        self._until_ns = until_ns
        self._last: dict[str, int] = {}

    def may_hold(self, points: Iterable[tuple[str, int]]) -> bool:
        """Whether the store may have any of these: series and time."""
        last, until_ns = self._last, self._until_ns
        return any(time_ns <= last.get(series, until_ns) for series, time_ns in points)

    def add(self, points: Iterable[tuple[str, int]]) -> None:
        """They are in the store now."""
        last, until_ns = self._last, self._until_ns
        for series, time_ns in points:
            if time_ns > last.get(series, until_ns):
                last[series] = time_ns
