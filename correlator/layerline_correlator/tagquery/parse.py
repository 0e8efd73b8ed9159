"""From a text to a ``Query``, or to a ``BadQuery`` that says what is wrong and at which column."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken

from layerline_correlator.tagquery.model import (
    Aggregate,
    AllOf,
    AnyOf,
    BadQuery,
    Comparison,
    Not,
    Part,
    Query,
    Selection,
    Tag,
)
from layerline_correlator.tagquery.signals import MEASURES, TIMES_NS, Measure, measure

#: The longest text that is read, in characters.
LONGEST = 2_000
#: The windows that ``over`` may ask for.
SHORTEST_NS, LONGEST_NS = 10**9, 31 * 86_400 * 10**9
#: The aggregates, and the SQL functions that work them out. The group is the whole population, not a sample of one.
AGGREGATES = {
    "avg": "avg({})",
    "median": "median({})",
    "p95": "quantile_cont({}, 0.95)",
    "max": "max({})",
    "min": "min({})",
    "stddev": "stddev_pop({})",
}
#: What is expected, in words; of what else would be possible nothing is said.
_WORDS = {
    "KEY": "a tag (key:value)",
    "SIGNAL": "a signal",
    "QUANTITY": "a number",
    "FUNCTION": "an aggregate such as avg(…)",
    "LABEL": "a tag's key",
    "_CLOSE": ")",
    "$END": "the end",
    "_OPEN": "(",
}


def parse(text: str) -> Query:
    """The query that the text says. ``BadQuery``."""
    query = _parsed(text, "query")
    assert isinstance(query, Query)
    return query


def parse_selection(text: str) -> Selection:
    """The selection of tags that the text says: no comparison, no window. ``BadQuery``."""
    selection: Selection = _parsed(text, "selection")
    return selection


def _parsed(text: str, start: str) -> Any:
    if len(text) > LONGEST:
        raise BadQuery(f"the query is {len(text)} characters long; expected at most {LONGEST}", LONGEST + 1)
    if not text.strip():
        raise BadQuery("the query is empty; expected tags (key:value), a comparison, or both", 1)
    try:
        made: Any = _parser().parse(text, start=start)
    except UnexpectedToken as problem:
        raise _unexpected(text, problem.token, problem.expected) from None
    except UnexpectedCharacters as problem:
        raise _unexpected(text, Token("", "", problem.pos_in_stream), problem.allowed) from None
    return Query(text, *made) if start == "query" else made


@cache
def _parser() -> Lark:
    grammar = files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", start=["query", "selection"], transformer=_Build())


def _unexpected(text: str, token: Token, expected: Iterable[str]) -> BadQuery:
    at = len(text) if token.type == "$END" else token.start_pos or 0
    word = _word_at(text, at)
    wanted = {"$END" if name == "<END-OF-FILE>" else name for name in expected}
    before = re.split(r"[\s()]", text[:at].rstrip())[-1]
    if word == ":" and before:
        detail = f"after {before + word!r} a value is expected, without a space"
    elif word == '"':
        detail = "a quote is not closed, or stands where no value belongs"
    elif wanted == {"COMPARE"}:
        detail = f"after {before!r} a comparison such as > 100 is expected (a tag is written key:value)"
    elif word.lower() == "or" and "MINUS" in wanted:
        detail = "OR joins tags; comparisons are joined by AND"
    else:
        said = [words for name, words in _WORDS.items() if name in wanted]
        said = [words for words in said if words != "("] or said
        detail = f"expected {' or '.join(said)}, found {repr(word) if word else 'the end'}"
    return BadQuery(detail, at + 1)


def _word_at(text: str, at: int) -> str:
    """What stands there: a word or one character, nothing at the end."""
    word = re.match(r"[\w.]+|.", text[at:], re.DOTALL)
    return word[0][:40] if word else ""


class _Summand(NamedTuple):
    """A part of a bound before it is known what it is compared with."""

    at: Token
    factor: float
    unit: str
    aggregate: Aggregate | None


class _Build(Transformer[Token, Any]):
    """Works while the text is parsed, from the inside out: many nested groups cost no recursion."""

    def query(self, children: list[Any]) -> tuple[Selection, tuple[Comparison, ...], int | None]:
        over_ns = next((child for child in children if isinstance(child, int)), None)
        comparisons = tuple(child for child in children if isinstance(child, Comparison))
        return _all([child for child in children if not isinstance(child, int | Comparison)]), comparisons, over_ns

    def selection(self, children: list[Selection]) -> Selection:
        return _all(children)

    def either(self, children: list[Selection]) -> Selection:
        return AnyOf(tuple(children))

    def group(self, children: list[Selection]) -> Selection:
        return children[0]

    def negated(self, children: list[Selection]) -> Selection:
        return children[0].of if isinstance(children[0], Not) else Not(children[0])

    def tag(self, children: list[Token]) -> Selection:
        key, value = children
        quoted = value.startswith('"')
        return Tag(key[:-1], re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if quoted else str(value))

    def comparison(self, children: list[Any]) -> Comparison:
        name, operator, summands = children
        compared = _measure(name)
        return Comparison(compared, str(operator), tuple(_part(compared, summand) for summand in summands))

    def bound(self, children: list[Token | _Summand]) -> list[_Summand]:
        summands, sign = [], 1
        for child in children:
            if isinstance(child, _Summand):
                summands.append(child._replace(factor=sign * child.factor))
            else:
                sign = 1 if child == "+" else -1
        return summands

    def quantity(self, children: list[Token]) -> _Summand:
        number, unit = _quantity(children[0])
        return _Summand(children[0], number, unit, None)

    def scaled(self, children: list[Any]) -> _Summand:
        factor, summand = children
        number, unit = _quantity(factor)
        if unit not in ("", "%"):
            raise _bad(factor, f"expected a factor without a unit, found {str(factor)!r}")
        return _Summand(summand.at, number / 100 if unit else number, "", summand.aggregate)

    def aggregate(self, children: list[Any]) -> _Summand:
        function, name, *rest = children
        if function.lower() not in AGGREGATES:
            raise _bad(function, f"there is no aggregate {str(function)!r}; there are: {', '.join(AGGREGATES)}")
        by = next((str(child) for child in rest if isinstance(child, Token)), None)
        where = next((child for child in rest if not isinstance(child, Token)), None)
        return _Summand(name, 1.0, "", Aggregate(function.lower(), _measure(name), where, by))

    def where(self, children: list[Selection]) -> Selection:
        return children[0]

    def by(self, children: list[Token]) -> Token:
        return children[0]

    def over(self, children: list[Token]) -> int:
        number, unit = _quantity(children[0])
        over_ns = round(number * TIMES_NS.get(unit, 0))
        if not SHORTEST_NS <= over_ns <= LONGEST_NS:
            raise _bad(children[0], f"expected a window such as 15m or 1h, 1s to 31d, found {str(children[0])!r}")
        return over_ns


def _all(selections: list[Selection]) -> Selection:
    return selections[0] if len(selections) == 1 else AllOf(tuple(selections))


def _part(compared: Measure, summand: _Summand) -> Part:
    """The summand in the unit of what is compared."""
    if summand.aggregate is None:
        try:
            return Part(compared.in_unit(summand.factor, summand.unit))
        except ValueError as problem:
            raise _bad(summand.at, f"{problem}, found {str(summand.at)!r}") from None
    unit = summand.aggregate.measure.unit
    if unit != compared.unit:
        raise _bad(summand.at, f"{summand.at} is in {unit}, and {compared.name} in {compared.unit}: not to be compared")
    return Part(summand.factor, summand.aggregate)


def _quantity(token: Token) -> tuple[float, str]:
    number = re.match(r"[\d.]+", token)
    assert number is not None
    return float(number[0]), token[number.end() :]


def _measure(name: Token) -> Measure:
    found = measure(name)
    if found is None:
        close = get_close_matches(name, MEASURES, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(MEASURES)}"
        raise _bad(name, f"there is no signal {str(name)!r} of containers; {hint}")
    return found


def _bad(token: Token, detail: str) -> BadQuery:
    return BadQuery(detail, (token.start_pos or 0) + 1)
