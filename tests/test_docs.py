"""The documents that follow from the code do follow from it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from layerline import command
from layerline.commands import docs
from layerline_api.page import pages
from layerline_correlator.ledger.causes import all_causes
from waiting import PATIENCE_S

ROOT = Path(__file__).parent.parent
STALE = "run `.venv/bin/python docs/make.py`"


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
    assert (ROOT / "docs/CAUSES.md").read_text(encoding="utf-8") == make.causes(), STALE


def test_the_page_of_commands_is_that_of_their_files(make: ModuleType) -> None:
    """docs/COMMANDS.md is what `python docs/make.py` writes: every command is documented."""
    assert (ROOT / "docs/COMMANDS.md").read_text(encoding="utf-8") == make.commands(), STALE


def test_the_table_of_pages_is_that_of_their_files(make: ModuleType) -> None:
    """docs/PAGE.md's table is what `python docs/make.py` writes: every page is documented, and says what it shows."""
    text = (ROOT / "docs/PAGE.md").read_text(encoding="utf-8")
    assert make.page(text) == text, STALE
    assert all(module.__doc__ for module in pages().values())


def test_the_table_of_settings_is_that_of_the_code(make: ModuleType) -> None:
    """The tables of README.md and docs/SETTINGS.md are what `python docs/make.py` writes."""
    for path in (ROOT / "README.md", ROOT / "docs/SETTINGS.md"):
        text = path.read_text(encoding="utf-8")
        assert make.readme(text) == text, STALE


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
    """Every cause named in another's header exists."""
    known = {cause.name for cause in all_causes()}
    for cause in all_causes():
        named = set(re.findall(r"\b(?:app|dependency|network|container|host)\.[a-z]+_[a-z_]+", cause.mistaken_for))
        assert named <= known, f"{cause.name} names {sorted(named - known)}, which are no causes"


#: Where docstrings are read by users: as help, or in the API's document.
SHOWN = (
    "instrument/layerline/commands/", "instrument/layerline_agent/commands/",
    "api/layerline_api/commands/", "api/layerline_api/routes/", "api/layerline_api/page/",
)  # fmt: skip


def messages() -> Iterator[tuple[str, str]]:
    """Every text of the packages that a user may come to read, with the file in which it stands."""
    for folder in ("instrument", "correlator", "api"):
        for path in (ROOT / folder).rglob("*"):
            where = path.relative_to(ROOT).as_posix()
            if path.suffix in {".html", ".js"}:
                yield where, path.read_text(encoding="utf-8")
            elif path.suffix == ".py" and "/doc-pages/" not in where:
                tree = ast.parse(path.read_text(encoding="utf-8"))
                own = {
                    id(node.body[0].value)
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                    and node.body
                    and isinstance(node.body[0], ast.Expr)
                }
                hidden = set() if where.startswith(SHOWN) else own
                for node in ast.walk(tree):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
                        yield where, node.value
    for cause in all_causes():
        yield cause.name, " ".join((cause.means, cause.mistaken_for, cause.try_, cause.enable, cause.source))


def test_messages_name_pages_that_can_be_read() -> None:
    """A message names `layerline docs NAME` with a page that is installed, not a file of the repository."""
    named = set()
    for where, text in messages():
        if where != "instrument/layerline/signals.py":  # it makes docs/SIGNALS.md, which says how
            assert not re.search(r"docs/[A-Z_]+\.md", text), f"{where}: {text}"
        for name in re.findall(r"`layerline docs ([a-z_]+)`", text):
            assert name in docs.pages(), f"{where} names {name}"
            named.add(name)
    assert named >= {"query", "causes", "sql"}


def test_every_page_of_the_repository_is_installed() -> None:
    """`layerline docs` knows each page of docs/, and each has a title."""
    assert {path.name for path in docs.pages().values()} == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert all(docs.title(page) for page in docs.pages().values())


@pytest.mark.parametrize("name", ["sql", "SQL", "docs/SQL.md", "SQL.md"])
def test_a_page_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A page is found by its name or by its path in the repository."""
    assert docs.main([name]) == 0
    assert capsys.readouterr().out == (ROOT / "docs/SQL.md").read_text(encoding="utf-8")


def test_pages_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name every page stands on a line of its own."""
    assert docs.main([]) == 0
    said = capsys.readouterr().out
    assert "short_lives  Short lives\n" in said
    assert said.count("\n") == len(docs.pages())


def test_an_unknown_page_ends_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A page that is not there ends with exit code 2 and one line that lists those that are."""
    assert docs.main(["../../secret"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("layerline docs: there is no page '../../secret'; there are: accuracy, apps, asked, ")
    assert said.count("\n") == 1


#: What people read: README and the like, and the pages.
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_commands_in_documents_exist(page: Path) -> None:
    """A line of an example that begins with `layerline NAME` names a command that there is."""
    known = command.commands()
    for block in re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        for name in re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*layerline ([a-z]+)(?!\S)", block, re.M):
            assert name in known, f"{page.name} shows `layerline {name}`"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    """A link to another file of the repository, or to a heading of one, leads to something that is there."""
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        other = (page.parent / target) if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to #{anchor} of {other.name}"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """`make docs` succeeds: every page is in its menu, every link leads somewhere, all is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    landing = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "took 380 ms, usually 56 ms" in landing
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.?(?:https?:)?//", landing)
    assert (tmp_path / "site/SECURITY.html").exists()
