"""A database statement as it may be shown: what it does, without the values that it was asked with.

Most instrumentations send placeholders; where values stand in the text, they may be somebody's name or password.
"""

from __future__ import annotations

import re

#: Systems in which double quotes hold names; elsewhere they may hold values.
QUOTED_NAMES = frozenset({"postgresql", "oracle", "oracle.db", "sqlite", "cockroachdb", "snowflake", "ibm.db2", "db2"})
#: Systems in which a backslash in quotes is itself; elsewhere it escapes.
STANDARD_QUOTES = QUOTED_NAMES | {"microsoft.sql_server", "mssql"}
#: Systems whose statements are a command and its arguments: keys name users and sessions.
COMMANDS = frozenset({"redis", "valkey", "memcached"})
LONGEST = 200

_COMMENT = re.compile(r"/\*.*?(?:\*/|$)|--[^\n]*", re.DOTALL)
_DOLLARS = re.compile(r"\$(\w*)\$.*?(?:\$\1\$|$)", re.DOTALL)
_SINGLE = re.compile(r"'(?:[^'\\]|\\.|'')*(?:'|$)", re.DOTALL)
_STANDARD = re.compile(r"\b[eE]'(?:[^'\\]|\\.|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)", re.DOTALL)
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.|"")*(?:"|$)', re.DOTALL)
_NUMBER = re.compile(r"(?<![\w$:.@])[-+]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\b")
_LIST = re.compile(r"\(\s*(?:\?|%s|\$\d+|:\w+)(?:\s*,\s*(?:\?|%s|\$\d+|:\w+))+\s*\)")


def masked(statement: str, system: str, longest: int = LONGEST) -> str:
    """The statement on one line, its values as ``?``, lists of them as ``(?)``, at most ``longest`` characters."""
    if system in COMMANDS:
        command, _, arguments = statement.strip().partition(" ")
        return f"{command[:longest]} ?" if arguments else command[:longest]
    text = statement
    single = _STANDARD if system in STANDARD_QUOTES else _SINGLE
    # A quote may hold what looks like a comment, and a comment a quote: quotes first, what is left over is dropped.
    for pattern in (_DOLLARS, single, *(() if system in QUOTED_NAMES else (_DOUBLE,))):
        text = pattern.sub("?", text)
    text = _LIST.sub("(?)", _NUMBER.sub("?", _COMMENT.sub(" ", text)))
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
