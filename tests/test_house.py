"""The house itself: what may import what, and what an app installs."""

from __future__ import annotations

import ast
from importlib.metadata import requires
from pathlib import Path

import pytest

from layerline_api.page import pages

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "layerline": ROOT / "instrument/layerline",
    "layerline_agent": ROOT / "instrument/layerline_agent",
    "layerline_correlator": ROOT / "correlator/layerline_correlator",
    "layerline_api": ROOT / "api/layerline_api",
}
MAY_IMPORT = {
    "layerline": set(),
    "layerline_agent": {"layerline"},
    "layerline_correlator": {"layerline"},
    "layerline_api": {"layerline", "layerline_correlator"},
}


#: Rooms of the API, and those beside them that they do not know: what two of them need lies in a room that both see.
STRANGERS = {
    "words": {"alerts", "commands", "doors", "page", "recorded", "routes", "terminal"},
    "terminal": {"alerts", "commands", "doors", "page", "recorded", "routes"},
    "page": {"alerts", "commands", "doors", "recorded", "terminal"},
    "commands": {"page", "routes"},
    "routes": {"commands", "page", "recorded", "terminal"},
    "doors": {"alerts", "commands", "page", "recorded", "routes", "terminal"},
    "alerts": {"commands", "doors", "page", "recorded", "routes", "terminal"},
    "recorded": {"alerts", "commands", "page", "routes", "terminal"},
}


def imported(source: Path) -> set[str]:
    """The modules that a file imports, at its top or anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_roots(source: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(source)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_up_only(package: str) -> None:
    """Data goes down, imports go up: no package imports one that stands above it."""
    for source in PACKAGES[package].rglob("*.py"):
        wrong = (imported_roots(source) & set(PACKAGES)) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{source.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("room", STRANGERS)
def test_rooms_of_the_api_keep_apart(room: str) -> None:
    """Pages know no commands and commands no pages: what both need is in ``words``, and no room knows one above it."""
    for source in (PACKAGES["layerline_api"] / room).rglob("*.py"):
        rooms = {name.split(".")[1] for name in imported(source) if name.startswith("layerline_api.")}
        assert not rooms & STRANGERS[room], f"{source.relative_to(ROOT)} imports from {rooms & STRANGERS[room]}"


def test_one_thing_has_one_name_in_all_rooms() -> None:
    """What is about the same is named as its route is: commands that ask a server, what they print, and pages."""
    api = PACKAGES["layerline_api"]
    names = {room: {path.stem for path in (api / room).glob("[!_]*.py")} for room in ("routes", "terminal")}
    asking = {path.stem for path in (api / "commands").glob("*.py") if any("asking" in one for one in imported(path))}
    assert asking
    assert asking <= names["routes"]
    assert names["terminal"] - {"text"} <= names["routes"]  # text: what they have in common
    assert set(pages()) - {"start"} <= names["routes"]  # start: the page at /


@pytest.mark.parametrize("package", ["layerline", "layerline_agent", "layerline_api"])
def test_every_room_says_what_it_is_for(package: str) -> None:
    """A room opens with a docstring: a visitor need not guess from the names of its files."""
    for source in PACKAGES[package].rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))), source.relative_to(ROOT)


def test_an_app_installs_opentelemetry_only() -> None:
    """A bare install directly requires OpenTelemetry distributions and nothing else."""
    bare = [line for line in requires("layerline") or [] if "extra ==" not in line]
    assert bare
    assert all(line.startswith("opentelemetry-") for line in bare), bare
