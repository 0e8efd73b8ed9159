"""Whose process, and whose span, a profiler outside of it looks at (``LAYERLINE_SHARE_CONTEXT=on``).

OpenTelemetry's eBPF profiler, and others that read the same, stop a thread and look at its stack. What they cannot know
is to which service and to which request it belongs. Both are laid out in this process's memory, where they find it:

* the resource, in a mapping named ``OTEL_CTX``: OTEP 4719, "Process Context", version 2. Its payload is a
  ``ProcessContext`` (1 a ``Resource``, 2 further attributes); here the latter say that there are thread contexts;
* the current span of each thread, behind the thread-local variable ``otel_thread_ctx_v1`` of the extension: OTEP 4947,
  "Thread Context". No attributes are laid out beside the ids.

The current span is OpenTelemetry's current context, so that it is set where that is attached and detached, and where a
step of an asyncio task begins and ends (``layerline.tasks``). A span of another process is not shown, nor any where
gevent or eventlet have taken the threads, as their greenlets switch unseen: no span is better than the wrong one.
Nothing leaves the machine.

Source: open-telemetry/opentelemetry-specification, ``oteps/profiles/4719-process-ctx.md`` and ``4947-thread-ctx.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import opentelemetry.context
from opentelemetry.context import Context
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

from layerline import fast, guard
from layerline.encode import delimited, in_utf8
from layerline.settings import Settings
from layerline.tasks import Steps
from layerline.watcher import taken

#: What readers take at most.
_MOST_BYTES: Final = 64 * 1024
#: How OTEP 4947 is said to be spoken: by this name readers know it so far.
_SCHEMA: Final = {"threadlocal.schema_version": "tlsdesc_v1_dev", "threadlocal.attribute_key_map": ()}

_extension: Any = None


def install(settings: Settings, provider: TracerProvider, extension: Any = fast.MODULE) -> None:
    """Lay both out from now on, if that is wanted and the extension is there."""
    global _extension
    if settings.share_context.strip().lower() != "on":
        return
    if extension is None:
        guard.once(
            "share_context", "LAYERLINE_SHARE_CONTEXT=on needs the C extension, which is not here: nothing is shared"
        )
        return
    try:
        if _extension is None:
            _extension = extension
            _follow(opentelemetry.context._RUNTIME_CONTEXT)
            Steps.send = _followed(Steps.send)  # type: ignore[method-assign]
            Steps.throw = _followed(Steps.throw)  # type: ignore[method-assign]
        publish(provider)
    except Exception:
        guard.failed("share_context.install")


def publish(provider: TracerProvider) -> None:
    """Lay out the resource as it is now: in a new process, in a forked child, after something was added to it."""
    if _extension is None:
        return
    try:
        said = payload(provider.resource.attributes)
        fits = len(said) <= _MOST_BYTES
        if not fits:
            guard.once("share_context.size", "the resource is larger than 64 KiB and is not shared with profilers")
        _extension.share_process(said if fits else None)
    except Exception:
        guard.failed("share_context.publish")


def payload(resource: Mapping[str, Any]) -> bytes:
    """A ``ProcessContext``."""
    message = Message(attributes=[_pair(name, value) for name, value in resource.items()])
    further = (delimited(b"\x12", _pair(name, value).SerializeToString()) for name, value in _SCHEMA.items())
    return delimited(b"\x0a", message.SerializeToString()) + b"".join(further)


def _pair(name: str, value: Any) -> KeyValue:
    return KeyValue(key=in_utf8(name), value=_value(value))


def _value(value: Any) -> AnyValue:
    """Resources have texts, truths, numbers and lists of them."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list | tuple):
        return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
    return AnyValue(string_value=in_utf8(str(value)))


# ---- the current span


def show(context: Context) -> None:
    """Show the span of a context that has become this thread's current one."""
    try:
        span = get_current_span(context).get_span_context()
        hidden = not span.is_valid or span.is_remote or taken() is not None
        _extension.share_span(None if hidden else span)
    except Exception:
        guard.failed("share_context.show")


def _follow(runtime: Any) -> None:
    """See what is attached and detached, in OpenTelemetry's own keeper of the current context."""
    attach, detach = runtime.attach, runtime.detach

    def attach_shown(context: Context) -> Any:
        token = attach(context)
        show(context)
        return token

    def detach_shown(token: Any) -> None:
        detach(token)
        show(runtime.get_current())

    runtime.attach, runtime.detach = attach_shown, detach_shown


def _followed(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a task, with its span shown meanwhile. It may run inside another's."""

    def run(self: Steps, *given: Any) -> Any:
        before = _extension.share_span(None)
        show(opentelemetry.context.get_current())
        try:
            return step(self, *given)
        finally:
            _extension.share_span(before)

    return run
