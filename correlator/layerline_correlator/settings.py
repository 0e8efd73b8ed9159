"""What can be set about the store and the verdicts, each with its variable, default, unit and one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)

_DURATION_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
#: What ``duration_ns`` reads, for JSON Schema.
DURATION_PATTERN = r"^\d+(\.\d+)?(ns|us|ms|s|m|h|d)$"
_SIZE_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True)
class Rule:
    """Points of hours that are older than ``age_ns`` are kept at steps of ``step_ns``."""

    age_ns: int
    step_ns: int


def duration_ns(text: str) -> int:
    """``400ms``, ``15m``, ``1.5h`` in nanoseconds. ValueError says what was expected and found."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", text.strip())
    if match is None:
        raise ValueError(f"expected a duration such as 400ms, 15m or 1h, found {text!r}")
    return round(float(match[1]) * _DURATION_NS[match[2]])


def at_least_an_hour_ns(text: str) -> int:
    """``2h`` or ``1d`` in nanoseconds. ValueError says what was expected and found."""
    found_ns = duration_ns(text)
    if found_ns < 3600 * 10**9:
        raise ValueError(f"expected at least 1h, found {text!r}")
    return found_ns


def rollup_rules(text: str) -> tuple[Rule, ...]:
    """``24h:10s,48h:1m``: from which age on points are kept at which step; ``off``: none.

    ValueError says what was expected and found.
    """
    if text.strip() == "off":
        return ()
    rules: list[Rule] = []
    for one in text.split(","):
        age, colon, step = one.partition(":")
        if not colon:
            raise ValueError(f"expected off, or AGE:STEP such as 24h:10s, several with commas; found {one.strip()!r}")
        rule = Rule(at_least_an_hour_ns(age), duration_ns(step))
        if rule.step_ns <= 0 or 60 * 10**9 % rule.step_ns:
            raise ValueError(f"expected a step that divides a minute, such as 10s or 1m, found {step.strip()!r}")
        if rules and not (rule.age_ns > rules[-1].age_ns and rule.step_ns > rules[-1].step_ns):
            raise ValueError(f"expected an age and a step above those before it, found {one.strip()!r}")
        rules.append(rule)
    return tuple(rules)


def size_bytes(text: str) -> int:
    """``10GB`` or ``512MiB`` in bytes. ValueError says what was expected and found."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(B|[KMG]i?B|TB)", text.strip())
    if match is None:
        raise ValueError(f"expected a size such as 10GB or 512MiB, found {text!r}")
    return round(float(match[1]) * _SIZE_BYTES[match[2]])


def share_of_core(text: str) -> float:
    """``0.5`` or ``2``: how much of a core. ValueError says what was expected and found."""
    match = re.fullmatch(r"\d+(?:\.\d+)?", text.strip())
    if match is None or float(match[0]) <= 0:
        raise ValueError(f"expected a share of a core above 0, such as 0.5 or 2, found {text!r}")
    return float(match[0])


def whole_number(text: str) -> int:
    """``300000`` or ``300_000``. ValueError says what was expected and found."""
    if re.fullmatch(r"\d[\d_]*", text.strip()) is None or int(text) <= 0:
        raise ValueError(f"expected a whole number above 0, such as 300000, found {text!r}")
    return int(text)


def default_store(environment: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_DATA_HOME/layerline``, else ``~/.local/share/layerline``."""
    data_home = environment.get("XDG_DATA_HOME")
    return (Path(data_home) if data_home else Path.home() / ".local" / "share") / "layerline"


@dataclass(frozen=True, slots=True)
class Settings:
    """The correlator's settings."""

    store: Path = field(default_factory=default_store)
    """LAYERLINE_STORE (``~/.local/share/layerline``): the folder of the store; made for its owner alone."""
    slow_ns: int = 500_000_000
    """LAYERLINE_SLOW (``500ms``): a request without a usual is slow from this duration on."""
    retain_ns: int = 72 * 3600 * 10**9
    """LAYERLINE_RETAIN (``72h``): hours older than this are deleted, and incidents that ended before."""
    retain_bytes: int = 10 * 10**9
    """LAYERLINE_RETAIN_BYTES (``10GB``): the oldest hour is deleted when the store is larger than this."""
    hot_ns: int = 2 * 3600 * 10**9
    """LAYERLINE_HOT (``2h``): hours of readings, spans and log records that ended longer ago are packed into files
    beside the database; at least ``1h``."""
    rollup: tuple[Rule, ...] = (Rule(24 * 3600 * 10**9, 10 * 10**9), Rule(48 * 3600 * 10**9, 60 * 10**9))
    """LAYERLINE_ROLLUP (``24h:10s,48h:1m``): from which age of an hour on two readings of each series are kept for each
    step, its first and its last; or ``off``."""
    memory_bytes: int | None = None
    """LAYERLINE_MEMORY (a third of what there is, at most 640 MiB): what the database may use of the memory; the rest
    of the process takes about 300 MB more."""
    budget_ratio: float = 0.5
    """LAYERLINE_BUDGET (``0.5``): the share of a core that ledgers may take in the long run; what arrives beyond it has
    the ledgers of slow and failed requests, and those of a fair sample of the others."""
    series: int = 300_000
    """LAYERLINE_SERIES (``300000``): series of metrics that may send points at the same time, a tenth of them from one
    sender and half from one machine, and ten times as many as there may be senders; what exceeds that is not stored."""
    tag_values: int = 10_000
    """LAYERLINE_TAG_VALUES (``10000``): different values that one resource attribute may have at the same time; of what
    exceeds that the attribute is not stored."""
    slos: Path | None = None
    """LAYERLINE_SLOS (none): a TOML file with service level objectives, read at the start; the API can set more."""
    group_ns: int = 200_000_000
    """How far apart transactions begin while little arrives: that long data may wait to be written and acknowledged."""
    settle_ns: int = 10_000_000_000
    """How long after a request's end its readings may still arrive."""
    rest_ns: int = 10_000_000_000
    """How long the correlator rests after a pass, at most, while nobody asks: as long as what arrives waits for its
    readings, so that no ledger of a slow request comes later for it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings that the environment names, defaults for the others. ValueError names the variable."""

        def parsed(variable: str, parse: Callable[[str], Number], default: Number) -> Number:
            text = environment.get(variable)
            if not text:
                return default
            try:
                return parse(text)
            except ValueError as problem:
                raise ValueError(f"{variable}: {problem}") from None

        def rules(variable: str, default: tuple[Rule, ...]) -> tuple[Rule, ...]:
            text = environment.get(variable)
            try:
                return rollup_rules(text) if text else default
            except ValueError as problem:
                raise ValueError(f"{variable}: {problem}") from None

        default = cls()
        store = environment.get("LAYERLINE_STORE")
        return cls(
            store=Path(store).expanduser() if store else default_store(environment),
            slow_ns=parsed("LAYERLINE_SLOW", duration_ns, default.slow_ns),
            retain_ns=parsed("LAYERLINE_RETAIN", duration_ns, default.retain_ns),
            retain_bytes=parsed("LAYERLINE_RETAIN_BYTES", size_bytes, default.retain_bytes),
            hot_ns=parsed("LAYERLINE_HOT", at_least_an_hour_ns, default.hot_ns),
            rollup=rules("LAYERLINE_ROLLUP", default.rollup),
            memory_bytes=parsed("LAYERLINE_MEMORY", size_bytes, 0) or None,
            budget_ratio=parsed("LAYERLINE_BUDGET", share_of_core, default.budget_ratio),
            series=parsed("LAYERLINE_SERIES", whole_number, default.series),
            tag_values=parsed("LAYERLINE_TAG_VALUES", whole_number, default.tag_values),
            slos=Path(slos).expanduser() if (slos := environment.get("LAYERLINE_SLOS")) else None,
        )
