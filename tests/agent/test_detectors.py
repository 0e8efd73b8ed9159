"""Region, zone and instance type from the published resource detectors: asked when a setting says so, not for long."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from layerline.attributes import INSTANCE_ID
from layerline_agent.detectors import detect
from layerline_agent.settings import Settings

DOCUMENT = {"instanceId": "i-0abc", "region": "eu-1", "availabilityZone": "eu-1a", "instanceType": "c3.large"}


class Metadata(http.server.BaseHTTPRequestHandler):
    """A machine's metadata service, as small as it can be."""

    def do_GET(self) -> None:
        body = json.dumps(DOCUMENT).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@contextmanager
def metadata_service() -> Iterator[str]:
    """Its address on 127.0.0.1."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/latest/dynamic/instance-identity/document"
        server.shutdown()


def asks(address: str) -> Mapping[str, Any]:
    """As a published detector does."""
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own address
        said = json.load(answer)
    return {
        "cloud.provider": "aws",
        "cloud.region": said["region"],
        "cloud.availability_zone": said["availabilityZone"],
        "host.id": said["instanceId"],
        "host.type": said["instanceType"],
        "host.image.id": "ami-1",
    }


def test_what_the_metadata_service_says_becomes_tags() -> None:
    """Region, zone, type, and the id by which the provider names the machine; that is no machine id of ours."""
    said: list[str] = []
    with metadata_service() as address:
        found = detect(["aws_ec2"], said.append, lambda _: lambda: asks(address))
    assert found == {
        "cloud.provider": "aws",
        "cloud.region": "eu-1",
        "cloud.availability_zone": "eu-1a",
        "host.type": "c3.large",
        INSTANCE_ID: "i-0abc",
    }
    assert said == []


def test_where_nobody_answers_it_is_said_and_nobody_is_waited_for() -> None:
    """A detector that hangs, one that fails, one that finds nothing and one that is not installed: each is named."""
    said: list[str] = []
    forever = threading.Event()

    def installed(name: str) -> Any:
        def fails() -> Mapping[str, Any]:
            raise ConnectionRefusedError("refused")

        def hangs() -> Mapping[str, Any]:
            forever.wait()
            return {}

        return {"hangs": hangs, "fails": fails, "empty": dict}.get(name)

    try:
        assert detect(["fails", "empty", "missing", "hangs"], said.append, installed, within_s=0.2) == {}
    finally:
        forever.set()
    told = {line.split()[2]: line for line in said}
    assert "not installed" in told["missing"]
    assert "ConnectionRefusedError" in told["fails"]
    assert "did not answer within 0.2 s" in told["hangs"]
    assert "says nothing" in told["empty"]


def test_detectors_are_entry_points_and_off_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked without the setting; with it, what is installed under that name is."""
    assert Settings.of(environment={}).detectors == ()
    assert Settings.of(environment={"LAYERLINE_DETECTORS": "aws_ec2, azure_vm,"}).detectors == ("aws_ec2", "azure_vm")
    (tmp_path / "stand_in_detector.py").write_text(
        "from opentelemetry.sdk.resources import Resource, ResourceDetector\n"
        "class Detector(ResourceDetector):\n"
        "    def detect(self):\n"
        "        return Resource({'cloud.region': 'eu-2'})\n"
    )
    about = tmp_path / "stand_in-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[opentelemetry_resource_detector]\nstand_in_cloud = stand_in_detector:Detector\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    said: list[str] = []
    assert detect(["stand_in_cloud", "no_such_cloud"], said.append) == {"cloud.region": "eu-2"}
    assert said == ["resource detector no_such_cloud is not installed: nothing is asked"]
    sys.modules.pop("stand_in_detector", None)
