"""Attributes that may carry secrets, dropped or cut before a span leaves the app.

Query strings, the text of database queries and header values. ``LAYERLINE_CAPTURE`` keeps what it names
(``url.query``, ``db.query.text``, ``http.header``, or ``all``). Done on the exporter's thread, on copies: the
application's own processors and exporters see what they always saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

#: What an attribute's value becomes; None drops it.
Mask = Callable[[Any], Any]

_KNOWN_AT_MOST: Final = 4096


def dropped(value: object) -> None:
    """Nothing of it leaves."""


def without_query(value: object) -> object:
    """A URL or request target up to its query or fragment."""
    if not isinstance(value, str):
        return None
    cut = min((at for at in (value.find("?"), value.find("#")) if at >= 0), default=len(value))
    return value[:cut]


_EXACT: Final[Mapping[str, tuple[str, Mask]]] = {
    "url.query": ("url.query", dropped),
    "url.full": ("url.query", without_query),
    "http.url": ("url.query", without_query),
    "http.target": ("url.query", without_query),
    "db.query.text": ("db.query.text", dropped),
    "db.statement": ("db.query.text", dropped),
    "db.statement.parameters": ("db.query.text", dropped),
}
_PREFIXES: Final[Mapping[str, tuple[str, Mask]]] = {
    "db.query.parameter.": ("db.query.text", dropped),
    "http.request.header.": ("http.header", dropped),
    "http.response.header.": ("http.header", dropped),
}


class Masks:
    """What to do with each attribute, given what the user wants captured."""

    def __init__(self, capture: str = "") -> None:
        self._kept = {word.strip() for word in capture.split(",")}
        self.known: dict[str, Mask | None] = {}
        """What is known of names so far; emptied when there are too many."""

    def mask(self, name: str) -> Mask | None:
        """How the value of that attribute is masked; None leaves it as it is."""
        try:
            return self.known[name]
        except KeyError:
            if len(self.known) >= _KNOWN_AT_MOST:
                self.known.clear()
            found = self.known[name] = self._find(name)
            return found

    def _find(self, name: str) -> Mask | None:
        rule = _EXACT.get(name)
        if rule is None:
            rule = next((rule for prefix, rule in _PREFIXES.items() if name.startswith(prefix)), None)
        if rule is None or rule[0] in self._kept or "all" in self._kept:
            return None
        return rule[1]

    def masked(self, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
        """The attributes without what must not leave; None where nothing had to be changed."""
        mask = self.mask
        changes = [(name, rule) for name in attributes if (rule := mask(name)) is not None]
        if not changes:
            return None
        safe = dict(attributes)
        for name, rule in changes:
            value = rule(safe[name])
            if value is None:
                del safe[name]
            else:
                safe[name] = value
        return safe

    def spans(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        """The same spans, with copies in the place of those that had something to hide."""
        out = []
        for span in spans:
            safe = self.masked(span.attributes or {})
            out.append(span if safe is None else with_attributes(span, safe))
        return out


def with_attributes(span: ReadableSpan, attributes: Mapping[str, Any]) -> ReadableSpan:
    """A copy of a finished span that carries these attributes instead of its own."""
    copy = object.__new__(ReadableSpan)
    copy.__dict__.update(span.__dict__)
    copy._attributes = attributes
    return copy
