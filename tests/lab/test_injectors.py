"""Each injector costs at least what it says: measured at the lab's own services, in containers of this machine.

At most is not asserted: that depends on what else the machine does. The lab itself measures it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.lab.apps import node_app
from benchmarks.lab.injectors import neighbours, network
from benchmarks.lab.injectors.postgres import Postgres, postgres
from docker_engine import docker_engine  # noqa: F401 - a fixture
from layerline_api.demo.containers import Containers
from layerline_api.demo.load import one
from layerline_api.demo.place import Entity, Service, wait_ready
from waiting import eventually

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and a container's packets need root"),
]
APPS = Path(node_app.__file__).parent


class Received:
    """The spans that the services exported."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))) or b"".join(self.chunks())
                if self.headers.get("x-lab") == "yes" and self.headers.get("content-encoding") is None:
                    received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def chunks(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)  # noqa: S104 - containers reach it by the bridge
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def names(self) -> set[str]:
        """The names of server spans."""
        return {
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.kind == span.SPAN_KIND_SERVER
        }

    def attributes(self) -> dict[str, str]:
        """The attributes of the resource."""
        return {
            attribute.key: attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
        }


class Lab:
    """A Node service that calls an asyncio service, and a database."""

    def __init__(self, place: Containers, database: Postgres, received: Received, entity: Entity) -> None:
        self.place, self.database, self.received, self.node = place, database, received, entity

    def ms(self, path: str, service: str = "node") -> float:
        """How long a request takes, by the client's clock."""
        port = int(self.place.url(service).rpartition(":")[2])
        return one("127.0.0.1", port, path).duration_ns / 1e6


@pytest.fixture(scope="module")
def lab(docker_engine: docker.DockerClient) -> Iterator[Lab]:  # noqa: F811 - that fixture
    node_app.node_modules()
    received = Received()
    with Containers(docker_engine) as place, postgres(place) as database:
        container = place.container("postgres")
        container.reload()
        (attached,) = container.attrs["NetworkSettings"]["Networks"].values()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{attached['Gateway']}:{received.server.server_address[1]}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-lab=yes",
            "OTEL_SERVICE_NAME": "node",
            "DATABASE_URL": database.peer_url,
        }
        command = node_app.node_command("0.0.0.0:8000", "/journal")
        entity = place.start(Service("node", command, environment, 8000, "journal", binds=(APPS,)))
        command = (str(APPS / "asyncio_app.py"), "--listen", "0.0.0.0:8000", "--folder", "/store")
        environment = {"DATABASE_URL": database.peer_url}
        place.start(Service("asyncio", command, environment, 8000, "store", binds=(APPS,)))
        for name in ("node", "asyncio"):
            wait_ready(place, name, "/ready")
        yield Lab(place, database, received, entity)
    assert not place.problems
    received.server.shutdown()
    received.server.server_close()


@pytest.mark.parametrize("service", ["node", "asyncio"])
def test_a_route_takes_the_time_it_is_asked_for(lab: Lab, service: str) -> None:
    """Computing, waiting and the database take what was asked; writing and a body work."""

    def used_ms() -> float:
        before = lab.place.used_ns(service) or 0
        lab.ms("/cpu?ms=300", service)
        return ((lab.place.used_ns(service) or 0) - before) / 1e6

    # The work was measured when the app started: a core that became slower since needs longer for it.
    used = sorted(used_ms() for _ in range(3))
    print(f"{service}: /cpu?ms=300 used {used} ms of CPU")
    assert used[0] <= 450
    assert used[-1] >= 250
    for path in ("/sleep?ms=100", "/victim?ms=100", "/db?ms=50&n=2"):
        lab.ms(path, service)
        took = lab.ms(path, service)
        print(f"{service}: {path} took {took:.1f} ms")
        assert took >= 99
    for path in ("/write?kib=64", "/big?kib=64", "/db?n=3"):
        assert lab.ms(path, service) > 0


def test_node_exports_stable_names_and_says_where_it_runs(lab: Lab) -> None:
    """Server spans are named after method and route; the resource tells the container apart."""
    lab.ms("/sleep?ms=3")
    eventually(lambda: "GET /sleep" in lab.received.names(), "the span of the request")
    print(lab.received.names(), lab.received.attributes(), lab.node.id)
    assert lab.node.id.startswith(lab.received.attributes()["host.name"])


@pytest.mark.parametrize(("caller", "peer", "direction"), [("asyncio", "node", "in"), ("node", "asyncio", "out")])
def test_a_dropped_segment_costs_one_timeout(lab: Lab, caller: str, peer: str, direction: network.Direction) -> None:
    """The next message is dropped whole and nothing else; it is sent again after some 200 ms."""
    path = f"/call?url=http://{peer}:8000/sleep?ms=1"
    usual = min(lab.ms(path, caller) for _ in range(5))
    with network.drop_next(lab.place.container(caller), 8000, 1, direction) as dropped:
        took = lab.ms(path, caller)
        lab.ms(path, caller)
        number = dropped()
    print(f"drop {direction}: usual {usual:.1f}, with {took:.1f}, dropped {number}")
    assert number == 1
    assert took >= 200


def test_a_slow_link_takes_the_body_s_length(lab: Lab) -> None:
    """100 KiB at 2 Mbit/s take some 400 ms, and none of it afterwards."""
    with network.slow_link(lab.place.container("node"), 2_000_000):
        took = lab.ms("/big?kib=100")
    after = min(lab.ms("/big?kib=100") for _ in range(3))
    print(f"tbf: with {took:.1f}, after {after:.1f} ms")
    assert took >= 380
    assert after < took


def test_a_held_row_keeps_an_update_waiting(lab: Lab) -> None:
    """An UPDATE of the held row waits until it is released."""
    with psycopg.connect(lab.database.url, autocommit=True) as connection, lab.database.row_lock(0.4):
        began = time.monotonic()
        connection.execute("UPDATE item SET count = count + 1 WHERE id = 1")
        took = time.monotonic() - began
    print(f"row lock of 400 ms: UPDATE waited {took * 1e3:.1f} ms")
    assert took >= 0.35


@pytest.mark.parametrize("service", ["node", "asyncio"])
def test_a_held_loop_delays_a_waiting_request(lab: Lab, service: str) -> None:
    """A request that waits in small steps while the loop is held takes as much longer."""
    import requests

    requests.put(f"{lab.place.url(service)}/hold?ms=1000&after=30", timeout=10).raise_for_status()
    took = lab.ms("/victim?ms=100", service)
    print(f"{service}: hold of 1 s: {took:.1f} ms")
    assert took >= 300


def busy_ms() -> tuple[float, float]:
    """Now, and the milliseconds that the disk was busy (``/sys/block/*/stat``, the tenth figure)."""
    from layerline_api.demo.device import disk_below

    stat = Path("/sys/block") / disk_below(Path("/")).name / "stat"
    return time.monotonic() * 1e3, float(stat.read_text().split()[9])


def test_a_disk_hog_keeps_the_disk_busy(lab: Lab) -> None:
    """While it runs, the disk is busy most of the time; it ends by itself."""
    usual = sorted(lab.ms("/write?kib=1024") for _ in range(5))[2]
    with neighbours.disk_hog(lab.place, 6, size_mib=64):
        time.sleep(2.5)
        began, before = busy_ms()
        took = sorted(lab.ms("/write?kib=1024") for _ in range(5))[2]
        while busy_ms()[0] - began < 1_500:
            time.sleep(0.1)
        ended, after = busy_ms()
    ratio = (after - before) / (ended - began)
    print(f"disk hog: busy {ratio:.0%}, write of 1 MiB usual {usual:.1f}, with {took:.1f} ms", file=sys.stderr)
    assert ratio > 0.5
