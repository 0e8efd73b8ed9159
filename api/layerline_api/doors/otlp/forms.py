"""A metric that comes again with other numbers: its bytes are compared with those before instead of being read again.

An agent or a Collector sends the same metrics in the same order each time, and only times and values differ. In
protobuf these have eight bytes each, so they lie where they lay before. Whatever differs elsewhere is read as before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from struct import Struct
from typing import Generic, TypeVar

from layerline_api.doors.bounds import Bounds
from layerline_api.doors.otlp.slim import SlimPoint
from layerline_api.doors.otlp.wire import FIXED64, fields

#: No form is kept of a metric with more bytes; an agent sends five readings of each series in one.
BYTES = 2_048
#: How many forms are kept together, and how many bytes their metrics may have: 40 MB at most.
KEPT, KEPT_BYTES = 32_768, 8 * 2**20

_GAUGE, _SUM, _POINT = 5, 7, 1
_START, _TIME, _DOUBLE, _INT = 2, 3, 4, 6
_FORMATS = {_START: "Q", _TIME: "Q", _DOUBLE: "d", _INT: "q"}
_OF_POINT = ({_START}, {_TIME}, {_DOUBLE, _INT})

#: Where start (None: there is none), time and value of a point lie.
Place = tuple[int | None, int, int]
Series = TypeVar("Series")
Key = TypeVar("Key", bound=Hashable)


class Form(Generic[Series]):
    """What lies between the numbers of a metric, and whose numbers they are."""

    __slots__ = ("_between", "_points", "_unpack", "attributes", "size")

    def __init__(self, raw: bytes, kinds: dict[int, str], points: list[Place], series: Sequence[Series]) -> None:
        """``kinds``: the format of the number at each place; each point belongs to one of the ``series``."""
        order, layout, at = sorted(kinds), "<", 0
        for place in order:
            layout += f"{place - at}s{kinds[place]}"
            at = place + 8
        form = Struct(f"{layout}{len(raw) - at}s")
        self.size, self._unpack = len(raw), form.unpack
        self._between = form.unpack(raw)[::2]
        number = {place: which for which, place in enumerate(order)}
        self._points = [
            (of, None if start is None else number[start], number[time], number[value])
            for of, (start, time, value) in zip(series, points, strict=True)
        ]
        #: How many attributes its points have together.
        self.attributes = 0

    def __len__(self) -> int:
        """How many points it has."""
        return len(self._points)

    def read(self, raw: bytes, bounds: Bounds) -> list[tuple[Series, int, int, float]] | None:
        """Of each point its series, start (0 where none is known), time and value.

        None where it is another metric, the same in another form, or of a time that cannot be.
        """
        if len(raw) != self.size:
            return None
        parts = self._unpack(raw)
        if parts[::2] != self._between:
            return None
        earliest_ns, latest_ns = bounds.earliest_ns, bounds.latest_ns
        numbers, found = parts[1::2], []
        for series, start, time, value in self._points:
            time_ns = numbers[time]
            if not earliest_ns <= time_ns <= latest_ns:
                return None
            start_ns = 0 if start is None or numbers[start] > time_ns else numbers[start]
            found.append((series, start_ns, time_ns, float(numbers[value])))
        return found


class Forms(dict[Key, "Form[Series] | int"], Generic[Key, Series]):
    """Forms by where they come; the length of the metric where one came only once, or in another form."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def keep(self, key: Key, form: Form[Series] | int) -> None:
        """Remember it. Where there are too many all are forgotten: those that come again are soon there again."""
        before = self.get(key)
        self._bytes += _size(form) - _size(before)
        if (before is None and len(self) >= KEPT) or self._bytes > KEPT_BYTES:
            self.clear()
            self._bytes = _size(form)
        self[key] = form

    def clear(self) -> None:
        """Forget all of them."""
        super().clear()
        self._bytes = 0


def _size(form: Form[Series] | int | None) -> int:
    return form.size if isinstance(form, Form) else 0


def form_of(
    raw: bytes, points: Sequence[SlimPoint], values: Sequence[tuple[Series, int, int, float]], bounds: Bounds
) -> Form[Series] | None:
    """The form of a gauge or a sum with these points, which were read as these values.

    None where its numbers do not lie plainly in it.
    """
    data = [(begin, end) for number, begin, end in fields(raw, 0, len(raw)) if number in (_GAUGE, _SUM)]
    if len(data) != 1 or not points or len(points) != len(values):
        return None
    kinds: dict[int, str] = {}
    places: list[Place] = []
    for number, begin, end in fields(raw, *data[0]):
        if number != _POINT:
            continue
        where = [(of, at) for of, at, _ in fields(raw, begin, end, FIXED64) if of in _FORMATS]
        start, time, value = ([at for of, at in where if of in which] for which in _OF_POINT)
        if len(start) > 1 or len(time) != 1 or len(value) != 1:
            return None
        kinds |= {at: _FORMATS[of] for of, at in where}
        places.append((start[0] if start else None, time[0], value[0]))
    if len(places) != len(points):
        return None
    form = Form(raw, kinds, places, [series for series, *_ in values])
    form.attributes = sum(len(point.attributes) for point in points)
    return form if form.read(raw, bounds) == list(values) else None
