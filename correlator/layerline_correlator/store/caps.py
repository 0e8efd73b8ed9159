"""Limits on active series, senders and values of one tag. What exceeds a limit is counted and named.

An id in a metric's attributes makes a new series of every request; an id in a resource makes a new sender. Each takes
memory while it is active, that is, while it has sent something within the last one or two minutes. When a limit is
reached, those that are active stay and new ones are refused (of a tag, only the value is left out). The limits hold
for OTLP over HTTP and gRPC, for events and for imports. Containers that have ended free their places.

In files of recorded data hours pass within seconds. There the times in the data decide what was active together, and it
takes no place of what is live.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from layerline_correlator.store.columns import SpanColumns
from layerline_correlator.store.handles import identifies, machine
from layerline_correlator.store.model import Batch, ResourceRow, SeriesRow, SpanRow, resource_key, series_key

#: What was not seen for one to two of these is forgotten, in seconds.
STRETCH_S = 60.0
#: Of all series, one sender may have a tenth, and one machine half; a sender counts as ten of them.
SENDERS_SHARE, MACHINE_SHARE = 10, 2
#: Values of all tags together, in those of one.
ALL_TAGS = 20
#: What exceeds caps is written down so often, in seconds, under so many names.
NOTE_S, NAMES = 60.0, 20

SERIES, SENDERS, TAG_VALUES = KINDS = ("series", "senders", "tag values")


class Exceeded(NamedTuple):
    """Items of one request that were beyond a cap."""

    kind: str  # one of KINDS
    name: str  # the metric, the service, the tag
    sender: str  # who sent it, for people
    item: str  # "span" | "point" | "log" | "event"; "tag" where only a tag's value is not kept
    items: int
    why: str


class Note(NamedTuple):
    """A row of the table ``exceeded``: what of one kind and name was beyond a cap for a while."""

    kind: str
    name: str | None  # None: of more names than are written down
    sender: str | None
    first_ns: int
    last_ns: int
    items: int


@dataclass(frozen=True, slots=True)
class Active:
    """How many there are now, and how many may be."""

    series: int
    series_limit: int
    senders: int
    senders_limit: int
    exceeded: Mapping[str, int]  # items by kind, since the process began


NOTHING = Active(0, 0, 0, 0, {})


class Full(NamedTuple):
    """A cap that something would exceed, and the group that has it; None: all together."""

    limit: int
    group: Hashable | None


class Lately:
    """Keys that were seen in the last one to two stretches, and how many of them each group has."""

    def __init__(self, most: int) -> None:
        """At most that many keys are taken."""
        self.most = most
        self._now: set[Hashable] = set()
        self._before: set[Hashable] = set()
        self._counts: Counter[Hashable] = Counter()
        self._counts_before: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def __contains__(self, key: Hashable) -> bool:
        """Whether it was seen in this stretch."""
        return key in self._now

    def turn(self) -> None:
        """A stretch is over."""
        self._now, self._before = set(), self._now
        self._counts, self._counts_before = Counter(), self._counts

    def take(self, key: Hashable, groups: Mapping[Hashable, int]) -> Full | None:
        """See a key, which counts in these groups, each with how many it may have. None where it is taken."""
        if key in self._now:
            return None
        if key in self._before:
            self._before.discard(key)
            self._counts_before.subtract(groups.keys())
        else:
            if len(self) >= self.most:
                return Full(self.most, None)
            for group, most in groups.items():
                if self._counts[group] + self._counts_before[group] >= most:
                    return Full(most, group)
        self._now.add(key)
        self._counts.update(groups.keys())
        return None


class Caps:
    """Decides what is taken. Owned by the thread that writes; ``active`` may be asked by any."""

    def __init__(self, series: int, tag_values: int, recorded: bool = False) -> None:
        """``series`` in all, ``tag_values`` of one tag. ``recorded``: time passes as it does in the data."""
        self._recorded = recorded
        self._series = Lately(series)
        self._senders = Lately(max(1, series // SENDERS_SHARE))
        self._values = Lately(ALL_TAGS * tag_values)
        self._tag_values = tag_values
        self._began_s: float | None = None  # this stretch
        self._totals: Counter[str] = Counter()
        self._notes: dict[tuple[str, str | None, str | None], Note] = {}
        self._noted_s = -NOTE_S

    def active(self) -> Active:
        """How many there are."""
        series, senders = self._series, self._senders
        return Active(len(series), series.most, len(senders), senders.most, dict(self._totals))

    def admit(self, batch: Batch) -> tuple[Batch, tuple[Exceeded, ...]]:
        """What of it is taken, nearly always all of it, and what is not."""
        now_ns = _newest_ns(batch) if self._recorded else time.time_ns()
        if now_ns is not None:
            self._pass_time(now_ns / 1e9 if self._recorded else time.monotonic())
        rest = _Rest()
        for row in batch.resources:
            if row.attributes and row.resource not in self._senders:  # without any it is nobody: who tells of deploys
                self._sender(row, rest)
        senders = {row.resource: row for row in batch.resources}
        for one in batch.series:
            if one.series not in self._series and one.resource not in rest.refused:
                self._one_series(one, senders.get(one.resource) or ResourceRow(one.resource, {}), rest)
        if not rest.is_any():
            return batch, ()
        taken, exceeded = rest.applied(batch, senders)
        self._count(exceeded, time.time_ns() if now_ns is None else now_ns)
        return taken, exceeded

    def due(self) -> list[Note]:
        """What is to be written down now; once a minute, and the first at once."""
        return list(self._notes.values()) if self._notes and time.monotonic() - self._noted_s >= NOTE_S else []

    def undone(self) -> list[Note]:
        """What was not written down yet."""
        return list(self._notes.values())

    def noted(self) -> None:
        """It is written down."""
        self._notes.clear()
        self._noted_s = time.monotonic()

    def _pass_time(self, now_s: float) -> None:
        """Forget what was not seen lately. The next file may begin earlier than the last one ended."""
        if self._began_s is None:
            self._began_s = now_s
        passed = int(abs(now_s - self._began_s) // STRETCH_S)
        if passed:
            self._began_s = now_s
        for lately in min(passed, 2) * (self._series, self._senders, self._values):
            lately.turn()

    def _sender(self, row: ResourceRow, rest: _Rest) -> None:
        """A sender that was not seen in this stretch."""
        left_out = {}
        for name, value in row.attributes.items():
            if not identifies(name):
                full = self._values.take(hash((name, value)), {hash(name): self._tag_values})
                if full is not None:
                    whose = "all tags have" if full.group is None else "it has"
                    left_out[name] = f"{whose} more than {full.limit:,} values {_LATELY}; it is left out"
        key = row.resource
        if left_out:
            kept = {name: value for name, value in row.attributes.items() if name not in left_out}
            key = resource_key(kept)
            rest.without[row.resource] = ResourceRow(key, kept), left_out
        if (full := self._senders.take(key, {})) is not None:
            rest.refused[row.resource] = f"more than {full.limit:,} senders sent something {_LATELY}"

    def _one_series(self, one: SeriesRow, sender: ResourceRow, rest: _Rest) -> None:
        """A series that was not seen in this stretch."""
        most = self._series.most
        told = rest.without.get(one.resource)
        owner, attributes = (told[0].resource, told[0].attributes) if told else (one.resource, sender.attributes)
        groups: dict[Hashable, int] = {owner: max(1, most // SENDERS_SHARE)}
        if (host := machine(attributes)[0]) is not None:
            groups["machine", host] = max(1, most // MACHINE_SHARE)
        key = series_key(owner, one.signal, one.attributes) if told else one.series
        if (full := self._series.take(key, groups)) is not None:
            whose = (
                "there are" if full.group is None else "its sender has" if full.group == owner else "its machine has"
            )
            rest.series[one.series] = one.signal, f"{whose} more than {full.limit:,} series {_LATELY}"
        elif told:
            rest.renamed[one.series] = key

    def _count(self, exceeded: Sequence[Exceeded], now_ns: int) -> None:
        for one in exceeded:
            self._totals[one.kind] += one.items
            key: tuple[str, str | None, str | None] = one.kind, one.name[:200], one.sender[:200]
            if key not in self._notes and len(self._notes) >= NAMES:
                key = one.kind, None, None
            known = self._notes.get(key)
            first_ns, last_ns, items = (now_ns, now_ns, 0) if known is None else known[3:]
            self._notes[key] = Note(*key, min(first_ns, now_ns), max(last_ns, now_ns), items + one.items)


_LATELY = "within two minutes"


class _Rest:
    """What of one batch is beyond a cap."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}  # senders, and why
        self.without: dict[str, tuple[ResourceRow, dict[str, str]]] = {}  # senders, what is left, which tags are not
        self.series: dict[str, tuple[str, str]] = {}  # series, their metric and why
        self.renamed: dict[str, str] = {}  # series of senders without some tags

    def is_any(self) -> bool:
        return bool(self.refused or self.without or self.series)

    def applied(self, batch: Batch, senders: Mapping[str, ResourceRow]) -> tuple[Batch, tuple[Exceeded, ...]]:
        """The batch without that, and what is not taken, by cap and name."""
        counts: Counter[tuple[str, str, str, str, str]] = Counter()
        sender_of = {one.series: one.resource for one in batch.series}

        def takes(resource: str, item: str) -> bool:
            if (why := self.refused.get(resource)) is None:
                return True
            attributes = senders[resource].attributes
            counts[SENDERS, attributes.get("service.name", ""), _named(attributes), item, why] += 1
            return False

        def takes_point(series: str) -> bool:
            owner = sender_of.get(series)
            if owner is not None and not takes(owner, "point"):
                return False
            if (found := self.series.get(series)) is None:
                return True
            metric, why = found
            counts[SERIES, metric, _named(senders[owner].attributes) if owner else "", "point", why] += 1
            return False

        def named(row: Any) -> Any:
            found = self.without.get(row.resource)
            return row._replace(resource=found[0].resource) if found else row

        for resource, (_, left_out) in self.without.items():
            for tag, why in left_out.items():
                counts[TAG_VALUES, tag, _named(senders[resource].attributes), "tag", why] += 1
        spans: list[SpanRow] = [named(row) for row in batch.spans if takes(row.resource, "span")]
        taken = Batch(
            resources=[
                self.without[row.resource][0] if row.resource in self.without else row
                for row in batch.resources
                if row.resource not in self.refused
            ],
            spans=SpanColumns(spans),
            series=[
                named(one)._replace(series=self.renamed.get(one.series, one.series))
                for one in batch.series
                if one.resource not in self.refused and one.series not in self.series
            ],
            points=[
                row._replace(series=self.renamed.get(row.series, row.series))
                for row in batch.points
                if takes_point(row.series)
            ],
            events=[named(row) for row in batch.events if takes(row.resource, "event")],
            logs=[named(row) for row in batch.logs if takes(row.resource, "log")],
            recordings=batch.recordings,
        )
        return taken, tuple(
            Exceeded(kind, name, sender, item, items, why) for (kind, name, sender, item, why), items in counts.items()
        )


def _newest_ns(batch: Batch) -> int | None:
    """When the last of these items was; None where there are none."""
    times = (
        *(row.time_ns for row in batch.points),
        *(row.start_ns for row in batch.spans),
        *(row.time_ns for row in batch.events),
        *(row.time_ns for row in batch.logs),
    )
    return max(times, default=None)


def _named(attributes: Mapping[str, str]) -> str:
    """A sender as people know it."""
    return (
        attributes.get("service.name")
        or attributes.get("container.name")
        or attributes.get("container.id", "")[:12]
        or attributes.get("host.name")
        or machine(attributes)[0]
        or ""
    )
