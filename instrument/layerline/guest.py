"""An app that makes its own TracerProvider under ``layerline run`` keeps it, though ours was there first.

OpenTelemetry accepts one global provider and refuses a second, so the app's would get no span and its backend none
either. Instead the app's becomes the global one and gets our processors, so that its spans are measured and sent. The
instrumentations have taken their tracers from ours by then: those spans carry the app's resource from here on and are
handed to the app's processors too. All share one account: two would charge a span for the other's child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    Span,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)

from layerline import guard
from layerline.wiring import follow_forks, sampler, update


class Handed(SpanProcessor):
    """Hands spans of our provider to the processors of the app's, also to those that it adds later."""

    def __init__(self, theirs: SynchronousMultiSpanProcessor, ours: Sequence[SpanProcessor]) -> None:
        self._theirs = theirs
        self._ours = ours

    def _processors(self) -> list[SpanProcessor]:
        return [each for each in self._theirs._span_processors if each not in self._ours]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """As the SDK calls it."""
        for each in self._processors():
            each.on_start(span, parent_context)

    def _on_ending(self, span: Span) -> None:
        for each in self._processors():
            each._on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        """As the SDK calls it."""
        for each in self._processors():
            each.on_end(span)


def welcome(host: TracerProvider, ours: Sequence[SpanProcessor], attributes: Mapping[str, object]) -> None:
    """Let the app's first ``set_tracer_provider`` succeed. ``attributes`` are our own for its resource."""
    original = trace.set_tracer_provider

    def set_tracer_provider(tracer_provider: trace.TracerProvider) -> None:
        if not isinstance(tracer_provider, TracerProvider) or tracer_provider is host:
            original(tracer_provider)
            return
        trace.set_tracer_provider = original
        try:
            theirs = tracer_provider._active_span_processor
            if isinstance(theirs, ConcurrentMultiSpanProcessor):
                original(tracer_provider)
                return
            said = dict(tracer_provider.resource.attributes)
            handed = Handed(theirs, ours)
            trace._TRACER_PROVIDER = tracer_provider
            update(tracer_provider, {name: value for name, value in attributes.items() if name not in said})
            update(tracer_provider, sampler(tracer_provider))
            update(host, said)
            host.add_span_processor(handed)
            for each in ours:
                tracer_provider.add_span_processor(each)
            follow_forks(tracer_provider)
        except Exception:
            guard.failed("guest")

    trace.set_tracer_provider = set_tracer_provider
