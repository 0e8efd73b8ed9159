"""The documents that follow from the code do follow from it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from layerline_api.page import pages
from layerline_correlator.ledger.causes import all_causes

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs/make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_causes_is_that_of_the_headers(make: ModuleType) -> None:
    """docs/CAUSES.md is what `python docs/make.py` writes."""
    assert (ROOT / "docs/CAUSES.md").read_text(encoding="utf-8") == make.causes()


def test_the_page_of_commands_is_that_of_their_files(make: ModuleType) -> None:
    """docs/COMMANDS.md is what `python docs/make.py` writes: every command is documented."""
    assert (ROOT / "docs/COMMANDS.md").read_text(encoding="utf-8") == make.commands()


def test_the_table_of_pages_is_that_of_their_files(make: ModuleType) -> None:
    """docs/PAGE.md's table is what `python docs/make.py` writes: every page is documented, and says what it shows."""
    text = (ROOT / "docs/PAGE.md").read_text(encoding="utf-8")
    assert make.page(text) == text
    assert all(module.__doc__ for module in pages().values())


def test_the_table_of_settings_is_that_of_the_code(make: ModuleType) -> None:
    """README.md's table is what `python docs/make.py` writes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert make.readme(text) == text


def test_every_variable_that_the_code_reads_is_documented(make: ModuleType) -> None:
    """A variable of ours that a program reads stands in the table."""
    read = {
        name
        for folder in ("instrument", "correlator", "api")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\"(LAYERLINE_[A-Z_]+)\"", path.read_text(encoding="utf-8"))
    }
    assert read
    table = make.settings()
    assert not {name for name in read if f"`{name}`" not in table}


def test_a_cause_lists_what_it_is_mistaken_for() -> None:
    """Every cause named in another's header exists, or is one that is to come."""
    coming = {
        "app.gil_waited", "app.lock_waited", "app.loop_blocked", "app.pool_waited", "app.queue_waited",
        "app.cold_started", "dependency.chatty", "network.transit_slow", "network.retransmitted",
        "container.memory_stalled", "container.paused", "container.oom_killed", "container.restarted",
        "host.cpu_stolen", "host.memory_stalled", "host.network_saturated",
    }  # fmt: skip
    known = {cause.name for cause in all_causes()} | coming
    for cause in all_causes():
        named = set(re.findall(r"\b(?:app|dependency|network|container|host)\.[a-z]+_[a-z_]+", cause.mistaken_for))
        assert named <= known, f"{cause.name} names {named - known}"
