"""Caps hold at every door alike, and each says in its own way what was not taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_fake import otlp_json
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from layerline_api.app import create_app
from layerline_api.commands import recorded as command
from layerline_api.doors.intake import Intake
from layerline_api.measures import Measures
from layerline_api.settings import ServerSettings
from layerline_api.terminal.coverage import show
from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Store
from waiting import eventually

NOW_NS = time.time_ns()
SAID = "its sender has more than 10 series within two minutes"


def metrics(service: str, series: int = 12, **tags: str) -> ExportMetricsServiceRequest:
    """One metric that has an id in an attribute."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    for key, value in {"service.name": service, **tags}.items():
        group.resource.attributes.add(key=key).value.string_value = value
    metric = group.scope_metrics.add().metrics.add(name="calls")
    for number in range(series):
        point = metric.gauge.data_points.add(time_unix_nano=NOW_NS, as_int=number)
        point.attributes.add(key="user").value.string_value = str(number)
    return request


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Correlator, Intake]]:
    """With room for ten series of each sender, and three values of a tag."""
    settings = Settings(store=tmp_path / "store", group_ns=0, series=100, tag_values=3)
    correlator = Correlator.open(settings)
    yield correlator, Intake(correlator, ServerSettings(), Measures(correlator))
    correlator.close()


def test_every_way_of_otlp_says_what_was_not_taken(server: tuple[Correlator, Intake]) -> None:
    """Partial success over HTTP in both forms and over gRPC: how many points, of which metric, and which cap."""
    correlator, intake = server
    client = create_app(correlator, ServerSettings(), intake).test_client()
    protobuf = client.post(
        "/v1/metrics", data=metrics("a").SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
    )
    told = ExportMetricsServiceResponse.FromString(protobuf.data).partial_success
    assert (protobuf.status_code, told.rejected_data_points) == (200, 2)
    assert told.error_message == f"a series of metric 'calls': {SAID} (and 1 more)"
    answer: Any = client.post("/v1/metrics", json=otlp_json(metrics("b"))).json
    assert answer["partialSuccess"] == {"rejectedDataPoints": "2", "errorMessage": told.error_message}
    grpc: Any = intake.take("metrics", metrics("c").SerializeToString(), "grpc", packed=False)
    assert grpc.partial_success == told
    seen = intake.measures.text().decode()
    for protocol in ("grpc", "http/protobuf", "http/json"):
        assert f'layerline_received_items_total{{item="point",protocol="{protocol}"}} 10.0' in seen
        assert f'layerline_rejected_items_total{{item="point",protocol="{protocol}"}} 2.0' in seen
    assert 'layerline_exceeded_items_total{cap="series"} 6.0' in seen
    assert "layerline_series 30.0" in seen
    assert "layerline_series_limit 100.0" in seen
    covered = plain(eventually(lambda: correlator.coverage(NOW_NS - 10**12, NOW_NS + 10**12)))
    text = " ".join(str(line) for line in show(covered))
    assert "points of new series of metric calls of a are not stored: too many series" in " ".join(text.split())


def test_a_tag_that_is_left_out_is_a_warning(server: tuple[Correlator, Intake]) -> None:
    """All points are kept, none is rejected, and the answer says which attribute is left out and why."""
    _, intake = server
    for number in range(3):
        intake.take("metrics", metrics("d", 1, build=str(number)).SerializeToString(), "grpc", packed=False)
    answer: Any = intake.take("metrics", metrics("d", 1, build="9").SerializeToString(), "grpc", packed=False)
    assert answer.partial_success.rejected_data_points == 0
    assert answer.partial_success.error_message == (
        "attribute 'build': it has more than 3 values within two minutes; it is left out"
    )


def test_an_import_says_and_counts_what_it_did_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points beyond a cap are named with their metric, and counted among what was rejected, in the store too."""
    monkeypatch.setenv("LAYERLINE_SERIES", "100")
    file, folder = tmp_path / "metrics.json", tmp_path / "incident"
    file.write_text(json.dumps(otlp_json(metrics("web"))) + "\n", encoding="utf-8")
    command.main(["--store", str(folder), str(file)])
    said = " ".join("".join(capsys.readouterr()).split())
    assert SAID in said
    assert "2 could not be read" in said
    store = Store(Settings(store=folder))
    with store.cursor() as cursor:
        assert cursor.execute("SELECT rejected FROM recording").fetchall() == [(2,)]
        assert cursor.execute("SELECT count(*) FROM point").fetchall() == [(10,)]
    store.close()
