"""Image, compose file and manifests: valid, without rights nothing needs, in step with commands and settings."""

from __future__ import annotations

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from layerline import healthcheck
from layerline.command import commands
from layerline.configuration import CONFIG, known_settings
from waiting import PATIENCE_S

PACKAGING = Path(__file__).parent.parent / "packaging"
DOCKERFILE = (PACKAGING / "docker/Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((PACKAGING / "docker/compose.yaml").read_text(encoding="utf-8"))
MANIFESTS = list(yaml.safe_load_all((PACKAGING / "kubernetes/layerline.yaml").read_text(encoding="utf-8")))
#: Versions of Kubernetes that the manifests are held to.
KUBERNETES = ("1.31", "1.34")
VARIABLES = {CONFIG, *(setting.variable for setting in known_settings().values())}


def manifest(kind: str) -> Any:
    return next(each for each in MANIFESTS if each["kind"] == kind)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifests_are_what_kubernetes_knows(version: str) -> None:
    """By Kubernetes' own schemas, strictly: no field that it would ignore."""
    for each in MANIFESTS:
        kubernetes_validate.validate(each, version, strict=True)


def test_no_program_has_rights_in_the_cluster() -> None:
    """The role is empty, no token of a service account is mounted, and no container may become more than it is."""
    assert manifest("Role")["rules"] == []
    for kind, added in (("Deployment", None), ("DaemonSet", ["SYS_PTRACE"])):
        pod = manifest(kind)["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        allowed = pod["containers"][0]["securityContext"]
        assert allowed["capabilities"] == {"drop": ["ALL"]} | ({"add": added} if added else {})
        assert (allowed["allowPrivilegeEscalation"], allowed["readOnlyRootFilesystem"]) == (False, True)
    assert manifest("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_services_of_the_compose_file_may_do_no_more_than_they_need() -> None:
    """No capability but the agent's, read-only roots, ports on loopback only."""
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["SYS_PTRACE"] if name == "agent" else []), name
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    sample = COMPOSE["services"]["sample"]["volumes"][0].partition(":")[0]
    assert (PACKAGING / "docker" / sample / "app.py").is_file()


def test_what_is_set_and_started_there_is() -> None:
    """Commands and variables of image, compose file and manifests exist."""
    text = DOCKERFILE + json.dumps([COMPOSE, MANIFESTS])
    assert set(re.findall(r"\bLAYERLINE_[A-Z_]+\b", text)) <= VARIABLES
    started = [COMPOSE["services"][name]["command"][0] for name in ("server", "agent")]
    started += [
        manifest(kind)["spec"]["template"]["spec"]["containers"][0]["args"][0] for kind in ("Deployment", "DaemonSet")
    ]
    assert started == ["serve", "agent", "serve", "agent"]
    assert set(started) <= set(commands())


def test_the_image_is_rootless_and_starts_no_shell() -> None:
    """Two stages, a user of its own, a health check, and every command as a list."""
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    instructions = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    assert sum(word == "FROM" for word, _ in instructions) == 2
    assert ("USER", "10001:10001") in instructions
    for word, rest in instructions:
        if word in ("RUN", "CMD", "ENTRYPOINT", "VOLUME"):
            assert json.loads(rest), rest
        if word == "HEALTHCHECK":
            assert json.loads(rest.partition("CMD ")[2])[1:] == ["-m", "layerline.healthcheck"]
    assert "HEALTHCHECK" in dict(instructions)


def test_the_health_check_asks_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """0 where /healthz says 200 at the address that is listened on, 1 where it does not, or nobody answers."""
    statuses = [200, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("LAYERLINE_LISTEN", f"0.0.0.0:{server.server_address[1]}")
        assert [healthcheck.main(), healthcheck.main()] == [0, 1]
        server.shutdown()
        thread.join(PATIENCE_S)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        monkeypatch.setenv("LAYERLINE_LISTEN", f"127.0.0.1:{taken.getsockname()[1]}")
        assert healthcheck.main() == 1
