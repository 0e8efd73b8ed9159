"""Write the documents that follow from the code: ``python docs/make.py`` (tests/test_docs.py holds them to it).

docs/CAUSES.md comes from the headers of the causes, docs/SIGNALS.md from the signal catalogue, and the table of
settings in README.md from the fields of the settings classes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from layerline.signals import document
from layerline_correlator.ledger.causes import all_causes

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "run": "instrument/layerline/settings.py",
    "agent": "instrument/layerline_agent/settings.py",
    "serve": "correlator/layerline_correlator/settings.py",
    "serve, why": "api/layerline_api/settings.py",
}
BEGIN, END = "<!-- settings: made by docs/make.py -->", "<!-- /settings -->"


def causes() -> str:
    """docs/CAUSES.md: every cause in the order in which they take from a request's time."""
    lines = [
        "# Causes",
        "",
        "What Layerline can blame a slow request on. A cause is one file in"
        " `correlator/layerline_correlator/ledger/causes/`;"
        " this page is made from their headers (`python docs/make.py`).",
        "Where two causes fit the same nanosecond, the one that stands first here takes it. What no cause takes is"
        " shown as *unexplained*.",
        "",
    ]
    for cause in all_causes():
        needs = "; ".join(" or ".join(f"`{fact}`" for fact in need) for need in cause.needs)
        lines += [
            f"## {cause.name}",
            "",
            f"*{cause.title}* — layer {cause.layer}",
            "",
            cause.means,
            "",
            f"* **Easily mistaken for:** {cause.mistaken_for}",
            f"* **What to try:** {cause.try_}",
            *(f"* **What to try with a {kind}:** {what}" for kind, what in cause.try_for),
            *([f"* **Changes that fit:** {', '.join(fit.change for fit in cause.fits)}."] if cause.fits else []),
            f"* **Needs:** {needs}. Without: blind, and the verdict says so; {cause.enable}.",
            f"* **Source:** {cause.source}",
            "",
        ]
    return "\n".join(lines)


def settings() -> str:
    """The table of settings: variable, default and meaning of each field that says them."""
    told: dict[str, dict[str, list[str]]] = {}
    for program, path in SETTINGS.items():
        for variable, default, meaning in _fields(ROOT / path):
            known = told.setdefault(variable, {"for": [], "default": [], "meaning": []})
            for key, value in (("for", program), ("default", default), ("meaning", meaning)):
                if value not in known[key]:
                    known[key].append(value)
    rows = [
        f"| `{variable}` | {', '.join(of['for'])} | {of['default'][0]} | {'; '.join(of['meaning'])} |"
        for variable, of in sorted(told.items())
    ]
    return "\n".join(["| variable | for | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _fields(path: Path) -> Iterator[tuple[str, str, str]]:
    """Variable, default and meaning: a field's docstring says ``VARIABLE (default): meaning.``"""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        for before, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                text = re.sub(r"\s+", " ", str(after.value.value)).replace("``", "`")
                match = re.fullmatch(r"(LAYERLINE_\w+) \((.*?)\): (.+?)\.?", text)
                if match:
                    yield match[1], match[2], match[3]


def readme(text: str) -> str:
    """README.md with its table of settings made anew. ValueError when it has no place for one."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"README.md: expected {BEGIN!r} and {END!r}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{settings()}\n{rest[rest.index(END) :]}"


def main() -> int:
    """Write them all."""
    (ROOT / "docs/CAUSES.md").write_text(causes(), encoding="utf-8")
    (ROOT / "docs/SIGNALS.md").write_text(document(), encoding="utf-8")
    page = ROOT / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
