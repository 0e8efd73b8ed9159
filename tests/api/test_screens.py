"""Numbers agree on every screen, and with those of every other: in the API, in what commands print and on the page."""

from __future__ import annotations

import html
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agreement import of_verdict, of_words
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from live_server import serving
from shop import During, Request, carts, failing, serve, slow_code, slow_prices, throttled
from spans import MS, a_while_ago
from test_ledger_adds_up import OWNERS, any_events, any_readings, any_trace, with_odd_ids

from layerline_api.app import create_app
from layerline_api.commands.coverage import main as coverage
from layerline_api.commands.verdicts import main as why
from layerline_api.settings import ServerSettings
from layerline_api.words.amounts import human
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch
from profiles import examples

#: How long the shop is open, and how many requests of nonsense are sent beside it.
SECONDS, NONSENSE = 130, 15
FAULTS = (throttled, slow_prices, slow_code, failing)


def opened(folder: Path, draw: random.Random) -> Correlator:
    """A store with a shop in which some things went wrong, and spans and readings that make no sense."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    zero_ns = a_while_ago(SECONDS + 200)

    def change(request: Request, at_s: float, draw: random.Random) -> None:
        if draw.random() < 0.1:  # each fault touches a request now and then too
            draw.choice(FAULTS)(request, draw)

    faults = [During(at, at + 25, fault) for at, fault in zip((60, 90), draw.sample(FAULTS, 2), strict=True)]
    serve(correlator, carts(zero_ns, SECONDS, *faults, rate=1.0, seed=draw.randrange(2**32), change=change))
    first = draw.randrange(2**31)
    series, events = list(any_readings(draw, zero_ns)), list(any_events(draw, zero_ns))
    spans = [
        # An hour is longer than what is asked for.
        span._replace(end_ns=min(span.end_ns, span.start_ns + 10_000 * MS))
        for number in range(NONSENSE)
        for span in with_odd_ids(draw, list(any_trace(draw, first + number, zero_ns)))
    ]
    correlator.append(
        Batch(
            resources=[*OWNERS, *(owner for owner, *_ in (*series, *events))],
            spans=spans,
            series=[row for _, row, _ in series],
            points=[point for _, _, points in series for point in points],
            events=[row for _, row in events],
        )
    )
    correlator.look_for_incidents()
    return correlator


class Screens:
    """All screens of one window."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client
        now = a_while_ago(0)
        self.window = {
            name: datetime.fromtimestamp(at / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for name, at in (("from", now - 1200 * 10**9), ("to", now + 60 * 10**9))
        }

    def get(self, path: str, **more: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", query_string=more)
        assert answer.status_code == 200, answer.text
        return answer.json

    def requests(self) -> list[dict[str, Any]]:
        listed = self.get("requests", **self.window, min_duration="0ms", order="start", limit="1000")
        assert listed["next"] is None
        return list(listed["items"])

    def page(self, path: str, **more: str) -> str:
        answer = self._client.get(path, query_string=more)
        assert answer.status_code == 200, answer.text
        return answer.text


def disagreements(screens: Screens) -> list[str]:
    """What does not agree, a sentence each, once ledgers have ceased to change: what is usual comes with them."""
    items = screens.requests()
    while True:
        found = list(disagreeing(screens, items))
        if (after := screens.requests()) == items:
            return found
        items = after


def disagreeing(screens: Screens, items: list[dict[str, Any]]) -> Iterator[str]:
    window = screens.window
    counted: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for item in items:
        counted[item["service"], item["operation"]].update(
            requests=1, errors=item["status"] == "error", slow=item["slow"]
        )
        if (item["usual_ns"] is None) != (item["excess_ns"] is None) or (
            item["usual_ns"] is not None and item["duration_ns"] - item["usual_ns"] != item["excess_ns"]
        ):
            yield f"{item['duration_ns']} - {item['usual_ns']} is not {item['excess_ns']}"
    yield from of_services(screens, counted)
    yield from of_windows(screens, counted)
    yield from of_requests(screens, items)
    yield from of_coverage(screens.get("coverage", **window), counted)
    yield from of_start(screens.page("/", **window), items)
    yield from of_timeline(screens, counted)


def of_services(screens: Screens, counted: Mapping[tuple[str, str], Counter[str]]) -> Iterator[str]:
    for one in screens.get("services", **screens.window)["items"]:
        for what in ("requests", "errors"):
            whole = sum(count[what] for (service, _), count in counted.items() if service == one["service"])
            if one[what] != whole:
                yield f"services: {one[what]} {what} of {one['service']}; listed are {whole}"
        if not one["p50_ns"] <= one["p95_ns"]:
            yield f"services: p50 of {one['service']} above p95"


def of_windows(screens: Screens, counted: Mapping[tuple[str, str], Counter[str]]) -> Iterator[str]:
    verdicts = screens.get("verdicts", **screens.window, limit="1000")["items"]
    for verdict in verdicts:
        name = f"{verdict['service']} {verdict['operation']}"
        of_list = counted[verdict["service"], verdict["operation"]]
        for what in ("requests", "errors", "slow"):
            if verdict[what] != of_list[what]:
                yield f"verdict of {name}: {verdict[what]} {what}; listed are {of_list[what]}"
        if (failed := sum(one["requests"] for one in verdict["failures"])) > verdict["errors"]:
            yield f"verdict of {name}: {failed} failures of {verdict['errors']} errors"
        yield from (f"{name}: {one}" for one in (*of_verdict(verdict), *of_words(verdict)))
    judged = {(verdict["service"], verdict["operation"]) for verdict in verdicts}
    if missing := {key for key, count in counted.items() if count["slow"]} - judged:
        yield f"slow and without a verdict: {missing}"


def of_requests(screens: Screens, items: list[dict[str, Any]]) -> Iterator[str]:
    some = [item for item in items if item["slow"] or item["status"] == "error"][:15] + items[-5:]
    # Spans of a trace may be hours apart: who shares an id may lie outside of the window.
    ever = {"from": "2000-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z", "min_duration": "0ms", "limit": "1000"}
    ids = Counter((item["trace_id"], item["span_id"]) for item in screens.get("requests", **ever)["items"])
    for item in some:
        if ids[item["trace_id"], item["span_id"]] > 1:  # several share one id: the address says no more
            continue
        verdict = screens.get(f"requests/{item['trace_id']}", span_id=item["span_id"])
        name = f"request {item['trace_id']}"
        for what in ("duration_ns", "service", "operation", "start"):
            if verdict[what] != item[what]:
                yield f"{name}: {what} is {verdict[what]}, in the list {item[what]}"
        if verdict["trace_id"] != item["trace_id"]:
            yield f"{name} is that of {verdict['trace_id']}"
        whole = sum(part["lost_ns"] for part in verdict["parts"]) + verdict["unexplained_ns"]
        if whole != verdict["duration_ns"]:
            yield f"{name}: its parts sum to {whole} of {verdict['duration_ns']}"
        yield from (f"{name}: {one}" for one in (*of_verdict(verdict), *of_words(verdict)))
        page = screens.page(f"/requests/{item['trace_id']}", span_id=item["span_id"])
        yield from (f"{name}, page: {one}" for one in of_table(page))


def of_table(page: str) -> Iterator[str]:
    """The table of a request's page: both columns sum to what stands below them."""
    rows = [re.findall(r'<td class="number">([^<]*)</td>', row) for row in re.findall(r"<tr>.*?</tr>", page, re.S)]
    *lines, total = [row for row in rows if len(row) == 2]
    for column, what in enumerate(("lost", "usual")):
        shown = [float(html.unescape(row[column]).replace(",", "") or 0) for row in (*lines, total)]
        if abs(sum(shown[:-1]) - shown[-1]) > 1e-4:
            yield f"{what}: {shown[:-1]} are not {shown[-1]}"


def of_coverage(covered: Mapping[str, Any], counted: Mapping[tuple[str, str], Counter[str]]) -> Iterator[str]:
    whole = sum(count["requests"] for count in counted.values())
    for one in covered["services"]:
        requests = sum(count["requests"] for (service, _), count in counted.items() if service == one["service"])
        if one["requests"] != requests:
            yield f"coverage: {one['requests']} requests of {one['service']}; listed are {requests}"
        for what in ("container", "host", "account"):
            joined = one[what]
            ways, others = (sum(each["spans"] for each in joined[name]) for name in ("methods", "missing"))
            if joined["spans"] + others != joined["of"] or not joined["of"] <= one["spans"]:
                yield f"coverage: {what} of {one['service']}: {joined['spans']} + {others} of {joined['of']}"
            if joined["methods"] and ways != joined["spans"]:
                yield f"coverage: {what} of {one['service']}: {ways} by methods, {joined['spans']} in all"
            if joined["share"] is not None and abs(joined["share"] - joined["spans"] / joined["of"]) > 0.00051:
                yield f"coverage: {what} of {one['service']}: {joined['share']} for {joined['spans']}/{joined['of']}"
    if covered["requests"] != whole:
        yield f"coverage: {covered['requests']} requests; listed are {whole}"
    for one in covered["blind"]:
        if not 0 < one["requests"] <= whole or abs(one["share"] - one["requests"] / whole) > 0.0001:
            yield f"coverage: {one['cause']} blind in {one['requests']} ({one['share']}) of {whole}"


def of_start(page: str, items: list[dict[str, Any]]) -> Iterator[str]:
    groups = page.partition("Slow requests")[2]
    slow = [item for item in items if item["slow"]]
    counts = [
        int(count.replace(",", "")) for count in re.findall(r'<span class="number">([0-9,]+) slow</span>', groups)
    ]
    if sum(counts) != len(slow) and "more groups" not in groups:
        yield f"the page counts {sum(counts)} slow requests; listed are {len(slow)}"
    known = {
        (
            item["span_id"],
            human(item["duration_ns"]),
            "" if item["usual_ns"] is None else human(item["usual_ns"]),
        )
        for item in slow
    }
    rows = re.findall(
        r'<td class="number">([^<]*)</td><td class="number">([^<]*)</td><td><a href="[^"]*span_id=(\w+)"', groups
    )
    for took, usual, span_id in rows:
        if (span_id, took, usual) not in known:
            yield f"the page has {span_id} with {took}, usually {usual}; it is not listed so"


def of_timeline(screens: Screens, counted: Mapping[tuple[str, str], Counter[str]]) -> Iterator[str]:
    for service in ("web", "stock"):
        told = screens.get("timeline", **screens.window, service=service, step="10s")
        # A service's timeline is of the requests that it answered.
        sums = {
            one["name"]: sum(value or 0 for value in one["values"]) for one in told["series"] if one["kind"] == "count"
        }
        for name, what in (("requests.count", "requests"), ("requests.errors", "errors")):
            whole = sum(count[what] for (of, _), count in counted.items() if of == service)
            if name in sums and sums[name] != whole:
                yield f"timeline of {service}: {sums[name]} {what}; listed are {whole}"


@settings(
    max_examples=examples(1, 40),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a seed does not shrink
)
@given(seed=st.integers(0, 2**32))
def test_all_screens_agree(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Parts sum to the whole as shown, n of m is of the same m everywhere, and joined and not joined are all."""
    correlator = opened(tmp_path_factory.mktemp("screens"), random.Random(seed))  # noqa: S311 - shapes, not secrets
    try:
        found = disagreements(Screens(create_app(correlator).test_client()))
        assert not found, "\n".join([f"seed {seed}", *found])
    finally:
        correlator.close()


def test_commands_say_what_the_api_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`why` and `coverage` print counts and sums of the same data that the API gives."""
    correlator = opened(tmp_path, random.Random(7))  # noqa: S311 - shapes, not secrets
    try:
        screens = Screens(create_app(correlator).test_client())
        window = [f"--{name}={at}" for name, at in screens.window.items()]
        verdicts = screens.get("verdicts", **screens.window, limit="1000")["items"]
        covered = screens.get("coverage", **screens.window)
        with serving(correlator, ServerSettings()) as url:
            assert why([*window, "--server", url]) == 0
            printed = " ".join(capsys.readouterr().out.split())
            assert coverage([*window, "--server", url]) == 0
            seen = capsys.readouterr().out
            (trace_id,) = verdicts[0]["examples"][:1]
            assert why([trace_id, "--server", url]) == 0
            request = capsys.readouterr().out
        whole = [one for one in verdicts if (one.get("change") or {}).get("state") not in ("nothing", "quicker")][:3]
        assert whole, "operations that are told whole, not on a line"
        for one in verdicts:
            if one["slow"] and one in whole:
                assert re.search(rf"\b{one['slow']:,} of {one['requests']:,} requests w(as|ere) ", printed), one
            if one["errors"] and one in whole:
                assert f"{one['errors']:,} of {one['requests']:,} requests failed" in printed
        for one in covered["services"]:
            name = one["service"][:23] or "(no name)"
            assert re.search(rf"^{re.escape(name)} +{one['requests']} +{one['spans']} ", seen, re.M), one["service"]
        ledger = request.partition("where the time went")[2]
        amounts = re.findall(r"^(?! )(\S.{0,41}?)\s+([\d,.]+)(?:\s+[\d,.]+)?(?:\s+[█▏▎▍▌▋▊▉]+)?$", ledger, re.M)
        *lines, (name, total) = amounts[: [name for name, _ in amounts].index("total") + 1]
        assert name == "total"
        assert sum(float(lost.replace(",", "")) for _, lost in lines) == pytest.approx(float(total.replace(",", "")))
    finally:
        correlator.close()
