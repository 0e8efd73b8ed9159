"""What holds for every test: nothing comes from the developer's environment, and no example has a deadline."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

import profiles

#: What a test may know of the environment that pytest was started in. Everything else is removed before any test module
#: is imported, because OpenTelemetry reads its variables then; subprocesses inherit what is left.
_KEPT = ("PATH", "HOME", "TMPDIR", "CI", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "HYPOTHESIS_PROFILE")
_KEPT_PREFIXES = ("PYTEST_", "COV_", "NODE_EXTRA_CA_", "npm_config_")  # pytest's own; how npm reaches its registry

for _name in list(os.environ):
    if _name not in _KEPT and not _name.startswith(_KEPT_PREFIXES):
        del os.environ[_name]
os.environ["LANG"] = "C.UTF-8"
# Far from UTC, and not by whole hours: what forgets to say UTC is seen.
os.environ["TZ"] = "Asia/Kathmandu"
time.tzset()

# No agent that a test starts keeps readings in the developer's home, or sends what another one left there.
os.environ["LAYERLINE_SPOOL"] = "off"

# A shell that starts a job in the background has it ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_SETMASK, ())

pytest.register_assert_rewrite("waiting", "drawings")  # a failed comparison there shows both sides
profiles.load()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-apps", action="store_true", help="renew docs/APPS.md (tests/apps, all of them)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, after the order was drawn: several workers then end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut off because the machine is busy, and questions wait for what was sent before them.

    The tests of cutting off set a limit of their own.
    """
    for module, limit in (
        ("layerline_correlator.questions.answers", "PATIENCE_S"),
        ("layerline_correlator.questions.sql", "PATIENCE_S"),
        ("layerline_correlator.correlator", "FRESH_S"),
        ("layerline_correlator.correlator", "QUIET_S"),
        ("layerline_correlator.ledger.careful", "TRY_S"),
    ):
        if module in sys.modules:
            monkeypatch.setattr(sys.modules[module], limit, 600.0)
