"""A correlator over an empty store, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    yield opened
    opened.close()
