"""Each fault for real: a container, a true limit, a client's stopwatch, and the verdict that must come of it."""

from __future__ import annotations

import pytest

from layerline_api.demo.place import Limits, Service, wait_ready
from live.experiment import Live, experiment, put

pytestmark = [pytest.mark.docker, pytest.mark.alone]

#: How far the blamed milliseconds may be from what the client measured.
NEAR = 0.2


def test_quota(live: Live) -> None:
    """A container that used up its CPU quota is blamed, with the time for which it was stopped."""
    with live.app("quota") as app:
        outcome = experiment(app, "cpu_ms=30", begin=lambda: app.limit_cpu(0.1))
    outcome.blames("container.cpu_throttled", app.entity.id)
    outcome.explains(NEAR, "container.cpu_throttled")


def test_neighbour(live: Live) -> None:
    """A request that waited for a core behind another container names the host's contention and that container."""
    with live.app("contended") as app:
        healthy = app.healthy("cpu_ms=30")
        with live.neighbour() as neighbour:
            outcome = app.outcome(healthy, app.faulty("cpu_ms=30", "neighbour"))
    outcome.blames("host.cpu_contended")
    assert outcome.excess_ns("host.cpu_contended") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
    named = [part.by[0] for part in outcome.part("host.cpu_contended") if part.by]
    assert named.count(neighbour.id) >= 8, named


def test_device_limit(live: Live) -> None:
    """A container whose writes are held back by its device limit is blamed, with the time its fsync stood."""
    with live.app("written", Limits(cpuset=live.cores.subject, write_bytes_per_second=1024 * 1024)) as app:
        outcome = experiment(app, "cpu_ms=5", trouble="cpu_ms=5&write_kib=1024")
    outcome.blames("container.io_throttled", app.entity.id)
    assert outcome.excess_ns("container.io_throttled") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def test_slow_dependency(live: Live) -> None:
    """A service that Layerline sees only from outside is blamed, by its address, with the time it took longer."""
    listen = live.place.listen("supplier", 8000)
    supplier = ("-m", "layerline_api.demo.shop.prices", "--listen", listen)
    live.place.start(Service("supplier", supplier, port=8000, limits=Limits(cpuset=live.cores.rest)))
    wait_ready(live.place, "supplier")
    address = live.place.peer("supplier", 8000)
    with live.app("customer") as app:
        call = f"cpu_ms=5&call=http://{address}/prices"
        outcome = experiment(app, call, begin=lambda: put(f"{live.place.url('supplier')}/delay?ms=252"))
    live.place.stop("supplier")
    outcome.blames("dependency.slow", address)
    assert outcome.excess_ns("dependency.slow") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)


def test_slow_code(live: Live) -> None:
    """Code that computes longer is blamed as such, with its CPU time."""
    with live.app("slow") as app:
        outcome = experiment(app, "cpu_ms=20", trouble="cpu_ms=220")
    outcome.blames("app.cpu_busy", app.entity.id)
    assert outcome.excess_ns("app.cpu_busy") == pytest.approx(outcome.measured_ns, rel=NEAR), str(outcome)
