"""Which containers send spans, and which do not."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from layerline.doctor import ADVICE, OK, UNKNOWN, Check, Context, Finding

#: Names shown, at most, and pages of a thousand entities that are asked for.
_SHOWN, _PAGES = 8, 10


def look(context: Context) -> Finding:
    """By what the server received in the last 15 minutes: processes, and what they run on; containers that live."""
    containers, processes = _items(context, "container"), _items(context, "process")
    if containers is None or processes is None:
        return Finding(UNKNOWN, "the server cannot be asked")
    living = {one["id"]: str(one["name"]) for one in containers if one.get("ended") is None}
    sending = {(one.get("runs_on") or {}).get("id") for one in processes}
    if not living:
        if processes:
            return Finding(
                ADVICE, f"{len(processes)} processes send spans, no container is seen", "run `layerline agent`"
            )
        cure = "run `layerline agent`, and start the services with `layerline run -- CMD`"
        return Finding(ADVICE, "neither containers nor spans were received in the last 15 minutes", cure)
    silent = sorted(name for id_, name in living.items() if id_ not in sending)
    loud = sorted(name for id_, name in living.items() if id_ in sending)
    if not silent:
        return Finding(OK, f"spans come from all {len(loud)} containers: {_named(loud)}")
    some = f"; from these they do: {_named(loud)}" if loud else ""
    cure = "start Python services with `layerline run -- CMD`; others with an OpenTelemetry SDK (databases need none)"
    return Finding(ADVICE, f"no spans come from {_named(silent)}{some}", cure)


def _items(context: Context, kind: str) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(_PAGES):
        answer = context.ask(f"/api/v1/entities?type={kind}&limit=1000{cursor}")
        items = answer.body.get("items")
        if answer.status != 200 or not isinstance(items, list):
            return None
        found += items
        if not answer.body.get("next"):
            break
        cursor = f"&cursor={quote(str(answer.body['next']))}"
    return found


def _named(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


CHECK = Check(order=90, title="containers", look=look)
