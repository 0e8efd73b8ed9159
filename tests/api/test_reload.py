"""SIGHUP: a running server takes what its settings file says now, and says what it cannot take before a start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from layerline.hangup import differences
from layerline_agent.settings import Settings as AgentSettings
from layerline_api.commands import serve
from layerline_api.live import Live, Reload
from layerline_api.settings import ServerSettings
from layerline_correlator.settings import Settings
from waiting import PATIENCE_S

HOUR_NS = 3600 * 10**9


class Changed:
    """A correlator that keeps what it was given."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []

    def change(self, settings: Settings) -> None:
        self.settings.append(settings)


def reload(before: ServerSettings, after: ServerSettings | Exception, stored: Settings) -> tuple[str, Live, Changed]:
    """What is said, and what holds then, where the file says something else than it did."""
    correlator = Changed()
    _, live = Live.of(before)

    def read() -> tuple[Settings, ServerSettings]:
        if isinstance(after, Exception):
            raise after
        return stored, after

    said = Reload(live, Settings(store=Path("/s")), correlator, None, read)()  # type: ignore[arg-type]
    return said, live, correlator


def test_what_can_be_changed_is_and_the_rest_is_named() -> None:
    """Tokens, notify, capture, ages, sizes and the budget hold at once; addresses, the store and others do not."""
    after = ServerSettings(token="b", capture="all", listen=("127.0.0.1:1",))  # noqa: S106 - of tests
    stored = Settings(store=Path("/elsewhere"), retain_ns=HOUR_NS, budget_ratio=2.0, series=7)
    said, live, correlator = reload(ServerSettings(token="a"), after, stored)  # noqa: S106 - of tests
    assert (live.token, live.capture, live.listen) == ("b", "all", ())
    assert correlator.settings == [replace(Settings(store=Path("/s")), retain_ns=HOUR_NS, budget_ratio=2.0)]
    assert said == (
        "settings read anew; changed: token, capture, retain, budget; from the next start on: listen, store, series"
    )


def test_where_the_file_is_wrong_all_stays() -> None:
    """A mistake, and a file that would leave a server open beyond loopback."""
    before = ServerSettings(token="a", loopback_only=False)  # noqa: S106 - of tests
    for after in (ValueError("no"), ServerSettings()):
        said, live, correlator = reload(before, after, Settings(store=Path("/s")))
        assert said.startswith("the settings are as they were: no")
        assert live.now == before
        assert not correlator.settings


def test_the_fields_of_settings_that_differ_are_named() -> None:
    """By the names of the file where they have others."""
    one, other = AgentSettings(), AgentSettings(interval_ns=5, tags={"a": "b"})
    assert differences(one, other, {"interval_ns": "interval"}) == ["tags", "interval"]


@pytest.mark.long
def test_a_server_takes_another_token_without_a_restart(tmp_path: Path, free_port: int) -> None:
    """After SIGHUP the old token is refused and the new one taken, by the same process; its log is JSON."""
    file = tmp_path / "layerline.toml"

    def write(token: str) -> None:
        file.write_text(
            f'token = "{token}"\nlog = "json"\n[serve]\nstore = "{tmp_path / "store"}"\n'
            f'listen = ["127.0.0.1:{free_port}"]\n'
        )

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"http://127.0.0.1:{free_port}/readyz", headers=headers, timeout=PATIENCE_S).status_code

    write("first")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("LAYERLINE_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", serve.__name__, "--config", str(file)],
        env=inherited, stderr=subprocess.PIPE, text=True, start_new_session=True,  # without a terminal, as a service
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert '"message": "listening on http://127.0.0.1:' in process.stderr.readline()
        assert (status("first"), status("second")) == (200, 401)
        write("second")
        process.send_signal(signal.SIGHUP)
        assert '"message": "settings read anew; changed: token"' in process.stderr.readline()
        assert (status("first"), status("second")) == (401, 200)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        if process.stderr is not None:
            process.stderr.close()
