"""What Prometheus' exporters show on their pages comes to the server as it would from the Collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from layerline_agent.scrape import Scraper, Target, encoded, families, targets
from layerline_agent.settings import Settings
from waiting import eventually

from .conftest import HYBRID_ID, attributes_of

CADVISOR = f"""\
# HELP container_cpu_cfs_throttled_seconds_total Total time duration the container has been throttled.
# TYPE container_cpu_cfs_throttled_seconds_total counter
container_cpu_cfs_throttled_seconds_total{{id="/docker/{HYBRID_ID}",name="stock"}} 0.125 1795428000123
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{{id="/docker/{HYBRID_ID}",name="stock"}} 5e+07
container_memory_working_set_bytes{{id="/docker/{HYBRID_ID}",name="idle"}} NaN
# TYPE container_tasks_state gauge
container_tasks_state{{id="/docker/{HYBRID_ID}",state="running"}} 2
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{{quantile="0"}} 1.5e-05
a line that is no metric of ours, and none of Prometheus {{{{
"""
NODE_EXPORTER = """\
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 3600.5
"""
NOW_NS = 1_795_428_060 * 10**9


@contextmanager
def page(text: str, status: int = 200) -> Iterator[str]:
    """The address of a page with this text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_only_signals_are_parsed() -> None:
    """Metrics that mean a signal keep name, labels, value and their own time; all others are passed over."""
    message, points = encoded(families(CADVISOR.splitlines()), {"service.name": "scrape"}, NOW_NS)
    sent = ExportMetricsServiceRequest.FromString(message).resource_metrics[0]
    metrics = {metric.name: metric for metric in sent.scope_metrics[0].metrics}
    assert set(metrics) == {"container_cpu_cfs_throttled_seconds_total", "container_memory_working_set_bytes"}
    throttled = metrics["container_cpu_cfs_throttled_seconds_total"].sum
    assert throttled.is_monotonic
    assert throttled.data_points[0].as_double == 0.125
    assert throttled.data_points[0].time_unix_nano == 1_795_428_000_123_000_000
    working_set = metrics["container_memory_working_set_bytes"].gauge
    assert [point.time_unix_nano for point in working_set.data_points] == [NOW_NS]
    assert points == 2


def test_whose_the_readings_are() -> None:
    """A page on loopback is about this machine, another about the machine that is named, else about its address."""
    here = {"host.name": "vm-1", "host.id": "a", "cloud.region": "eu", "layerline.boot_id": "b"}
    scraper = Scraper((), 10**9, here, lambda *_: None)
    own = scraper._resource(Target("http://127.0.0.1:9100/metrics"))
    assert own.items() >= {"host.name": "vm-1", "host.id": "a", "cloud.region": "eu"}.items()
    assert "layerline.boot_id" not in own  # with it the server would believe in a counter's start
    assert scraper._resource(Target("http://cadvisor:8080/metrics", "vm-1"))["host.id"] == "a"
    assert scraper._resource(Target("http://10.0.0.7:9100/metrics", "vm-2"))["host.name"] == "vm-2"
    assert scraper._resource(Target("http://10.0.0.7:9100/metrics"))["server.address"] == "10.0.0.7"


def test_pages_are_read_again_and_again() -> None:
    """Each target is read once an interval; one that fails is said once and costs the others nothing."""
    sent: list[tuple[str, bytes, int]] = []
    with page(NODE_EXPORTER) as good, page("no", 503) as bad:
        scraper = Scraper(
            targets(f"{bad}, {good}"), 10**7, {"host.name": "vm-1"}, lambda *parcel: sent.append(parcel), lambda: NOW_NS
        )
        scraper.start()
        assert eventually(lambda: len(sent) >= 2)
        scraper.close()
        scraper._thread.join()
    path, message, points = sent[0]
    assert (path, points) == ("/v1/metrics", 1)
    assert (
        attributes_of(ExportMetricsServiceRequest.FromString(message).resource_metrics[0].resource)["host.name"]
        == "vm-1"
    )


def test_what_is_wrong_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A target that refuses, or shows nothing of ours, is named once until it answers."""
    with page("no", 503) as bad, page("go_goroutines 7\n") as other:
        scraper = Scraper((), 10**9, {}, lambda *_: None)
        for _ in range(2):
            scraper.scrape(Target(bad))
            scraper.scrape(Target(other))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"layerline agent: cannot read {bad}: expected 200, found 503 Service Unavailable"
    assert said[1].startswith(f"layerline agent: cannot read {other}: expected metrics of cAdvisor or node_exporter")
    assert len(said) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("http://127.0.0.1:8080", (Target("http://127.0.0.1:8080/metrics"),)),
        (
            "http://a:1/x?y=z, vm-2=http://b:2/",
            (Target("http://a:1/x?y=z"), Target("http://b:2/metrics", "vm-2")),
        ),
    ],
)
def test_the_setting(text: str, expected: tuple[Target, ...]) -> None:
    """LAYERLINE_SCRAPE lists addresses, each with the name of its machine if that is wanted."""
    assert Settings.of(environment={"LAYERLINE_SCRAPE": text}).scrape == expected


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("LAYERLINE_SCRAPE", "127.0.0.1:8080", "LAYERLINE_SCRAPE: expected an address such as"),
        ("LAYERLINE_SCRAPE", "http://me:secret@a:1", "LAYERLINE_SCRAPE: expected an address such as"),
        ("LAYERLINE_SCRAPE_INTERVAL", "20ms", "LAYERLINE_SCRAPE_INTERVAL: expected at least 1s, found '20ms'"),
        ("LAYERLINE_SCRAPE_INTERVAL", "soon", "LAYERLINE_SCRAPE_INTERVAL: expected a duration"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, text: str, says: str) -> None:
    """What is wrong ends with the variable, what was expected and what was found."""
    with pytest.raises(ValueError, match=says):
        Settings.of(environment={variable: text})
