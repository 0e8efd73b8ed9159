"""An incident told in words, for somebody who was woken by it: what, since when, why, what changed, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from layerline_api.terminal.text import LAYER_STYLE, WIDTH, bar, cut, fitted, wrapped
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.entities import whole
from layerline_api.words.incidents import between, failed
from layerline_api.words.times import apart

Json = Mapping[str, Any]
_CHANGES, _OPERATIONS, _TAGS = 5, 6, 5


def lines_of_list(items: Sequence[Json], *, is_all: bool) -> list[Text]:
    """Two lines for each incident, the newest first, and the command that shows one whole."""
    out: list[Text] = []
    for item in items:
        is_open = item["state"] == "open"
        when = f"{_clock(item['start'])} " + ("until now" if is_open else f"for {human(item['duration_ns'])}")
        first = Text.assemble((f"{clean(item['id'])}  ", "bold"), (when, "bold red" if is_open else ""))
        out += [first, *wrapped(clean(item["summary"]), indent=2)]
        out.append(fitted(f"  {item['affected']:,} of {item['requests']:,} requests affected", WIDTH))
    if items:
        out += [Text(), fitted(f"see one: layerline incidents {clean(items[0]['id'])}", WIDTH)]
    if not is_all:
        out.append(Text(f"There are more than {len(items)}; narrow with --since or --service."))
    return out


def lines_of_incident(incident: Json, causes: Sequence[Json]) -> list[Text]:
    """One incident, in the order in which one wants to know. KeyError or TypeError where it is not one."""
    titles = titles_of(causes)
    out = [*_head(incident), Text(), *wrapped(clean(incident["summary"]) + ".", style="bold")]
    out += _hit(incident)
    out += _why(incident, titles)
    out += _changed(incident)
    out += _between(incident)
    out += _reach(incident)
    out += _to_do(incident)
    out += _not_seen(incident)
    out += [Text(), *(fitted(f"  see one: layerline why {clean(one)}", WIDTH) for one in incident["examples"][:2])]
    return out


def _head(incident: Json) -> list[Text]:
    is_open = incident["state"] == "open"
    state = "ONGOING" if is_open else f"over, it took {human(incident['duration_ns'])}"
    first = Text.assemble(
        ("incident ", ""), (clean(incident["id"]), "bold"), "  ", (state, "bold red" if is_open else "")
    )
    until = "" if is_open else f" until {_clock(incident['end'])}"
    return [first, fitted(f"since {_clock(incident['start'])}{until}", WIDTH)]


def _hit(incident: Json) -> list[Text]:
    out = [Text(), Text("what is hit", style="bold")]
    for hit in incident["hit"][:_OPERATIONS]:
        usual = f", usually {human(hit['usual_p95_ns'])}" if hit["usual_p95_ns"] is not None else ""
        failed = f", {hit['errors']:,} failed" if hit["errors"] else ""
        name = cut(f"{clean(hit['service'])} {clean(hit['operation'])}", 36)
        out.append(
            fitted(
                f"  {name}: {hit['affected']:,} of {hit['requests']:,}, p95 {human(hit['p95_ns'])}{usual}{failed}",
                WIDTH,
            )
        )
    if len(incident["hit"]) > _OPERATIONS:
        out.append(Text(f"  and {len(incident['hit']) - _OPERATIONS} more"))
    return out


def _why(incident: Json, titles: Mapping[str, str]) -> list[Text]:
    out = [Text(), Text("why", style="bold")]
    verdict = incident["verdict"]
    out += [line for said in failed(incident) for line in wrapped(said, indent=2, style="red")]
    if incident.get("kind") == "errors":
        return out
    if verdict is None or not verdict["culprits"]:
        return [*out, Text("  no single cause stands out")]
    if not incident["conclusive"]:
        out.append(Text("  inconclusive: the lower bounds of what is blamed cover less than half"))
    layers = {part["cause"]: part["layer"] for part in verdict["parts"]}
    for culprit in verdict["culprits"]:
        share = float(culprit["share_of_excess"])
        title = _title(culprit, titles)
        line = f"  {share:>4.0%} ".replace("%", " %") + f"{bar(share, 10):<10} {whole(culprit['entity'])}: {title}"
        out.append(Text(cut(line, WIDTH), style=LAYER_STYLE.get(str(layers.get(culprit["cause"])), "")))
        part = next(part for part in verdict["parts"] if _same(part, culprit))
        if part["because"]:
            out += wrapped(f"for example: {clean(part['because'])}", indent=7)
        if part["by"]:
            out += wrapped(
                "behind "
                + ", ".join(f"{whole(by['entity'])} ({by['share']:.0%})" for by in part["by"][:3]).replace("%", " %"),
                indent=7,
            )
    for without in incident["without"]:
        least = "at least " if without["at_least"] else ""
        title = _title(without, titles)
        out += wrapped(
            f"without “{title}”: p95 {least}{human(without['p95_without_ns'])} instead of {human(without['p95_ns'])}"
            f"{_range(without)}",
            indent=2,
        )
    if len(incident["first_signs"]) > 1:
        signs = ", then ".join(
            f"{clean(sign['layer'])} ({_title(sign, titles)}, +{human(sign['offset_ns'])})"
            for sign in incident["first_signs"]
        )
        out += wrapped(f"first sign: {signs}", indent=2)
    spread = [one for one in incident["propagation"] if one["service"] != one["by"]]
    if spread:
        told = "; ".join(
            f"{one['share']:.0%} of what {clean(one['service'])} lost was lost in {clean(one['by'])}".replace(
                "%", " %", 1
            )
            for one in spread[:3]
        )
        out += wrapped(told, indent=2)
    return out


def _title(of: Json, titles: Mapping[str, str]) -> str:
    return titles.get(str(of["cause"]), clean(of["cause"]))


def _range(without: Json) -> str:
    """How wide the evidence leaves it, where that is more than a tenth to either side."""
    told_ns = without["p95_without_ns"]
    low_ns = without.get(
        "p95_without_low_ns", told_ns
    )  # incidents are kept as they were described, by older versions too
    high_ns = without.get("p95_without_high_ns", told_ns)
    if 0.9 * told_ns <= low_ns and high_ns <= 1.1 * told_ns:
        return ""
    return f"; by its evidence {human(low_ns)} to {human(high_ns)}"


def _same(part: Json, culprit: Json) -> bool:
    return bool(part["cause"] == culprit["cause"] and part["entity"] == culprit["entity"])


def _changed(incident: Json) -> list[Text]:
    out = [Text(), Text("what changed just before", style="bold")]
    changes = incident["changes"]
    if not changes:
        return [*out, Text("  no change was reported")]
    for change in changes[:_CHANGES]:
        offset = change["offset_ns"]
        when = f"{apart(offset)} {'before' if offset < 0 else 'after'}"
        who = f"{whole(change['entity'])}: " if change["entity"] and change["kind"] in ("limit", "neighbour") else ""
        mark = "→" if change["likely"] else " "
        lines = wrapped(
            f"{who}{clean(change['what'])}" + (f" ({clean(change['why'])})" if change["why"] else ""), indent=20
        )
        lines[0] = Text(f"  {mark} {when:<16}{lines[0].plain[20:]}", style="bold" if change["likely"] else "")
        out += lines
    return out


def _between(incident: Json) -> list[Text]:
    lines = [line for said in between(incident) for line in wrapped(said, indent=2)]
    return [Text(), Text("what changed between services", style="bold"), *lines] if lines else []


def _reach(incident: Json) -> list[Text]:
    out = [Text(), Text("how far it reaches", style="bold"), *wrapped(clean(incident["radius"]["sentence"]), indent=2)]
    out += [
        fitted(
            f"  {clean(share['key'])} {clean(share['value'])}: {share['affected_ratio']:.0%} of the affected,"
            f" {share['others_ratio']:.0%} of the others".replace("%", " %"),
            WIDTH,
        )
        for share in incident["common"][:_TAGS]
    ]
    return out


def _to_do(incident: Json) -> list[Text]:
    if not incident["try"]:
        return []
    out = [Text(), Text("what to do", style="bold")]
    likely = next((change for change in incident["changes"] if change["likely"]), None)
    if likely is not None:
        out += wrapped(f"Look first at the change marked above ({clean(likely['kind'])}).", indent=2)
    for advice in incident["try"][:2]:
        out += wrapped(clean(advice), indent=2)
    return out


def _not_seen(incident: Json) -> list[Text]:
    blind = incident["blind"]
    if not blind:
        return []
    causes = ", ".join(clean(one["cause"]) for one in blind)
    return [Text(), Text("not measured", style="bold"), *wrapped(causes, indent=2)]


def _clock(text: object) -> str:
    """``2026-11-23 10:00:00 UTC``."""
    return clean(text)[:19].replace("T", " ") + " UTC"
