"""Which spans of a trace are rows of a waterfall, and which are folded into others: plain arithmetic, no store.

A trace of 50,000 spans has no more rows than one of 500. Rows go to where the request's time was spent: the spans
below which the critical path stayed longest are opened first. Many children of one kind (service, name and kind) become
two rows: the child that the path stayed in longest, and a row that counts the others. What has no row of its own is
counted in one that has: the own time of all rows adds up to the request's duration, to the nanosecond.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Rows of a waterfall, at most, and from how many children of one kind on they are folded.
MOST_ROWS, ALIKE = 500, 6


@dataclass(frozen=True, slots=True)
class Spanned:
    """What folding must know of a span: its number, its caller's, its kind, when it was, and its own time."""

    number: int
    parent: int | None
    kind: tuple[str, str, str]  # service, name, kind
    start_ns: int
    end_ns: int
    path_ns: int  # its own time on the critical path


@dataclass(slots=True)
class Folded:
    """A row: a span and what is folded into it."""

    number: int
    """The span; of several alike the longest."""
    depth: int
    alike: int = 1
    """How many spans alike the row stands for."""
    total_ns: int = 0
    """How long they took, added up."""
    start_ns: int = 0
    end_ns: int = 0
    below: int = 0
    """Spans below it that have no row."""
    members: list[int] = field(default_factory=list)
    """All whose own time is the row's: the span, those alike, and those below without a row."""


def fold(
    spans: Sequence[Spanned], top: int, *, open_top: bool = False, most: int = MOST_ROWS, alike: int = ALIKE
) -> list[Folded]:
    """The rows below and with the span ``top``, each after its caller's. KeyError where there is no such span.

    ``open_top``: the children of ``top`` itself are not folded.
    """
    tree = _Tree(spans, top)
    root = tree.single(top, 0)
    rows_left = most - 1
    below: dict[int, list[Folded]] = {}
    heap = [(-tree.path_ns[top], 0, root)]
    turn = 0
    while heap:
        _, _, row = heapq.heappop(heap)
        children = tree.children.get(row.number, [])
        if not children:
            continue
        least = len(children) + 1 if open_top and row is root else alike
        found = tree.grouped(children, row.depth + 1, least)
        found.sort(key=lambda one: (-sum(tree.path_ns[each] for each in one.members), one.start_ns - one.end_ns))
        shown, hidden = found[:rows_left], found[rows_left:]
        rows_left -= len(shown)
        below[row.number] = shown
        for one in hidden:
            row.below += sum(tree.count[each] for each in one.members)
            row.members += [each for member in one.members for each in tree.all_below(member)]
        for one in shown:
            if one.alike > 1:  # with all that is below them
                one.below = sum(tree.count[each] - 1 for each in one.members)
                one.members = [each for member in one.members for each in tree.all_below(member)]
            else:
                turn += 1
                heapq.heappush(heap, (-tree.path_ns[one.number], turn, one))
    return list(_in_order(root, below))


def _in_order(root: Folded, below: Mapping[int, Sequence[Folded]]) -> list[Folded]:
    """Each row, then those below it in order of time; those that stand for several after the others of that moment."""
    out, waiting = [], [root]
    while waiting:
        row = waiting.pop()
        out.append(row)
        if row.alike == 1:
            later = sorted(below.get(row.number, ()), key=lambda one: (one.start_ns, one.alike > 1, one.number))
            waiting += reversed(later)
    return out


class _Tree:
    """The spans below one, with sums."""

    def __init__(self, spans: Sequence[Spanned], top: int) -> None:
        self.known = {span.number: span for span in spans}
        self.children: dict[int, list[int]] = {}
        for span in spans:
            if span.parent is not None and span.number != top:
                self.children.setdefault(span.parent, []).append(span.number)
        order, seen = [top], {self.known[top].number}
        for number in order:  # grows while it is read
            for child in self.children.get(number, ()):
                if child not in seen:
                    seen.add(child)
                    order.append(child)
        self.path_ns = {number: self.known[number].path_ns for number in order}
        self.count = dict.fromkeys(order, 1)
        for number in reversed(order):
            parent = self.known[number].parent
            if number != top and parent is not None:
                self.path_ns[parent] += self.path_ns[number]
                self.count[parent] += self.count[number]

    def single(self, number: int, depth: int) -> Folded:
        span = self.known[number]
        length_ns = span.end_ns - span.start_ns
        return Folded(number, depth, 1, length_ns, span.start_ns, span.end_ns, 0, [number])

    def grouped(self, children: Sequence[int], depth: int, alike: int) -> list[Folded]:
        """Children, those alike together where they are many."""
        by_kind: dict[tuple[str, str, str], list[int]] = {}
        for one in children:
            by_kind.setdefault(self.known[one].kind, []).append(one)
        found = []
        for group in by_kind.values():
            if len(group) < alike:
                found += [self.single(one, depth) for one in group]
                continue
            longest = max(group, key=lambda one: (self.path_ns[one], self._length_ns(one)))
            others = [one for one in group if one != longest]
            found.append(self.single(longest, depth))
            found.append(
                Folded(
                    number=max(others, key=self._length_ns),
                    depth=depth,
                    alike=len(others),
                    total_ns=sum(self._length_ns(one) for one in others),
                    start_ns=min(self.known[one].start_ns for one in others),
                    end_ns=max(self.known[one].end_ns for one in others),
                    members=others,
                )
            )
        return found

    def _length_ns(self, number: int) -> int:
        span = self.known[number]
        return span.end_ns - span.start_ns

    def all_below(self, number: int) -> list[int]:
        """It and all below it."""
        out = [number]
        for one in out:
            out += self.children.get(one, ())
        return out
