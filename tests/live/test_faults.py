"""Each fault for real: a container, a true limit, a client's stopwatch, and the verdict that must come of it."""

from __future__ import annotations

import pytest

from layerline_api.demo.place import Limits, Service, wait_ready
from live.experiment import NEIGHBOUR, App, Outcome, Sent, put
from waiting import PATIENCE_S

pytestmark = [pytest.mark.docker, pytest.mark.alone, pytest.mark.timeout(1200)]

#: How far the blamed milliseconds may be from what the client measured.
NEAR = 0.2
#: What a container may write in a second.
WRITE_LIMIT = {"write_bytes_per_second": 1024 * 1024}


def quota(app: App) -> Sent:
    """A CPU limit far below what the work needs."""
    return app.experiment("cpu_ms=30", begin=lambda: app.limit_cpu(0.1))


@pytest.mark.injects(fault=quota)
def test_quota(outcome: Outcome) -> None:
    """A container that used up its CPU quota is blamed, with the time for which it was stopped."""
    outcome.blames("container.cpu_throttled", outcome.app.entity.id)
    outcome.explains(NEAR, "container.cpu_throttled")


def neighbour(app: App) -> Sent:
    """Another container on the same core, with more weight."""
    healthy = app.healthy("cpu_ms=30")
    with app.live.neighbour() as other:
        return Sent(healthy, app.faulty("cpu_ms=30", NEIGHBOUR), other.id)


@pytest.mark.injects(fault=neighbour)
def test_neighbour(outcome: Outcome) -> None:
    """A request that waited for a core behind another container names the host's contention and that container."""
    outcome.blames("host.cpu_contended")
    assert outcome.excess_ns("host.cpu_contended") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
    named = [part.by[0] for part in outcome.part("host.cpu_contended") if part.by]
    assert named.count(outcome.sent.other) >= 8, named


def device_limit(app: App) -> Sent:
    """A request that writes two thirds of what its container may in a second."""
    return app.experiment("cpu_ms=5", trouble="cpu_ms=5&write_kib=640")


@pytest.mark.injects(fault=device_limit, limits=WRITE_LIMIT)
def test_device_limit(outcome: Outcome) -> None:
    """A container whose writes are held back by its device limit is blamed, with the time its fsync stood."""
    outcome.blames("container.io_throttled", outcome.app.entity.id)
    assert outcome.excess_ns("container.io_throttled") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def slow_dependency(app: App) -> Sent:
    """A service without our wrapper that begins to answer later."""
    place = app.live.place
    command = ("-m", "layerline_api.demo.shop.prices", "--listen", place.listen("supplier", 8000))
    place.start(Service("supplier", command, port=8000, limits=Limits(cpuset=app.live.cores.rest)))
    try:
        wait_ready(place, "supplier", timeout_s=PATIENCE_S)
        address = place.peer("supplier", 8000)
        slower = f"{place.url('supplier')}/delay?ms=252"
        return app.experiment(f"cpu_ms=5&call=http://{address}/prices", begin=lambda: put(slower), other=address)
    finally:
        place.stop("supplier")


@pytest.mark.injects(fault=slow_dependency)
def test_slow_dependency(outcome: Outcome) -> None:
    """A service that Layerline sees only from outside is blamed, by its address, with the time it took longer."""
    outcome.blames("dependency.slow", outcome.sent.other)
    assert outcome.excess_ns("dependency.slow") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def slow_code(app: App) -> Sent:
    """The same operation computes for longer."""
    return app.experiment("cpu_ms=20", trouble="cpu_ms=220")


@pytest.mark.injects(fault=slow_code)
def test_slow_code(outcome: Outcome) -> None:
    """Code that computes longer is blamed as such, with its CPU time."""
    outcome.blames("app.cpu_busy", outcome.app.entity.id)
    assert outcome.excess_ns("app.cpu_busy") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
