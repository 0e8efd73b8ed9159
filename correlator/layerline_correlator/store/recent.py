"""What may have been written before: a memory of what was written last, so that the store is hardly asked.

It never says no where the store has one; where it says yes, or knows nothing, the store is asked. All of it is bounded,
whatever strangers send: of spans the ids are remembered, at most 200,000 and those of ten seconds; of points the last
time of each series, because they nearly always arrive in order; of series and resources that they are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

#: How much time is remembered or forgotten at once, in nanoseconds.
_STRETCH_NS = 10 * 10**9
#: How many spans are remembered at most, beside those of the last stretch, and how many of a single stretch.
_REMEMBERED, _OF_ONE = 200_000, 400_000


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
        while self._is_too_much():
            oldest = min(self._stretches)
            del self._stretches[oldest]
            self._since_ns = max(self._since_ns, (oldest + 1) * _STRETCH_NS)

    def __len__(self) -> int:
        return sum(map(len, self._stretches.values()))

    def _is_too_much(self) -> bool:
        return len(self) > (_REMEMBERED if len(self._stretches) > 1 else _OF_ONE)


class LastPoints:
    """When the last point of each series was. Owned by the thread that writes.

    Of a series that is forgotten it is known that its points are no later than the latest of all that were forgotten.
    """

    def __init__(self, until_ns: int, most: int = 300_000) -> None:
        """Nothing in the store is later than ``until_ns``. ``most`` series are remembered."""
        self._until_ns, self._most = until_ns, most
        self._last: dict[str, int] = {}
        self._before: dict[str, int] = {}  # those of which nothing came since the last time some were forgotten

    def may_hold(self, points: Iterable[tuple[str, int]]) -> bool:
        """Whether the store may have any of these: series and time."""
        last, before, until_ns = self._last, self._before, self._until_ns
        return any(time_ns <= (last.get(series) or before.get(series, until_ns)) for series, time_ns in points)

    def add(self, points: Iterable[tuple[str, int]]) -> None:
        """They are in the store now."""
        for series, time_ns in points:
            known = self._last.get(series)
            if known is None:
                known = self._before.pop(series, None)
                if known is not None or time_ns > self._until_ns:
                    self._last[series] = max(known or 0, time_ns)
                    self._forget()
            elif time_ns > known:
                self._last[series] = time_ns

    def __len__(self) -> int:
        return len(self._last) + len(self._before)

    def _forget(self) -> None:
        if 2 * len(self._last) > self._most:
            self._until_ns = max(self._until_ns, max(self._before.values(), default=0))
            self._last, self._before = {}, self._last


class Known:
    """Keys of rows that are in the store for certain. Owned by the thread that writes."""

    def __init__(self, most: int = 300_000) -> None:
        """``most`` of them are remembered, those that were added or asked for last."""
        self._most = most
        self._now: set[str] = set()
        self._before: set[str] = set()
        #: Whether keys that are not here may be in the store all the same.
        self.has_forgotten = False

    def __contains__(self, key: str) -> bool:
        if key in self._now:
            return True
        if key not in self._before:
            return False
        self._before.discard(key)
        self._add(key)
        return True

    def add(self, keys: Iterable[str]) -> None:
        """They are in the store now."""
        for key in keys:
            if key not in self:
                self._add(key)

    def forget(self, keys: Collection[str]) -> None:
        """They are not in the store any more."""
        self._now.difference_update(keys)
        self._before.difference_update(keys)

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def _add(self, key: str) -> None:
        self._now.add(key)
        if 2 * len(self._now) > self._most:
            self.has_forgotten = self.has_forgotten or bool(self._before)
            self._now, self._before = set(), self._now
