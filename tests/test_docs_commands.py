"""Every command that the documents show is run, or says why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from live_server import serving

from doc_pages import DOCUMENTS, ROOT, blocks, words
from layerline import command
from layerline.parsing import Parser
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from waiting import PATIENCE_S

TOKEN = "s3cret"  # noqa: S105 - a token of tests
#: What begins something lasting or wants files: here the parser has to take its options. It is run by these.
ELSEWHERE = {
    "agent": "tests/agent/test_command.py",
    "demo": "tests/demo",
    "evaluate": "tests/api/test_evaluate.py",
    "import": "tests/recorded/test_importing.py",
    "replay": "tests/api/test_incidents.py",
    "run": "tests/test_recipes.py",
    "serve": "tests/api/test_serve.py",
    "store": "tests/api/test_store.py",
    "up": "tests/test_recipes.py",
}
#: Shell words of the recipes, which tests/test_recipes.py hands to a shell.
SHELL = {"mkdir", "export", "for", "python3", "gunicorn", "."}
#: The ends of a window.
BEGIN, END = "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"
EXAMPLES = [
    pytest.param(block, one, id=f"{page.name}: {one.splitlines()[0][:60]}")
    for page in DOCUMENTS
    for block in blocks(page)
    for one in block.commands
]


class Parsed(Exception):
    """A command's arguments were taken."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with a token and one request."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("docs") / "store", group_ns=1_000_000))
    with serving(correlator, ServerSettings(token=TOKEN)) as url:
        yield url
    correlator.close()


def meant(word: str, url: str) -> str:
    """A word of an example with real names in place of the example's."""
    word = word.replace("http://127.0.0.1:4318", url).replace("SELECT …", "SELECT 1 AS one")
    return re.sub(
        r"\b(TRACE_ID|SPAN_ID|ID|FROM/TO|T|FILE|FOLDER|SERVER)\b",
        lambda name: {
            "TRACE_ID": "a" * 32,
            "SPAN_ID": "b" * 16,
            "ID": "c" * 12,
            "T": BEGIN,
            "FROM/TO": "2026-11-23T08:00:00Z/2026-11-23T09:00:00Z",
        }.get(name[1], name[1].lower()),
        word,
    )


@pytest.mark.parametrize(("block", "line"), EXAMPLES)
def test_an_example_works(
    block: Any, line: str, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """A command of ours is understood and answered, an address is there, a package and a target exist."""
    if block.not_run:
        assert len(block.not_run) > 20, "say why"
        return
    variables, split = words(line)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERLINE_SERVER", server)
    monkeypatch.setenv("LAYERLINE_TOKEN", TOKEN)
    for name, value in variables.items():
        assert name.startswith(("LAYERLINE_", "OTEL_", "DD_", "DJANGO_")), name
        if not name.startswith("LAYERLINE_TOKEN"):
            monkeypatch.setenv(name, value)
    program, arguments = split[0], [meant(word, server) for word in split[1:] if word != "&"]
    if arguments.count(BEGIN) == 2:
        arguments[arguments.index(BEGIN, arguments.index(BEGIN) + 1)] = END
    if program == "layerline":
        answered(arguments, monkeypatch, capsys)
    elif program == "curl":
        curled(arguments)
    elif program == "pip":
        for name in (word for word in arguments[1:] if not word.startswith("-")):
            try:
                distribution(re.sub(r"\[.*", "", name))
            except PackageNotFoundError:
                pytest.fail(f"{name} is installed by nobody who could try it")
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{word}:", makefile, re.M) for word in arguments if re.fullmatch(r"[a-z-]+", word))
    elif program.startswith(("python", ".venv/bin/")) and arguments and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).exists()
    else:
        assert program in SHELL, f"what runs {program}? Mark the block with `<!-- not run: REASON -->`"


def answered(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """`layerline …`: 0, or 1 where there is nothing to answer with; never 2, which is for what was not understood."""
    if arguments == ["--version"]:
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == 0
        return
    if arguments[0] in ELSEWHERE:
        assert (ROOT / ELSEWHERE[arguments[0]]).exists()
        if any(re.search(r"[\[\]…|]", word) for word in arguments):
            return  # how it is called, not a call
        take = Parser.parse_args

        def parse(self: Parser, *given: Any, **named: Any) -> NoReturn:
            take(self, *given, **named)
            raise Parsed

        monkeypatch.setattr(Parser, "parse_args", parse)
        with pytest.raises(Parsed):
            command.main(arguments)
        return
    code = command.main(arguments)
    said = capsys.readouterr()
    assert code in (0, 1) or "did you mean" in said.err, said.err


def curled(arguments: list[str]) -> None:
    """`curl …`, as far as the documents use it: the answer must not be an error."""
    method, headers, body, address = "GET", {"Authorization": f"Bearer {TOKEN}"}, None, ""
    rest = iter(arguments)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data"):
            body, method = next(rest), "POST"
        elif not word.startswith("-"):
            address = word
    answer = requests.request(method, address, headers=headers, data=body, timeout=PATIENCE_S)
    assert answer.status_code < 400 or address.endswith("/readyz"), answer.text
