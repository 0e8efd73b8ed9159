"""GET /metrics: the server about itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_fake import TOKEN, FakeCorrelator, one_span
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from layerline_api.app import create_app
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.health import Health
from layerline_correlator.settings import Settings
from waiting import eventually

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def figures(client: FlaskClient) -> dict[str, float]:
    """``name{labels}``, as Prometheus would read it, and its value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items(), reverse=True)): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_is_received_is_counted_by_protocol() -> None:
    """Kept and rejected spans by protocol, refused requests by status; nothing is counted that was not stored."""
    correlator = FakeCorrelator()
    client = create_app(correlator).test_client()
    before = figures(client)
    assert before["layerline_received_items_total http/protobuf span"] == 0
    assert before["layerline_received_items_total grpc event"] == 0
    request = one_span()
    request.MergeFrom(one_span(end_time_unix_nano=1))
    client.post("/v1/traces", data=request.SerializeToString(), headers=PROTOBUF)
    client.post("/v1/traces", data=b"\x0a\xff", headers=PROTOBUF)
    client.post("/v1/traces", data=b"", headers={"Content-Type": "text/plain"})
    correlator.overloaded = True
    client.post("/v1/traces", data=request.SerializeToString(), headers=PROTOBUF)
    found = figures(client)
    assert found["layerline_received_items_total http/protobuf span"] == 1
    assert found["layerline_rejected_items_total http/protobuf span"] == 1
    assert found["layerline_write_seconds_count"] == 1
    assert [found[f"layerline_refused_requests_total {status} http/protobuf"] for status in (400, 415, 503)] == [
        1,
        1,
        1,
    ]


def test_the_heart_is_asked() -> None:
    """Queue, lag, passes, store and retention are what the correlator says at that moment."""
    found = figures(create_app(FakeCorrelator()).test_client())
    assert found["layerline_write_queue_batches"] == 3
    assert found["layerline_correlator_lag_seconds"] == 1.5
    assert found["layerline_correlator_waiting_traces"] == 20
    assert found["layerline_correlator_passes_total"] == 7
    assert found["layerline_correlator_left_out_traces_total"] == 600
    assert found["layerline_ledgers_refused_total"] == 2
    assert found["layerline_store_used_bytes"] == 4096
    assert found["layerline_retention_deleted_rows_total"] == 12
    assert found["layerline_store_sealed_bytes"] == 3300
    assert found["layerline_store_bytes_per_span"] == 190.5
    assert found["layerline_store_bytes_per_container_day"] == 9e6


def test_every_figure_is_documented() -> None:
    """docs/SERVER.md names what /metrics shows."""
    page = (Path(__file__).parents[2] / "docs/SERVER.md").read_text(encoding="utf-8")
    text = create_app(FakeCorrelator()).test_client().get("/metrics").text
    for family in text_string_to_metric_families(text):
        if not family.name.endswith("_created"):
            end = family.name.removeprefix("layerline_correlator_").removeprefix("layerline_write_queue_")
            assert family.name in page or f"…_{end}" in page, family.name


def test_two_servers_do_not_share_their_figures() -> None:
    """Each app has a registry of its own, and none is that of the process."""
    one, other = create_app(FakeCorrelator()).test_client(), create_app(FakeCorrelator()).test_client()
    one.post("/v1/traces", data=one_span().SerializeToString(), headers=PROTOBUF)
    assert figures(one)["layerline_received_items_total http/protobuf span"] == 1
    assert figures(other)["layerline_received_items_total http/protobuf span"] == 0
    assert not any(name.startswith(("python_", "process_")) for name in figures(one))


def test_the_token_guards_it() -> None:
    """Where a token is set, /metrics asks for it like everything else."""
    client = create_app(FakeCorrelator(), ServerSettings(token=TOKEN)).test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path / "store", retain_ns=3600 * 10**9))
    yield opened
    opened.close()


def test_a_real_heart(correlator: Correlator) -> None:
    """A trace that arrives is worked out in a pass, after which nothing waits; what retention deletes is counted."""
    client = create_app(correlator).test_client()
    ancient = one_span(start_time_unix_nano=10**9, end_time_unix_nano=2 * 10**9)
    assert client.post("/v1/traces", data=ancient.SerializeToString(), headers=PROTOBUF).status_code == 200

    def worked_out() -> Health | None:
        health = correlator.health()
        return None if health.passes == 0 or health.waiting_traces else health

    found = eventually(worked_out)
    assert found is not None
    assert found.worked_traces >= 1
    assert (found.waiting_batches, found.lag_ns, found.failed_traces, found.deleted_rows) == (0, 0, 0, 0)
    assert found.used_bytes >= 0
    correlator._retain()
    assert correlator.health().deleted_rows >= 2  # the span and its request, at least
    assert figures(client)["layerline_received_items_total http/protobuf span"] == 1
