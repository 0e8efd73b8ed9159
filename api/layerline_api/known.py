"""Names that a server knows, for shells to complete. Services are in ``asking.services_of``."""

from __future__ import annotations

from typing import Any

from layerline_api.asking import Server, items_of
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean

Parameters = list[tuple[str, str]]
#: In what time names are looked for: who types one has mostly seen it lately.
_WINDOW: Parameters = [("since", "1h")]


def operations(server: Server, service: str | None) -> list[str]:
    """Operations of a service, or of all."""
    of_service = [("service", service)] if service else []
    return sorted({clean(item["operation"]) for item in _requests(server, [*of_service, ("limit", "500")])})


def traces(server: Server) -> dict[str, str]:
    """The trace ids of the worst requests, each with what it is."""
    return {
        clean(item["trace_id"]): clean(f"{item['service']} {item['operation']} {human(item['duration_ns'])}")
        for item in _requests(server, [("limit", "20")])
    }


def incidents(server: Server) -> dict[str, str]:
    """The ids of incidents, each with its summary."""
    return {
        clean(item["id"]): clean(item["summary"]) for item in items_of(server, "/api/v1/incidents", [("since", "24h")])
    }


def tags(server: Server, begun: str) -> list[str]:
    """``key:`` as far as it is typed, then ``key:value``."""
    key, colon, value = begun.partition(":")
    if not colon:
        return [f"{clean(item['key'])}:" for item in items_of(server, "/api/v1/tags", [("prefix", key)])]
    return [f"{key}:{clean(item['value'])}" for item in items_of(server, f"/api/v1/tags/{key}", [("prefix", value)])]


def entities(server: Server) -> list[str]:
    """``container:NAME`` and ``host:NAME``."""
    found = items_of(server, "/api/v1/entities", [*_WINDOW, ("limit", "500")])
    return sorted({clean(f"{one['type']}:{one['name']}") for one in found if one["type"] in ("container", "host")})


def _requests(server: Server, parameters: Parameters) -> list[dict[str, Any]]:
    return items_of(server, "/api/v1/requests", [*_WINDOW, *parameters])
