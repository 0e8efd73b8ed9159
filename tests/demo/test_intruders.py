"""Noticing that the machine did something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest

from layerline_api.demo.intruders import Intruders, busy_ns, undisturbed
from layerline_api.demo.place import Place
from layerline_api.demo.processes import Processes

STAT = """cpu  100 0 100 9000 50 0 0 0 0 0
cpu0 60 1 30 4000 25 2 3 7 0 0
cpu1 40 0 70 5000 25 0 0 0 0 0
intr 1
"""


def test_a_core_is_busy_with_everything_but_waiting() -> None:
    """User, nice, system and interrupts count; idle, waiting for I/O and steal do not; other cores do not."""
    assert busy_ns(STAT, {0}) == (60 + 1 + 30 + 2 + 3) * 10_000_000
    assert busy_ns(STAT, {0, 1}) == busy_ns(STAT, {0}) + busy_ns(STAT, {1})


@dataclass(frozen=True)
class Scripted:
    """Intruders whose shares are given."""

    shares: Iterator[float]

    def share_of(self, action):
        return action(), next(self.shares)


def attempt(*shares: float) -> tuple[int, float, list[float]]:
    """Which attempt was kept, the others' share in it, and what was said after the disturbed ones."""
    said: list[float] = []
    numbers = iter(range(1, 10))

    def again(share: float) -> bool:
        said.append(share)
        return len(said) < len(shares)

    return *undisturbed(Scripted(iter(shares)), lambda: next(numbers), again), said  # type: ignore[arg-type]


def test_a_quiet_attempt_is_kept() -> None:
    """Nothing is repeated where nobody else used the core."""
    assert attempt(0.05, 0.0) == (1, 0.05, [])


def test_a_disturbed_attempt_is_repeated_and_the_quieter_one_kept() -> None:
    """With others on the core it is done again, which is said; the attempt with less of them counts."""
    assert attempt(0.5, 0.02, 0.0) == (2, 0.02, [0.5])
    assert attempt(0.5, 0.9) == (1, 0.5, [0.5, 0.9])
    assert attempt(0.5, 0.3, 0.4) == (2, 0.3, [0.5, 0.3, 0.4])


def test_what_cannot_be_known_is_not_held_against_anybody() -> None:
    """Plain processes have no CPU account here, and without a core of its own there is nothing to watch."""
    with Processes() as place:
        assert Intruders(place, "0", lambda: ["stock"]).share_of(lambda: "done") == ("done", 0.0)
        assert Intruders(place, None, list).share_of(lambda: "done") == ("done", 0.0)


def test_on_several_cores_the_share_is_that_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores that others kept half busy were half in their hands, whatever our own containers and processes ran."""
    ours, processes, busy = iter((0, 300)), iter((0, 100)), iter((0, 1_400))
    place = SimpleNamespace(used_ns=lambda name: None if name == "unknown" else next(ours, 300))
    monkeypatch.setattr(Intruders, "_busy_ns", lambda self: next(busy))
    clock = iter((0, 1_000))
    monkeypatch.setattr("layerline_api.demo.intruders.time", SimpleNamespace(monotonic_ns=lambda: next(clock)))
    look = Intruders(cast("Place", place), "0-1", lambda: ["stock"], lambda: next(processes))
    assert look.share_of(lambda: "done") == ("done", 0.5)
