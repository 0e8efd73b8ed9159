"""Bodies are decoded a few at a time, so that whoever else needs Python meanwhile gets it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from api_fake import FakeCorrelator

from layerline_api.doors import intake as intake_module
from layerline_api.doors.intake import DECODED_AT_ONCE, Intake
from layerline_api.measures import Measures
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from waiting import PATIENCE_S, eventually

NOBODY = 0.01  # how long a sender is patient in the second test, in seconds


class Slow:
    """A decoder that waits until it may go on, and knows how many are in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on, self.inside, self.most = threading.Event(), 0, 0
        self._lock, self._decode = threading.Lock(), intake_module.decode
        monkeypatch.setattr(intake_module, "decode", self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.go_on.wait(PATIENCE_S)
        with self._lock:
            self.inside -= 1
        return self._decode(*given, **named)


def opened() -> Intake:
    correlator = FakeCorrelator()
    return Intake(correlator, ServerSettings(), Measures(correlator))


def test_no_more_than_a_few_are_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many bodies that come together each is taken, and not more than two are decoded at any time."""
    slow, intake = Slow(monkeypatch), opened()
    with ThreadPoolExecutor(8) as senders:
        sent = [senders.submit(intake.take, "traces", b"", "http/protobuf", packed=False) for _ in range(8)]
        eventually(lambda: slow.inside == DECODED_AT_ONCE, "as many as may be")
        slow.go_on.set()
        for one in sent:
            one.result()
    assert slow.most == DECODED_AT_ONCE


def test_who_waits_too_long_is_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body for which there is no turn is refused with 503, and those before it are not lost for that."""
    slow, intake = Slow(monkeypatch), opened()
    with ThreadPoolExecutor(DECODED_AT_ONCE) as senders:
        sent = [
            senders.submit(intake.take, "traces", b"", "http/protobuf", packed=False) for _ in range(DECODED_AT_ONCE)
        ]
        eventually(lambda: slow.inside == DECODED_AT_ONCE, "as many as may be")
        monkeypatch.setattr(intake_module, "TURN_S", NOBODY)
        with pytest.raises(Problem) as refused:
            intake.take("traces", b"", "http/protobuf", packed=False)
        slow.go_on.set()
        for one in sent:
            one.result()
    assert refused.value.status == 503
    intake.take("traces", b"", "http/protobuf", packed=False)
