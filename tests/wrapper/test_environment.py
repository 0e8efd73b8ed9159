"""A variable of OpenTelemetry's that is wrong costs its own value, and no app its start or its spans."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerline.environment import NAMES, NUMBERS, WORDS, mend
from wrapper.conftest import Sink, layerline_run


def mended(**environ: str) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    mend(environ, said.append)
    return environ, said


@pytest.mark.parametrize(
    ("variable", "value", "left", "says"),
    [
        ("OTEL_PROPAGATORS", "bogus, tracecontext", "tracecontext", "known: baggage, "),
        ("OTEL_PROPAGATORS", "b4", None, "'b4' is not known and is ignored"),
        ("OTEL_TRACES_EXPORTER", "otlp,nonsense", "otlp", "otlp_proto_http"),
        ("OTEL_METRICS_EXPORTER", "nonsense", None, "console"),
        ("OTEL_LOGS_EXPORTER", "nonsense", None, "console"),
        ("OTEL_TRACES_SAMPLER", "sometimes", None, "parentbased_traceidratio"),
        ("OTEL_PYTHON_ID_GENERATOR", "dice", None, "random"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "mine", None, "sdk_tracer_provider"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,bogus", "otel", "process"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", None, "grpc, http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "brotli", None, "none, gzip, deflate"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", None, "a number above 0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan", None, "a number above 0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "inf", None, "a number above 0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5", None, "a whole number above 0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9" * 5_000, None, "a whole number above 0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999", "2048", "2048 is taken"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x", None, "a whole number, 0 or more"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "a,b=c,=d,e=%ff,f=%20",
            "b=c,f=%20",
            "an entry without name and =, 'e' is ignored",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a,b=c%20d,e f=g,h=%0a", "b=c%20d", "'e f', 'h' is ignored"),
        ("OTEL_CONFIG_FILE", "/no/such/file", None, "no such file"),
    ],
)
def test_what_is_wrong_is_taken_out_and_said(variable: str, value: str, left: str | None, says: str) -> None:
    """One short line names the variable, what was ignored and what would have been known; the rest of it stays."""
    environ, said = mended(**{variable: value, "PATH": "/bin"})
    assert environ.pop("PATH") == "/bin"
    assert environ.get(variable) == left
    (line,) = said
    assert line.startswith(f"{variable}: ")
    assert says in line
    assert len(line) < 300


def test_what_is_right_is_left_alone() -> None:
    """Nothing is said of values that OpenTelemetry knows, empty ones among them."""
    right = {
        "OTEL_PROPAGATORS": "tracecontext, baggage",
        "OTEL_TRACES_EXPORTER": "console,otlp",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20xyz,x-team=shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,team=%E2%82%AC",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",
        "OTEL_LOGS_EXPORTER": "",
    }
    assert mended(**right) == (right, [])
    assert mended(OTEL_BSP_SCHEDULE_DELAY=" ") == ({}, [])
    assert mended() == ({}, [])


def test_no_secret_is_said() -> None:
    """A header that cannot be sent is named without its value."""
    _, said = mended(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer secret%0a,secret")
    assert "secret" not in said[0]


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, *WORDS, *NUMBERS, "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        max_size=5,
    )
)
def test_whatever_it_holds(environ: dict[str, str]) -> None:
    """Mending never fails, and what is mended has nothing left to mend."""
    once, _ = mended(**environ)
    assert mended(**once) == (once, [])


APP = """
import flask
from opentelemetry import propagate, trace
with trace.get_tracer("app").start_as_current_span("span"):
    pass
print("ran")
"""


def test_an_app_starts_and_is_traced_all_the_same(tmp_path: Path, sink: Sink) -> None:
    """With every kind of wrong variable at once the app runs, its spans arrive, and there is a line for each."""
    wrong = {
        "OTEL_PROPAGATORS": "bogus",
        "OTEL_TRACES_EXPORTER": "bogus",
        "OTEL_PYTHON_TRACER_PROVIDER": "bogus",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "bogus",
        "OTEL_BSP_MAX_QUEUE_SIZE": "0",
        "OTEL_EXPORTER_OTLP_HEADERS": "bogus",
        "OTEL_PYTHON_EXCLUDED_URLS": "[(",
        "LAYERLINE_EXIT_TIMEOUT": "inf",
        "LAYERLINE_TOKEN": "a\nb",
    }
    done = layerline_run(APP, tmp_path, LAYERLINE_ENDPOINT=sink.url, **wrong)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert [span.name for span in sink.spans] == ["span"]
    assert "Traceback" not in done.stderr
    for variable in set(wrong) - {"OTEL_PYTHON_EXCLUDED_URLS"}:
        assert sum(variable in line for line in done.stderr.splitlines()) == 1, done.stderr
    assert "requests could not be instrumented" in done.stderr
