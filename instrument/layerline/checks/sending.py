"""Whether apps and the agent could send from here: their endpoint, with their token."""

from __future__ import annotations

from layerline.doctor import OK, PROBLEM, Check, Context, Finding, exchange
from layerline.settings import DEFAULT_ENDPOINT

_PROTOBUF = {"Content-Type": "application/x-protobuf"}


def look(context: Context) -> Finding:
    """An empty request of OTLP, which stores nothing, as the wrapper and as the agent would send it."""
    fine: dict[str, list[str]] = {}
    for program in ("run", "agent"):
        mine = context.settings(program)
        where = mine.get("LAYERLINE_ENDPOINT") or mine.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
        where = where.rstrip("/")
        answer = exchange(
            "POST", f"{where}/v1/traces", mine.get("LAYERLINE_TOKEN", ""), mine, headers=_PROTOBUF, data=b""
        )
        who = f"`layerline {program}`"
        if answer.status is None:
            cure = "start the server, or say where it is: LAYERLINE_ENDPOINT=URL"
            return Finding(PROBLEM, f"{who} cannot reach {where}: {answer.words}", cure)
        if answer.status in (401, 403):
            cure = "set LAYERLINE_TOKEN to a token of the server that may write"
            return Finding(PROBLEM, f"{where} refuses what {who} sends ({answer.status}): {answer.words}", cure)
        if answer.status != 200:
            cure = "set LAYERLINE_ENDPOINT to the server's HTTP address (4318; 4317 is gRPC's)"
            return Finding(PROBLEM, f"{where} answers {who} with {answer.status}: {answer.words}", cure)
        fine.setdefault(where, []).append(who)
    return Finding(OK, "; ".join(f"{where} takes what {' and '.join(who)} would send" for where, who in fine.items()))


CHECK = Check(order=70, title="sending", look=look)
