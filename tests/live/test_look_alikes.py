"""What is easily mistaken for each fault, for real: two readings rise together, and only one of them is to blame."""

from __future__ import annotations

import pytest

from live.experiment import NEIGHBOUR, App, Outcome, Sent

pytestmark = [pytest.mark.docker, pytest.mark.alone, pytest.mark.timeout(1200)]

NEAR = 0.25


def quota_while_a_neighbour_is_busy(app: App) -> Sent:
    """A CPU limit, and another container on the same core whose weight is no larger."""
    healthy = app.healthy("cpu_ms=30")
    app.limit_cpu(0.1)
    with app.live.neighbour(shares=1024):
        before = app.throttled()
        faulty = app.faulty("cpu_ms=30", NEIGHBOUR)
        stopped = app.throttled() - before
    assert stopped >= len(faulty), f"the quota stopped it only {stopped} times: this is no test of a quota"
    return Sent(healthy, faulty)


@pytest.mark.injects(fault=quota_while_a_neighbour_is_busy)
def test_quota_while_a_neighbour_is_busy(outcome: Outcome) -> None:
    """With a quota well under its fair share the quota holds a container back, however busy the neighbour."""
    outcome.blames("container.cpu_throttled", outcome.app.entity.id)
    outcome.explains(NEAR, "container.cpu_throttled", "host.cpu_contended")


def slow_code_inside_a_quota(app: App) -> Sent:
    """Slow code below a CPU limit that never stops it."""
    before = app.throttled()
    sent = app.experiment("cpu_ms=20", trouble="cpu_ms=220")
    assert app.throttled() == before
    return sent


@pytest.mark.injects(fault=slow_code_inside_a_quota, limits={"quota_ratio": 1.5})
def test_slow_code_inside_a_quota(outcome: Outcome) -> None:
    """A container has a quota but is never stopped by it: its code is slow, not its limit low."""
    outcome.blames("app.cpu_busy", outcome.app.entity.id)
    assert not outcome.part("container.cpu_throttled")
    assert outcome.excess_ns("app.cpu_busy") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def many_threads_without_a_neighbour(app: App) -> Sent:
    """Three other threads of the app compute."""
    try:
        return app.experiment("cpu_ms=60", begin=lambda: app.siblings(burn=3))
    finally:
        app.siblings()


@pytest.mark.injects(fault=many_threads_without_a_neighbour)
def test_many_threads_without_a_neighbour(outcome: Outcome) -> None:
    """Threads that wait behind other threads of their own container are crowded; no neighbour is invented."""
    outcome.blames("app.cpu_crowded", outcome.app.entity.id)
    assert outcome.excess_ns("app.cpu_crowded") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def sleep_beside_a_sibling_that_writes(app: App) -> Sent:
    """The request sleeps for longer, while another thread of the app stands at the write limit."""
    try:
        return app.experiment(
            "cpu_ms=5&sleep_ms=5", trouble="cpu_ms=5&sleep_ms=305", begin=lambda: app.siblings(write=1)
        )
    finally:
        app.siblings()


@pytest.mark.injects(fault=sleep_beside_a_sibling_that_writes, limits={"write_bytes_per_second": 1024 * 1024})
def test_sleep_beside_a_sibling_that_writes(outcome: Outcome) -> None:
    """A thread that sleeps while a sibling stands in fsync was blocked by itself, not by the disk."""
    outcome.blames("app.blocked", outcome.app.entity.id)
    assert outcome.excess_ns("app.blocked") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
