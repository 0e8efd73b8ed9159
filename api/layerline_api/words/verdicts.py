"""A verdict told in words: what the page and the command show, made once from the API's JSON.

Names are clean (``clean``); lengths, colours and HTML are the business of who shows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerline_api.words.amounts import difference, human
from layerline_api.words.clean import clean
from layerline_api.words.entities import short, whole

#: Parts below this share of the duration, now and usually, are told as one line.
SMALL = 0.01
#: What is unexplained is mentioned in the answer from this share of what is ranked on.
WORTH_A_WORD = 0.1

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger. Amounts in ns; ``share`` of the duration, 0 to 1."""

    title: str
    layer: str
    who: str
    lost: str  # in ms, without the unit; the lines add up to the total as they are shown
    usual: str  # likewise, "" where there is no usual
    share: float
    notes: tuple[str, ...] = ()
    usual_share: float = 0.0  # of the duration, too: more than 1 where it is usually longer


@dataclass(frozen=True, slots=True)
class Blame:
    """One culprit: what was seen, what to try, what it is easily mistaken for."""

    title: str
    cause: str
    layer: str
    who: str
    because: str
    try_: str
    mistaken_for: str
    without: str


@dataclass(frozen=True, slots=True)
class Story:
    """A verdict in words."""

    service: str
    operation: str
    when: str
    took: str
    failed: tuple[str, ...]  # why it failed, before anything about time; empty where nothing did
    answer: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Line
    blames: tuple[Blame, ...]
    suspects: tuple[tuple[str, str, str], ...]  # who, why, what would decide
    blind: tuple[tuple[str, str, str], ...]  # titles, reason, what to enable
    sure: tuple[str, ...]
    examples: tuple[str, ...]
    standing: str = ""  # of a window that was compared: what is large in it and did not change
    figures: str = ""  # of a window: how many requests, how long they took, what is new, now and before
    is_quiet: bool = False  # of a window that was compared: nobody is named, and it does not fail more than before


def tell(verdict: Json, causes: Sequence[Json]) -> Story:
    """The story of a request's or a window's verdict. KeyError or TypeError where it is not a verdict."""
    by_name = {str(cause["cause"]): cause for cause in causes}

    def title(cause: object) -> str:
        known = by_name.get(str(cause), {}).get("title")
        return clean(known or cause)

    return Story(
        service=clean(verdict["service"]),
        operation=clean(verdict["operation"]),
        when=_when(verdict["start"]),
        took=_took(verdict),
        failed=tuple(_failed(verdict)),
        answer=tuple(_answer(verdict, title)),
        lines=tuple(_lines(verdict, title)),
        total=_total(verdict),
        blames=tuple(_blame(verdict, culprit, title, by_name) for culprit in verdict["culprits"]),
        suspects=tuple(_suspects(verdict)),
        blind=tuple(_blind(verdict, title)),
        sure=tuple(_sure(verdict)),
        examples=tuple(clean(one) for one in verdict.get("examples") or ()),
        standing=_standing(verdict, title),
        figures=_figures(verdict),
        is_quiet=_state(verdict) in ("nothing", "quicker") and not verdict.get("errors"),
    )


def _percent(share: float) -> str:
    """``73 %``."""
    return f"{float(share) * 100:.0f} %"


def _percents(shares: Sequence[float]) -> list[str]:
    """``73 %`` of each, rounded so that no more than 100 % is shown together; the first is what others quote."""
    rounded = [round(share * 100) for share in shares]
    while sum(rounded) > 100 >= sum(shares) * 100 - 1e-6 and len(rounded) > 1:
        most = max(range(1, len(rounded)), key=lambda place: rounded[place] - shares[place] * 100)
        rounded[most] -= 1
    return [f"{percent} %" for percent in rounded]


def _when(start: object) -> str:
    """``2026-11-23 10:00:00.123 UTC``."""
    text = clean(start)
    day, _, clock = text.removesuffix("Z").partition("T")
    seconds, dot, fraction = clock.partition(".")
    return f"{day} {seconds}{dot}{fraction[:3]} UTC" if text.endswith("Z") else text


def _requests(verdict: Json) -> int:
    """Over how many requests the verdict sums: 1 for a request's own. Earlier versions did not say ``judged``."""
    return max(1, int(verdict.get("judged") or verdict.get("slow") or 1))


def _failed(verdict: Json) -> Iterator[str]:
    """``37 of 100 requests failed (37 %), before 2 of 400.``, then how; of one request, how it failed."""
    failures, errors, against = verdict.get("failures") or (), verdict.get("errors"), verdict.get("against")
    if errors is None:
        for failure in failures:
            yield f"Failed: {clean(failure['because'])}."
        if failures and against:
            before = "none" if not against["errors"] else f"{against['errors']:,}"
            yield (
                f"Of the {against['requests']:,} requests of this operation before it {before} failed."
                if against["requests"]
                else "No request of this operation was received before it."
            )
        return
    if not errors:
        return
    ratio = f"{errors:,} of {verdict['requests']:,} requests failed ({_ratio(errors, verdict['requests'])})"
    if against and against["requests"]:
        yield f"{ratio}, before {against['errors']:,} of {against['requests']:,}."
    else:
        yield f"{ratio}; none was received before."
    for failure in failures:
        before_ = f", before {failure['before']:,}" if failure.get("before") else ""
        yield f"{failure['requests']:,} × {clean(failure['because'])}{before_}."


def _ratio(count: int, whole: int) -> str:
    """``0.4 %``, ``37 %``."""
    share = 100 * count / max(1, whole)
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.1g} %"


def _state(verdict: Json) -> str:
    """What changed of a window, in one of the API's words; "" where that was not asked."""
    return str((verdict.get("change") or {}).get("state") or "")


def _is_compared(verdict: Json) -> bool:
    return bool(verdict["ranked_by"] == "change")


def _figures(verdict: Json) -> str:
    """``3 of 900 requests were slow, 1 /s (before 1 /s); p50 120 ms (118 ms); new: shop 1.5; before: 880 …``."""
    change, against = verdict.get("change"), verdict.get("against")
    if not change or not against:
        return ""
    rate, rate_before = change["requests_per_second"], change["requests_per_second_before"]
    slow = f"{verdict['slow']:,} of " if verdict.get("slow") else ""
    were = "" if not slow else " was slow" if verdict["slow"] == 1 else " were slow"
    said = [f"{slow}{verdict['requests']:,} requests{were}, {rate:,.3g} /s (before {rate_before:,.3g} /s)"]
    quantiles = [
        f"{name} {human(change[f'{name}_ns'])} ({human(against[f'{name}_ns'])})"
        for name in ("p50", "p95")
        if change[f"{name}_ns"] is not None and against[f"{name}_ns"] is not None
    ]
    said += [", ".join(quantiles)] if quantiles else []
    said += [f"new: {', '.join(map(clean, change['versions']))}"] if change["versions"] else []
    if against["requests"]:
        said.append(f"before: {against['requests']:,} requests, {_when(against['from'])} to {_when(against['to'])}")
    return "; ".join(said)


def _standing(verdict: Json, title: Any) -> str:
    """``Always there: container rates-1 81 % of a request (its own code computed), …``."""
    standing = verdict.get("standing") or ()
    if not standing:
        return ""
    percents = _percents([float(one["share"]) for one in standing])
    named = [
        f"{whole(one['entity'])} {percent} ({title(one['cause'])})"
        for one, percent in zip(standing, percents, strict=True)
    ]
    return f"Always there, of a request: {', '.join(named)}."


def _perhaps(blamed: Json, verdict: Json) -> str:
    """``perhaps`` before a cause that is inferred, and of which perhaps nothing was lost there."""
    part = _part_of(verdict, blamed)
    return "perhaps " if part is not None and part["evidence"] == "inferred" and not part["low_ns"] else ""


def _what_changed(verdict: Json, title: Any) -> list[str]:
    """The headline of a window that was compared with the time before it."""
    change = verdict["change"]
    now, was, more = human(change["mean_ns"]), human(change["mean_before_ns"]), change["change_ns"]
    if change["state"] == "nothing":
        return [f"Nothing changed: a request takes {now} on average, before {was}."]
    if change["state"] == "quicker":
        return [f"Quicker than before: a request takes {now} on average, before {was}; nobody takes more of it."]
    said: list[str] = []
    percents = _percents([float(one["share_of_excess"]) for one in verdict["culprits"]])
    for number, (culprit, percent) in enumerate(zip(verdict["culprits"], percents, strict=True)):
        causes = [one for one in culprit["causes"] if one["change_ns"] > 0]
        split = (
            _perhaps(culprit, verdict) + title(culprit["cause"])
            if len(causes) < 2
            else ", ".join(
                f"{_perhaps(one, verdict)}{title(one['cause'])} {human(one['change_ns'])}" for one in causes[:3]
            )
        )
        of_what = "" if number else " of what was added"
        begin = "Also" if number else "What grew:"
        amount = f"{human(culprit['change_ns'])} a request more"
        said.append(f"{begin} {whole(culprit['entity'])}, {amount} ({percent}{of_what}): {split}.")
        said += [f"Seen of it: {clean(culprit['because'])}."] if culprit.get("because") else []
        if culprit["cause"] == "unexplained" and culprit.get("layer") == "app":
            said.append("No cause that was measured explains it: look into its own code, and at what it waits for.")
    if not said:
        longer = difference(change["mean_ns"], change["mean_before_ns"]) if more > 0 else "0 ms"
        said.append(f"A request takes {longer} longer, and no single cause stands out.")
    said.append(f"A request takes {now} on average, before {was}.")
    if not verdict["conclusive"] and verdict["blind"]:
        first = verdict["blind"][0]
        said.append(f"Not conclusive: “{title(first['cause'])}” was not measured; to decide, {clean(first['enable'])}.")
    return said


def _took(verdict: Json) -> str:
    count = _requests(verdict)
    duration, usual, excess = verdict["duration_ns"], verdict["usual_ns"], verdict["excess_ns"]
    if _is_compared(verdict):
        return _figures(verdict)
    if _state(verdict) in ("too_few", "no_before"):
        unlike = {**verdict, "change": None}
        return f"{_took(unlike)}; {clean(verdict['change']['because'])}"
    if verdict.get("slow") == 0:
        begin = f"none was slow; those that failed took {human(duration / count)} on average"
    elif verdict.get("slow") is not None:
        was = "was" if verdict["slow"] == 1 else "were"
        how = "slow" if usual is None or excess > 0 else "affected"
        begin = (
            f"{verdict['slow']:,} of {verdict['requests']:,} requests {was} {how}: {human(duration / count)} on average"
        )
    else:
        begin = f"took {human(duration)}"
    if usual is None:
        return f"{begin} (no usual yet: ranked by time lost)"
    if excess > 0:
        return f"{begin}, usually {human(usual / count)}: {difference(duration / count, usual / count)} too slow"
    return f"{begin}, usually {human(usual / count)}: not slower than usual"


def _ranked(part: Json, verdict: Json) -> int:
    """What the verdict ranks of a part, in ns."""
    return int(part["lost_ns"] if verdict["ranked_by"] == "lost" else part["excess_ns"] or 0)


def _ranked_whole(verdict: Json) -> int:
    return int(verdict["duration_ns"] if verdict["ranked_by"] == "lost" else verdict["excess_ns"] or 0)


def _unexplained(verdict: Json) -> int:
    """What the verdict ranks of what is unexplained, in ns."""
    return int(
        verdict["unexplained_ns"] - (0 if verdict["ranked_by"] == "lost" else verdict["unexplained_usual_ns"] or 0)
    )


def _shared_whole(verdict: Json) -> int:
    """Of what percentages are shares, in ns: where a part took less than usual, all that the others added."""
    added = sum(max(0, _ranked(part, verdict)) for part in verdict["parts"]) + max(0, _unexplained(verdict))
    return max(_ranked_whole(verdict), added)


def _part_of(verdict: Json, culprit: Json) -> Json | None:
    """The culprit's part; of several services in one entity, the one with most of it."""
    alike = [
        part
        for part in verdict["parts"]
        if part["cause"] == culprit["cause"]
        and (part["entity"]["type"], part["entity"]["id"]) == (culprit["entity"]["type"], culprit["entity"]["id"])
    ]
    return max(alike, key=lambda part: _ranked(part, verdict), default=None)


def _who(entity: Json, part: Json | None, verdict: Json) -> str:
    """The entity, and its service where that is not plain from the rest."""
    service = short(clean(part["service"])) if part else ""
    name = whole(entity)
    if not service or service in name or entity["type"] == "service" or service == short(clean(verdict["service"])):
        return name
    return f"{name} (service {service})"


def _answer(verdict: Json, title: Any) -> list[str]:
    """The answer: the culprits in words, or why there are none."""
    if _is_compared(verdict):
        return _what_changed(verdict, title)
    count, ranked_whole = _requests(verdict), _ranked_whole(verdict)
    of_what = "of the time" if verdict["ranked_by"] == "lost" else "of the excess"
    each = " a request" if verdict.get("slow") is not None and count > 1 else ""
    if ranked_whole <= 0:
        return ["Nothing to blame: it was not slower than usual."]
    if verdict.get("failures") and not verdict["culprits"]:
        return ["No time is to blame: it was not slow."]
    said: list[str] = []
    unexplained = _unexplained(verdict)
    mentioned = unexplained >= WORTH_A_WORD * ranked_whole
    shares = [float(culprit["share_of_excess"]) for culprit in verdict["culprits"]]
    percents = _percents([*shares, unexplained / _shared_whole(verdict)] if mentioned else shares)
    for number, culprit in enumerate(verdict["culprits"]):
        part, share = _part_of(verdict, culprit), float(culprit["share_of_excess"])
        amount = verdict["duration_ns"] - culprit["without_ns"]
        if number:
            begin = "Also"
        elif verdict["conclusive"]:
            begin = "Mostly" if share >= 0.5 else "Most of it"
        else:
            begin = "Perhaps"
        percent = percents[number] + (f" {of_what}" if not number else "")
        said.append(
            f"{begin} {_who(culprit['entity'], part, verdict)}: {title(culprit['cause'])}, "
            f"{human(amount / count)}{each} ({percent})."
        )
    if mentioned:
        percent = percents[-1] + ("" if said else f" {of_what}")
        said.append(f"Unexplained: {human(unexplained / count)}{each} ({percent}).")
    if not verdict["culprits"]:
        said.insert(0, "No single cause stands out.")
    if not verdict["conclusive"]:
        said.insert(0, _inconclusive(verdict, title))
    return said


def _inconclusive(verdict: Json, title: Any) -> str:
    """``Inconclusive, because X was not measured; to decide, …`` (design, section 5.2)."""
    blind = verdict["blind"]
    if not blind:
        return "Inconclusive: what was measured leaves more than half of it open."
    first = blind[0]
    more = f" (and {len(blind) - 1} more)" if len(blind) > 1 else ""
    return (
        f"Inconclusive, because “{title(first['cause'])}” was not measured{more}; to decide, {clean(first['enable'])}."
    )


def _blind(verdict: Json, title: Any) -> Iterator[tuple[str, str, str]]:
    """Titles, reason and what to enable: causes that lack the same thing are told together."""
    alike: dict[str, list[Json]] = {}
    blamed = {culprit["cause"] for culprit in verdict["culprits"]} if verdict["conclusive"] else set()
    for one in verdict["blind"]:
        if one["cause"] in blamed:  # it was seen well enough to be blamed
            continue
        alike.setdefault(clean(one["reason"]), []).append(one)
    for reason, group in alike.items():
        enable = dict.fromkeys(clean(one["enable"]) for one in group)
        whole_ones = [one for one in enable if not any(more != one and more.startswith(one) for more in enable)]
        yield "; ".join(title(one["cause"]) for one in group), reason, "; or ".join(whole_ones)


def _suspects(verdict: Json) -> Iterator[tuple[str, str, str]]:
    """Who may be behind what is unexplained, why, and what would decide."""
    for one in verdict.get("suspects", ()):
        yield whole(one["entity"]), clean(one["because"]), clean(one["enable"])


def _small(part: Json, verdict: Json, blamed: set[tuple[str, str]]) -> bool:
    bound = SMALL * verdict["duration_ns"]
    named = (part["cause"], part["entity"]["id"]) in blamed
    return not named and part["lost_ns"] < bound and (part["usual_ns"] or 0) < bound


def _lines(verdict: Json, title: Any) -> list[Line]:
    """The ledger: the parts worth a line, the rest as one, and what is unexplained. They add up as shown."""
    count, duration = _requests(verdict), verdict["duration_ns"]
    blamed = {(culprit["cause"], culprit["entity"]["id"]) for culprit in verdict["culprits"]}
    parts = sorted(verdict["parts"], key=lambda part: (-part["lost_ns"], part["cause"]))
    small = [part for part in parts if _small(part, verdict, blamed)]
    large = [part for part in parts if not _small(part, verdict, blamed)]
    amounts = [part["lost_ns"] for part in large]
    if small:
        amounts.append(sum(part["lost_ns"] for part in small))
    amounts.append(verdict["unexplained_ns"])
    decimals = _decimals(duration / count)
    shown = [f"{amount:,.{decimals}f}" for amount in _adding_up(amounts, duration, count, decimals)]
    usuals = [""] * len(amounts)
    if verdict["usual_ns"] is not None:
        known = [part["usual_ns"] or 0 for part in large]
        known += [sum(part["usual_ns"] or 0 for part in small)] if small else []
        known.append(verdict["unexplained_usual_ns"] or 0)
        usuals = [f"{amount:,.{decimals}f}" for amount in _adding_up(known, verdict["usual_ns"], count, decimals)]

    def share(amount: int) -> float:
        return amount / duration if duration else 0.0

    lines = [
        Line(
            title(part["cause"]),
            clean(part["layer"]),
            _who(part["entity"], part, verdict),
            text,
            usual,
            share(part["lost_ns"]),
            tuple(_notes(part, count)),
            share(part["usual_ns"] or 0),
        )
        for part, text, usual in zip(large, shown, usuals, strict=False)
    ]
    if small:
        what = f"{len(small)} smaller part{'' if len(small) == 1 else 's'}"
        usual_ns = sum(part["usual_ns"] or 0 for part in small)
        lines.append(Line(what, "", "", shown[-2], usuals[-2], share(amounts[-2]), (), share(usual_ns)))
    unexplained_usual = share(verdict["unexplained_usual_ns"] or 0)
    lines.append(Line("unexplained", "", "", shown[-1], usuals[-1], share(amounts[-1]), (), unexplained_usual))
    return lines


def _total(verdict: Json) -> Line:
    count, duration, usual_ns = _requests(verdict), verdict["duration_ns"], verdict["usual_ns"]
    decimals = _decimals(duration / count)
    usual = "" if usual_ns is None else f"{_rounded(usual_ns, count, decimals):,.{decimals}f}"
    return Line("", "", "", f"{_rounded(duration, count, decimals):,.{decimals}f}", usual, 1.0)


def _decimals(amount_ns: float) -> int:
    """Of a millisecond: none from 100 ms on, three below one."""
    return 0 if amount_ns >= 1e8 else 1 if amount_ns >= 1e7 else 2 if amount_ns >= 1e6 else 3


def _rounded(amount_ns: int, count: int, decimals: int) -> float:
    scale: int = 10**decimals
    return round(amount_ns / count / 1e6 * scale) / scale


def _adding_up(amounts: Sequence[int], whole_ns: int, count: int, decimals: int) -> list[float]:
    """The amounts in ms, per request, rounded so that they sum to the rounded whole (largest remainder first)."""
    scale: int = 10**decimals
    exact = [amount / count / 1e6 * scale for amount in amounts]
    floors = [math.floor(amount) for amount in exact]
    missing = round(whole_ns / count / 1e6 * scale) - sum(floors)
    by_remainder = sorted(range(len(exact)), key=lambda index: floors[index] - exact[index])
    for index in by_remainder[: max(0, missing)]:
        floors[index] += 1
    return [amount / scale for amount in floors]


def _notes(part: Json, count: int) -> list[str]:
    """What stands under a part: its range where that is not tight, how it is known, behind whom, where."""
    notes = []
    low, high, lost = part["low_ns"], part["high_ns"], part["lost_ns"]
    known = "inferred" if part["evidence"] == "inferred" else ""
    if high - low > max(0.05 * lost, 1_000_000):
        between = f"between {human(low / count)} and {human(high / count)}"
        known = f"{known}, {between}" if known else between
    if known:
        notes.append(known)
    if part["by"]:
        named = ", ".join(
            f"{whole(one['entity'])} (" + f"{float(one['share']):.0%}".replace("%", " %") + ")"
            for one in part["by"][:3]
        )
        notes.append(f"behind {named}" + (f" and {len(part['by']) - 3} more" if len(part["by"]) > 3 else ""))
    if where := part["where"]:
        notes.append(
            f"in {clean(where.get('function', '?'))} ({clean(where.get('file', '?'))}:{where.get('line', '?')})"
        )
    return notes


def _blame(verdict: Json, culprit: Json, title: Any, by_name: Mapping[str, Json]) -> Blame:
    part = _part_of(verdict, culprit)
    cause = by_name.get(str(culprit["cause"]), {})
    count = _requests(verdict)
    each = " on average" if verdict.get("slow") is not None and count > 1 else ""
    return Blame(
        title=title(culprit["cause"]),
        cause=clean(culprit["cause"]),
        layer=clean(part["layer"]) if part else "",
        who=_who(culprit["entity"], part, verdict),
        because=clean(part["because"]) if part else "",
        try_=clean((part or {}).get("try") or cause.get("try") or ""),
        mistaken_for=clean(cause.get("mistaken_for") or ""),
        without=f"at least {human(culprit['without_ns'] / count)}{each}",
    )


def _sure(verdict: Json) -> list[str]:
    """Conclusive or not, settled or not, and how the request was tied to its container."""
    what = "duration" if verdict["ranked_by"] == "lost" else "excess"
    said = [
        f"Conclusive: what is blamed covers at least half of the {what}, even at its lower bounds."
        if verdict["conclusive"]
        else f"Inconclusive: the lower bounds of what is blamed cover less than half of the {what}."
    ]
    if not verdict["settled"]:
        said.append("May still change: readings up to its end can arrive for 10 s.")
    join = verdict["join"]
    if join["container"]:
        confidence = _percent(join["confidence"])
        said.append(f"Tied to its container by {clean(join['container'])} ({confidence} sure).")
    else:
        said.append("It ran in no container." if join["confidence"] == 1 else "Not tied to a container.")
    if join["skew_adjusted_ns"]:
        said.append(f"Clocks disagreed: spans were shifted by up to {human(join['skew_adjusted_ns'])}.")
    return said
