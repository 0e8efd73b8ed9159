"""Amounts as people say them: times, sizes, shares and rates."""

from __future__ import annotations

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def human(amount_ns: float) -> str:
    """A time as people say it: ``340 µs``, ``3.4 ms``, ``700 ms``, ``12.4 s``, ``3 min 20 s``."""
    amount_ns = abs(amount_ns)
    if amount_ns < 999_500:
        return f"{amount_ns / 1e3:.0f} µs" if amount_ns else "0 ms"
    if amount_ns < 9_950_000:
        return f"{amount_ns / 1e6:.1f} ms"
    if amount_ns < 9_999_500_000:
        return f"{amount_ns / 1e6:,.0f} ms"
    if amount_ns < 119.95e9:
        return f"{amount_ns / 1e9:.1f} s"
    minutes, seconds = divmod(round(amount_ns / 1e9), 60)
    return f"{minutes} min {seconds} s"


def difference(longer_ns: float, shorter_ns: float) -> str:
    """How much longer one time is than another, as a reader finds it who subtracts what is shown of both."""
    shown_ns = _as_shown(longer_ns) - _as_shown(shorter_ns)
    return human(shown_ns if shown_ns > 0 else longer_ns - shorter_ns)


def _as_shown(amount_ns: float) -> float:
    """The time that ``human`` shows, in ns."""
    for below_ns, unit_ns in ((999_500, 1e3), (9_950_000, 1e5), (9_999_500_000, 1e6), (119.95e9, 1e8)):
        if amount_ns < below_ns:
            return round(amount_ns / unit_ns) * unit_ns
    return round(amount_ns / 1e9) * 1e9


def amount(value: float, unit: str) -> str:
    """A figure as people say it: ``812 MiB``, ``120 ms/s``, ``12 %``, ``3.4 /s``."""
    base, slash, _ = unit.partition("/")
    if base == "ns":
        return human(value) + ("/s" if slash else "")
    if base == "By":
        power = 0
        while abs(value) >= 1024 and power < len(_SIZES) - 1:
            value, power = value / 1024, power + 1
        return f"{value:.{0 if power == 0 or value >= 100 else 1}f} {_SIZES[power]}{'/s' if slash else ''}"
    if base == "1":
        return f"{value * 100:.1f} %"
    return f"{value:,.4g}{' /s' if slash else ''}"
