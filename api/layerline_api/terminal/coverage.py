"""What was seen and what was not, in sections: services, readings, blind causes, lives, explosions."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from rich.text import Text

from layerline_api.terminal.text import cut, wrapped
from layerline_api.words.amounts import amount, human
from layerline_api.words.clean import clean

Json = dict[str, Any]
_SERVICE = 24
_UNSEEN = 5


def show(body: Json) -> list[Text]:
    """The answer for people: services, readings, what is blind, what lived unseen, what explodes."""
    sections = (
        _services(body),
        _layers(body["layers"]),
        _blind(body),
        _lives(body["containers"]),
        _dropped(body.get("dropped", [])),
        _clock_steps(body.get("clock_steps", [])),
        _agents(body.get("agents", [])),
        _skew(body.get("version_skew", []), body.get("version", "")),
        _explosions(body["cardinality"]),
        _stored(body.get("stored")),
        _exceeded(body.get("exceeded", [])),
    )
    out: list[Text] = []
    for section in sections:
        if section:
            out += [Text(), *section] if out else section
    return out


def _stored(stored: Json | None) -> list[Text]:
    """What the store takes; nothing before it was measured."""
    if stored is None:
        return []
    line = f"The store takes {amount(stored['bytes'], 'By')}"
    if stored["span_bytes"] is not None:
        line += f", {amount(stored['span_bytes'], 'By')} a span with its ledger"
    if stored["container_day_bytes"] is not None:
        line += f", {amount(stored['container_day_bytes'], 'By')} of readings for each day of a container"
    return list(wrapped(f"{line} (`layerline store info` says more)."))


def _services(body: Json) -> list[Text]:
    if not body["services"]:
        return [Text("No spans were received.", style="bold")]
    heads = ("requests", "spans", "container", "machine", "account")
    out = [Text(f"{'service':<{_SERVICE}}" + "".join(f"{head:>11}" for head in heads), style="bold")]
    for one in body["services"]:
        inside = "on machine" if one["spans"] and one["on_machine"] == one["spans"] else _share(one["container"])
        cells = (str(one["requests"]), str(one["spans"]), inside, _share(one["host"]), _share(one["account"]))
        name = cut(clean(one["service"]) or "(no name)", _SERVICE - 1)
        out.append(Text(f"{name:<{_SERVICE}}" + "".join(f"{cell:>11}" for cell in cells)))
        out += _notes(one)
    return out


def _notes(one: Json) -> Iterable[Text]:
    """How its spans were tied, and why the others were not."""
    for title, joined in (("container", one["container"]), ("machine", one["host"])):
        if joined["methods"]:
            ways = ", ".join(
                f"{clean(way['what'])} {way['spans']}"
                + (f" ({way['confidence']:.0%} sure)" if way["confidence"] < 1 else "")
                for way in joined["methods"]
            )
            yield from wrapped(f"{title} by {ways}", indent=2)
    for title, joined in (
        ("no container", one["container"]),
        ("no machine", one["host"]),
        ("no account", one["account"]),
    ):
        for why in joined["missing"]:
            spans = f"{why['spans']} span{'' if why['spans'] == 1 else 's'}"
            yield from wrapped(f"{title}, {spans}: {clean(why['what'])}", indent=2)
    if one["orphans"]:
        yield from wrapped(f"{one['orphans']} of its requests name a caller whose span was never received", indent=2)
    if one.get("left_out"):
        yield from wrapped(
            f"{one['left_out']} of its requests have no ledger: more arrived than LAYERLINE_BUDGET allows; a fair"
            " sample of the ordinary ones stands for them, and one that is asked for is worked out",
            indent=2,
        )
    if one.get("refused"):
        yield from wrapped(f"{one['refused']} of its requests are unexplained: their parts did not add up", indent=2)
    sampling = one["sampling"]
    if sampling["sampled"]:
        kept = f", {sampling['kept_ratio']:.2%} kept" if sampling["kept_ratio"] is not None else ""
        yield from wrapped(f"sampled{kept} ({clean(sampling['sign'])}): not every request is here", indent=2)
    elif sampling["sampled"] is None:
        yield from wrapped("sampled or not: nothing tells", indent=2)
    yield from _uninstrumented(one.get("uninstrumented", []))


def _uninstrumented(found: list[Json]) -> Iterable[Text]:
    """What leaves no spans; one command installs all of it."""
    packages = [each["package"] for each in found if each["package"]]
    if packages:
        names = ", ".join(dict.fromkeys(clean(each["library"]) for each in found if each["package"]))
        yield from wrapped(
            f"without spans, as nothing instruments it: {names}. To see it: start it with `layerline run --install --"
            f" CMD`, or {clean(shlex.join(['pip', 'install', *packages]))}",
            indent=2,
        )
    for each in found:
        if not each["package"]:
            yield from wrapped(f"{clean(each['library'])}: {clean(each['reason'])}; {clean(each['enable'])}", indent=2)


def _layers(layers: list[Json]) -> list[Text]:
    heads = ("entities", "readings", "every", "gaps", "longest")
    out = [Text(f"{'layer':<{_SERVICE}}" + "".join(f"{head:>11}" for head in heads), style="bold")]
    for one in layers:
        cells = (
            str(one["entities"]),
            str(one["readings"]),
            _time(one["interval_ns"]),
            str(one["gaps"]),
            _time(one["longest_gap_ns"]),
        )
        if one["layer"] == "app":  # spans have no beat
            cells = (*cells[:2], "-", "-", "-")
        out.append(Text(f"{clean(one['layer']):<{_SERVICE}}" + "".join(f"{cell:>11}" for cell in cells)))
        if one["reason"]:
            out += wrapped(f"{clean(one['reason'])}. To see it: {clean(one['enable'])}", indent=2)
        elif one["gaps"] and one["longest_gap_at"]:
            out += wrapped(f"the longest gap was at {clean(one['longest_gap_at']['name'])}", indent=2)
    return out


def _blind(body: Json) -> list[Text]:
    if not body["blind"]:
        return [Text("Every cause could be seen in every request.")] if body["requests"] else []
    out = [Text("what could not be seen", style="bold")]
    for one in body["blind"]:
        head = f"{clean(one['cause'])}, in {one['requests']} requests ({one['share']:.0%})"
        out += wrapped(f"{head}: {clean(one['reason'])}. To see it: {clean(one['enable'])}", indent=2)
    return out


def _lives(lives: Json) -> list[Text]:
    reason = wrapped(clean(lives["reason"])) if lives["reason"] else []
    unknown = lives.get("ended_unknown", 0)
    if unknown:
        reason = [*wrapped(f"{unknown} more ended at a time that nobody knows"), *reason]
    if not lives["ended"]:
        return reason or [Text("No container ended in this window.")]
    out = wrapped(
        f"{lives['ended']} containers ended, {lives['unseen']} of them lived without one reading", style="bold"
    )
    for one in lives["named"][:_UNSEEN]:
        began = f"from {clean(one['started'])} " if one["started"] else ""
        out += wrapped(f"{clean(one['name'])} ({clean(one['id'])[:12]}) {began}to {clean(one['ended'])}", indent=2)
    if lives["unseen"] > min(len(lives["named"]), _UNSEEN):
        out += wrapped(f"and {lives['unseen'] - min(len(lives['named']), _UNSEEN)} more (--json names them)", indent=2)
    return [*out, *reason]


def _dropped(found: list[Json]) -> list[Text]:
    out: list[Text] = []
    for one in found:
        when = f"between {clean(one['from'])} and {clean(one['to'])}"
        who = f"the agent on {clean(one['host'])} dropped" if one["host"] else "an agent dropped"
        out += wrapped(f"{who} {one['points']} points that it read {when}: {clean(one['reason'])}")
    return out


def _clock_steps(found: list[Json]) -> list[Text]:
    out: list[Text] = []
    for one in found:
        way = "ahead" if one["step_ns"] > 0 else "back"
        whose = f"the clock of {clean(one['host'])}" if one["host"] else "the clock of a machine"
        out += wrapped(
            f"{whose} was set {human(abs(one['step_ns']))} {way} at {clean(one['at'])}: what was measured before and "
            "after that does not lie on one timeline"
        )
    return out


def _agents(found: list[Json]) -> list[Text]:
    """Those that fell silent, and clocks that disagree; nothing where all is well."""
    out: list[Text] = []
    for one in found:
        if one["silent_ns"] is not None:
            line = f"the agent on {clean(one['host'])} is silent: it reported last at {clean(one['last'])}, "
            out += wrapped(f"{line}{human(one['silent_ns'])} before the end of this window")
        if one["clock_wrong"]:
            way = "ahead of" if one["clock_ahead_ns"] > 0 else "behind"
            line = f"the clock of {clean(one['host'])} is {human(abs(one['clock_ahead_ns']))} {way} this server's"
            out += wrapped(f"{line} (± {human(one['clock_uncertain_ns'] or 0)}): set both by NTP")
    return out


def _skew(found: list[Json], own: str) -> list[Text]:
    out: list[Text] = []
    for one in found:
        who = "the agent on" if one["sender"] == "agent" else "service"
        said = f"{who} {clean(one['name'])} runs Layerline {clean(one['version'])}, this server {clean(own)}"
        out += wrapped(said if one["supported"] else f"{said}: more than one minor version apart is not supported")
    return out


def _explosions(found: list[Json]) -> list[Text]:
    out: list[Text] = []
    for one in found:
        what, kinds = {
            "series": (f"metric {one['name']} of one sender is", "series"),
            "resources": (f"service {one['name']} comes as", "different resources"),
            "operations": (f"service {one['name']} has", "operations: are there ids in their names?"),
        }[one["what"]]
        which = f": attribute {one['attribute']} has {one['distinct_values']} values" if one["attribute"] else ""
        out += wrapped(clean(f"{what} {one['number']} {kinds}{which}"))
    return out


def _exceeded(found: list[Json]) -> list[Text]:
    out: list[Text] = []
    for one in found:
        whose = f" of {one['sender']}" if one["sender"] else ""
        name = one["name"] or "others"
        what = {
            "series": f"{one['items']} points of new series of metric {name}{whose} are not stored: too many series",
            "senders": f"{one['items']} items{whose or ' of ' + name} are not stored: too many senders",
            "tag values": f"tag {name}{whose} is not stored of {one['items']} resources: too many values",
        }[one["cap"]]
        when = f"between {one['from']} and {one['to']}"
        out += wrapped(clean(f"{what}, {when}. To see it: {one['enable']}"))
    return out


def _share(joined: Json) -> str:
    return "-" if joined["share"] is None else f"{joined['share']:.1%}"


def _time(duration_ns: int | None) -> str:
    return "-" if duration_ns is None else human(duration_ns)
