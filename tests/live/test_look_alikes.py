"""What is easily mistaken for each fault, for real: two readings rise together, and only one of them is to blame."""

from __future__ import annotations

import pytest

from layerline_api.demo.place import Limits
from live.experiment import Live, experiment

pytestmark = [pytest.mark.docker, pytest.mark.alone]

NEAR = 0.25


def test_quota_while_a_neighbour_is_busy(live: Live) -> None:
    """With a quota well under its fair share the quota holds a container back, however busy the neighbour."""
    with live.app("both") as app:
        healthy = app.healthy("cpu_ms=30")
        app.limit_cpu(0.1)
        with live.neighbour(shares=1024):
            before = app.throttled()
            faulty = app.faulty("cpu_ms=30", "neighbour")
            stopped = app.throttled() - before
        assert stopped >= len(faulty), f"the quota stopped it only {stopped} times: this is no test of a quota"
        outcome = app.outcome(healthy, faulty)
    outcome.blames("container.cpu_throttled", app.entity.id)
    outcome.explains(NEAR, "container.cpu_throttled", "host.cpu_contended")


def test_slow_code_inside_a_quota(live: Live) -> None:
    """A container has a quota but is never stopped by it: its code is slow, not its limit low."""
    with live.app("inside", Limits(cpuset=live.cores.subject, quota_ratio=1.5)) as app:
        before = app.throttled()
        outcome = experiment(app, "cpu_ms=20", trouble="cpu_ms=220")
        assert app.throttled() == before
    outcome.blames("app.cpu_busy", app.entity.id)
    assert not outcome.part("container.cpu_throttled")
    assert outcome.excess_ns("app.cpu_busy") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def test_many_threads_without_a_neighbour(live: Live) -> None:
    """Threads that wait behind other threads of their own container are crowded; no neighbour is invented."""
    with live.app("crowded") as app:
        outcome = experiment(app, "cpu_ms=60", begin=lambda: app.siblings(burn=3))
        app.siblings()
    outcome.blames("app.cpu_crowded", app.entity.id)
    assert outcome.excess_ns("app.cpu_crowded") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def test_sleep_beside_a_sibling_that_writes(live: Live) -> None:
    """A thread that sleeps while a sibling stands in fsync was blocked by itself, not by the disk."""
    with live.app("asleep", Limits(cpuset=live.cores.subject, write_bytes_per_second=1024 * 1024)) as app:
        outcome = experiment(
            app, "cpu_ms=5&sleep_ms=5", trouble="cpu_ms=5&sleep_ms=305", begin=lambda: app.siblings(write=1)
        )
        app.siblings()
    outcome.blames("app.blocked", app.entity.id)
    assert outcome.excess_ns("app.blocked") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
