"""One server of Layerline's for all apps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import serving

from apps.stage import PYTHON, Results, Stage, slow_service
from apps.table import write
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

_results = Results()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is not there: `make apps` sets it up")
    folder = tmp_path_factory.mktemp("apps")
    correlator = Correlator.open(Settings(store=folder / "store", group_ns=1_000_000))
    with serving(correlator, ServerSettings()) as url, slow_service() as slow:
        yield Stage(correlator, url, slow, folder, _results)
    correlator.close()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With ``--write-apps``, and where all have passed: renew the table."""
    if session.config.getoption("--write-apps") and exitstatus == 0 and _results.played:
        write(_results.played)
