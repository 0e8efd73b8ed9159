"""What may carry secrets is taken out before it is stored: the same kinds that the wrapper leaves in the app.

Query strings, header values and parameters of queries are dropped; a database statement keeps its words and loses its
values (``SELECT * FROM users WHERE mail = ?``). Attributes that are named after a credential are dropped too. In free
text (exceptions, status messages, logs) what stands behind such a name, behind ``Bearer``, in the user part or the
query of a URL, and the values in SQL are replaced. ``LAYERLINE_CAPTURE`` of the server keeps what it names.

The wrapper has done this for its own spans by the setting of the app (``layerline.masking``): their attributes are
kept as they were sent, save for credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from layerline.attributes import VERSION
from layerline.masking import Mask, Masks, dropped
from layerline_correlator.verdict.statement import masked as masked_statement

#: A statement is read and kept up to this many characters.
STATEMENT_CHARS: Final = 4_096
STATEMENTS: Final = frozenset({"db.query.text", "db.statement"})
_URLS: Final = frozenset({"url.full", "http.url"})

_CREDENTIAL: Final = re.compile(
    r"(?:^|[._-])(?:password|passwd|pwd|passphrase|secret|token|authorization|cookies?|set-cookie|credentials?"
    r"|(?:api|access|private|secret)[_-]?key|connection_string)$",
    re.IGNORECASE,
)
#: Names whose masks are remembered; senders may make names up.
_REMEMBERED: Final = 4_096

# Bounded repetitions: none of these takes longer than the text is long, times a constant.
_USER_OF_URL = re.compile(r"(\b\w[\w+.-]{0,20}://)[^\s/@'\"]{1,200}@")
_QUERY_OF_URL = re.compile(r"(\b\w[\w+.-]{0,20}://[^\s?#'\"<>]{1,2000})[?#][^\s'\"<>)\]]*")
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(\w{0,20}(?:password|passwd|pwd|passphrase|secret|token|authorization|cookie|api[_-]?key|access[_-]?key))"
    r"(['\"]?\s{0,3}[:=]\s{0,3})(?!\s|(?:Bearer|Basic)\b)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&)\]}'\"]+)",
    re.IGNORECASE,
)
#: What SQLAlchemy and PostgreSQL put behind a message.
_PARAMETERS = re.compile(r"(\[parameters: )[^\n]*\]")
_KEY = re.compile(r"(\bKey \([^)\n]{1,200}\)=\()[^\n]*?(\) (?:already exists|is (?:not|still)|conflicts))")
_SQL_LINE = re.compile(
    r"\b(?:SELECT\b.{1,400}?\bFROM|INSERT\s+INTO|UPDATE\b.{1,400}?\bSET|DELETE\s+FROM)\b.*", re.IGNORECASE
)
_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.|'')*(?:'|$)")
_COMPARED = re.compile(r"(?<=[=<>(,])(\s{0,3})[-+]?\d+(?:\.\d+)?\b")


class Rules(dict[str, Mask | None]):
    """How the value of an attribute of each name is masked; None leaves it. Found once for each name."""

    def __init__(self, masks: Masks, credentials: bool) -> None:
        super().__init__()
        self._masks, self._credentials = masks, credentials

    def __missing__(self, name: str) -> Mask | None:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self._masks.mask(name)
        if self._credentials:
            if name in _URLS:
                found = _without_user(found)
            elif found is None and _CREDENTIAL.search(name):
                found = dropped
        self[name] = found
        return found


def _without_user(rule: Mask | None) -> Mask:
    """The rule, and of a URL its user and password left out: what remains is the address that was called."""

    def masked(value: object) -> object:
        if rule is not None:
            value = rule(value)
        return _USER_OF_URL.sub(r"\1", value) if isinstance(value, str) else value

    return masked


class Masking:
    """What to do with attributes and texts, given what the server's owner wants captured (``LAYERLINE_CAPTURE``)."""

    def __init__(self, capture: str = "") -> None:
        words = {word.strip() for word in capture.split(",")}
        credentials = "all" not in words
        self._strangers = Rules(Masks(capture), credentials)
        self._wrappers = Rules(Masks("all"), credentials)
        self._texts = credentials
        self._values = not words & {"all", "db.query.text"}
        self._queries = not words & {"all", "url.query"}

    def rules(self, resource: Mapping[str, str]) -> Rules:
        """The rules for the attributes of what this sender sends."""
        return self._wrappers if VERSION in resource else self._strangers

    def text(self, text: str) -> str:
        """A message, a stack trace or the body of a log record without what may be a secret."""
        if self._texts:
            text = _USER_OF_URL.sub(r"\1***@", text)
            text = _NAMED.sub(r"\1\2***", _SCHEME.sub(r"\1 ***", text))
        if self._queries:
            text = _QUERY_OF_URL.sub(r"\1", text)
        if self._values:
            text = _KEY.sub(r"\1?\2", _PARAMETERS.sub(r"\1?]", text))
            text = _SQL_LINE.sub(_without_values, text)
        return text


def _without_values(line: re.Match[str]) -> str:
    return _COMPARED.sub(r"\1?", _QUOTED.sub("?", line[0]))


@lru_cache(maxsize=2_048)
def statement(text: str, system: str) -> str:
    """A database statement without its values."""
    return masked_statement(text[:STATEMENT_CHARS], system, STATEMENT_CHARS)


#: What holds unless something else is asked for.
BY_DEFAULT: Final = Masking()
