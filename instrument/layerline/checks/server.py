"""Whether the server can be asked, with this token."""

from __future__ import annotations

from layerline.doctor import OK, PROBLEM, Check, Context, Finding


def look(context: Context) -> Finding:
    """``GET /readyz``: it is there, takes the token, and is ready."""
    answer, where = context.ask("/readyz"), context.server
    if answer.status is None:
        cure = "start it: `layerline up`; or say where it is: LAYERLINE_SERVER=URL, or `server` in the settings file"
        if "certificate" in answer.words:
            cure = "name the authority's certificate: LAYERLINE_TLS_CA=FILE"
        return Finding(PROBLEM, f"{where} cannot be reached: {answer.words}", cure)
    if answer.status == 401:
        return Finding(
            PROBLEM, f"{where} refuses the token", "set LAYERLINE_TOKEN to a token of the server that may read"
        )
    if answer.status == 403:
        cure = "use a token that may read, or ask by the address that the server listens on"
        return Finding(PROBLEM, f"{where} refuses: {answer.words}", cure)
    if answer.status == 503:
        return Finding(
            PROBLEM, f"{where} is not ready: {answer.words}", "see its log, and free disk space where it says so"
        )
    if answer.status != 200 or answer.body.get("status") != "ready":
        return Finding(
            PROBLEM, f"{where} does not answer as Layerline does", "set LAYERLINE_SERVER to the server's address"
        )
    if failures := answer.body.get("failures"):
        return Finding(PROBLEM, f"{where} is ready, but threads of it failed: {failures}", "see its log, and report it")
    return Finding(OK, f"{where} is ready")


CHECK = Check(order=60, title="server", look=look)
