"""The house itself: what may import what, and what an app installs."""

from __future__ import annotations

import ast
from importlib.metadata import requires
from pathlib import Path

import pytest

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


def imported_roots(source: Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add((node.module or "").partition(".")[0])
    return roots


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_up_only(package: str) -> None:
    """Data goes down, imports go up: no package imports one that stands above it."""
    for source in PACKAGES[package].rglob("*.py"):
        wrong = (imported_roots(source) & set(PACKAGES)) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{source.relative_to(ROOT)} imports {wrong}"


def test_an_app_installs_opentelemetry_only() -> None:
    """A bare install directly requires OpenTelemetry distributions and nothing else."""
    bare = [line for line in requires("layerline") or [] if "extra ==" not in line]
    assert bare
    assert all(line.startswith("opentelemetry-") for line in bare), bare
