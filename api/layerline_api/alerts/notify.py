"""Tells alerts to webhooks: what is sent, where it may be sent, and how.

A server must not become a way for strangers to reach addresses that only it can reach. Whoever may save a monitor
chooses where it writes to; without a token that is everybody on this machine. So without a token only addresses are
written to that were named when the server was started (``LAYERLINE_NOTIFY``); with a token those that were named or,
where none were, any. Redirects are not followed, nothing of an answer but its status is shown to anybody, and whether
an address may be written to is asked again each time.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util import Retry

from layerline_api.asking import Bearer
from layerline_api.settings import ServerSettings
from layerline_api.words.amounts import amount
from layerline_api.words.clean import clean
from layerline_correlator.monitors.model import Alert, Notice
from layerline_correlator.times import rfc3339

log = logging.getLogger(__name__)

#: The shapes that are spoken.
Kind = Literal["webhook", "alertmanager", "slack"]
#: How long a target may take to accept and to answer, in seconds.
PATIENCE_S = (3.05, 10)
#: How long until the answer's status and headers are there as a whole, in seconds.
ANSWER_S = 10.0
#: Alertmanager takes an alert for resolved when its end has passed; it is told again every hour while it fires.
GOOD_FOR_NS = 4 * 3600 * 10**9
_LONGEST = 2_000
_PORTS = {"http": 80, "https": 443}
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def why_not(url: str, settings: ServerSettings) -> str | None:
    """Why nothing may be sent there; None where it may."""
    parts = _parts(url)
    if parts is None:
        return "expected an http or https address without user, password or fragment"
    if settings.notify:
        if any(_within(parts, allowed) for given in settings.notify if (allowed := _parts(given)) is not None):
            return None
        return "it is none of the addresses that LAYERLINE_NOTIFY names"
    if not settings.all_tokens:
        return "a server without a token writes only to addresses that LAYERLINE_NOTIFY names"
    return None


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    good = parts.scheme in _PORTS and parts.hostname and port != 0 and url.isascii() and url.isprintable()
    odd = "@" in parts.netloc or parts.fragment or " " in url or "\\" in url or _DOTS.search(parts.path)
    return parts if good and not odd and len(url) <= _LONGEST else None


def _within(parts: SplitResult, allowed: SplitResult) -> bool:
    """The same scheme, host and port, and a path at or below the allowed one."""
    below = allowed.path.rstrip("/")
    return (
        (parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])
        == (allowed.scheme, allowed.hostname, allowed.port or _PORTS[allowed.scheme])
    ) and (parts.path == below or parts.path.startswith(f"{below}/"))


class Teller:
    """Sends notices, each with two quick tries more where the target is briefly away."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.auth = Bearer(None)  # never what a .netrc says
        again = Retry(
            total=2,
            redirect=0,
            backoff_factor=0.2,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("POST",),
            raise_on_status=False,
            respect_retry_after_header=False,  # the notice is tried again later anyway; others shall not wait for it
        )
        for scheme in _PORTS:
            self._session.mount(f"{scheme}://", _Adapter(max_retries=again))

    def tell(self, notice: Notice, at_ns: int) -> str | None:
        """Send it. None when it was heard, else why not, in words that are nobody's secret."""
        if (reason := why_not(notice.target.url, self._settings)) is not None:
            return reason
        try:
            answer = self._session.post(
                address(notice),
                json=payload(notice, at_ns),
                headers={"User-Agent": "layerline", "Idempotency-Key": notice.id},
                timeout=PATIENCE_S,
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, UnicodeError, ValueError) as problem:
            log.info("notice %s could not be sent: %s", notice.id, problem)
            return f"it could not be reached: {type(problem).__name__}"
        answer.close()
        return None if answer.ok and not answer.is_redirect else f"it answered with status {answer.status_code}"


class _CutOff(HTTPConnection):
    """A connection that is ended when an answer has not begun in time, however busily its bytes drip in."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
        late = threading.Event()
        timer = threading.Timer(ANSWER_S, self._cut, (late,))
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()
        finally:
            timer.cancel()
        if late.is_set():  # what was cut off looks like an answer with fewer headers
            answer.close()
            self.close()
            raise TimeoutError(f"the answer took more than {ANSWER_S:g} s")
        return answer

    def _cut(self, late: threading.Event) -> None:
        late.set()
        with suppress(OSError, AttributeError):  # it is closed already
            self.sock.shutdown(socket.SHUT_RDWR)


class _CutOffTls(_CutOff, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _CutOff


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _CutOffTls


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        super().init_poolmanager(*given, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def address(notice: Notice) -> str:
    """Where it is sent: of an Alertmanager its base address may be given."""
    url = notice.target.url
    if notice.target.kind != "alertmanager" or urlsplit(url).path.endswith("/api/v2/alerts"):
        return url
    return url.rstrip("/") + "/api/v2/alerts"


def payload(notice: Notice, at_ns: int) -> Any:
    """What is sent, in the shape that the target understands."""
    return {"webhook": _webhook, "alertmanager": _alertmanager, "slack": _slack}[notice.target.kind](notice, at_ns)


def summary(alert: Alert) -> str:
    """``container web-3: memory.working_set 812 MiB (> 631 MiB; 1.93 times its group)``."""
    figures = alert.figures
    said = [
        f"{one['signal']} {amount(one['value'], one['unit'])} ({one['operator']} {amount(one['bound'], one['unit'])}"
        + (f"; {one['ratio']:.2f} times its group)" if one["ratio"] is not None else ")")
        for one in figures.get("comparisons", ())
    ]
    text = ", ".join(said) or str(figures.get("summary", "it holds"))
    return f"{alert.entity.type} {clean(alert.entity.name)}: {text}"


def _webhook(notice: Notice, at_ns: int) -> Any:
    alert = notice.alert
    return {
        "version": 1,
        "id": notice.id,
        "state": alert.state,
        "summary": summary(alert),
        "monitor": {"id": notice.monitor.id, "name": notice.monitor.name, "question": notice.monitor.question},
        "alert": {
            "id": alert.id,
            "entity": {"type": alert.entity.type, "id": alert.entity.id, "name": alert.entity.name},
            "since": rfc3339(alert.since_ns),
            "fired": None if alert.fired_ns is None else rfc3339(alert.fired_ns),
            "resolved": None if alert.resolved_ns is None else rfc3339(alert.resolved_ns),
            **alert.figures,
        },
    }


def _alertmanager(notice: Notice, at_ns: int) -> Any:
    """``postableAlerts`` of Alertmanager's API v2. Labels are its identity: only what does not change is one."""
    alert = notice.alert
    return [
        {
            "labels": {
                "alertname": notice.monitor.name,
                "layerline_monitor": notice.monitor.id,
                "entity_type": alert.entity.type,
                "entity_id": alert.entity.id,
            },
            "annotations": {
                "summary": summary(alert),
                "entity_name": alert.entity.name,
                "question": notice.monitor.question,
            },
            "startsAt": rfc3339(alert.fired_ns or alert.since_ns),
            "endsAt": rfc3339(at_ns + GOOD_FOR_NS if alert.resolved_ns is None else alert.resolved_ns),
        }
    ]


def _slack(notice: Notice, at_ns: int) -> Any:
    """An incoming webhook's message: text for notifications, a block for the channel."""
    sign = {"firing": ":red_circle:", "resolved": ":large_green_circle:"}[notice.alert.state]
    name, said = (_slack_text(text) for text in (notice.monitor.name, summary(notice.alert)))
    block = f"{sign} *{name}* {notice.alert.state}\n{said}\n`{_slack_text(notice.monitor.question)}`"
    return {
        "text": f"{name} {notice.alert.state}: {said}",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": block[:3000]}}],
    }


def _slack_text(text: str) -> str:
    """Without control characters and Slack's own marks: `<!channel>` would call everybody."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
