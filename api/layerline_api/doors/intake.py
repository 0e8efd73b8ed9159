"""What every OTLP door does with a body: decompress within limits, decode, store, and only then answer.

HTTP and gRPC share one ``Intake``, so that large bodies wait for each other whichever way they came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType

from google.protobuf.message import Message

from layerline_api.doors.bounds import Bounds
from layerline_api.doors.inflate import inflate
from layerline_api.doors.otlp import Decoded, Malformed, TooLarge, decode
from layerline_api.doors.otlp.masking import Masking
from layerline_api.measures import Measures
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.questions import Questions
from layerline_correlator.store.store import Overloaded

log = logging.getLogger(__name__)

#: Bodies beyond this are decoded one at a time, so that the largest ones do not add up in memory.
LARGE_BYTES = 2**20
#: How many bodies are decoded at a time: a large one and another. Decoding is Python, of which one thread runs at a
#: time; questions and the correlator need the interpreter too, and would wait for all of them.
DECODED_AT_ONCE = 2
#: After so many seconds without a turn, the sender of a body is asked to send it again later.
TURN_S = 10.0


class Intake:
    """The way from bodies to durable rows."""

    def __init__(
        self, questions: Questions, settings: ServerSettings, measures: Measures, retain_ns: int | None = None
    ) -> None:
        """Without ``retain_ns`` it takes what is old, too."""
        self.measures = measures
        self._retain_ns = retain_ns
        self._questions = questions
        self._settings = settings
        self._masking = Masking(settings.capture)
        self._capture = settings.capture
        self._turns = threading.BoundedSemaphore(1)
        self._decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)

    def bounds(self) -> Bounds:
        """When what comes in now may have happened."""
        return Bounds.at(time.time_ns(), self._retain_ns)

    def take(
        self,
        signal: str,
        body: bytes,
        protocol: str,
        *,
        packed: bool,
        is_json: bool = False,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> Message:
        """OTLP's answer, once what the body brought is durable.

        ``packed``: it is gzip. ``protocol`` is OpenTelemetry's name of the way it came: ``grpc``, ``http/protobuf``,
        ``http/json``. ``tags`` are bound to the sender's token: all that it sends has them. ``Problem`` 400 and 413 are
        the sender's to drop, 503 is to be sent again.
        """
        if self._settings.capture != self._capture:  # it was changed while the server runs
            self._capture = self._settings.capture
            self._masking = Masking(self._capture)
        decoded = self._read(signal, body, packed, is_json, tags)
        batch, left_out = decoded.batch, Counter[str]()
        if batch.spans or batch.points or batch.events or batch.logs:
            began = time.perf_counter()
            try:
                exceeded = self._questions.append(batch)
            except Overloaded as overloaded:
                raise Problem(503, f"the store cannot take more now: {overloaded}") from None
            except Exception:
                log.exception("the store did not take a batch")
                raise Problem(503, "the store did not take the batch; nothing of it is acknowledged") from None
            self.measures.written(time.perf_counter() - began)
            decoded.exceeds(exceeded)
            for one in exceeded:
                left_out[one.item] += one.items
        self.measures.received(protocol, signal, batch, decoded.rejected, left_out)
        return decoded.answer

    def _read(self, signal: str, body: bytes, packed: bool, is_json: bool, tags: Mapping[str, str]) -> Decoded:
        """The body's rows; ``Problem`` where there are none to be had."""
        waiting = True
        with ExitStack() as turn:

            def grown(size: int) -> None:
                nonlocal waiting
                if size > LARGE_BYTES and waiting:
                    waiting = False
                    if not self._turns.acquire(timeout=TURN_S):
                        raise Problem(503, "other large bodies are being read; send this one again later")
                    turn.callback(self._turns.release)

            grown(len(body))
            try:
                if packed:
                    body = inflate(body, self._settings.inflated_limit_bytes, grown)
                if not self._decoding.acquire(timeout=TURN_S):
                    raise Problem(503, "other bodies are being read; send this one again later")
                turn.callback(self._decoding.release)
                return decode(signal, body, is_json=is_json, bounds=self.bounds(), masking=self._masking, tags=tags)
            except Malformed as problem:
                raise Problem(400, str(problem)) from None
            except TooLarge as problem:
                raise Problem(413, str(problem)) from None
