"""The wrapper's settings and what becomes of its own failures."""

from __future__ import annotations

import logging

import pytest

from layerline import guard
from layerline.settings import Settings


def test_arguments_go_before_variables_and_variables_before_defaults() -> None:
    """An argument that is given wins, one that is None says nothing."""
    environ = {"LAYERLINE_ENDPOINT": "http://variable", "LAYERLINE_TOKEN": "variable"}
    settings = Settings.read(environ, endpoint="http://argument", token=None)
    assert (settings.endpoint, settings.token, settings.capture) == ("http://argument", "variable", "")


@pytest.mark.parametrize(("value", "seconds"), [("0.5", 0.5), ("0", 0), ("-1", 0), ("soon", 2), ("", 2)])
def test_an_exit_timeout_that_is_no_number_is_the_default(value: str, seconds: float) -> None:
    """A mistyped setting does not stop an app."""
    assert Settings.read({"LAYERLINE_EXIT_TIMEOUT": value}).exit_timeout_s == seconds


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [("100ms", 100_000_000), ("0.5s", 500_000_000), ("1 s", 1_000_000_000), ("off", None), ("OFF", None)],
)
def test_the_watch_setting_is_a_duration_or_off(value: str, nanoseconds: int | None) -> None:
    """A number with its unit, or off."""
    assert Settings.read({"LAYERLINE_WATCH": value}).watch_ns == nanoseconds


def test_a_watch_setting_that_is_no_duration_is_the_default(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistyped setting does not stop an app; one line says what was expected and found."""
    monkeypatch.setattr(guard, "_said", set())
    assert [Settings.read({"LAYERLINE_WATCH": "soon"}).watch_ns for _ in range(2)] == [50_000_000] * 2
    assert len(caplog.records) == 1
    assert "'soon'" in caplog.text


def test_our_failures_are_raised_under_pytest_and_logged_once_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In users' processes a failure of ours is one line; in our own tests it cannot hide."""

    def fail() -> None:
        try:
            raise ValueError("broken")
        except ValueError:
            guard.failed("somewhere")

    with pytest.raises(ValueError, match="broken"):
        fail()
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.setattr(guard, "_said", set())
    with caplog.at_level(logging.WARNING):
        fail()
        fail()
    assert len(caplog.records) == 1
    assert "somewhere" in caplog.text
    assert "broken" in caplog.text
