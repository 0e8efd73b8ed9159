"""The tools. An agent reads the docstring of each before it chooses one; its parameters are those of the tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from pydantic import Field

from layerline_api.mcp.said import Said
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.timeline import amount_of, heading
from layerline_api.words.timeline import label_of as label_of_series
from layerline_api.words.verdicts import Story, tell

Json = Mapping[str, Any]
#: Asks the API for what is at a path, with these parameters. ``Refused``.
Ask = Callable[[str, Sequence[tuple[str, str]]], Json]

Since = Annotated[str | None, Field(description="the last so long, such as 15m, 2h or 1d; 15m unless said otherwise")]
Begin = Annotated[str | None, Field(description="the window's begin instead, RFC 3339, such as 2026-11-23T10:00:00Z")]
End = Annotated[str | None, Field(description="the window's end, RFC 3339; now unless said")]
Service = Annotated[str | None, Field(description="only this service (service.name)")]
Operation = Annotated[str | None, Field(description="only this operation, such as GET /cart")]

#: Items of a list that an answer has at most.
_MOST = 5


class Refused(Exception):
    """The API did not answer; the message says why."""


class Tools:
    """The tools of one server. ``page`` is the address of its pages, such as ``http://127.0.0.1:4318``."""

    def __init__(self, ask: Ask, page: str) -> None:
        self._ask = ask
        self._page = page.rstrip("/")

    def all(self) -> tuple[Callable[..., Said], ...]:
        """Every tool, the one to begin with first."""
        return (
            self.incidents, self.why, self.request, self.changes, self.timeline, self.containers, self.coverage,
        )  # fmt: skip

    def incidents(self, since: Since = "1h", begin: Begin = None, end: End = None, service: Service = None) -> Said:
        """What was in trouble, found without being asked: since when, whom it hit, and who is to blame. Begin here."""
        given = _window(since, begin, end, service=service, limit=str(_MOST))
        body = self._ask("/api/v1/incidents", given)
        items = body["items"]
        lines = [_incident(one) for one in items] or [f"No incident: {body.get('reason') or 'nothing was slow'}."]
        sure: list[str] = []
        blind: list[str] = []
        if items:
            first = self._ask(f"/api/v1/incidents/{items[0]['id']}", ())
            likely = [one for one in first.get("changes") or () if one.get("likely")]
            lines += [
                f"Of the first: what may have caused it: {one['what']} at {one['at']} ({one['why']})"
                for one in likely[:2]
            ]
            lines += [f"Of the first: try: {advice}" for advice in (first.get("try") or ())[:1]]
            sure = [_conclusive(items[0]["conclusive"])]
            blind = [str(one["reason"]) for one in first.get("blind") or ()]
        return Said(
            lines,
            self._at("/incidents", given[:3]),
            sure,
            blind,
            [
                {
                    key: one.get(key)
                    for key in ("id", "state", "start", "end", "services", "cause", "entity", "conclusive")
                }
                | {"summary": one["summary"], "page": self._at(f"/incidents/{one['id']}")}
                for one in items
            ],
        )

    def why(
        self,
        service: Service = None,
        operation: Operation = None,
        since: Since = None,
        begin: Begin = None,
        end: End = None,
    ) -> Said:
        """Why requests are slower or fail more than before: the verdict of each operation, the worst first."""
        given = _window(since, begin, end, service=service, operation=operation, limit="3")
        body = self._ask("/api/v1/verdicts", given)
        causes = self._causes()
        stories = [tell(one, causes) for one in body["items"]]
        lines: list[str] = []
        for story in stories:
            lines += [
                f"{story.service} {story.operation}: {story.figures}",
                *story.failed,
                *story.answer,
                *_advice(story),
            ]
            lines += [f"An example: trace {one}" for one in story.examples[:1]]
        if not stories:
            lines = [f"Nothing to report: {body.get('reason') or 'nothing changed in the window'}."]
        return Said(
            lines,
            self._at("/", given[:-1]),
            stories[0].sure if stories else (),
            _blind(stories[:1]),
            [_verdict(one) for one in body["items"]],
        )

    def request(self, trace_id: Annotated[str, Field(description="32 hex digits")]) -> Said:
        """Where the time of one request went, millisecond by millisecond, and who is to blame."""
        verdict = self._ask(f"/api/v1/requests/{quote(trace_id.lower(), safe='')}", ())
        story = tell(verdict, self._causes())
        return Said(
            [
                f"{story.service} {story.operation} at {story.when}: {story.took}",
                *story.failed,
                *story.answer,
                *_advice(story),
                *(f"{line.lost} ms {line.title}{f', {line.who}' if line.who else ''}" for line in story.lines[:8]),
            ],
            self._at(f"/requests/{clean(verdict['trace_id'])}"),
            story.sure,
            _blind([story]),
            [_verdict(verdict)],
        )

    def changes(self, since: Since = "1h", begin: Begin = None, end: End = None, service: Service = None) -> Said:
        """What happened: changes that were reported, such as deploys; containers that started, died, were killed."""
        given = _window(since, begin, end, service=service, limit="15")
        body = self._ask("/api/v1/events", given)
        items = body["items"]
        lines = [
            " ".join(filter(None, (one["time"], one["name"], _who(one.get("entity")), one.get("body"))))
            for one in items
        ]
        return Said(
            lines or [f"Nothing happened: {body.get('reason') or 'no event was received in this window'}."],
            self._at("/timeline", given[:-1]),
            ["Only what was reported or seen by an agent is known: a deploy that nobody reported is not here."],
            (),
            [{key: one.get(key) for key in ("time", "name", "body", "entity")} for one in items],
        )

    def timeline(
        self,
        service: Service = None,
        operation: Operation = None,
        trace_id: Annotated[str | None, Field(description="around one request instead; 32 hex digits")] = None,
        entity: Annotated[str | None, Field(description="container:NAME or host:NAME")] = None,
        since: Since = None,
        begin: Begin = None,
        end: End = None,
    ) -> Said:
        """What every layer did at the same moment: of each series how it went, those that changed most first."""
        given = _window(
            since,
            begin,
            end,
            service=service,
            operation=operation,
            entity=entity,
            trace_id=trace_id and trace_id.lower(),
        )
        body = self._ask("/api/v1/timeline", given)
        moved = sorted(
            ((_moved(one["values"]), one) for one in body["series"]), key=lambda pair: pair[0][0], reverse=True
        )
        lines = [
            f"{label_of_series(one)} ({clean(heading(one))}): {amount_of(first, one)} at first,"
            f" {amount_of(last, one)} at last, {amount_of(most, one)} at most"
            for (_, first, last, most), one in moved[:12]
            if first is not None and last is not None and most is not None
        ]
        lines += [f"{one['time']} {one['name']} {one['body']}".rstrip() for one in body["events"][:3]]
        gaps = sum(1 for one in body["series"] if any(value is None for value in one["values"]))
        return Said(
            lines or [f"Nothing to show: {body.get('reason') or 'nothing was measured'}."],
            self._at("/timeline", given),
            [f"{gaps} of {len(body['series'])} series have gaps: what nobody looked at is no zero."] if gaps else (),
            (),
            [
                {
                    "name": one["name"], "layer": one["layer"], "unit": one["unit"], "entity": one["entity"],
                    "first": first, "last": last, "most": most,
                }
                for (_, first, last, most), one in moved[:12]
            ],
        )  # fmt: skip

    def containers(
        self,
        query: Annotated[
            str,
            Field(description="tags and a comparison: image:web memory.working_set > 1.5 * avg(memory.working_set)"),
        ] = "container:*",
        end: End = None,
    ) -> Said:
        """Containers by tags and readings, the dead included, and how slow their own requests were."""
        given = [("q", query), *([("to", end)] if end else []), ("limit", "10")]
        body = self._ask("/api/v1/containers", given)
        lines = [_container(one) for one in body["items"]]
        return Said(
            lines or [f"No container: {body.get('reason') or 'the query holds for none'}."],
            self._at("/containers", given[:-1]),
            (),
            [f"{one['entity']['name']}: {one['reason']}" for one in body["not_measured"]["items"]],
            [
                {key: one.get(key) for key in ("entity", "image", "services", "gone", "value", "ratio", "requests")}
                for one in body["items"]
            ],
        )

    def coverage(self, since: Since = None, begin: Begin = None, end: End = None, service: Service = None) -> Said:
        """What is seen and what is not, and the one thing to enable: how far the other answers can be trusted."""
        given = _window(since, begin, end, service=service)
        body = self._ask("/api/v1/coverage", given)
        lines = [f"{body['requests']:,} requests of {len(body['services'])} services."]
        for one in body["services"][:8]:
            tied, measured = one["container"]["share"], one["account"]["share"]
            lines.append(
                f"{one['service']}: {one['requests']:,} requests; tied to a container {_percent(tied)},"
                f" thread measured {_percent(measured)}"
            )
        lines += [
            f"Layer {one['layer']}: {one['reason']}; {one['enable']}" for one in body["layers"] if one.get("reason")
        ]
        blind = body["blind"]
        lines += [f"Blind for {one['cause']} in {_percent(one['share'])} of requests" for one in blind[:5]]
        return Said(
            lines,
            self._at("/", given),
            ["Where a cause is blind nobody is charged for it: its time stays unexplained."] if blind else (),
            [str(one["cause"]) for one in blind],
            [{key: one.get(key) for key in ("cause", "layer", "requests", "share")} for one in blind[:10]],
        )

    # ---- what they have in common

    def _causes(self) -> Sequence[Json]:
        found: Sequence[Json] = self._ask("/api/v1/causes", ())["items"]
        return found

    def _at(self, path: str, given: Iterable[tuple[str, str]] = ()) -> str:
        asked = urlencode([(name, text) for name, text in given if name != "limit"])
        return f"{self._page}{path}{f'?{asked}' if asked else ''}"


def _window(since: str | None, begin: str | None, end: str | None, **others: str | None) -> list[tuple[str, str]]:
    times = [("from", begin), ("to", end)] if begin or end else [("since", since)]
    return [(name, text) for name, text in (*times, *others.items()) if text]


def _incident(one: Json) -> str:
    until = "ongoing" if one["state"] == "open" else f"until {one['end']}"
    hit = f"{one['affected']:,} of {one['requests']:,} requests"
    return f"{one['id']}: {one['summary']}, since {one['start']}, {until}; {hit}"


def _conclusive(is_so: bool) -> str:
    return (
        "Conclusive: what is blamed covers at least half of the excess, even at its lower bounds."
        if is_so
        else "Not conclusive: a part of the excess stays unexplained."
    )


def _advice(story: Story) -> Iterator[str]:
    for one in story.blames[:2]:
        yield f"{one.title} ({one.cause}, {one.who}): {one.because}"
        yield f"Try: {one.try_}"
    for who, why, decides in story.suspects[:2]:
        yield f"Suspected: {who}: {why}. What would decide: {decides}"


def _blind(stories: Iterable[Story]) -> list[str]:
    return [f"{titles}: {reason}" for story in stories for titles, reason, _ in story.blind]


def _verdict(verdict: Json) -> dict[str, Any]:
    """The verdict with the fields of the API, without its small parts."""
    kept = (
        "trace_id",
        "service",
        "operation",
        "start",
        "duration_ns",
        "usual_ns",
        "excess_ns",
        "conclusive",
        "culprits",
    )
    parts = sorted(verdict["parts"], key=lambda part: -int(part["lost_ns"]))[:_MOST]
    return {key: verdict.get(key) for key in kept} | {
        "requests": verdict.get("requests"),
        "unexplained_ns": verdict["unexplained_ns"],
        "parts": [
            {key: part.get(key) for key in ("cause", "service", "entity", "lost_ns", "low_ns", "high_ns", "evidence")}
            for part in parts
        ],
    }


def _moved(values: Sequence[float | None]) -> tuple[float, float | None, float | None, float | None]:
    """How much a series changed from its first third to its last, as a share of its most; both means, and the most."""
    third = max(1, len(values) // 3)
    first, last = _mean(values[:third]), _mean(values[-third:])
    most = max((value for value in values if value is not None), default=None)
    if first is None or last is None or not most:
        return 0.0, first, last, most
    return abs(last - first) / abs(most), first, last, most


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _container(one: Json) -> str:
    served = one.get("requests")
    says = f"container {one['entity']['name']}{' (gone)' if one.get('gone') else ''}"
    if one.get("image"):
        says += f" of {one['image']}"
    for compared in one.get("comparisons") or ():
        says += f"; {compared['signal']} is {compared['value']}, compared with {compared['bound']}"
    if served is None:
        return f"{says}; it sends no spans"
    p95 = "" if served["p95_ns"] is None else f", p95 {human(served['p95_ns'])}"
    return f"{says}; {served['count']:,} requests, {served['slow']:,} slow, {served['errors']:,} failed{p95}"


def _who(entity: Json | None) -> str:
    return "" if entity is None else f"({entity['type']} {entity['name']})"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share * 100:.0f} %"
