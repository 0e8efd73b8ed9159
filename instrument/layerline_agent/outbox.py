"""What waits to be sent: a bounded buffer, and the thread that empties it into OTLP over HTTP.

Nothing is lost while the server is away for a while, and the agent never waits for it. When the buffer is full the
oldest goes first, and is counted.
"""

from __future__ import annotations

import email.utils
import gzip
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from layerline_agent.discovery import say

METRICS = "/v1/metrics"
LOGS = "/v1/logs"

#: Answers after which the same request may be sent again (OTLP specification 1.5, "Retryable Response Codes").
RETRYABLE = frozenset({429, 502, 503, 504})

TIMEOUT_S = 10.0
BACKOFF_S = (0.5, 15.0)
SAY_AGAIN_S = 60.0
GZIP_LEVEL = 1  # a quarter of the time of level 6 for a tenth more bytes


class Parcel(NamedTuple):
    """One request, ready to go."""

    path: str
    body: bytes
    """Compressed."""
    points: int
    """What is lost if it is dropped: points or events."""


def retry_after_s(header: str | None) -> float | None:
    """``Retry-After`` in seconds: a number or an HTTP date; None where there is none or it makes no sense."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


class Outbox:
    """Sends parcels in order, one at a time, until ``close``."""

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], buffer_bytes: int, backoff_s: tuple[float, float] = BACKOFF_S
    ) -> None:
        self.dropped = 0
        """Points and events that were lost since the start: buffer full, or refused."""
        self._endpoint = endpoint
        self._backoff_s = backoff_s
        self._buffer_bytes = buffer_bytes
        self._waiting: deque[Parcel] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._said: dict[str, float] = {}
        self._away = False
        self._session = requests.Session()
        self._session.headers.update(
            {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", "User-Agent": "layerline-agent"}
        )
        self._session.headers.update(headers)
        # Without an auth of its own, requests would put a password from ~/.netrc over our Authorization header.
        self._session.auth = lambda request: request
        self._thread = threading.Thread(target=self._run, name="layerline-outbox", daemon=True)
        self._thread.start()

    def put(self, path: str, message: bytes, points: int) -> None:
        """Send this soon. Never waits."""
        parcel = Parcel(path, gzip.compress(message, GZIP_LEVEL), points)
        with self._changed:
            self._waiting.append(parcel)
            self._waiting_bytes += len(parcel.body)
            while self._waiting_bytes > self._buffer_bytes:
                oldest = self._waiting.popleft()
                self._waiting_bytes -= len(oldest.body)
                self.dropped += oldest.points
                self._say("buffer", "the buffer is full: the oldest readings are dropped")
            self._changed.notify()

    def close(self, within_s: float) -> int:
        """Send what waits, for at most this long; how many points and events were left behind."""
        with self._changed:
            self._closing_at = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(timeout=within_s)
        self._session.close()
        with self._changed:
            return sum(parcel.points for parcel in self._waiting)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing_at is not None)
                if not self._waiting:
                    return
                parcel = self._waiting[0]
            wait_s = self._send(parcel)
            if wait_s is None:
                failures = 0
                with self._changed:
                    # It may have been dropped for its age meanwhile.
                    if self._waiting and self._waiting[0] is parcel:
                        self._waiting.popleft()
                        self._waiting_bytes -= len(parcel.body)
                continue
            if wait_s < 0:
                least, most = self._backoff_s
                wait_s = min(most, least * 2**failures) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries
                failures += 1
            with self._changed:
                if self._closing_at is not None and time.monotonic() + wait_s >= self._closing_at:
                    return
                self._changed.wait_for(lambda: self._closing_at is not None, timeout=wait_s)
                if self._closing_at is not None and time.monotonic() >= self._closing_at:
                    return

    def _send(self, parcel: Parcel) -> float | None:
        """One attempt. None: done with it. Else the wait until the next: negative where the server did not say."""
        closing_at = self._closing_at
        timeout_s = TIMEOUT_S if closing_at is None else max(0.1, closing_at - time.monotonic())
        try:
            answer = self._session.post(
                self._endpoint + parcel.path, data=parcel.body, timeout=timeout_s, allow_redirects=False
            )
        except requests.RequestException as problem:
            self._away = True
            self._say(
                "away",
                f"{self._endpoint} is not reachable ({type(problem).__name__}); readings are kept and sent later",
            )
            return -1.0
        if answer.status_code in RETRYABLE:
            self._away = True
            self._say("busy", f"{self._endpoint} answered {answer.status_code}; readings are kept and sent later")
            asked_s = retry_after_s(answer.headers.get("Retry-After"))
            return -1.0 if asked_s is None else asked_s
        if not answer.ok:
            self.dropped += parcel.points
            hint = " (set LAYERLINE_TOKEN)" if answer.status_code == 401 else ""
            said = answer.text.strip().replace("\n", " ")[:200]
            self._say("refused", f"{self._endpoint}{parcel.path} refused readings: {answer.status_code}{hint} {said}")
            return None
        if self._away:
            self._away = False
            self._said.clear()
            say(f"{self._endpoint} answers again")
        self._rejected(parcel.path, answer.content)
        return None

    def _rejected(self, path: str, content: bytes) -> None:
        """Count what a partial success says was not taken."""
        try:
            if path == METRICS:
                metrics_part = ExportMetricsServiceResponse.FromString(content).partial_success
                rejected, why = metrics_part.rejected_data_points, metrics_part.error_message
            else:
                logs_part = ExportLogsServiceResponse.FromString(content).partial_success
                rejected, why = logs_part.rejected_log_records, logs_part.error_message
        except DecodeError:  # accepted all the same: some servers answer JSON or nothing
            return
        if rejected:
            self.dropped += rejected
            self._say("rejected", f"{self._endpoint}{path} did not take {rejected} readings: {why}")

    def _say(self, about: str, line: str) -> None:
        """Say it, but about the same matter not more than once a minute."""
        now = time.monotonic()
        if now - self._said.get(about, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said[about] = now
            say(line)
