"""What a route may be asked with: models that read the path and the query string, and that OpenAPI is made from.

Whatever is not said plainly is a 400 that names the parameter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import core_schema
from werkzeug.datastructures import MultiDict

from layerline_api.problems import Problem
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import DURATION_PATTERN, duration_ns
from layerline_correlator.tagquery.model import BadQuery, Query, Selection
from layerline_correlator.tagquery.parse import parse, parse_selection

ORDERS = ("excess", "duration", "start")
RANKS = ("excess", "lost")
REPEATABLE = ("tag", "match[]", "traceID")
DEFAULT_SINCE_NS = 15 * 60 * 10**9
LIMIT, MOST = 50, 1000
LAST_NS = 2**63 - 1

Arguments = MultiDict[str, str]

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HEX = {"trace_id": re.compile(r"[0-9a-f]{32}"), "span_id": re.compile(r"[0-9a-f]{16}")}
_INCIDENT_ID = re.compile(r"[0-9a-f]{12}")


def check(arguments: Arguments, known: Collection[str]) -> None:
    """Unknown parameters, and parameters given twice that may be given once, are a 400."""
    for name, values in arguments.lists():
        if name not in known:
            may_be = ", ".join(known) or "none"
            raise Problem(400, f"there is no parameter {name[:80]!r} here; there are: {may_be}", name[:80])
        if len(values) > 1 and name not in REPEATABLE:
            raise Problem(400, f"{name} is given {len(values)} times; expected once", name)


def identifier(name: str, text: str) -> str:
    """A ``trace_id`` or ``span_id`` as asked for. 400 unless it is lower-case hex of the right length."""
    digits = 32 if name == "trace_id" else 16  # of a span, whatever the parameter's name is
    if not _HEX["trace_id" if digits == 32 else "span_id"].fullmatch(text):
        raise Problem(400, f"{name} is {text[:80]!r}; expected {digits} lower-case hex digits", name)
    return text


@dataclass(frozen=True, eq=False)
class Read:
    """How a parameter's text is read (``parse(name, text)``, raising ``Problem``), and what OpenAPI says of it."""

    parse: Callable[[str, str], Any]
    schema: Mapping[str, Any]
    samples: tuple[str, ...] = ()
    """Two texts that it reads as different things: ``tests/api/test_parameters.py`` asks each route with both."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(text: Any, info: core_schema.ValidationInfo) -> Any:
            name = str(info.field_name).rstrip("_")
            if not isinstance(text, str):  # in a body
                such = "".join(f" such as {one}" for one in self.schema.get("examples", ()))
                raise Problem(400, f"{name} is {json.dumps(text)[:80]}; expected text{such}", name)
            return self.parse(name, text)

        return core_schema.with_info_plain_validator_function(read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


class Parameters(BaseModel):
    """What a route may be asked with: one field per parameter, of the path or of the query string.

    A trailing ``_`` of a field is not part of the parameter's name (``from_`` is ``from``); what no field can be called
    is its ``alias``.
    """

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: name.rstrip("_"))

    others_pass: ClassVar[bool] = False
    """Whether parameters that it does not name are let pass: the clients of other tools send more than we use."""
    also: ClassVar[Mapping[str, str]] = {}
    """Other spellings of parameters, and what they are here."""


Asked = TypeVar("Asked", bound=Parameters)


def names(model: type[Parameters]) -> tuple[str, ...]:
    """The parameters of a route, as they are written."""
    return tuple(about.alias or name for name, about in model.model_fields.items())


def read(model: type[Asked], arguments: Arguments, path: Mapping[str, str] | None = None) -> Asked:
    """The parameters of the query string, and of the path, as ``model`` has them. ``Problem`` 400 names the field."""
    path = path or {}
    known = [name for name in names(model) if name not in path]
    if model.also:
        arguments = MultiDict((model.also.get(name, name), text) for name, text in arguments.items(multi=True))
    if model.others_pass:
        arguments = MultiDict((name, text) for name, text in arguments.items(multi=True) if name in known)
    check(arguments, known)
    given = {
        name: tuple(values) if name in REPEATABLE else values[0] for name, values in arguments.lists() if values
    } | dict(path)
    try:
        return model.model_validate(given)
    except ValidationError as wrong:  # what `Read` does not look at: a parameter that is not there
        name = str(wrong.errors()[0]["loc"][0])
        raise Problem(400, f"{name} is missing", name) from None


def instant_ns(name: str, text: str) -> int:
    """RFC 3339 with a zone, in nanoseconds since 1970, UTC; the nine digits are kept."""
    match = _RFC3339.fullmatch(text)
    if match is not None:
        day, clock, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
            seconds = round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        except (ValueError, OverflowError):
            seconds = -1
        instant_ns = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
        if 0 <= instant_ns <= LAST_NS:
            return instant_ns
    raise Problem(
        400,
        f"{name} is {text[:80]!r}; expected a time with its zone such as 2026-11-23T10:00:00Z"
        + (" (a + in a query string is written %2B)" if " " in text else ""),
        name,
    )


def _duration(name: str, text: str) -> int:
    try:
        found = duration_ns(text[:40])
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found <= LAST_NS:
        raise Problem(400, f"{name} is {text[:80]!r}; expected a duration such as 400ms, 15m or 1h", name)
    return found


def words(longest: int) -> Read:
    """Text that says something, of at most so many characters."""

    def parse(name: str, text: str) -> str:
        if not text.strip() or len(text) > longest:
            raise Problem(400, f"{name} is {text[:80]!r}; expected text of 1 to {longest} characters", name)
        return text

    return Read(parse, {"type": "string", "minLength": 1, "maxLength": longest, "pattern": r"\S"})


def between(least_ns: int, most_ns: int) -> Read:
    """A duration within these bounds."""

    def parse(name: str, text: str) -> int:
        try:
            found = duration_ns(text[:40])
        except (ValueError, OverflowError):
            found = -1
        if not least_ns <= found <= most_ns:
            bounds = f"{least_ns // 10**9}s to {most_ns // 10**9}s"
            raise Problem(400, f"{name} is {text[:80]!r}; expected a duration such as 30s or 2m, {bounds}", name)
        return found

    return Read(parse, {"type": "string", "pattern": DURATION_PATTERN, "examples": ["2m"]})


def _tag(name: str, text: str) -> Selection:
    try:
        return parse_selection(text)
    except BadQuery as problem:
        raise Problem(
            400,
            f"{name} is {text[:80]!r}; expected key:value: {problem.detail} (column {problem.column})",
            name,
            problem.column,
        ) from None


def _given(name: str, text: str) -> str:
    if text == "":
        raise Problem(400, f"{name} is empty", name)
    return text


def one_of(choices: tuple[str, ...]) -> Read:
    """One of these words, as it is written."""

    def parse(name: str, text: str) -> str:
        if text not in choices:
            raise Problem(400, f"{name} is {text[:80]!r}; expected one of {', '.join(choices)}", name)
        return text

    return Read(parse, {"type": "string", "enum": list(choices)}, choices)


def _limit(name: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= MOST:
        return int(text)
    raise Problem(400, f"{name} is {text[:80]!r}; expected 1 to {MOST}", name)


def query_of(name: str, text: str) -> Query:
    """The query that the parameter or field ``name`` says. ``Problem`` 400 names it and the column."""
    try:
        return parse(text)
    except BadQuery as problem:
        raise Problem(400, f"{problem.detail} (column {problem.column})", name, problem.column) from None


#: Words for the time that a window is compared with: the same hours, so many nanoseconds earlier.
EARLIER_NS = {"yesterday": 86400 * 10**9, "last-week": 7 * 86400 * 10**9}


def _against(name: str, text: str) -> int | tuple[int, int]:
    """How much earlier, or from when to when."""
    if text in EARLIER_NS:
        return EARLIER_NS[text]
    begin, slash, end = text.partition("/")
    if not slash:
        raise Problem(
            400,
            f"{name} is {text[:80]!r}; expected two times as FROM/TO, such as"
            f" 2026-11-23T09:00:00Z/2026-11-23T10:00:00Z, or {' or '.join(EARLIER_NS)}",
            name,
        )
    from_ns, to_ns = instant_ns(name, begin), instant_ns(name, end)
    if from_ns >= to_ns:
        raise Problem(400, f"{name} is {text[:80]!r}, which is empty: its begin is not before its end", name)
    return from_ns, to_ns


def _incident_id(name: str, text: str) -> str:
    """The id of an incident, or of the SLO that ``name`` says. 400 unless it is 12 lower-case hex digits."""
    if not _INCIDENT_ID.fullmatch(text):
        raise Problem(400, f"the {name}'s id is {text[:80]!r}; expected 12 lower-case hex digits", name)
    return text


_HEX_SCHEMA = {name: {"type": "string", "pattern": f"^{pattern.pattern}$"} for name, pattern in _HEX.items()}

Text = Annotated[str, Read(_given, {"type": "string", "minLength": 1}, ("web", "api"))]
AnyText = Annotated[str, Read(lambda _, text: text, {"type": "string"}, ("web", "api"))]
TraceId = Annotated[str, Read(identifier, _HEX_SCHEMA["trace_id"], ("a" * 32, "b" * 32))]
SpanId = Annotated[str, Read(identifier, _HEX_SCHEMA["span_id"], ("a" * 16, "b" * 16))]
Instant = Annotated[
    int,
    Read(instant_ns, {"type": "string", "format": "date-time"}, ("2026-11-23T10:00:00Z", "2026-11-23T10:05:00Z")),
]
Duration = Annotated[int, Read(_duration, {"type": "string", "pattern": DURATION_PATTERN}, ("20m", "1h"))]
Tag = Annotated[Selection, Read(_tag, {"type": "string", "pattern": "^[^:]+:.+$"}, ("image:web", "image:api"))]
TagQuery = Annotated[Query, Read(query_of, {"type": "string"}, ("image:web", "image:api"))]
IncidentId = Annotated[
    str, Read(_incident_id, {"type": "string", "pattern": f"^{_INCIDENT_ID.pattern}$"}, ("a" * 12, "b" * 12))
]
Against = Annotated[
    int | tuple[int, int],
    Read(
        _against,
        {"type": "string", "examples": ["2026-11-23T09:00:00Z/2026-11-23T10:00:00Z", *EARLIER_NS]},
        ("2026-11-22T10:00:00Z/2026-11-22T10:05:00Z", "yesterday"),
    ),
]
Order = Annotated[str, one_of(ORDERS)]
Rank = Annotated[str, one_of(RANKS)]
Limit = Annotated[int, Read(_limit, {"type": "integer", "minimum": 1, "maximum": MOST}, ("1", "2"))]


class Window(Parameters):
    """A stretch of time, half-open: the last 15 minutes unless said otherwise."""

    since: Annotated[Duration | None, Field(description="that long until now (15m unless said otherwise)")] = None
    from_: Annotated[Instant | None, Field(description="the window's begin, RFC 3339 with zone")] = None
    to: Annotated[Instant | None, Field(description="the window's end; now unless said otherwise")] = None

    def window(self) -> tuple[int, int]:
        """Its begin and end in nanoseconds. ``Problem`` 400 when it is said twice, or is empty."""
        if self.since is not None and (self.from_ is not None or self.to is not None):
            raise Problem(400, "since is given beside from or to; expected one or the other", "since")
        to_ns = time.time_ns() + 1 if self.to is None else self.to
        since = DEFAULT_SINCE_NS if self.since is None else self.since
        from_ns = max(0, to_ns - since) if self.from_ is None else self.from_
        if from_ns >= to_ns:
            field = "to" if self.from_ is None else "from"
            raise Problem(400, "the window is empty: from is not before to", field)
        return from_ns, to_ns


class Paged(Parameters):
    """How much of a list."""

    limit: Annotated[Limit, Field(description="how many at most")] = LIMIT
    cursor: Annotated[Text | None, Field(description="`next` of the page before")] = None


class Tagged(Parameters):
    """Only what carries these tags."""

    tag: Annotated[
        tuple[Tag, ...], Field(description="key:value, repeatable; `*` in the value stands for anything")
    ] = ()


class OneTrace(Parameters):
    """One trace."""

    trace_id: TraceId


class RequestParameters(Paged, Tagged, Window):
    """Which requests, and in which order."""

    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None
    min_duration: Annotated[Duration | None, Field(description='at least this long, instead of "slow"')] = None
    order: Annotated[Order, Field(description="what comes first, descending")] = ORDERS[0]

    def query(self) -> RequestQuery:
        """What the correlator is asked. ``Problem`` 400 when the window is none."""
        from_ns, to_ns = self.window()
        return RequestQuery(
            from_ns=from_ns,
            to_ns=to_ns,
            service=self.service,
            operation=self.operation,
            tags=self.tag,
            min_duration_ns=self.min_duration,
            order=self.order,
            limit=self.limit,
            cursor=self.cursor,
        )


class VerdictParameters(RequestParameters):
    """Which requests, and how they are judged."""

    rank: Annotated[
        Rank,
        Field(description="rank by what changed (by excess over usual where that cannot be said), or by what was lost"),
    ] = RANKS[0]
    against: Annotated[
        Against | None,
        Field(
            description="the time to compare with, FROM/TO, or yesterday or last-week for the same hours then; as long"
            " as the window, at least 15 minutes, right before it unless said otherwise"
        ),
    ] = None

    def query(self) -> RequestQuery:
        """What the correlator is asked. ``Problem`` 400 when the window is none."""
        query = super().query()
        return replace(query, absolute=self.rank == "lost", against=self._compared(query.from_ns, query.to_ns))

    def _compared(self, from_ns: int, to_ns: int) -> tuple[int, int] | None:
        """The time that this window is compared with; None: the time before. ``Problem`` 400 where they overlap."""
        if self.against is None:
            return None
        if isinstance(self.against, int):
            compared = max(0, from_ns - self.against), max(0, to_ns - self.against)
        else:
            compared = self.against
        if compared[0] < to_ns and from_ns < compared[1]:
            raise Problem(400, "against overlaps the window that it is compared with", "against")
        return compared
