"""What both the page and the command say of an incident."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from layerline_api.words.amounts import human
from layerline_api.words.clean import clean

Json = Mapping[str, Any]

#: A command in advice, as causes write it; NAME stands for the container, N for a figure that a person decides on.
_COMMAND = re.compile(r"`(docker [^`]+)`")


def failed(incident: Json) -> Iterator[str]:
    """``48 × KeyError: 'cart' in stock, 2 in the 15 minutes before``: how requests of its first operation failed.

    Nothing of an incident that an earlier version described.
    """
    for failure in incident.get("failures") or ():
        before = f", {failure['before']:,} in the 15 minutes before" if failure.get("before") else ""
        yield f"{failure['requests']:,} × {clean(failure['because'])}{before}"


def between(incident: Json) -> Iterator[str]:
    """``web to stock (GET /stock): 160 ms a call more, perhaps at stock: …``: what changed between services, and where.

    Nothing of an incident that an earlier version described.
    """
    for edge in incident.get("edges") or ():
        operation = f" ({clean(edge['operation'])})" if edge["operation"] else ""
        failed = f", {edge['errors']:,} of {edge['calls']:,} failed" if edge["errors"] else ""
        where = {
            "caller": f"at {clean(edge['caller'])}",
            "callee": f"at {clean(edge['callee'])}",
            "way": "on the way",
        }.get(edge["side"], "on which side is open")
        perhaps = "" if edge["sure"] or edge["side"] is None else "perhaps "
        longer = f"{human(max(0, edge['duration_change_ns']))} a call more"
        yield (
            f"{clean(edge['caller'])} to {clean(edge['callee'])}{operation}: {longer}{failed}, {perhaps}{where}:"
            f" {clean(edge['because'])}"
        )


def commands(incident: Json) -> list[str]:
    """``docker update --cpus N stock-1``: the commands of its advice, with the name of the container that is blamed."""
    culprits = (incident["verdict"] or {}).get("culprits") or ()
    names = [one["entity"]["name"] for one in culprits if one["entity"]["type"] == "container"]
    found = [command for advice in incident["try"] for command in _COMMAND.findall(clean(advice))]
    name = shlex.quote(clean(names[0])) if names else "NAME"
    return list(dict.fromkeys(re.sub(r"\bNAME\b", lambda _: name, command) for command in found))
