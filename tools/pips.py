"""Install the built wheel as people with an old and with a new pip do: ``make pips``, after ``make dist``.

On each Python that is here and that ``pyproject.toml`` names, with pip 23.2, the oldest that any of them came with, and
with the newest: bare, and with ``[all]``. The sets that they choose must be whole (``pip check``), all instrumentations
must be of one release, and an app must run. pip before 25.1 does not find its way back from a release that is partly
published; then it says ``ResolutionImpossible``, and a bound in ``pyproject.toml`` has to be mended.

``make dist`` does a short part of it: which versions both would install (``--dry-run``), bare, on the Python that
builds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = "pip==23.2"
NEWEST = "pip"
#: Where Pythons are, beside those on PATH.
FOLDERS = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")
_RUNS = (
    "import ensurepip, sys, venv; print(*sys.version_info[:2], sys.implementation.name, sys.version_info.releaselevel)"
)


class Refused(Exception):
    """pip did not install it; the message has what it said."""


def named() -> list[str]:
    """The versions of Python that ``pyproject.toml`` names, as ``3.11``."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    return [version for each in declared if (version := each.rpartition(" :: ")[2]).startswith("3.")]


def pythons() -> Iterator[tuple[str, Path]]:
    """One Python for each of those versions that is here and can make environments."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    folders += [found for pattern in FOLDERS for found in sorted(Path.home().glob(pattern))]
    folders += sorted((ROOT / ".make/python").glob("*/bin"))
    for version in named():
        for folder in folders:
            python = folder / f"python{version}"
            if not python.exists():
                continue
            said = subprocess.run([python, "-c", _RUNS], capture_output=True, text=True, check=False).stdout
            if said.split() == [*version.split("."), "cpython", "final"]:
                yield version, python
                break


def run(*words: str | Path) -> str:
    """Run a command; what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAYERLINE_", "PYTHON", "OTEL_"))}
    done = subprocess.run(
        [str(word) for word in words], env=kept, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(
            f"`{' '.join(map(str, words))}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"[-4000:]
        )
    return done.stdout


def environment(python: Path, folder: Path, pip: str) -> Path:
    """A fresh environment of that Python with that pip; its interpreter."""
    run(python, "-m", "venv", "--clear", folder)
    made = folder / "bin/python"
    run(made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", pip)
    return made


def chosen(python: Path, what: str) -> dict[str, str]:
    """What its pip would install, with the version of each."""
    words = ("install", "--dry-run", "--quiet", "--ignore-installed", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        run(python, "-m", "pip", *words, "--report", report, what)
        each = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {one["metadata"]["name"].lower().replace("_", "-"): one["metadata"]["version"] for one in each}


def disagreement(versions: dict[str, str]) -> str | None:
    """Instrumentations of two releases do not work together: which there are, if there are two."""
    ours = {
        name: version for name, version in versions.items() if re.match("opentelemetry-(instrumentation|util)", name)
    }
    if len(set(ours.values())) <= 1:
        return None
    return f"expected instrumentations of one release, found {ours}"


def dry(python: Path, wheel: Path) -> str:
    """What both pips would install, bare: in words. Raises Refused."""
    said = []
    with tempfile.TemporaryDirectory() as folder:
        for pip in (OLDEST, NEWEST):
            versions = chosen(environment(python, Path(folder, "venv"), pip), str(wheel))
            if problem := disagreement(versions):
                raise Refused(f"{pip}: {problem}")
            said.append(f"{pip}: opentelemetry-sdk {versions['opentelemetry-sdk']}")
    return "; ".join(said)


def whole(python: Path, wheel: Path, pip: str, extra: str) -> str:
    """Install it, and run an app: the SDK's version. Raises Refused."""
    with tempfile.TemporaryDirectory() as folder:
        made = environment(python, Path(folder, "venv"), pip)
        run(made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}{extra}")
        run(made, "-m", "pip", "check")
        said = run(made, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        versions: dict[str, str] = {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(said)}
        if problem := disagreement(versions):
            raise Refused(f"{pip}: {problem}")
        ran = run(made.parent / "layerline", "run", "--", made, "-c", "print('the app ran')")
        if "the app ran" not in ran:
            raise Refused(f"{pip}: `layerline run` did not run the app, it said {ran!r}")
        return versions["opentelemetry-sdk"]


def main() -> int:
    """All of it; 1 where one is refused."""
    wheels = sorted((ROOT / "dist").glob("*-py3-none-any.whl"))
    if not wheels:
        print("make pips: there is no wheel in dist/: run `make dist` before", file=sys.stderr)
        return 1
    refused = 0
    for version, python in pythons():
        for pip in (OLDEST, NEWEST):
            for extra in ("", "[all]"):
                what = f"Python {version}, {'newest pip' if pip == NEWEST else pip}, layerline{extra}"
                try:
                    print(f"{what}: installed, opentelemetry-sdk {whole(python, wheels[-1], pip, extra)}", flush=True)
                except Refused as problem:
                    refused += 1
                    print(f"{what}: {problem}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
