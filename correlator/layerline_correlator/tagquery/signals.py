"""What a query can compare: the signals of containers by their short names, and how their requests went."""

from __future__ import annotations

from dataclasses import dataclass

from layerline.signals import SIGNALS, Kind, find

TIMES_NS: dict[str, int] = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_SIZES_BYTES: dict[str, int] = {
    "B": 1,
    **{name: 10**power for name, power in (("kB", 3), ("KB", 3), ("MB", 6), ("GB", 9), ("TB", 12))},
    **{name: 2**power for name, power in (("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40))},
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a container over a window."""

    name: str  # as it is asked for: without the leading "container."
    source: str  # "gauge": time-weighted mean; "counter": increase per second; "requests": of its own requests
    unit: str  # of its values: "ns", "ns/s", "By", "By/s", "{page}/s", "1", …
    meaning: str

    @property
    def signal(self) -> str:
        """The catalogue's name; the measure's own where it is none of the catalogue's."""
        return self.name if self.source == "requests" else f"container.{self.name}"

    def in_unit(self, number: float, unit: str) -> float:
        """``number`` with ``unit`` as people write it, in this measure's unit. ValueError says what was expected."""
        base, _, rate = self.unit.partition("/")
        plain = unit.removesuffix("/s")
        if unit != plain and not rate:
            raise ValueError(f"{self.name} is not a rate: expected {self._expected}")
        if plain == "" and (base != "ns" or number == 0):
            return number
        if base == "ns" and plain in TIMES_NS:
            return number * TIMES_NS[plain]
        if base == "ns" and rate and unit == "%":
            return number * 1e7
        if base == "By" and plain in _SIZES_BYTES:
            return number * _SIZES_BYTES[plain]
        if base == "1" and plain == "%":
            return number / 100
        raise ValueError(f"{self.name} is {self._is}: expected {self._expected}")

    @property
    def _is(self) -> str:
        base, _, rate = self.unit.partition("/")
        what = {"ns": "a time", "By": "a size", "1": "a share"}.get(base, f"a number of {base.strip('{}')}s")
        return f"{what} per second" if rate else what

    @property
    def _expected(self) -> str:
        base, _, rate = self.unit.partition("/")
        if base == "ns":
            return (
                "a number with ns, us, ms, s or, of each second, %" if rate else "a number with ns, us, ms, s, m or h"
            )
        if base == "By":
            return "a number of bytes, or one with kB, MB, GB, TB, KiB, MiB, GiB or TiB"
        return "a number or one with %" if base == "1" else "a number without a unit"


_REQUESTS = (
    ("count", "{request}", "requests it answered"),
    ("errors", "{request}", "requests of them that failed"),
    ("error_ratio", "1", "share of them that failed"),
    ("slow", "{request}", "requests of them that were slow"),
    ("slow_ratio", "1", "share of them that were slow"),
    ("mean", "ns", "mean duration of its requests"),
    ("p50", "ns", "duration that half of its requests stayed below"),
    ("p95", "ns", "duration that 95 of 100 of its requests stayed below"),
    ("p99", "ns", "duration that 99 of 100 of its requests stayed below"),
)

#: By name.
MEASURES = {
    measure.name: measure
    for measure in (
        *(
            Measure(
                signal.name.removeprefix("container."),
                signal.kind.value,
                f"{signal.unit}/s" if signal.kind is Kind.COUNTER else signal.unit,
                signal.meaning,
            )
            for signal in SIGNALS
            if signal.entity == "container"
        ),
        *(Measure(f"requests.{name}", "requests", unit, meaning) for name, unit, meaning in _REQUESTS),
    )
}


def measure(name: str) -> Measure | None:
    """The measure of that name, of the catalogue's full name or of one of its aliases; None where there is none."""
    found = MEASURES.get(name)
    if found is None:
        signal = find(name) or find(f"container.{name}")
        found = MEASURES.get(signal.name.removeprefix("container.")) if signal else None
    return found
