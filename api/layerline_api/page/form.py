"""The box at the top of the pages: which tags, which service and operation, which time. It asks as the API is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlencode

from flask import Response, render_template
from pydantic import Field
from werkzeug.datastructures import MultiDict

from layerline_api.parameters import AnyText, Arguments, Parameters, Window, names, read
from layerline_api.problems import Problem
from layerline_api.words.clean import clean
from layerline_api.words.queries import pointed
from layerline_correlator.questions.questions import Questions
from layerline_correlator.tagquery.model import BadQuery
from layerline_correlator.tagquery.parse import parse, parse_selection
from layerline_correlator.times import rfc3339

#: The windows that are offered; any other can be asked for in the address.
WINDOWS = {"15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days"}
DEFAULT = "15m"
WINDOW = ("since", "from", "to")
#: Services offered while one writes.
MOST_SERVICES = 200
#: A window that ends so shortly ago ends now.
_NOW_NS = 2 * 10**9
HTML = "text/html; charset=utf-8"

Asked = TypeVar("Asked", bound=Parameters)


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """A page's ``MENU``: its place in the menu. A page of one thing, such as an incident, has none."""

    place: int
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """Another window of the same page; the address is "" where there is nothing to see."""

    name: str  # "earlier" | "later" | "wider" | "narrower"
    address: str


class Form(Parameters):
    """What a page is asked with. A browser sends every field of a form; an empty one says nothing."""

    default: ClassVar[str] = DEFAULT
    """The window of a page that was asked for none."""

    q: Annotated[AnyText, Field(description="tags, as in `layerline docs query`")] = ""
    service: Annotated[AnyText, Field(description="service.name")] = ""
    operation: Annotated[AnyText, Field(description="the entry span's name")] = ""
    since: Annotated[AnyText, Field(description="that long until now; not looked at beside from or to")] = ""
    from_: Annotated[AnyText, Field(description="the window's begin, RFC 3339 with zone")] = ""
    to: Annotated[AnyText, Field(description="the window's end; now unless said otherwise")] = ""

    def fields(self) -> dict[str, str]:
        """The fields that say something, by their names."""
        return {name: text.strip() for name, text in self.model_dump(by_alias=True).items() if text.strip()}

    def choice(self) -> dict[str, str]:
        """The fields that say something besides the window."""
        return {name: text for name, text in self.fields().items() if name not in WINDOW}

    def of_api(self) -> dict[str, str]:
        """``choice`` as the API names these fields."""
        return {"tag" if name == "q" else name: text for name, text in self.choice().items()}

    def window(self) -> dict[str, str]:
        """The window as the API takes it; without any the page's own."""
        given = self.fields()
        exact = {name: text for name, text in given.items() if name in ("from", "to")}
        return exact or {"since": given.get("since", self.default)}

    @property
    def is_timed(self) -> bool:
        """Whether a window was chosen."""
        return any(name in self.fields() for name in WINDOW)

    @property
    def is_exact(self) -> bool:
        """Whether exact times were chosen."""
        return "since" not in self.window()

    @property
    def moves(self) -> bool:
        """Whether the window ends now: then the page is worth looking at again."""
        return "to" not in self.window() and bool(self.window())

    def steps(self, path: str, around: tuple[int, int] | None = None) -> list[Step]:
        """The same page earlier, later, over a longer and a shorter time; none where the window is none.

        ``around``: the window, where it is not what was asked for.
        """
        try:
            from_ns, to_ns = around or read(Window, MultiDict(self.window())).window()
        except Problem:
            return []
        length_ns, now_ns = to_ns - from_ns, time.time_ns()
        stretches = {
            "earlier": (from_ns - length_ns, from_ns),
            "later": (to_ns, to_ns + length_ns),
            "wider": (from_ns - length_ns // 2, to_ns + length_ns // 2),
            "narrower": (from_ns + length_ns // 4, to_ns - length_ns // 4),
        }
        found = []
        for name, (begin_ns, end_ns) in stretches.items():
            if end_ns > now_ns:  # nothing is known of what is to come
                begin_ns, end_ns = begin_ns - (end_ns - now_ns), now_ns
            if end_ns > from_ns or name == "earlier":
                times = {"from": rfc3339(max(0, begin_ns)), "to": rfc3339(max(1, end_ns))}
                is_same = name == "later" and to_ns >= now_ns - _NOW_NS
                found.append(Step(name, "" if is_same else f"{path}?{urlencode(self.choice() | times)}"))
        return found

    def now(self, path: str) -> str:
        """The same page of the last minutes."""
        choice = urlencode(self.choice())
        return f"{path}?{choice}" if choice else path

    @property
    def stretch(self) -> str:
        """``of the last 15 minutes``, ``from … to …``."""
        window = self.window()
        if (since := window.get("since")) is not None:
            return f"of the last {WINDOWS.get(since, clean(since))}"
        words = ("from", window.get("from"), "to", window.get("to", "now"))
        return " ".join(clean(word) for word in (words if window.get("from") else ("until", window["to"])))

    def parameters(self, model: type[Asked]) -> Asked:
        """What is asked for as a route of the API reads it. ``Problem`` 400 names the field."""
        known = names(model)
        arguments: Arguments = MultiDict(
            {name: text for name, text in self.choice().items() if name in known} | self.window()
        )
        if "tag" in known and (tags := self.tags()):
            arguments["tag"] = tags
        return read(model, arguments)

    def tags(self) -> str:
        """The tags asked for. ``Problem`` 400 with the column where they are none."""
        text = self.fields().get("q", "")
        if text:
            try:
                parse_selection(text)
            except BadQuery as problem:
                raise Problem(400, f"{problem.detail} (column {problem.column})", "q", problem.column) from None
        return text

    def link(self, path: str) -> str:
        """The address of another page with those fields of this one that all pages have.

        Containers know no requests: there a service is a tag, and the operation is left out.
        """
        given = {name: text for name, text in self.fields().items() if name in names(Form)}
        if path == "/containers":
            given.pop("operation", None)
            if (service := given.pop("service", None)) is not None:
                quoted = service.replace("\\", r"\\").replace('"', r"\"")
                given["q"] = f'service:"{quoted}" {given.get("q", "")}'.rstrip()
        query = urlencode(given)
        return f"{path}?{query}" if query else path


class ServicesForm(Form):
    """Which services are listed."""

    search: Annotated[AnyText, Field(description="part of a service's name")] = ""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a page has no answer; ``pointed`` is the query and a caret below its column."""

    detail: str
    field: str
    pointed: str
    is_of_containers: bool
    """Whether it is a query that only the containers can be asked."""

    @classmethod
    def of(cls, problem: Problem, form: Form) -> Complaint:
        """What to say of the problem."""
        text = form.fields().get("q", "")
        lines = "\n".join(pointed(text, problem.column)) if problem.column is not None else ""
        return cls(clean(problem.detail), problem.field or "", lines, _goes_further(text, problem.column))


def _goes_further(text: str, column: int | None) -> bool:
    """Whether a query of containers makes more sense of it than a selection of tags, which ends at the column."""
    if column is None:
        return False
    try:
        parse(text)
    except BadQuery as problem:
        return problem.column > column
    return True


def answer(template: str, form: Form, questions: Questions, fill: Callable[[], dict[str, Any]]) -> Response:
    """The page with what ``fill`` finds, or with why it finds nothing and what was asked, to be mended."""
    found: dict[str, Any] = {}
    complaint, status = None, 200
    try:
        found = fill()
    except Problem as problem:
        complaint, status = Complaint.of(problem, form), problem.status
    services = [clean(service) for service in questions.services()[:MOST_SERVICES]]
    html = render_template(template, form=form, complaint=complaint, services=services, **found)
    return Response(html, status, content_type=HTML)
