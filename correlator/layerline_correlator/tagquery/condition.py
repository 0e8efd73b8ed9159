"""A selection of tags as SQL that holds for what carries them. Its words are bound, none is formatted in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from layerline.tags import TAG_WORDS
from layerline_correlator.tagquery.model import AllOf, AnyOf, Not, Selection

#: The values that a key has, as SQL of type VARCHAR[]; the key is a bound parameter (``$…``).
ValuesOf = Callable[[str], str]


class Bound:
    """Values for a statement, and the parameters that stand for them in its text."""

    def __init__(self, prefix: str = "bound") -> None:
        self._prefix = prefix
        self.values: dict[str, Any] = {}

    def add(self, value: object) -> str:
        """The parameter for this value: ``$bound0``."""
        name = f"{self._prefix}{len(self.values)}"
        self.values[name] = value
        return f"${name}"


def attribute(key: str) -> str:
    """The attribute that a word stands for; any other word is itself."""
    return TAG_WORDS.get(key, key)


def condition(selection: Selection, values_of: ValuesOf, bound: Bound) -> str:
    """SQL that is true or false, never null, for what ``values_of`` tells the tags of."""
    match selection:
        case Not(of):
            return f"NOT {condition(of, values_of, bound)}"
        case AllOf(of):
            return _joined(" AND ", of, values_of, bound) if of else "true"
        case AnyOf(of):
            return _joined(" OR ", of, values_of, bound)
    key, value = selection
    return f"has_value({values_of(bound.add(attribute(key)))}, {bound.add(_pattern(value))})"


def tag_condition(number: int, selection: Selection) -> tuple[str, dict[str, Any]]:
    """SQL that holds for requests whose service, its container or its host carries the tags; ``number`` is its own.

    The statement must bind ``$from_ns`` and ``$to_ns`` around the requests.
    """
    bound = Bound(f"tag{number}_")
    holds = condition(selection, lambda key: f"tag_of(own, of_container, of_host, {key})", bound)
    senders = f"SELECT row(resource, container_id) FROM tagged($from_ns, $to_ns) WHERE {holds}"
    return f"row(resource, container_id) IN ({senders})", bound.values


def map_condition(number: int, selection: Selection) -> tuple[str, dict[str, Any]]:
    """SQL that holds for rows whose map ``tags`` carries the tags; ``number`` is its own.

    Labels are asked for by their own names, without ``container.label.``.
    """
    bound = Bound(f"tag{number}_")
    values_of = "values_in(coalesce(tags[{0}], tags['container.label.' || {0}]))".format
    return condition(selection, values_of, bound), bound.values


def glob(value: str) -> str:
    """For ``GLOB``: only ``*`` is a wildcard."""
    return value.replace("[", "[[]").replace("?", "[?]")


def keys_of(selection: Selection) -> Iterator[str]:
    """The attributes that it asks for."""
    match selection:
        case Not(of):
            yield from keys_of(of)
        case AllOf(of) | AnyOf(of):
            for one in of:
                yield from keys_of(one)
        case (key, _):
            yield attribute(key)


def _joined(word: str, of: tuple[Selection, ...], values_of: ValuesOf, bound: Bound) -> str:
    return f"({word.join(condition(one, values_of, bound) for one in of)})"


def _pattern(value: str) -> str:
    r"""For ``LIKE … ESCAPE '\'``: only ``*`` is a wildcard."""
    for special in "\\%_":
        value = value.replace(special, "\\" + special)
    return value.replace("*", "%")
