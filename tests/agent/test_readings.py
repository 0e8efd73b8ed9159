"""Two rates and runs: what is sent lets the true increases be seen, and a counter that stands still sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from layerline_agent.machine import Machine
from layerline_agent.readings import Entity, Runs, Series
from layerline_agent.sensor import Raw, all_sensors

from .conftest import V2, V2_ID, Clock

STEPS = 5  # fine ticks in a full one
STEP_NS = 200

Ticks = list[tuple[int, int]]


def run(values: list[int], signal: str = "container.cpu.throttled") -> Series:
    """A counter with these values at successive fine ticks; what it sent is in its points."""
    runs = Runs()
    last: int | None = None
    for tick, value in enumerate(values):
        full = tick % STEPS == 0
        if value == last:
            runs.stood_still((tick + 1) * STEP_NS, full)
        else:
            runs.read((tick + 1) * STEP_NS, [Raw(signal, value)], full)
        last = value
    (series,) = runs.series
    return series


counters = st.lists(st.sampled_from([0, 0, 0, 1, 7, 1000]), min_size=1, max_size=60).map(
    lambda rises: [sum(rises[: n + 1]) for n in range(len(rises))]
)


@given(counters)
def test_increases_are_those_of_the_counter(values: list[int]) -> None:
    """Between any two full ticks the points that were sent add up to the true increase."""
    sent = dict(run(values).points)
    full = [tick for tick in range(len(values)) if tick % STEPS == 0]
    assert [sent[(tick + 1) * STEP_NS] for tick in full] == [values[tick] for tick in full]


@given(counters)
def test_each_interval_is_exact(values: list[int]) -> None:
    """Between two consecutive points a counter stood still, or they are consecutive readings: no rise is smeared."""
    points = run(values).points
    for (time_ns, value), (next_ns, next_value) in pairwise(points):
        assert next_value == value or next_ns - time_ns == STEP_NS


@given(counters)
def test_points_are_in_order_and_none_is_sent_twice(values: list[int]) -> None:
    """Points go out in the order of their times, each time once."""
    times = [time_ns for time_ns, _ in run(values).points]
    assert times == sorted(set(times))


@given(counters)
def test_any_reading_can_be_told_from_the_points(values: list[int]) -> None:
    """The value at every fine tick is that of the points around it: nothing was lost by not sending it."""
    points = run(values).points
    last_full = (len(values) - 1) // STEPS * STEPS
    for tick, value in enumerate(values[: last_full + 1]):
        at = (tick + 1) * STEP_NS
        before = max(point for point in points if point[0] <= at)
        after = min(point for point in points if point[0] >= at)
        assert value == before[1] == after[1]


backwards = st.lists(st.sampled_from([0, 5, 10_000_000, -10_000_000, -2_999_999_999, 10**10]), min_size=1, max_size=60)


@given(backwards)
def test_a_counter_that_may_step_back_never_does(steps: list[int]) -> None:
    """A little less than before is no new beginning: what is sent stands still until the kernel has caught up."""
    values = [10**12 + sum(steps[: n + 1]) for n in range(len(steps))]
    highest = [max(values[: n + 1]) for n in range(len(values))]
    near = all(top - value < 3 * 10**9 for top, value in zip(highest, values, strict=True))
    series = run(values, "system.cpu.time") if near else run(highest, "system.cpu.time")
    sent = [value for _, value in series.points]
    assert sent == sorted(sent)
    assert sent[0] == values[0]
    assert series.value == highest[-1]
    assert series.start_ns == 0


def test_a_counter_that_begins_anew() -> None:
    """Its points from then on say that it started when the old one was read last; the old one's are sent to the end."""
    runs = Runs()
    for at_ns, value in ((200, 70), (400, 75), (600, 3), (800, 4)):
        runs.read(at_ns, [Raw("container.memory.limit_hits", value)], full=at_ns == 200)
    old, new = runs.series
    assert (old.start_ns, old.points) == (0, [(200, 70), (400, 75)])
    assert (new.start_ns, new.points) == (400, [(600, 3), (800, 4)])
    assert runs.current == [new]
    old.points = []
    runs.read(1_000, [Raw("container.memory.limit_hits", 1)], full=True)
    assert len(list(runs.series)) == 2, "what has nothing to send any more is forgotten"


def test_a_gauge_may_fall() -> None:
    """It is no counter."""
    runs = Runs()
    runs.read(200, [Raw("container.pids", 9)], full=True)
    runs.read(400, [Raw("container.pids", 2)], full=True)
    (series,) = runs.series
    assert series.points == [(200, 9), (400, 2)]


def test_a_counter_at_rest_sends_full_ticks_only() -> None:
    """A counter that stands still costs one point a second."""
    assert run([5] * 11).points == [(200, 5), (1200, 5), (2200, 5)]


def test_a_stall_between_full_ticks_is_known_to_a_fine_tick() -> None:
    """After standing still, the last reading before the change is sent with the change."""
    assert run([5, 5, 5, 9, 9, 9]).points == [(200, 5), (600, 5), (800, 9), (1200, 9)]


def test_other_signals_wait_for_the_full_tick() -> None:
    """What is not a stall counter is sent at full ticks only, with the newest value."""
    assert run([1, 2, 3, 4, 5, 6, 7], signal="container.cpu.periods").points == [(200, 1), (1200, 6)]


def test_a_limit_taken_away_is_not_repeated() -> None:
    """A gauge that is not in the file any more is not sent any more."""
    runs = Runs()
    limit = Raw("container.disk.limit", 10, (("disk.io.direction", "read"), ("system.device", "vda")))
    runs.read(1, [limit], full=True)
    runs.read(2, [], full=True)
    runs.stood_still(3, full=True)
    (series,) = runs.series
    assert series.points == [(1, 10)]


def throttled(entity: Entity) -> Series:
    return next(series for series in entity.series if series.signal == "container.cpu.throttled")


def test_files_that_come_and_go(copied: Callable[[Path], Path], clock: Clock) -> None:
    """A file that is gone yields nothing, as long as it is gone; then its readings go on, exact over the gap."""
    root = copied(V2 / "first")
    directory = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    machine = Machine(str(root))
    entity = Entity.of("container", {}, 0, {"unified": str(directory)}, all_sensors(), machine, clock)
    stat = directory / "cpu.stat"
    content = stat.read_text()
    entity.read("container_cpu", full=True)
    entity.close()
    stat.unlink()
    for _ in range(2):
        clock.now_ns += 1_000_000_000
        entity.read("container_cpu", full=True)
    stat.write_text(content)
    clock.now_ns += 1_000_000_000
    entity.read("container_cpu", full=True)
    entity.close()
    assert [time_ns for time_ns, _ in throttled(entity).points] == [1_000_000_000, 4_000_000_000]


def test_fine_ticks_read_stall_counters_only(copied: Callable[[Path], Path], clock: Clock) -> None:
    """Between full ticks only the sources of stall counters are read."""
    root = copied(V2 / "first")
    directory = root / f"sys/fs/cgroup/system.slice/docker-{V2_ID}.scope"
    machine = Machine(str(root))
    entity = Entity.of("container", {}, 0, {"unified": str(directory)}, all_sensors(), machine, clock)
    for sensor in all_sensors():
        entity.read(sensor, full=False)
    assert {series.signal for series in entity.series if series.points} == {
        "container.cpu.time",
        "container.cpu.throttled",
        "container.io.pressure",
        "container.memory.pressure",
        "container.memory.limit_hits",
    }
    entity.close()
