"""docs/ACCURACY.md has two parts, each written by its own command: the lab's, and that of its coarse part below it."""

from __future__ import annotations

from pathlib import Path

ACCURACY = Path(__file__).parents[2] / "docs" / "ACCURACY.md"
_COARSE = "<!-- made by python -m benchmarks.lab.coarse -->\n"


def write_lab(text: str, path: Path = ACCURACY) -> None:
    """The lab's part; the coarse one stays as it is."""
    _, _, coarse = _parts(path)
    path.write_text(text + (f"\n{_COARSE}{coarse}" if coarse else ""))


def write_coarse(text: str, path: Path = ACCURACY) -> None:
    """The coarse part; the lab's stays as it is."""
    lab, _, _ = _parts(path)
    path.write_text(f"{lab.rstrip()}\n\n{_COARSE}{text}")


def _parts(path: Path) -> tuple[str, str, str]:
    return path.read_text().partition(_COARSE) if path.exists() else ("", "", "")
