"""Whatever a route or a page can be asked with makes a difference, and something asks each of them."""

from __future__ import annotations

import ast
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from api_fake import full
from flask import Flask
from werkzeug.exceptions import HTTPException

from layerline.attributes import SPAN_FIGURES
from layerline_api.app import create_app
from layerline_api.declared import Declared
from layerline_api.openapi import routes
from layerline_api.parameters import Parameters, Read
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, SpanRow

pytestmark = pytest.mark.long

NOW_NS = 1_795_428_600_000_000_000  # 2026-11-23T10:10:00Z
#: For routes that have parameters and a body: the first of these that a route takes is sent.
BODIES: tuple[dict[str, Any], ...] = ({"body": "deployed", "time": "2026-11-23T10:00:00Z"}, {"until": None})

TESTS = Path(__file__).parent


class Still:
    """A module ``time`` in which it is always the same time."""

    def __getattr__(self, name: str) -> Any:
        return (lambda: NOW_NS) if name == "time_ns" else getattr(time, name)


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    """A real one, with a request of each of the two services that the samples name, and what it was asked."""
    folder = tmp_path_factory.mktemp("store")
    opened = Correlator.open(Settings(store=folder, group_ns=1_000_000, retain_ns=2**62))
    batch = Batch()
    for name, digit in (("web", "a"), ("api", "b")):
        batch.resources.append(ResourceRow(name, {"service.name": name, "container.image.name": name}))
        figures = (None,) * len(SPAN_FIGURES)
        begin_ns, end_ns = NOW_NS - 3 * 60 * 10**9, NOW_NS - 2 * 60 * 10**9
        span = SpanRow(
            digit * 32, digit * 16, None, name, name, 2, begin_ns, end_ns, 0, None, None, None, None, figures, {}
        )
        batch.spans.append(span)
    opened.append(batch)
    opened.look_for_incidents()  # all is worked out then, and asked twice it says the same
    yield Mock(wraps=opened)
    opened.close()


@pytest.fixture
def app(correlator: Mock, monkeypatch: pytest.MonkeyPatch) -> Flask:
    made = create_app(correlator)
    for name, module in list(sys.modules.items()):
        if name.startswith("layerline_api.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", Still())
    return made


def samples(model: type[Parameters], field: str) -> tuple[str, str]:
    """Two texts that the parameter reads as different things."""
    named = {one.alias: name for name, one in model.model_fields.items()}
    about = model.model_fields[named.get(field, field)]
    waiting: list[Any] = [*about.metadata, about.annotation]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Read):
            assert len(set(one.samples)) >= 2, f"{model.__name__}.{field}: its Read needs two samples"
            return one.samples[0], one.samples[1]
        waiting += [*getattr(one, "__metadata__", ()), *get_args(one)]
    raise AssertionError(f"{model.__name__}.{field} is not read by a Read")


def declared() -> list[Any]:
    """Each parameter of each route."""
    found = []
    for rule, method, view in routes(create_app(full())):
        assert view is not None
        if view.parameters is not None:
            found += [
                pytest.param(rule.rule, method, view, field, id=f"{method} {rule.rule} {field}")
                for field in view.parameters.model_fields
            ]
    return found


def blamed(problem: Any) -> str | None:
    """The parameter that a problem names, in whichever form it is said."""
    (error,) = problem.get("errors") or [problem.get("error", {})]
    return problem.get("field") or (error.get("field") if isinstance(error, dict) else None)


def ask(app: Flask, correlator: Mock, address: str, method: str, view: Declared, given: dict[str, str]) -> Any:
    """What the correlator is asked then, and the answer where there is one."""
    path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: quote(given[name[1]]), address)
    query = {name: text for name, text in given.items() if not re.search(rf"[<:]{re.escape(name)}>", address)}
    for body in BODIES if view.body is not None else (None,):
        correlator.reset_mock()
        answer = app.test_client().open(path, method=method.upper(), query_string=query, json=body)
        if view.body is None or answer.status_code != 400:
            needed = blamed(answer.json) if answer.status_code == 400 and answer.is_json else None
            if needed is not None and needed not in given:  # it may not be left out
                assert view.parameters is not None
                return ask(
                    app, correlator, address, method, view, {**given, needed: samples(view.parameters, needed)[0]}
                )
            return list(correlator.mock_calls), answer.data if answer.status_code < 400 or view.answer is None else b""
    raise AssertionError(f"{method.upper()} {address} takes none of BODIES: add one that it takes")


@pytest.mark.parametrize(("address", "method", "view", "field"), declared())
def test_a_parameter_makes_a_difference(
    app: Flask, correlator: Mock, address: str, method: str, view: Declared, field: str
) -> None:
    """Asked with two values of it, a route asks two things or answers two things: none is declared and ignored."""
    assert view.parameters is not None
    names = re.findall(r"<(?:\w+:)?(\w+)>", address)
    given = {name: samples(view.parameters, name)[0] for name in names}
    one, other = samples(view.parameters, field)
    name = view.parameters.model_fields[field].alias or field

    def asked(text: str) -> Any:
        return ask(app, correlator, address, method, view, {**given, name: text})

    assert asked(one) == asked(one), "asked the same twice it must do the same, or this test says nothing"
    assert asked(one) != asked(other), (
        f"{method.upper()} {address} declares {name}, and does the same for {one!r} and {other!r}: it must use it"
    )


def addresses() -> Iterator[str]:
    """What tests of the API write that begins like an address; what they fill in counts as one letter."""
    for source in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in node.values)


def test_every_route_and_page_is_asked_for_by_a_test() -> None:
    """The address of each stands in some test: a new page or route that nobody tries fails here."""
    app = create_app(full())
    adapter = app.url_map.bind("localhost")
    tried: set[tuple[str, str]] = set()
    for text in addresses():
        path = re.sub(r"^https?://[^/]+|^x(?=/)", "", text).partition("?")[0]
        for method in ("GET", "POST", "DELETE") if path.startswith("/") else ():
            try:
                tried.add((adapter.match(path, method)[0], method.lower()))
            except HTTPException:
                continue
    missing = {(rule.endpoint, method): rule.rule for rule, method, _ in routes(app)}
    for each in tried:
        missing.pop(each, None)
    assert not missing, f"no file tests/api/test_*.py asks for {sorted(missing.values())}"
