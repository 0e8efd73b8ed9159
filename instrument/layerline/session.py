"""How the wrapper and the agent post: whatever a server answers, it costs bounded time and bounded memory.

``requests`` does the work. What is ours:

* the time that is allowed covers the whole exchange, where ``requests`` allows it anew for each piece that arrives;
* of an answer at most 64 KiB are read;
* a redirect is an answer, and is not followed;
* a proxy from the environment is not asked for addresses of this machine;
* a password in ``~/.netrc`` does not replace the token;
* what came back is kept in words (``Session.outcome``).
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

#: The longest that an exchange may take, where its caller does not say, in seconds.
TIMEOUT_S: Final = 10.0
#: What is read of an answer: partial successes and reasons are much shorter.
MOST_BYTES: Final = 64 * 1024
#: How long ``Retry-After`` may keep us away, in seconds. A server that asks for an hour is asked again before that.
LONGEST_WAIT_S: Final = 120.0
#: Answers after which the same request may be sent again (OTLP specification 1.9, "Retryable Response Codes").
RETRYABLE: Final = frozenset({429, 502, 503, 504})

_AT_ONCE_BYTES: Final = 4096
_MOST_WORDS: Final = 160
_allowed = threading.local()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request."""

    status: int | None
    """The status of the answer; None where there was none."""
    words: str
    """What came back, for people."""
    content: bytes = b""
    retry_after_s: float | None = None
    """How long the server asks us to stay away, at most ``LONGEST_WAIT_S``."""

    @property
    def delivered(self) -> bool:
        """The server has it. A redirect is not a delivery."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def later(self) -> bool:
        """The same request may succeed later: nobody answered, or a server that is busy."""
        return self.status is None or self.status in RETRYABLE


class Session(requests.Session):
    """A session for OTLP. It is used by one thread at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Outcome | None = None
        """Of the last request, also of one that is under way."""
        self.auth = unchanged
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def request(self, method: str | bytes, url: str | bytes, *arguments: Any, **named: Any) -> requests.Response:
        """As ``requests`` has it; the answer has been read when it returns."""
        timeout_s = named.get("timeout")
        if not isinstance(timeout_s, int | float):
            timeout_s = TIMEOUT_S
        named.update(timeout=timeout_s, allow_redirects=False, stream=True)
        self.outcome = Outcome(None, "no answer so far")
        _allowed.until = time.monotonic() + timeout_s
        try:
            answer = super().request(method, url, *arguments, **named)
            answer._content = read(answer)
            answer._content_consumed = True  # type: ignore[attr-defined]
        except Exception as problem:
            self.outcome = Outcome(None, what_failed(problem, timeout_s))
            raise
        finally:
            _allowed.until = None
        self.outcome = Outcome(
            answer.status_code, what_came(answer), answer.content, retry_after_s(answer.headers.get("Retry-After"))
        )
        return answer

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """No proxy from the environment stands between us and this machine."""
        merged = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if on_this_machine(urlsplit(url).hostname or ""):
            merged["proxies"] = dict(self.proxies)
        return merged


def unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that leaves the headers alone. Without any, ``requests`` takes passwords from ``~/.netrc``."""
    return request


def read(answer: requests.Response) -> bytes:
    """The first ``MOST_BYTES`` of an answer. It is cut where its time is up: what counts is its status."""
    parts, size = [], 0
    try:
        while size < MOST_BYTES and (part := answer.raw.read(min(_AT_ONCE_BYTES, MOST_BYTES - size))):
            parts.append(part)
            size += len(part)
    except (OSError, HTTPError, http.client.HTTPException):
        size = MOST_BYTES
    if size >= MOST_BYTES:
        answer.close()  # there may be more: nobody reads it, so the connection cannot be used again
    return b"".join(parts)


def on_this_machine(host: str) -> bool:
    """Whether a host of a URL is this machine: loopback, or 0.0.0.0, which Linux takes for it."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def retry_after_s(header: str | None) -> float | None:
    """``Retry-After`` in seconds, at most ``LONGEST_WAIT_S``: a whole number or an HTTP date (RFC 9110, 10.2.3).

    None where there is none, or where it makes no sense. A date that has passed is now.
    """
    text = (header or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return LONGEST_WAIT_S if len(text) > 9 else min(LONGEST_WAIT_S, float(text))
    try:
        asked_s = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return min(LONGEST_WAIT_S, max(0.0, asked_s))


# ---- in words


def what_came(answer: requests.Response) -> str:
    """Status, reason and the first bytes of an answer; where a redirect points to."""
    said = f"it answered {answer.status_code} {printable(answer.reason or '')}".rstrip()
    if answer.is_redirect or 300 <= answer.status_code < 400:
        where = printable(answer.headers.get("Location", ""))
        return f"{said}{f', a redirect to {where}' if where else ''}, which is not followed"
    words = printable(answer.content[: 4 * _MOST_WORDS].decode("utf-8", "replace"))
    return f"{said}: {words}" if words else said


def what_failed(problem: BaseException, timeout_s: float) -> str:
    """Why there was no answer: refused, no such name, TLS, no time left, closed."""
    for cause in causes(problem):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused: nothing listens there"
        if isinstance(cause, socket.gaierror):
            return f"its name is not known here ({printable(cause.strerror or str(cause))})"
        if isinstance(cause, ssl.SSLError):
            why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else cause.reason
            return f"TLS failed: {printable(str(why or cause))}"
    for cause in causes(problem):
        if isinstance(cause, TimeoutError | requests.Timeout):
            return f"no whole answer within {timeout_s:g} s"
        if isinstance(cause, ConnectionError | http.client.RemoteDisconnected) and isinstance(cause, OSError):
            return f"the connection was closed without an answer ({type(cause).__name__})"
        if isinstance(cause, http.client.HTTPException):
            return f"what answers there does not speak HTTP ({type(cause).__name__}: {printable(str(cause)[:60])})"
    if isinstance(problem, requests.exceptions.InvalidHeader):  # its words hold the value, which may be a secret
        return "a header cannot be sent: it holds characters that no header can carry"
    last = list(causes(problem))[-1]
    return f"{type(last).__name__}: {printable(str(last))}"


def causes(problem: BaseException) -> Iterator[BaseException]:
    """A failure and all that it stems from: urllib3 and requests keep what is behind it in several places."""
    waiting, known = [problem], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        behind = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [each for each in behind if isinstance(each, BaseException)]


def printable(text: str) -> str:
    """One short line without control characters: it comes from a stranger."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 8 * _MOST_WORDS]).split())
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"


# ---- time


class _Raw(io.RawIOBase):
    """Reads a socket until the time for the whole exchange is up; then TimeoutError."""

    def __init__(self, sock: Any, until: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Timed:
    """A socket as ``http.client`` reads it."""

    def __init__(self, sock: Any, until: float) -> None:
        self._sock = sock
        self._until = until

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The only thing that an HTTPResponse asks a socket for."""
        return io.BufferedReader(_Raw(self._sock, self._until))


class _Answer(http.client.HTTPResponse):
    """Reads headers and body in the time that its request was allowed."""

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        until: float | None = getattr(_allowed, "until", None)
        super().__init__(sock if until is None else _Timed(sock, until), *arguments, **named)  # type: ignore[arg-type]


class _Http(HTTPConnection):
    response_class = _Answer


class _Https(HTTPSConnection):
    response_class = _Answer


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS: Final[Mapping[str, Any]] = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    """Makes connections whose answers are timed, to servers and to proxies."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = dict(_POOLS)

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = dict(_POOLS)
        return manager
