"""docs/APPS.md, made of the apps that were played: ``make apps``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from apps.stage import PYTHON, ROOT, App

PAGE = ROOT / "docs/APPS.md"
BEGIN, END = "<!-- apps: made by `make apps` -->", "<!-- /apps -->"
#: Cases in words, as columns: those that an app may have.
CASES = {
    "sleep": "sleeps",
    "compute": "computes",
    "lock": "waits for a lock",
    "call": "calls",
    "await": "awaits",
}
_FOLDED = {
    **dict.fromkeys(("psycopg", "sqlalchemy", "asyncpg", "redis", "httpx", "requests", "aiohttp", "boto3"), "call"),
    "await_compute": "compute",
    "await_lock": "lock",
    "to_thread": "compute",
    "gather": "await",
}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages in the environment of the apps."""
    text = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sep='\\n')"
    names = sorted(set(packages))
    said = subprocess.run([PYTHON, "-c", text, *names], check=True, capture_output=True, text=True).stdout.split()
    return dict(zip(names, said, strict=True))


def table(played: Iterable[App]) -> str:
    """One line for each app: what it was made of, and which cases were told with their cause and line."""
    apps = sorted(played, key=lambda app: app.name)
    known = versions(package for app in apps for package in app.packages)
    heads = ["app", *CASES.values(), "streams to the last byte", "exception"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for app in apps:
        made = ", ".join(f"{package} {known[package]}" for package in app.packages)
        causes: dict[str, list[str]] = {}
        for case, expected in app.cases.items():
            causes.setdefault(_FOLDED.get(case, case), []).append(expected.cause)
        cells = [" ".join(dict.fromkeys(f"`{cause}`" for cause in causes.get(case, []))) or "–" for case in CASES]
        notes = f" ({app.notes})" if app.notes else ""
        lines.append(
            f"| {made}{notes} | {' | '.join(cells)} | {'yes' if app.streams else '–'} |"
            f" {f'`{app.fails}`' if app.fails else '–'} |"
        )
    return "\n".join(lines)


def write(played: Iterable[App]) -> None:
    """Write the table between its marks. ValueError where the page has none."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n{table(played)}\n{END}{after}", encoding="utf-8")
