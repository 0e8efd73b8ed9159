"""Numbers on one screen agree with each other: what an incident says at one place, held against every other place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from layerline_api.words.verdicts import tell
from layerline_correlator.questions.causes import read_causes

Json = Mapping[str, Any]
#: Of operations, the functions of which lines of code may be shown; None where any may.
Functions = Mapping[str, frozenset[str]] | None


def disagreements(incident: Json, functions: Functions = None) -> list[str]:
    """What does not agree, one sentence each; nothing for an incident that is right."""
    return [*_counts(incident), *_culprits(incident), *_names(incident), *_code(incident, functions), *_words(incident)]


def of_verdict(verdict: Json) -> Iterator[str]:
    """The same of a verdict alone."""
    culprits = [(one["cause"], one["entity"]["type"], one["entity"]["id"]) for one in verdict["culprits"]]
    if len(culprits) != len(set(culprits)):
        yield f"a culprit is named twice: {culprits}"
    if (shares := sum(one["share_of_excess"] for one in verdict["culprits"])) > 1 + 1e-9:
        yield f"the shares of the culprits sum to {shares}"
    parts = {(part["cause"], part["entity"]["type"], part["entity"]["id"]) for part in verdict["parts"]}
    if not set(culprits) <= parts:
        yield f"blamed without a part: {set(culprits) - parts}"
    if verdict.get("slow") is not None:
        # Where nothing was slow, those that failed are judged.
        judged_of = verdict["slow"] or verdict.get("errors") or 0
        if not 0 < verdict["judged"] <= judged_of <= verdict["requests"]:
            yield f"{verdict['judged']} judged of {verdict['slow']} slow of {verdict['requests']} requests"


def _counts(incident: Json) -> Iterator[str]:
    hits = {(hit["service"], hit["operation"]): hit for hit in incident["hit"]}
    if len(hits) != len(incident["hit"]):
        yield "an operation is listed twice"
    if [list(operation) for operation in hits] != incident["operations"]:
        yield f"operations {incident['operations']}, hit {list(hits)}"
    if not 0 <= incident["affected"] <= incident["requests"]:
        yield f"{incident['affected']} affected of {incident['requests']} requests"
    for one in hits.values():
        if not max(one["affected"], one["errors"]) <= one["requests"] or one["p50_ns"] > one["p95_ns"]:
            yield f"{one['operation']}: {one['affected']} affected and {one['errors']} failed of {one['requests']}"
    for word in ("requests", "affected"):
        if incident[word] > sum(one[word] for one in hits.values()):
            yield f"more {word} than the operations have together"
    if (verdict := incident["verdict"]) is not None:
        hit = hits[verdict["service"], verdict["operation"]]
        if (verdict["requests"], verdict["slow"]) != (hit["requests"], hit["affected"]):
            yield f"verdict: {verdict['slow']} of {verdict['requests']}; hit: {hit['affected']} of {hit['requests']}"
    if match := re.match(r"(\d+) % of the requests of (.+?)(?:[:,]|$)", incident["radius"]["sentence"]):
        shares = {
            f"{service} {operation}": hit["affected"] / hit["requests"] for (service, operation), hit in hits.items()
        }
        if abs(shares[match[2]] - int(match[1]) / 100) > 0.005 + 1e-9:
            yield f"reach: {match[0]}; hit: {shares[match[2]]}"


def _culprits(incident: Json) -> Iterator[str]:
    verdict = incident["verdict"]
    if verdict is None:
        return
    yield from of_verdict(verdict)
    culprits = [(one["cause"], one["entity"]) for one in verdict["culprits"]]
    if incident["cause"] is not None and (incident["cause"], incident["entity"]) != culprits[0]:
        yield f"the incident blames {incident['entity']}, its verdict {culprits[0]}"
    counterfactuals = [(one["cause"], one["entity"]) for one in incident["without"]]
    if counterfactuals != culprits[: len(counterfactuals)]:
        yield f"without {counterfactuals}, culprits {culprits}"
    said = re.search(r"\((\d+) % of the excess\)", incident["summary"])
    if said and abs(int(said[1]) / 100 - verdict["culprits"][0]["share_of_excess"]) > 0.005 + 1e-9:
        yield f"summary: {said[0]}; culprit: {verdict['culprits'][0]['share_of_excess']}"
    more = re.search(r" and (\d+) more ", incident["summary"])
    if more and int(more[1]) != len(incident["operations"]) - 1:
        yield f"summary: {more[0]}; operations: {len(incident['operations'])}"
    whole: dict[str, float] = {}
    for one in incident["propagation"]:
        whole[one["service"]] = whole.get(one["service"], 0) + one["share"]
    if any(share > 1.001 for share in whole.values()):
        yield f"shares of what was lost where: {whole}"


def _names(incident: Json) -> Iterator[str]:
    """An entity has one name."""
    verdict = incident["verdict"] or {"parts": [], "culprits": []}
    series = incident["excess"]["series"] if incident["excess"] else []
    named: dict[tuple[str, str], set[str]] = {}
    for one in (*verdict["parts"], *verdict["culprits"], *series, *incident["first_signs"], *incident["without"]):
        if one["entity"] is not None:
            named.setdefault((one["entity"]["type"], one["entity"]["id"]), set()).add(one["entity"]["name"])
    yield from (f"{key} is called {names}" for key, names in named.items() if len(names) > 1)
    listed = [(one["cause"], one["service"], one["entity"]["type"], one["entity"]["id"]) for one in series]
    if len(listed) != len(set(listed)):
        yield f"a series is drawn twice: {listed}"


def _code(incident: Json, functions: Functions) -> Iterator[str]:
    verdict = incident["verdict"]
    if verdict is None or functions is None:
        return
    own = functions[verdict["operation"]]
    for part in verdict["parts"]:
        if part["where"] is not None and part["where"]["function"] not in own:
            yield f"a line of {part['where']['function']} is shown for {verdict['operation']}"


def _words(incident: Json) -> Iterator[str]:
    if incident["verdict"] is not None:
        yield from of_words(incident["verdict"])


def of_words(verdict: Json) -> Iterator[str]:
    """What the command and the page print of a verdict."""
    story = tell(verdict, read_causes())
    if match := re.match(r"([\d,]+) of ([\d,]+) requests", story.took):
        slow, requests = (int(number.replace(",", "")) for number in match.groups())
        if (slow, requests) != (verdict["slow"], verdict["requests"]):
            yield f"{story.took}, but {verdict['slow']} of {verdict['requests']}"
    for what in ("lost", "usual"):
        shown = [getattr(line, what).replace(",", "") for line in (*story.lines, story.total)]
        if any(shown) and abs(sum(map(float, shown[:-1])) - float(shown[-1])) > 1e-4:
            yield f"what is {what} in the lines, {shown[:-1]}, is not the total, {shown[-1]}"
    mentioned = [int(share) for said in story.answer for share in re.findall(r"\((\d+) % ?(?:of|\))", said)]
    if sum(mentioned) > 100:
        yield f"shares in the answer: {story.answer}"
    if match := re.search(r"took ([\d,]+) ms, usually ([\d,]+) ms: ([\d,]+) ms too slow", story.took):
        took, usual, excess = (int(number.replace(",", "")) for number in match.groups())
        if took - usual != excess:
            yield f"{took} - {usual} is not {excess}: {story.took}"
