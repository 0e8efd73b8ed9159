"""What waits to be sent: a bounded buffer, and the thread that empties it into OTLP over HTTP.

The agent never waits for it, and nothing ends it: not a week without a server, not what a server answers. While the
server is away everything goes into the spool (``spool.py``), which an agent that is started anew finds again.

When the server is back, what is read now is sent first, then the spool, newest first: who is on call looks at the last
minutes, and readings of now must not wait behind a week of old ones. The server sorts by the times of the readings.
"""

from __future__ import annotations

import gzip
import random
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from layerline.session import LONGEST_WAIT_S, TIMEOUT_S, Outcome, Session, printable
from layerline_agent.offset import HEADER, Offset, Offsets
from layerline_agent.saying import say
from layerline_agent.spool import FAILED, FULL, REFUSED, Loss, Parcel, Spool

METRICS: Final = "/v1/metrics"
LOGS: Final = "/v1/logs"

#: The shortest and the longest wait between attempts, where the server does not ask for another, in seconds.
BACKOFF_S: Final = (0.5, 15.0)
SAY_AGAIN_S: Final = 60.0
#: The server's header: so many seconds may lie between two requests at present; without it readings go out at once.
EVERY: Final = "Layerline-Send-Every"
#: What a server may ask for at most, in seconds: ledgers wait ten for their readings.
LONGEST_EVERY_S: Final = 5.0
GZIP_LEVEL: Final = 1  # a quarter of the time of level 6 for a tenth more bytes
_TOO_LARGE: Final = 413
_DAY_NS: Final = 86_400_000_000_000


class Outbox:
    """Sends parcels one at a time, until ``close``."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        buffer_bytes: int,
        backoff_s: tuple[float, float] = BACKOFF_S,
        spool: Path | None = None,
        spool_bytes: int = 256 * 2**20,
        spool_ns: int = _DAY_NS,
        longest_wait_s: float = LONGEST_WAIT_S,
        tls_ca: str = "",
    ) -> None:
        """``spool`` None: what waits is in memory only, at most ``buffer_bytes``."""
        self._endpoint = endpoint
        self._backoff_s = backoff_s
        self._longest_wait_s = longest_wait_s
        self._buffer_bytes = buffer_bytes
        self._spool = Spool(spool, say, spool_bytes, spool_ns, buffer_bytes)
        self._waiting: deque[Parcel] = deque()  # put, and not tried yet
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._spooling = threading.Lock()  # around all that the spool does, which may take as long as a disk
        self._closed = False
        self._closing_at: float | None = None
        self._said: dict[str, float] = {}
        self._offsets = Offsets()
        self._away = self._told_away = False
        self._failures = 0
        #: How many seconds may lie between two requests, by the server's last answer.
        self.every_s = 0.0
        self._session = Session()
        self._session.headers.update(
            {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", "User-Agent": "layerline-agent"}
        )
        self._headers = dict(headers)
        self._session.headers.update(headers)
        self._session.verify = tls_ca or True
        self._thread = self._begin()

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="layerline-outbox", daemon=True)
        thread.start()
        return thread

    def change(self, endpoint: str, headers: Mapping[str, str], tls_ca: str) -> None:
        """Send there from the next request on. What waits is kept."""
        for name in set(self._headers) - set(headers):
            self._session.headers.pop(name, None)
        self._headers = dict(headers)
        self._session.headers.update(headers)
        self._session.verify = tls_ca or True
        self._endpoint = endpoint

    @property
    def offset(self) -> Offset | None:
        """How far our clock is ahead of the server's; None where it does not say."""
        return self._offsets.best()

    @property
    def dropped(self) -> int:
        """Points and events that were lost since the start: no room, too old, damaged, or refused."""
        return self._spool.losses.total

    def put(self, path: str, message: bytes, points: int) -> None:
        """Send this soon. Never waits."""
        parcel = Parcel(path, gzip.compress(message, GZIP_LEVEL), points, time.time_ns())
        with self._changed:
            self._waiting.append(parcel)
            self._waiting_bytes += len(parcel.body)
            while self._waiting_bytes > self._buffer_bytes:  # while one request takes long
                oldest = self._waiting.popleft()
                self._waiting_bytes -= len(oldest.body)
                self._lost(FULL, oldest)
            if not self._thread.is_alive() and self._closing_at is None:  # an exception that no `except` expects
                say("the thread that sends has ended; it is started again")
                self._thread = self._begin()
            self._changed.notify()

    def losses(self) -> list[Loss]:
        """What was lost and nobody was told of, once the server is there to listen; each is given once."""
        return [] if self._away else self._spool.losses.tell()

    def close(self, within_s: float) -> int:
        """Send what waits, for at most this long; how many points and events end with this agent."""
        with self._changed:
            self._closing_at = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(timeout=within_s)
        self._put_aside()
        with self._spooling:
            self._closed = True
            self._spool.close()
            kept, left = self._spool.on_disk, self._spool.in_memory
        self._session.close()
        if kept:
            say(f"{kept} points are kept on disk, for the next start")
        return left

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._spool or self._closing_at is not None)
                fresh = self._waiting[0] if self._waiting else None
                closing_at = self._closing_at
            parcel = fresh
            try:
                with self._spooling:
                    if self._closed or (closing_at is not None and not fresh and not self._spool.in_memory):
                        return  # what is on disk can wait for the next start
                    if fresh is None:
                        parcel = self._spool.newest()
                if parcel is None:
                    continue
                wait_s = self._send(parcel)
                if wait_s is None:
                    self._failures = 0
                    self._done(parcel)
                    continue
                self._put_aside()
            except Exception as problem:  # it costs this parcel and nothing more
                self._say("failed", f"{type(problem).__name__} while sending: {printable(str(problem))}")
                if parcel is not None:
                    self._lost(FAILED, parcel)
                    self._done(parcel)
                wait_s = self._backoff_s[0]
            if self._pause(wait_s):
                return

    def _pause(self, wait_s: float) -> bool:
        """Wait for the next attempt; True where the agent ends before that."""
        with self._changed:
            if self._closing_at is None:
                self._changed.wait_for(lambda: self._closing_at is not None, timeout=wait_s)
                return False  # an agent that stops tries once more
            return time.monotonic() + wait_s >= self._closing_at

    def _done(self, parcel: Parcel) -> None:
        """Sent, or given up."""
        with self._changed:
            if self._waiting and self._waiting[0] is parcel:
                self._waiting.popleft()
                self._waiting_bytes -= len(parcel.body)
                return
        with self._spooling:
            if not self._closed:
                self._spool.done(parcel)
                self._spool.note_losses()

    def _put_aside(self) -> None:
        """The server is away: what is fresh goes to the spool."""
        with self._changed:
            fresh = list(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
        with self._spooling:
            if not self._closed:
                self._spool.keep(fresh)

    def _backoff(self) -> float:
        """How long to wait after so many failures, in seconds; not all agents at the same moment."""
        least, most = self._backoff_s
        wait_s = min(most, least * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries

    # ---- one request

    def _send(self, parcel: Parcel) -> float | None:
        """One attempt. None: done with it, sent or dropped. Else how long to wait before the next, in seconds."""
        outcome = self._post(parcel)
        if outcome.later:
            self._away = True
            self._told_away |= self._say("away", f"{self._endpoint}: {outcome.words}; readings are kept and sent later")
            asked_s = outcome.retry_after_s  # "now" says nothing: that would be a loop without a pause
            return max(self._backoff_s[0], min(asked_s, self._longest_wait_s)) if asked_s else self._backoff()
        if self._away:
            self._away = False
            if self._told_away:
                self._told_away = False
                kept = self._spool.on_disk + self._spool.in_memory
                say(f"{self._endpoint} answers again; {kept} points that were kept are sent now")
        if outcome.delivered:
            self._rejected(parcel, outcome.content)
        elif outcome.status == _TOO_LARGE and (halves := halved(parcel)):
            return self._send_halves(halves)
        else:
            hint = " (set LAYERLINE_TOKEN)" if outcome.status == 401 else ""
            self._say("refused", f"{self._endpoint}{parcel.path} refused readings: {outcome.words}{hint}")
            self._lost(REFUSED, parcel)
        return None

    def _send_halves(self, halves: tuple[Parcel, Parcel]) -> float | None:
        """Send what was too large in two. Where the server goes away meanwhile, all is sent again later."""
        for half in halves:
            if (wait_s := self._send(half)) is not None:
                return wait_s
        return None

    def _post(self, parcel: Parcel) -> Outcome:
        closing_at = self._closing_at
        timeout_s = TIMEOUT_S if closing_at is None else max(0.1, closing_at - time.monotonic())
        try:
            before_ns = time.time_ns()
            answer = self._session.post(self._endpoint + parcel.path, data=parcel.body, timeout=timeout_s)
            self._offsets.exchanged(answer.headers.get(HEADER), before_ns, time.time_ns())
            self.every_s = _every_s(answer.headers.get(EVERY))
        except (requests.RequestException, OSError, ValueError) as problem:  # a token that is no text for a header
            return self._session.outcome or Outcome(None, printable(str(problem)))
        return self._session.outcome or Outcome(None, "no answer")

    def _rejected(self, parcel: Parcel, content: bytes) -> None:
        """Count what a partial success says was not taken."""
        try:
            if parcel.path == METRICS:
                metrics_part = ExportMetricsServiceResponse.FromString(content).partial_success
                rejected, why = metrics_part.rejected_data_points, metrics_part.error_message
            else:
                logs_part = ExportLogsServiceResponse.FromString(content).partial_success
                rejected, why = logs_part.rejected_log_records, logs_part.error_message
        except DecodeError:  # accepted all the same: some servers answer JSON or nothing
            return
        if rejected > 0:
            rejected = min(rejected, parcel.points)
            self._say("rejected", f"{self._endpoint}{parcel.path} did not take {rejected} readings: {printable(why)}")
            self._lost(REFUSED, parcel._replace(points=rejected))

    def _lost(self, reason: str, parcel: Parcel) -> None:
        self._spool.losses.add(Loss(reason, parcel.points, parcel.at_ns, parcel.at_ns))

    def _say(self, about: str, line: str) -> bool:
        """Say it, but about the same matter not more than once a minute; whether it was said."""
        now = time.monotonic()
        if now - self._said.get(about, -SAY_AGAIN_S) < SAY_AGAIN_S:
            return False
        self._said[about] = now
        say(line)
        return True


def _every_s(header: str | None) -> float:
    """What the header asks for; 0 where it is none, or not what we know."""
    return min(LONGEST_EVERY_S, float(header)) if header is not None and re.fullmatch("[0-9]{1,3}", header) else 0.0


def halved(parcel: Parcel) -> tuple[Parcel, Parcel] | None:
    """A parcel as two, by resources; None where it holds only one."""
    kind = ExportMetricsServiceRequest if parcel.path == METRICS else ExportLogsServiceRequest
    field = "resource_metrics" if parcel.path == METRICS else "resource_logs"
    whole = kind.FromString(gzip.decompress(parcel.body))
    resources = list(getattr(whole, field))
    if len(resources) < 2:
        return None
    middle, points = len(resources) // 2, parcel.points
    parts = [kind(**{field: some}) for some in (resources[:middle], resources[middle:])]
    first = min(points, counted(parts[0]))
    bodies = [gzip.compress(part.SerializeToString(), GZIP_LEVEL) for part in parts]
    return parcel._replace(body=bodies[0], points=first), parcel._replace(body=bodies[1], points=points - first)


def counted(part: ExportMetricsServiceRequest | ExportLogsServiceRequest) -> int:
    """Points or events of a request."""
    if isinstance(part, ExportLogsServiceRequest):
        return sum(len(scope.log_records) for sent in part.resource_logs for scope in sent.scope_logs)
    return sum(
        len(metric.sum.data_points) + len(metric.gauge.data_points)
        for sent in part.resource_metrics
        for scope in sent.scope_metrics
        for metric in scope.metrics
    )
