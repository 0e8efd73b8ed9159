"""The extension says what the Python code says, and survives what an application may do to it.

That the tests of account and encoder hold for both is seen to where they are (the fixture ``extension``).
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from layerline import account, fast, guard
from layerline.account import Account
from layerline.attributes import ACCOUNT, ACCOUNT_REASON, CPU_NS, SLICES
from layerline.encode import Encoder, request
from layerline.masking import Masks
from layerline.thread import sliced
from profiles import examples
from wrapper.conftest import clean_environment, tracing
from wrapper.test_export import said

pytestmark = pytest.mark.skipif(fast.MODULE is None, reason="layerline._fast is not built here, or LAYERLINE_FAST=off")

# ---- the same answers

texts = st.text(st.characters(), max_size=12)  # halves of surrogate pairs too
numbers = st.one_of(st.integers(-(2**65), 2**65), st.integers(-300, 300))
scalars = st.one_of(texts, st.booleans(), numbers, st.floats(), st.binary(max_size=8), st.none())
values = st.one_of(scalars, st.lists(scalars, max_size=4).map(tuple), st.dictionaries(texts, scalars, max_size=2))
named = st.sampled_from(["http.url", "db.statement", "http.request.header.cookie", "http.route", "step"])
attributes = st.dictionaries(st.one_of(texts, named), values, max_size=6)
ids = st.integers(0, 2**63)
contexts = st.builds(
    lambda trace, span, remote, state: SpanContext(trace << 64 | span, span, remote, TraceFlags(1), state),
    st.integers(0, 2**64 - 1), ids, st.booleans(), st.sampled_from([None, TraceState(), TraceState([("a", "b")])]),
)  # fmt: skip


class Happened:
    """An event as the encoders ask for it."""

    def __init__(self, name: str, attributes: dict[str, Any], timestamp: int) -> None:
        self.name = self._name = name
        self.attributes = self._attributes = attributes
        self.timestamp = self._timestamp = timestamp
        self.dropped_attributes = 0


spans = st.builds(
    ReadableSpan,
    name=texts,
    context=contexts,
    parent=st.one_of(st.none(), contexts),
    resource=st.just(Resource({"service.name": "shop"})),
    attributes=attributes,
    events=st.lists(st.builds(Happened, texts, attributes, ids), max_size=2).map(tuple),
    links=st.lists(st.builds(Link, contexts), max_size=1).map(tuple),
    kind=st.sampled_from(SpanKind),
    status=st.one_of(
        st.just(Status()), st.builds(Status, st.just(StatusCode.ERROR), st.one_of(st.none(), texts.map(str)))
    ),
    start_time=ids,
    end_time=ids,
)


@settings(max_examples=examples(100, 20_000))
@given(spans)
def test_both_encoders_say_the_same(span: ReadableSpan) -> None:
    """Whatever a span holds, the extension's bytes decode to what the Python code's do, masked alike."""
    masks = Masks()
    try:
        expected = said(request([Encoder(masks, None).encode(span)]))
    except Exception as problem:  # what the SDK's encoder cannot take, the extension hands to it
        with pytest.raises(type(problem)):
            Encoder(masks, fast.MODULE).encode(span)
    else:
        encoder = Encoder(masks, fast.MODULE)
        assert said(request([encoder.encode(span)])) == expected
        assert said(request([encoder.encode(span)])) == expected


@pytest.mark.parametrize("kind", SpanKind)
def test_the_usual_span_has_the_same_bytes(kind: SpanKind) -> None:
    """Of a span with texts, whole numbers, truths and lists of numbers both make the same bytes, in the same order."""
    with tracing(Account()) as traced:
        span = traced.tracer.start_span(
            "GET /ü", kind=kind, attributes={"a": "ü", "b": 1 << 40, "c": True, "d": (1, -2)}
        )
        span.set_status(StatusCode.ERROR, "no")
        span.end()
        (finished,) = traced.exporter.get_finished_spans()
    assert Encoder(Masks(), fast.MODULE).encode(finished)[1] == Encoder(Masks(), None).encode(finished)[1]


pieces = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 9), st.integers(0, 9)), max_size=80)


@given(pieces, st.integers(0, 500), st.integers(0, 500))
def test_both_cut_slices_alike(steps: list[tuple[int, int, int, int]], start: int, length: int) -> None:
    """The slices of a span are the same, however many pieces it has and wherever they lie."""
    at, flat = 0, []
    for gap, long, cpu, wait in steps:
        flat += [at + gap, at + gap + long, cpu, wait]
        at += gap + long
    assert fast.MODULE.sliced(list(flat), start, start + length) == sliced(list(flat), start, start + length)


@settings(max_examples=examples(60, 2_000))
@given(st.lists(st.tuples(st.sampled_from(["start", "end", "told", "entry"]), st.integers(0, 5)), max_size=40))
def test_both_measure_the_same_spans(steps: list[tuple[str, int]]) -> None:
    """In whatever order spans are opened and closed, both say of the same ones that they were measured, or why not."""
    found = []
    for extension in (None, fast.MODULE):
        with tracing(Account(extension=extension)) as traced:
            still_open: list[Any] = []
            for step, which in steps:
                if step == "end" and still_open:
                    still_open.pop(which % len(still_open)).end()
                elif step == "told":
                    still_open.append(traced.tracer.start_span("span", start_time=1))
                elif step in ("start", "entry"):
                    kind = SpanKind.SERVER if step == "entry" else SpanKind.INTERNAL
                    still_open.append(traced.tracer.start_span("span", kind=kind))
            for span in still_open:
                span.end()
            figures = [dict(span.attributes or {}) for span in traced.exporter.get_finished_spans()]
        found.append([(each[ACCOUNT], each.get(ACCOUNT_REASON), sorted(each)) for each in figures])
    assert found[0] == found[1]


# ---- the queue


@dataclass
class Batches:
    """As much of the SDK's batch processor as ending a span takes."""

    _shutdown: bool = False
    _pid: int = field(default_factory=os.getpid)
    _queue: deque[Any] = field(default_factory=deque)
    emitted: list[Any] = field(default_factory=list)

    def emit(self, encoded: Any) -> None:
        self.emitted.append(encoded)


def ended(sampled: bool = True) -> ReadableSpan:
    return ReadableSpan(
        "span", SpanContext(1, 2, False, TraceFlags(int(sampled))), resource=Resource({}), start_time=1, end_time=2
    )


def queue(batches: Batches, slow: list[Any], most: int = 4, batch: int = 3) -> Any:
    encoder = Encoder(Masks(), fast.MODULE)
    return fast.MODULE.Queue(encoder.fast, batches, slow.append, ACCOUNT_REASON, most, batch)


def test_a_finished_span_is_queued_as_bytes() -> None:
    """A span is put into the queue as it is sent; where that makes a batch, the SDK does it, and wakes its thread."""
    batches, slow = Batches(), list[Any]()
    for _ in range(3):
        queue(batches, slow).on_end(ended())
    expected = Encoder(Masks(), None).encode(ended())[1]
    assert [body for _, body in batches._queue] == [expected] * 2
    assert [body for _, body in batches.emitted] == [expected]
    assert not slow


def test_a_span_that_is_not_sampled_is_not_queued() -> None:
    """Nothing is sent of a span whose trace is not sampled."""
    batches, slow = Batches(), list[Any]()
    queue(batches, slow).on_end(ended(sampled=False))
    assert not batches._queue
    assert not slow


@pytest.mark.parametrize(
    "batches",
    [Batches(_shutdown=True), Batches(_pid=1), Batches(_queue=deque(range(4)))],
    ids=["shut down", "forked", "full"],
)
def test_an_unusual_end_is_left_to_python(batches: Batches) -> None:
    """Where the SDK has more to do than to queue a span, or nothing can be queued, the Python code decides."""
    slow, span, before = list[Any](), ended(), len(batches._queue)
    queue(batches, slow).on_end(span)
    assert slow == [span]
    assert len(batches._queue) == before


# ---- what an application may do


def test_ten_thousand_short_threads() -> None:
    """Each of ten thousand threads has its two spans measured, and nothing is left of it afterwards."""
    account = Account()
    with tracing(account) as traced:

        def work() -> None:
            with traced.tracer.start_as_current_span("outer"), traced.tracer.start_as_current_span("inner"):
                pass

        for _ in range(1_250):
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        spans = traced.exporter.get_finished_spans()
    assert len(spans) == 20_000
    assert {dict(span.attributes or {})[ACCOUNT] for span in spans} == {"thread"}
    gc.collect()
    assert len(account._all) == 0


def test_a_span_that_hops_while_threads_run() -> None:
    """Spans that are ended by other threads than their own say so, at any moment, and harm nobody."""
    with tracing(Account()) as traced:
        opened: list[Any] = []
        ready = threading.Barrier(4)

        def work() -> None:
            ready.wait()
            for i in range(500):
                opened.append(traced.tracer.start_span("span"))
                if i % 2:
                    opened.pop(0).end()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while opened:
            opened.pop().end()
        spans = traced.exporter.get_finished_spans()
    assert len(spans) == 2_000
    assert {dict(span.attributes or {})[ACCOUNT] for span in spans} <= {"thread", "none"}


def test_in_a_forked_child_spans_are_measured() -> None:
    """A child measures its own spans, and of one that its parent opened it says so."""
    with tracing(Account()) as traced, traced.tracer.start_as_current_span("parent's") as inherited:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with traced.tracer.start_as_current_span("child's") as span:
                    pass
                inherited.end()
                own, theirs = (dict(each._attributes._dict) for each in (span, inherited))  # type: ignore[attr-defined]
                code = 0 if own[ACCOUNT] == "thread" and theirs[ACCOUNT_REASON] == "forked" else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert dict(traced.spans()["parent's"].attributes or {})[ACCOUNT] == "thread"


def test_nothing_is_kept_of_ended_spans() -> None:
    """Neither the account nor the encoder holds on to a span, its account or its attributes."""
    encoder = Encoder(Masks(), fast.MODULE)
    with tracing(Account()) as traced:

        def work() -> weakref.ref[Span]:
            with traced.tracer.start_as_current_span("span", attributes={"url.full": "http://a/?b", "n": 1.5}) as span:
                span.add_event("event", {"a": "b"})
            encoder.encode(traced.exporter.get_finished_spans()[-1])
            traced.exporter.clear()
            return weakref.ref(span)  # type: ignore[arg-type]

        for _ in range(200):
            work()
        gc.collect()
        before = sys.getallocatedblocks()
        kept = [work() for _ in range(2_000)]
        assert all(each() is None for each in kept)
        kept.clear()
        gc.collect()
        grown = sys.getallocatedblocks() - before
    assert grown < 1_000  # one block a span would be 2,000


def test_our_own_failure_costs_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the account is dealt with as everywhere, and the application's span ends all the same."""
    seen: list[str] = []
    monkeypatch.setattr(guard, "failed", seen.append)
    monkeypatch.setattr(account.Account, "entered", None)
    monkeypatch.setattr(account.Account, "ending_entry", None)
    with tracing(Account()) as traced:
        span = traced.tracer.start_span("span", kind=SpanKind.SERVER)
        span._layerline_open.entry = True  # type: ignore[attr-defined]
        span.end()
        assert seen == ["account.on_start", "account.on_ending"]
        assert CPU_NS not in traced.figures("span")


def test_an_exception_of_the_application_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no failure of ours (an interrupt while our code runs) reaches the application."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(account.Account, "entered", interrupt)
    with tracing(Account()) as traced, pytest.raises(KeyboardInterrupt):
        traced.tracer.start_span("span", kind=SpanKind.SERVER)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fast.MODULE.Open(),
        lambda: fast.MODULE.Open("1", None, None),
        lambda: fast.MODULE.Hooks(),
        lambda: fast.MODULE.Hooks(*[None] * 6, (), 1, 1, 1),
        lambda: fast.MODULE.Encoder(None, {}, None, None, None, ()),
        lambda: fast.MODULE.Queue(None, None, None, "", 1, 1),
        lambda: fast.MODULE.Thread().advance("now"),
        lambda: fast.MODULE.read("a", 1),
        lambda: fast.MODULE.sliced([1, 2, 3, "4"], 0, 1),
        lambda: fast.MODULE.forked("once"),
        lambda: Account()._hooks.on_start(),
    ],
)
def test_nonsense_is_refused(call: Any) -> None:
    """Whatever its functions are given, they raise."""
    with pytest.raises((TypeError, ValueError)):
        call()


def test_a_stack_that_is_none_is_refused() -> None:
    """A stack with something else than spans of the extension on it is an error, not a crash."""
    thread = fast.thread_type(fast.MODULE)(False)
    thread.stack.append("no span")
    with pytest.raises(TypeError):
        thread.advance(1)
    thread.stack = ()
    with pytest.raises(TypeError):
        thread.advance(1)
    thread.close()


def test_a_real_thread_s_pieces_are_merged() -> None:
    """A span with a hundred children keeps few pieces, and exports 16."""
    with tracing(Account()) as traced:
        with traced.tracer.start_as_current_span("parent"):
            for _ in range(100):
                with traced.tracer.start_as_current_span("child"):
                    pass
        assert len(traced.figures("parent")[SLICES]) == 64


# ---- with it, and without


@pytest.mark.parametrize(
    ("variables", "hidden", "expected"),
    [({}, False, "True"), ({"LAYERLINE_FAST": "off"}, False, "False"), ({}, True, "False")],
)
def test_without_it_nothing_is_said(variables: dict[str, str], hidden: bool, expected: str) -> None:
    """Switched off, or not there, the same is done in Python, without a word."""
    script = (
        "import sys; sys.modules['layerline._fast'] = None\n" if hidden else ""
    ) + "from layerline import fast\nfrom layerline.account import Account\nAccount(); print(fast.MODULE is not None)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(**variables), capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_one_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that was left behind by another version is as good as none."""
    monkeypatch.setattr(fast.MODULE, "INTERFACE", fast.INTERFACE + 1)
    assert fast.load({}) is None


def test_two_providers_in_turn() -> None:
    """An account that is shut down and gone leaves nothing behind that another one stumbles over."""
    for _ in range(3):
        provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
        provider.add_span_processor(Account())
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("tests").start_span("span").end()
        provider.shutdown()
        assert dict(exporter.get_finished_spans()[0].attributes or {})[ACCOUNT] == "thread"
        del provider
        gc.collect()


# ---- what profilers outside read (tests/wrapper/test_share_context.py has the rest)


def test_a_thread_shows_the_span_that_it_was_told_last() -> None:
    """An id that is no such number is no span; what was shown before comes back, and can be shown again."""
    context = SpanContext(0xABC << 64 | 1, 0xDEF, False, TraceFlags(1))
    share_span = fast.MODULE.share_span
    assert share_span(context) is None
    raw = share_span(None)
    assert raw == (0xABC << 64 | 1).to_bytes(16, "big") + (0xDEF).to_bytes(8, "big") + b"\1"
    assert share_span(raw) is None
    assert share_span((1 << 200, 1, False, 1)) == raw
    assert share_span((1, "1", False, 1)) is None
    with pytest.raises(TypeError):
        share_span("1")
    here: list[bytes | None] = []
    share_span(raw)
    thread = threading.Thread(target=lambda: here.append(share_span(None)))
    thread.start()
    thread.join()
    assert here == [None]
    assert share_span(None) == raw


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_payload_is_published_changed_and_taken_away() -> None:
    """There is one mapping however often it changes, and none afterwards; a forked child has none of its own accord."""

    def mappings() -> int:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return sum("OTEL_CTX" in line for line in maps)

    share_process = fast.MODULE.share_process
    before = mappings()
    for payload in (b"1", b"22" * 5000, b"3"):
        share_process(payload)
        assert mappings() == 1
    pid = os.fork()
    if pid == 0:
        seen = [mappings()]
        share_process(b"4")
        seen.append(mappings())
        share_process(None)
        seen.append(mappings())
        os._exit(seen != [0, 1, 0])
    assert os.waitpid(pid, 0)[1] == 0
    share_process(None)
    assert (before, mappings()) == (0, 0)
    with pytest.raises(ValueError, match="payload"):
        share_process(b"")
