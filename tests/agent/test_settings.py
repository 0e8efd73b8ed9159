"""The agent's settings: an argument goes before its variable, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layerline_agent.settings import Settings


def test_defaults() -> None:
    """Without arguments and variables it reads each second, stalls every 200 ms, and sends to this machine."""
    settings = Settings.of(environment={})
    assert settings == replace(Settings(), spool=Path.home() / ".local/state/layerline/spool")
    assert (settings.endpoint, settings.interval_ns, settings.steps) == ("http://127.0.0.1:4318", 1_000_000_000, 5)


@pytest.mark.parametrize(
    ("argument", "environment", "expected"),
    [
        ("http://a:1", {"LAYERLINE_ENDPOINT": "http://b:2", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:3"}, "http://a:1"),
        (None, {"LAYERLINE_ENDPOINT": "http://b:2/", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:3"}, "http://b:2"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:3/otlp/"}, "https://c:3/otlp"),
    ],
)
def test_endpoint_precedence(argument: str | None, environment: dict[str, str], expected: str) -> None:
    """The argument, then LAYERLINE_ENDPOINT, then OpenTelemetry's variable says where to send."""
    assert Settings.of(argument, environment=environment).endpoint == expected


def test_headers() -> None:
    """OpenTelemetry's headers are sent; LAYERLINE_TOKEN says who we are, and does not show where settings are shown."""
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b,authorization=old",
        "LAYERLINE_TOKEN": "s3cret",
    }
    settings = Settings.of(environment=environment)
    assert settings.headers == {"x-tenant": "a b", "authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(settings)


def test_tags() -> None:
    """The words of a tag query become the attributes they name, any other word is its own; values may hold colons."""
    settings = Settings.of(tags=["region:eu", "zone:eu-1", "instance_type:c3", "host:h1", "rack:a:7"], environment={})
    assert settings.tags == {
        "cloud.region": "eu",
        "cloud.availability_zone": "eu-1",
        "host.type": "c3",
        "host.name": "h1",
        "rack": "a:7",
    }


def test_fine_divides_the_interval() -> None:
    """The fine grid is rounded so that it divides the interval, and is the interval where that is shorter."""
    assert Settings.of(interval="1s", fine="300ms", environment={}).steps == 3
    assert Settings.of(interval="100ms", environment={}).steps == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"tags": ["region"]}, "--tag"),
        ({"tags": ["region:"]}, "--tag"),
        ({"tags": [":eu"]}, "--tag"),
        ({"tags": ["a b:c"]}, "--tag"),
        ({"interval": "soon"}, "--interval"),
        ({"interval": "0s"}, "--interval"),
        ({"interval": "1"}, "--interval"),
        ({"interval": "1us"}, "--interval"),
        ({"fine": "2s"}, "--fine"),
        ({"fine": "x"}, "--fine"),
        ({"endpoint_argument": "ftp://x"}, "--endpoint"),
        ({"endpoint_argument": "localhost:4318"}, "--endpoint"),
        ({"endpoint_argument": "http://x:99999"}, "--endpoint"),
        ({"environment": {"LAYERLINE_ENDPOINT": "//x"}}, "LAYERLINE_ENDPOINT"),
        ({"environment": {"LAYERLINE_SPOOL_BYTES": "much"}}, "LAYERLINE_SPOOL_BYTES"),
        ({"environment": {"LAYERLINE_SPOOL_BYTES": "0MB"}}, "LAYERLINE_SPOOL_BYTES"),
        ({"environment": {"LAYERLINE_SPOOL_AGE": "-1h"}}, "LAYERLINE_SPOOL_AGE"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, object], named: str) -> None:
    """A wrong argument or variable is named, with what was expected and what was found."""
    with pytest.raises(ValueError, match=rf"^{named}: expected .*found") as problem:
        Settings.of(**{"environment": {}, **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(problem.value)


def test_where_the_spool_is() -> None:
    """A folder, no folder, or that of the user's state; its bounds are sizes and durations."""

    def spool(**environment: str) -> Path | None:
        return Settings.of(environment=environment).spool

    assert spool(LAYERLINE_SPOOL="/var/spool/layerline") == Path("/var/spool/layerline")
    assert spool(LAYERLINE_SPOOL="~/s") == Path.home() / "s"
    assert spool(LAYERLINE_SPOOL="OFF") is None
    assert spool(XDG_STATE_HOME="/state") == Path("/state/layerline/spool")
    settings = Settings.of(environment={"LAYERLINE_SPOOL_BYTES": "64MiB", "LAYERLINE_SPOOL_AGE": "7d"})
    assert (settings.spool_bytes, settings.spool_ns) == (64 * 2**20, 7 * 24 * 3600 * 10**9)
