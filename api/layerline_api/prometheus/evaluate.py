"""What of PromQL is calculated: selectors, rate, increase, irate, aggregations, histogram_quantile, operators, offset.

Everything is calculated for all steps of a window at once. Counters are known as how much they rose until any moment,
so that ``rate`` and ``increase`` are what happened in the range: nothing is extrapolated, no scrape interval matters.
Source: Prometheus 3, "Querying: functions" and "operators"; ``promql/quantile.go``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import promql_parser as promql

from layerline_api.problems import Problem
from layerline_api.prometheus.problems import BadData
from layerline_api.prometheus.reading import LOOK_BACK_NS, Labels, Reading, Series

#: How long a query may be calculated, in seconds, beside what is read; and how many values it may hold at a time.
PATIENCE_S = 20.0
MOST_VALUES = 2_000_000

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Element:
    """One series of a vector, with a value for each step: None where it is not there."""

    labels: Labels  # with __name__ where it has one
    values: Values


@dataclass(frozen=True, slots=True)
class Vector:
    """Series at each step."""

    elements: list[Element]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number at each step."""

    values: list[float]


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    text: str


Result = Vector | Scalar | Text

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: _divided(a, b),
    "%": lambda a, b: math.nan if b == 0 or math.isinf(a) or math.isnan(b) else math.fmod(a, b),
    "^": lambda a, b: _powered(a, b),
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
_SETS = ("and", "or", "unless")
_AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": lambda values: math.fsum(values) if all(map(math.isfinite, values)) else sum(values),
    "avg": lambda values: sum(values) / len(values),
    "max": lambda values: max(values, key=lambda value: -math.inf if math.isnan(value) else value),
    "min": lambda values: min(values, key=lambda value: math.inf if math.isnan(value) else value),
    "count": lambda values: float(len(values)),
}
_RANKED = ("topk", "bottomk")
#: What is said to whoever asks for something else.
_OVER_RANGES = ("rate", "increase", "irate")
FUNCTIONS = (*_OVER_RANGES, "histogram_quantile", "time", "vector", "scalar", "abs", "clamp_min", "clamp_max")


def parsed(text: str, field: str = "query") -> promql.Expr:
    """The expression that the parameter says. ``BadData`` where it is none."""
    if len(text) > 10_000:
        raise BadData(f"{field} is {len(text):,} characters long; expected at most 10,000", field)
    # The parser goes down once for each bracket, and has no limit of its own.
    if max(text.count("("), text.count("-"), text.count("+")) > 400:
        raise BadData(f"{field} is nested too deeply", field)
    try:
        return promql.parse(text)
    except ValueError as problem:
        raise BadData(f"{field} cannot be read: {str(problem)[:300]}", field) from None


class Evaluation:
    """One query over the steps of one window."""

    def __init__(self, reading: Reading, steps_ns: Sequence[int]) -> None:
        self._reading = reading
        self._steps = steps_ns
        self._until_s = time.monotonic() + PATIENCE_S

    def of(self, expression: object) -> Result:
        """What it is at each step. ``BadData`` names what is not supported."""
        if time.monotonic() > self._until_s:
            raise Problem(503, f"the query took longer than {PATIENCE_S:g} s; ask for fewer steps or series")
        match expression:
            case promql.ParenExpr():
                return self.of(expression.expr)
            case promql.NumberLiteral():
                return Scalar([expression.val] * len(self._steps))
            case promql.StringLiteral():
                return Text(expression.val)
            case promql.UnaryExpr():
                return _mapped(self.of(expression.expr), lambda value: -value)
            case promql.VectorSelector():
                return self._selected(expression)
            case promql.AggregateExpr():
                return self._aggregated(expression)
            case promql.BinaryExpr():
                return self._combined(expression)
            case promql.Call():
                return self._called(expression)
            case promql.MatrixSelector():
                raise BadData("a range such as [5m] is only supported in rate, increase and irate")
            case promql.SubqueryExpr():
                raise BadData("subqueries such as [1h:1m] are not supported here")
        raise BadData(f"{type(expression).__name__} is not supported here")

    # ---- selectors

    def _selected(self, selector: promql.VectorSelector) -> Vector:
        offset_ns = _ns(selector.offset)
        first, last = self._steps[0] - offset_ns, self._steps[-1] - offset_ns
        found = self._reading.select(selector, first - LOOK_BACK_NS, last + 1, whole=True)
        return self._vector(found, lambda one, at_ns: one.at(at_ns - offset_ns), named=True)

    def _over_range(self, function: str, argument: object) -> Vector:
        if not isinstance(argument, promql.MatrixSelector):
            raise BadData(f"{function} of a subquery is not supported here")
        selector = argument.vector_selector
        range_ns, offset_ns = _ns(argument.range), _ns(selector.offset)
        first, last = self._steps[0] - offset_ns - range_ns, self._steps[-1] - offset_ns
        found = self._reading.select(selector, first, last + 1)
        levels = next((one.name for one in found if one.is_level), None)
        if levels is not None:
            raise BadData(f"{function} is for counters, and {levels} is a gauge")

        def rise(one: Series, at_ns: int) -> float | None:
            until_ns = at_ns - offset_ns
            after_ns = until_ns - range_ns
            if not any(line.is_there(after_ns, until_ns) for line in one.lines):
                return None
            if function == "irate":
                rates = [rate for line in one.lines if (rate := line.last_rate(after_ns, until_ns)) is not None]
                return sum(rates) if rates else None
            risen = sum(line.risen(until_ns) - line.risen(after_ns) for line in one.lines)
            return risen / (range_ns / 1e9) if function == "rate" else risen

        return self._vector(found, rise, named=False)

    def _vector(self, found: Sequence[Series], value: Callable[[Series, int], float | None], *, named: bool) -> Vector:
        self._bounded(len(found))
        elements = []
        for one in found:
            if time.monotonic() > self._until_s:
                raise Problem(503, f"the query took longer than {PATIENCE_S:g} s; ask for fewer steps or series")
            labels = tuple(sorted((*one.labels, ("__name__", one.name)))) if named else one.labels
            values: Values = [value(one, at_ns) for at_ns in self._steps]
            if any(each is not None for each in values):
                elements.append(Element(labels, values))
        return Vector(elements)

    def _bounded(self, series: int) -> None:
        if series * len(self._steps) > MOST_VALUES:
            raise BadData(
                f"{series:,} series at {len(self._steps):,} steps are more than {MOST_VALUES:,} values; add matchers,"
                " or ask for fewer steps"
            )

    # ---- functions

    def _called(self, call: promql.Call) -> Result:
        name, arguments = call.func.name, list(call.args)
        if name in _OVER_RANGES:
            return self._over_range(name, arguments[0])
        if name == "histogram_quantile":
            return self._quantile(_number(self.of(arguments[0])), self._vector_of(arguments[1], name))
        if name == "time":
            return Scalar([at_ns / 1e9 for at_ns in self._steps])
        if name == "vector":
            return Vector([Element((), [*_number(self.of(arguments[0])).values])])
        if name == "scalar":
            elements = self._vector_of(arguments[0], name).elements
            if len(elements) != 1:
                return Scalar([math.nan] * len(self._steps))
            return Scalar([math.nan if value is None else value for value in elements[0].values])
        if name == "abs":
            return _mapped(self._vector_of(arguments[0], name), abs)
        if name in ("clamp_min", "clamp_max"):
            bound = _number(self.of(arguments[1]))
            kept = max if name == "clamp_min" else min
            return _with_scalar(self._vector_of(arguments[0], name), bound, lambda value, limit: kept(value, limit))
        raise BadData(f"the function {name} is not supported here; there are: {', '.join(FUNCTIONS)}")

    def _vector_of(self, argument: object, name: str) -> Vector:
        found = self.of(argument)
        if not isinstance(found, Vector):
            raise BadData(f"{name} expects an instant vector")
        return found

    def _quantile(self, wanted: Scalar, buckets: Vector) -> Vector:
        groups: dict[Labels, list[tuple[float, Values]]] = {}
        for one in buckets.elements:
            upper = dict(one.labels).get("le")
            bound = _bound(upper)
            if bound is not None:
                groups.setdefault(_without(one.labels, ("le", "__name__")), []).append((bound, one.values))
        elements = []
        for labels, of_group in groups.items():
            ordered = sorted(of_group, key=lambda pair: pair[0])
            values: Values = []
            for step, share in enumerate(wanted.values):
                known = [(bound, count) for bound, counts in ordered if (count := counts[step]) is not None]
                values.append(bucket_quantile(share, known) if known else None)
            elements.append(Element(labels, values))
        return Vector(elements)

    # ---- aggregations

    def _aggregated(self, expression: promql.AggregateExpr) -> Vector:
        name = str(expression.op)
        if name not in _AGGREGATIONS and name not in _RANKED:
            listed = ", ".join((*_AGGREGATIONS, *_RANKED))
            raise BadData(f"the aggregation {name} is not supported here; there are: {listed}")
        vector = self._vector_of(expression.expr, name)
        modifier = expression.modifier
        groups: dict[Labels, list[Element]] = {}
        for one in vector.elements:
            if modifier is None:
                group: Labels = ()
            elif modifier.type == promql.AggModifierType.By:
                group = tuple((key, text) for key, text in one.labels if key in modifier.labels)
            else:
                group = _without(one.labels, (*modifier.labels, "__name__"))
            groups.setdefault(group, []).append(one)
        if name in _RANKED:
            many = _number(self.of(expression.param))
            return Vector([one for group in groups.values() for one in _ranked(group, many, name == "topk")])
        added = _AGGREGATIONS[name]
        return Vector(
            [
                Element(labels, [added(known) if (known := _known(step)) else None for step in _by_step(group)])
                for labels, group in groups.items()
            ]
        )

    # ---- operators

    def _combined(self, expression: promql.BinaryExpr) -> Result:
        operator, modifier = str(expression.op), expression.modifier
        left, right = self.of(expression.lhs), self.of(expression.rhs)
        as_bool = modifier is not None and modifier.return_bool
        if isinstance(left, Text) or isinstance(right, Text):
            raise BadData(f"{operator} of a string is not supported")
        if operator in _SETS:
            if isinstance(left, Vector) and isinstance(right, Vector):
                return _set(operator, left, right, _signature(modifier))
            raise BadData(f"{operator} expects two instant vectors")
        calculated = _operation(operator, as_bool)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            if operator in _COMPARISONS and not as_bool:
                raise BadData("comparisons between scalars need bool")
            pairs = zip(left.values, right.values, strict=True)
            return Scalar([math.nan if (value := calculated(a, b)) is None else value for a, b in pairs])
        keeps_name = operator in _COMPARISONS and not as_bool
        if isinstance(left, Vector) and isinstance(right, Scalar):
            return _with_scalar(left, right, calculated, keeps_name)
        if isinstance(left, Scalar) and isinstance(right, Vector):
            if keeps_name:  # what is kept is the vector's value
                compared = _COMPARISONS[operator]
                return _with_scalar(right, left, lambda value, number: value if compared(number, value) else None, True)
            return _with_scalar(right, left, lambda value, number: calculated(number, value))
        assert isinstance(left, Vector)
        assert isinstance(right, Vector)
        if modifier is not None and modifier.card != promql.VectorMatchCardinality.OneToOne:
            raise BadData("group_left and group_right are not supported here: vectors are matched one to one")
        return _one_to_one(left, right, calculated, _signature(modifier), keeps_name)


def bucket_quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float:
    """The quantile of a histogram: ``(upper bound, how many up to it)`` in order; within a bucket evenly."""
    if math.isnan(share):
        return math.nan
    if share < 0:
        return -math.inf
    if share > 1:
        return math.inf
    if buckets[-1][0] != math.inf or len(buckets) < 2:
        return math.nan
    counts = list(_growing([count for _, count in buckets]))
    if counts[-1] <= 0:
        return math.nan
    rank = share * counts[-1]
    number = next(index for index, count in enumerate(counts) if count >= rank)
    if number == len(buckets) - 1:
        return buckets[-2][0]
    upper, above = buckets[number][0], counts[number]
    if number == 0 and upper <= 0:
        return upper
    lower, below = (0.0, 0.0) if number == 0 else (buckets[number - 1][0], counts[number - 1])
    return upper if above == below else lower + (upper - lower) * ((rank - below) / (above - below))


def _growing(counts: Sequence[float]) -> list[float]:
    """Sums of rounded figures may fall by a hair from one bucket to the next."""
    grown, most = [], 0.0
    for count in counts:
        most = max(most, count)
        grown.append(most)
    return grown


Operation = Callable[[float, float], float | None]


def _operation(operator: str, as_bool: bool) -> Operation:
    if operator in _ARITHMETIC:
        return _ARITHMETIC[operator]
    if operator not in _COMPARISONS:
        raise BadData(f"the operator {operator} is not supported here")
    compared = _COMPARISONS[operator]
    if as_bool:
        return lambda a, b: float(compared(a, b))
    return lambda a, b: a if compared(a, b) else None


def _mapped(found: Result, change: Callable[[float], float]) -> Result:
    match found:
        case Scalar():
            return Scalar([change(value) for value in found.values])
        case Vector():
            return Vector(
                [
                    Element(
                        _without(one.labels, ("__name__",)),
                        [None if value is None else change(value) for value in one.values],
                    )
                    for one in found.elements
                ]
            )
    raise BadData("- of a string is not supported")


def _with_scalar(vector: Vector, scalar: Scalar, calculated: Operation, keeps_name: bool = False) -> Vector:
    return Vector(
        [
            Element(
                one.labels if keeps_name else _without(one.labels, ("__name__",)),
                [
                    None if value is None else calculated(value, number)
                    for value, number in zip(one.values, scalar.values, strict=True)
                ],
            )
            for one in vector.elements
        ]
    )


Signature = Callable[[Labels], Labels]


def _signature(modifier: promql.BinModifier | None) -> Signature:
    """By which labels two elements belong together."""
    matching = None if modifier is None else modifier.matching
    if matching is None:
        return lambda labels: _without(labels, ("__name__",))
    listed = frozenset(matching.labels)
    if matching.type == promql.LabelModifierType.Include:
        return lambda labels: tuple((key, text) for key, text in labels if key in listed)
    return lambda labels: _without(labels, (*listed, "__name__"))


def _one_to_one(left: Vector, right: Vector, calculated: Operation, signature: Signature, keeps_name: bool) -> Vector:
    partners: dict[Labels, Element] = {}
    for one in right.elements:
        if partners.setdefault(signature(one.labels), one) is not one:
            raise BadData(
                f"several series on the right side are {_shown(signature(one.labels))}: vectors are matched one to one;"
                " aggregate, or match on more labels"
            )
    elements: dict[Labels, Element] = {}
    for one in left.elements:
        key = signature(one.labels)
        if key in elements:
            raise BadData(
                f"several series on the left side are {_shown(key)}: vectors are matched one to one;"
                " aggregate, or match on more labels"
            )
        if (partner := partners.get(key)) is not None:
            pairs = zip(one.values, partner.values, strict=True)
            values: Values = [None if a is None or b is None else calculated(a, b) for a, b in pairs]
            elements[key] = Element(one.labels if keeps_name else key, values)
    return Vector(list(elements.values()))


def _set(operator: str, left: Vector, right: Vector, signature: Signature) -> Vector:
    steps = len((left.elements or right.elements or [Element((), [])])[0].values)

    def there(vector: Vector) -> dict[Labels, list[bool]]:
        found: dict[Labels, list[bool]] = {}
        for one in vector.elements:
            marks = found.setdefault(signature(one.labels), [False] * steps)
            for step, value in enumerate(one.values):
                marks[step] |= value is not None
        return found

    def kept(vector: Vector, marks: dict[Labels, list[bool]], wanted: bool) -> list[Element]:
        nowhere = [False] * steps
        return [
            Element(
                one.labels,
                [
                    value if mark is wanted else None
                    for value, mark in zip(one.values, marks.get(signature(one.labels), nowhere), strict=True)
                ],
            )
            for one in vector.elements
        ]

    if operator == "or":
        return Vector([*left.elements, *kept(right, there(left), False)])
    return Vector(kept(left, there(right), operator == "and"))


def _ranked(group: Sequence[Element], many: Scalar, largest: bool) -> list[Element]:
    """At each step those with the largest (smallest) values; the others are not there."""
    kept: list[Values] = [[None] * len(many.values) for _ in group]
    for step, number in enumerate(many.values):
        known = [(value, index) for index, one in enumerate(group) if (value := one.values[step]) is not None]
        known.sort(key=lambda pair: (math.isnan(pair[0]), -pair[0] if largest else pair[0]))
        most = 0 if math.isnan(number) or number < 1 else int(min(number, len(known)))
        for value, index in known[:most]:
            kept[index][step] = value
    return [
        Element(one.labels, values)
        for one, values in zip(group, kept, strict=True)
        if any(value is not None for value in values)
    ]


def _by_step(group: Sequence[Element]) -> zip[tuple[float | None, ...]]:
    return zip(*(one.values for one in group), strict=True)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _number(found: Result) -> Scalar:
    if not isinstance(found, Scalar):
        raise BadData("expected a number")
    return found


def _without(labels: Labels, names: Sequence[str]) -> Labels:
    return tuple((key, text) for key, text in labels if key not in names)


def _bound(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _shown(labels: Labels) -> str:
    return "{" + ", ".join(f'{key}="{text}"' for key, text in labels) + "}"


def _ns(duration: timedelta | None) -> int:
    return 0 if duration is None else duration // timedelta(microseconds=1) * 1_000


def _divided(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _powered(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan
