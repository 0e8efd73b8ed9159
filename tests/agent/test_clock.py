"""A clock that is set is noticed; one that is slewed, a suspended machine and a busy one are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline_agent.clock import ClockWatch

from .conftest import Clock

SECOND = 10**9


class Machine:
    """A clock, and a file that says how long the machine has been up."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.file, self.clock = folder / "uptime", clock
        clock.now_ns = 1_000 * SECOND
        self.up_s = 50.0
        self.watch = ClockWatch(str(self.file), clock)

    def passes(self, seconds: float, step_s: float = 0.0) -> int | None:
        """So many seconds pass, then the clock is set by so many; what is noticed."""
        self.up_s += seconds
        self.clock.now_ns += round((seconds + step_s) * SECOND)
        self.file.write_text(f"{self.up_s:.2f} 99.00\n")
        noticed = self.watch.look()
        return None if noticed is None else int(noticed.attributes["layerline.agent.clock_step_ns"])


@pytest.fixture
def machine(tmp_path: Path, clock: Clock) -> Machine:
    return Machine(tmp_path, clock)


def test_steps_are_noticed_once_and_with_their_size(machine: Machine) -> None:
    """Set ahead and back, each is told once, with how far; time that only passes is none, an hour of it neither."""
    found = [machine.passes(1, step) for step in (0, 0, 45, 0, -45, 0, 0.1)]
    assert found == [None, None, 45 * SECOND, None, -45 * SECOND, None, None]
    assert machine.passes(3600) is None


def test_a_step_says_between_which_moments(machine: Machine) -> None:
    """The event is of the clock as it is now, and names the moment that it would be without the step."""
    machine.passes(1)
    machine.up_s += 1
    machine.clock.now_ns += -9 * SECOND
    machine.file.write_text(f"{machine.up_s:.2f} 99.00\n")
    noticed = machine.watch.look()
    assert noticed is not None
    assert noticed.time_ns == machine.clock.now_ns
    assert noticed.body == "the machine's clock was set 10.0 s back"
    times = [noticed.attributes[f"layerline.agent.{which}_ns"] for which in ("from", "to")]
    assert times == [machine.clock.now_ns, machine.clock.now_ns + 10 * SECOND]


def test_without_an_uptime_nothing_is_noticed(tmp_path: Path, clock: Clock) -> None:
    """Where the file is not there, nobody can say."""
    watch = ClockWatch(str(tmp_path / "none"), clock)
    assert watch.look() is None
    clock.now_ns += 100 * SECOND
    assert watch.look() is None
