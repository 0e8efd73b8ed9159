"""The series that a selector names, with their samples, read once for each part of a query that needs the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import promql_parser as promql

from layerline_api.prometheus.metrics import BOUNDS_NS, BOUNDS_S, Metric, label, metrics
from layerline_api.prometheus.problems import BadData
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.samples import (
    Samples,
    bin_of,
    read_latency_samples,
    read_lost_samples,
    read_matching,
    read_reading_samples,
    read_request_samples,
    read_series,
    read_signals,
)

#: How long a series is there after its last sample, as in Prometheus.
LOOK_BACK_NS = 300 * 10**9
_DAY_NS = 86_400 * 10**9
#: Series that one selector may name.
MOST_SERIES = 5_000

Labels = tuple[tuple[str, str], ...]


class Line:
    """A counter or a level over time, of one sender: how much a counter rose until any moment, what a level was."""

    __slots__ = ("_amounts", "_before", "_divisor", "_from", "_to")

    def __init__(self, samples: Samples, divisor: float) -> None:
        self._from, self._to, self._amounts = samples.from_ns, samples.to_ns, samples.amounts
        self._divisor = divisor
        self._before = [0.0, *accumulate(samples.amounts)]

    def risen(self, at_ns: int) -> float:
        """How much it rose until then since the beginning of what was read; within a stretch evenly."""
        number = bisect_right(self._from, at_ns) - 1
        if number < 0:
            return 0.0
        from_ns, to_ns = self._from[number], self._to[number]
        share = 1.0 if at_ns >= to_ns else (at_ns - from_ns) / (to_ns - from_ns)
        return (self._before[number] + self._amounts[number] * share) / self._divisor

    def level(self, at_ns: int) -> float | None:
        """What it was then; None where the last that is known is too old."""
        number = bisect_right(self._from, at_ns) - 1
        if number < 0 or at_ns > self._to[number] + LOOK_BACK_NS:
            return None
        return self._amounts[number] / self._divisor

    def is_there(self, after_ns: int, until_ns: int) -> bool:
        """Whether anything is known of that time, or of a little before it."""
        return bool(self._from) and self._from[0] < until_ns and self._to[-1] + LOOK_BACK_NS > after_ns

    def flat(self) -> Line:
        """One that is there whenever this one is, and never rises."""
        return Line(Samples("", (), False, self._from, self._to, [0.0] * len(self._from)), 1)

    def last_rate(self, after_ns: int, until_ns: int) -> float | None:
        """How fast it rose in its last stretch that ended within this time; None where there is none."""
        number = bisect_right(self._to, until_ns) - 1
        if number < 0 or self._to[number] <= after_ns:
            return None
        return self._amounts[number] / self._divisor / ((self._to[number] - self._from[number]) / 1e9)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels without its name, and its lines, which add up."""

    name: str
    labels: Labels
    is_level: bool
    lines: tuple[Line, ...]

    def at(self, at_ns: int) -> float | None:
        """Its value then: of a counter how much it rose since what was read begins."""
        if self.is_level:
            known = [level for line in self.lines if (level := line.level(at_ns)) is not None]
            return sum(known) if known else None
        if not any(line.is_there(at_ns, at_ns + 1) for line in self.lines):
            return None
        return sum(line.risen(at_ns) for line in self.lines)


class Reading:
    """One query's samples. Counters begin at midnight, UTC, where their value itself is asked for."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._known: dict[tuple[str, ...], list[Samples]] = {}
        self._matches: dict[tuple[str, frozenset[str]], set[str]] = {}

    def select(self, selector: promql.VectorSelector, from_ns: int, to_ns: int, *, whole: bool = False) -> list[Series]:
        """The series that it names, with what is known of ``[from_ns, to_ns)``.

        ``whole``: the value of a counter itself is asked for, not how much it rose.
        """
        if selector.at is not None:
            raise BadData("@ is not supported here; shift the window, or use offset")
        if selector.matchers.or_matchers:
            raise BadData("'or' between matchers is not supported here; use a regular expression, =~\"a|b\"")
        matchers = list(selector.matchers.matchers)
        wanted = [metrics()[name] for name in self._names(selector.name, matchers)]
        from_midnight = whole and any(one.type != "gauge" for one in wanted)
        begin_ns = max(0, from_ns // _DAY_NS * _DAY_NS if from_midnight else from_ns)
        found = [one for metric in wanted for one in self._series(metric, begin_ns, to_ns)]
        return self._limited(self._matching(found, matchers))

    def described(self, selectors: Iterable[promql.VectorSelector], from_ns: int, to_ns: int) -> list[Series]:
        """The series that any of them names, of that time; those of readings whenever they were read."""
        found: dict[tuple[str, Labels], Series] = {}
        for selector in selectors:
            matchers = list(selector.matchers.matchers)
            for name in self._names(selector.name, matchers):
                metric = metrics()[name]
                made = (
                    self._made(metric, self._read_once("described", metric))
                    if metric.source == "readings"
                    else self._series(metric, from_ns, to_ns)
                )
                found |= {(one.name, one.labels): one for one in self._matching(made, matchers)}
        return self._limited(list(found.values()))

    def names(self) -> list[str]:
        """The metrics of which anything is stored."""
        signals = set(self._questions.ask(read_signals))
        return sorted(
            name for name, metric in metrics().items() if metric.source != "readings" or metric.sample in signals
        )

    # ---- what a selector says

    def _names(self, name: str | None, matchers: list[promql.Matcher]) -> list[str]:
        """The metrics that are meant; matchers of the name are taken out."""
        if name is not None:
            return [name] if name in metrics() else []
        of_name = [one for one in matchers if one.name == "__name__"]
        if not of_name:
            raise BadData("expected a metric's name in the selector, such as layerline_requests_total{…}")
        matchers[:] = [one for one in matchers if one.name != "__name__"]
        return [name for name in metrics() if all(self._holds(one, name, frozenset(metrics())) for one in of_name)]

    def _matching(self, found: list[Series], matchers: Sequence[promql.Matcher]) -> list[Series]:
        for matcher in matchers:
            texts = frozenset(dict(one.labels).get(matcher.name, "") for one in found)
            found = [one for one in found if self._holds(matcher, dict(one.labels).get(matcher.name, ""), texts)]
        return found

    def _holds(self, matcher: promql.Matcher, text: str, among: frozenset[str]) -> bool:
        """Whether a label's value is as the matcher wants it. All that may be asked for are matched in one go."""
        if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
            return (text == matcher.value) is (matcher.op == promql.MatchOp.Equal)
        key = (matcher.value, among)
        if key not in self._matches:
            self._matches[key] = self._questions.ask(read_matching, matcher.value, sorted(among))
        return (text in self._matches[key]) is (matcher.op == promql.MatchOp.Re)

    @staticmethod
    def _limited(found: list[Series]) -> list[Series]:
        if len(found) > MOST_SERIES:
            raise BadData(f"a selector names {len(found):,} series, more than {MOST_SERIES:,}; add matchers")
        return found

    # ---- what is read

    def _series(self, metric: Metric, from_ns: int, to_ns: int) -> list[Series]:
        if from_ns >= to_ns:
            return []
        return self._made(metric, self._read_once(metric.source, metric, from_ns, to_ns))

    def _read_once(self, source: str, metric: Metric, from_ns: int = 0, to_ns: int = 1) -> list[Samples]:
        signal = metric.sample if metric.source == "readings" else ""
        key = (source, signal, str(from_ns), str(to_ns))
        if key not in self._known:
            bin_ns = bin_of(from_ns, to_ns)
            ask = self._questions.ask
            readers: Mapping[str, Callable[[], list[Samples]]] = {
                "described": lambda: ask(read_series, [signal]),
                "readings": lambda: ask(read_reading_samples, [signal], from_ns, to_ns, bin_ns),
                "requests": lambda: ask(read_request_samples, from_ns, to_ns, bin_ns),
                "latency": lambda: ask(read_latency_samples, from_ns, to_ns, bin_ns, BOUNDS_NS),
                "lost": lambda: ask(read_lost_samples, from_ns, to_ns, bin_ns),
            }
            self._known[key] = readers[source]()
        return self._known[key]

    def _made(self, metric: Metric, samples: Iterable[Samples]) -> list[Series]:
        if metric.source == "latency":
            return list(_buckets(metric, samples))
        lines: dict[Labels, list[Line]] = {}
        for one in samples:
            if one.name == metric.sample:
                labels = tuple(sorted((label(key), text) for key, text in one.labels))
                lines.setdefault(labels, []).append(Line(one, metric.divisor))
        return [
            Series(metric.name, labels, metric.type == "gauge", tuple(of_these)) for labels, of_these in lines.items()
        ]


def _buckets(metric: Metric, samples: Iterable[Samples]) -> Iterable[Series]:
    """A series for each bound: the requests that took at most so long are those of all bounds up to it."""
    operations: dict[Labels, dict[int, Line]] = {}
    for one in samples:
        operations.setdefault(one.labels, {})[int(one.name.rpartition(" ")[2])] = Line(one, 1)
    for labels, by_bound in operations.items():
        everything = tuple(by_bound.values())
        for number, bound in enumerate((*BOUNDS_S, float("inf"))):
            upper = "+Inf" if number == len(BOUNDS_S) else f"{bound:g}"
            within = tuple(line for bound_no, line in by_bound.items() if bound_no <= number)
            yield Series(metric.name, tuple(sorted((*labels, ("le", upper)))), False, within or _none_of(everything))


def _none_of(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """A line that never rises, for as long as the others are there."""
    return tuple(line.flat() for line in lines)
