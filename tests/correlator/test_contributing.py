"""The example in CONTRIBUTING.md is a cause like ours: it is found, judged and documented by touching two places."""

from __future__ import annotations

import re
import runpy
import shutil
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from drawings import check, judged

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger import causes

ROOT = Path(__file__).parent.parent.parent
#: ``path``: and the block that follows.
BLOCKS = re.findall(
    r"^`(\S+)`:\n\n```(?:sql|toml)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
)
EXAMPLE = {Path(path): text for path, text in BLOCKS}
SCENARIOS: list[dict[str, Any]] = [
    scenario for path, text in EXAMPLE.items() if path.suffix == ".toml" for scenario in tomllib.loads(text)["scenario"]
]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's name, while its file is in the folder of causes (a copy of it)."""
    (path,) = (path for path in EXAMPLE if path.suffix == ".sql")
    folder = tmp_path / "causes"
    shutil.copytree(str(files(causes)), folder)
    (folder / path.name).write_text(EXAMPLE[path], encoding="utf-8")
    monkeypatch.setattr(causes, "files", lambda _: folder)
    causes.all_causes.cache_clear()
    yield path.stem.replace("_", ".", 1)
    causes.all_causes.cache_clear()


def test_the_example_is_two_files_in_the_two_places() -> None:
    """One beside our causes, one beside our scenarios, of one name that is not taken."""
    assert [path.parent for path in EXAMPLE] == [
        Path("correlator/layerline_correlator/ledger/causes"),
        Path("tests/scenarios"),
    ]
    assert len({path.stem for path in EXAMPLE}) == 1
    assert all((ROOT / path.parent).is_dir() and not (ROOT / path).exists() for path in EXAMPLE)
    assert {scenario["kind"] for scenario in SCENARIOS} == {"happened", "look-alike", "missing"}


def test_the_example_is_judged(example: str, correlator: Correlator) -> None:
    """Its scenarios come out, by the same rules as ours."""
    for scenario, verdict in zip(SCENARIOS, judged(SCENARIOS, correlator), strict=True):
        check(scenario, verdict)


def test_the_example_is_found_and_documented(example: str) -> None:
    """A file in the folder is in the list, takes in its turn, and has its chapter in docs/CAUSES.md."""
    names = [cause.name for cause in causes.all_causes()]
    assert names.index("app.gc_paused") < names.index(example) < names.index("app.cpu_busy")
    page = runpy.run_path(str(ROOT / "docs/make.py"))["causes"]()
    chapter = page.partition(f"## {example}\n")[2].partition("\n## ")[0]
    cause = causes.by_name(example)
    assert all(said in chapter for said in (cause.title, cause.means, cause.mistaken_for, cause.try_, cause.source))


def test_the_example_is_taken_out_again() -> None:
    """Ours are ours: nothing of the example stays behind."""
    assert {path.stem.replace("_", ".", 1) for path in EXAMPLE}.isdisjoint(each.name for each in causes.all_causes())
