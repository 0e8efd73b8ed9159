"""What is built from this tree is whole. `make dist` builds it and tries it; this is what can be seen before."""

from __future__ import annotations

import re
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

import layerline
from layerline.command import commands, main
from layerline.resource import own_version
from tools.dist import PACKAGES, ROOT, difference, expected
from tools.dist import commands as tried


@pytest.mark.parametrize(
    "lost",
    [
        "layerline/py.typed",
        "layerline/doc-pages/SQL.md",
        "layerline_correlator/store/schema.sql",
        "layerline_correlator/tagquery/grammar.lark",
        "layerline_api/page/start.html",
    ],
)
def test_a_wheel_that_lacks_a_file_is_refused(lost: str, tmp_path: Path) -> None:
    """A wheel without one of the files of the packages is reported, with the name of that file."""
    wheel = tmp_path / "layerline.whl"
    wanted = expected()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in wanted - {lost}:
            archive.writestr(name, "")
    assert difference(wheel, wanted) == [f"missing from layerline.whl: {lost}"]


def test_a_wheel_with_more_than_the_packages_is_refused(tmp_path: Path) -> None:
    """A top-level folder that would land in everybody's site-packages is reported."""
    wheel = tmp_path / "layerline.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tests/test_dist.py", "")
    assert difference(wheel, set()) == ["in layerline.whl, but no file of a package: tests/test_dist.py"]


def test_every_data_file_is_declared() -> None:
    """A file that is no Python code matches a pattern of package-data: a build without git must find it too."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = declared["tool"]["setuptools"]["package-data"]
    for name in expected():
        package, _, inside = name.partition("/")
        if not name.endswith(".py"):
            known = [*patterns["*"], *patterns.get(package, ())]
            assert any(fnmatch(inside, pattern) or fnmatch(Path(name).name, pattern) for pattern in known), name


def test_the_packages_are_those_of_the_folders() -> None:
    """A package that is added to the tree is looked at as well."""
    there = {
        path.parent.name for room in ("instrument", "correlator", "api") for path in ROOT.glob(f"{room}/*/py.typed")
    }
    assert there == set(PACKAGES)


def test_every_command_is_tried() -> None:
    """`make dist`, which runs where nothing is installed, tries the commands that `layerline --help` lists."""
    assert tried() == {name: command.module.partition(".")[0] for name, command in commands().items()}


def test_everybody_says_the_same_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`layerline --version`, ``layerline.__version__`` and the resource attribute say what is installed."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"layerline {version('layerline')}\n"
    assert layerline.__version__ == own_version() == version("layerline")


def test_a_tree_without_tags_is_the_next_version() -> None:
    """What a build without git calls itself is not older than the newest version in the changelog."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    fallback = Version(declared["tool"]["setuptools_scm"]["fallback_version"])
    released = re.findall(r"^## ([0-9.]+) - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert fallback.is_devrelease
    assert fallback.release >= max(Version(number).release for number in released)
