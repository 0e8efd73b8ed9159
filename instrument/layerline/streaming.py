"""A streamed response lasts until its last byte: its server span ends when the server closes the response.

Flask's and Django's instrumentations end the span when the handler has returned, before the first piece of a streamed
body is made; those of WSGI and ASGI wait for the end. A request of 1.6 s was one of 2 ms then, and spans opened while
its body was made were traces of their own. So the span's end is held back until the server calls ``close`` on the
response, as PEP 3333 obliges it to, and the span is the current one while pieces are made. Other responses end as
before: sending a body that is complete is not the handler's time.

Only the end is held back. Attributes, status and what is detached go their usual ways, at their usual times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from layerline import guard


class Held:
    """A span that is not ended by its instrumentation but by ``close``."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._asked = False
        vars(span)["end"] = self._ask

    def _ask(self, end_time: int | None = None) -> None:
        """What the instrumentation calls in place of the span's ``end``."""
        self._asked = True

    def close(self) -> None:
        """The response is complete. If its instrumentation has not ended it yet, it does so itself."""
        try:
            if vars(self._span).pop("end", None) is not None and self._asked:
                self._span.end()
        except Exception:
            guard.failed("streaming.close")


class Pieces:
    """The body of a streamed response: the request's span is the current one while a piece of it is made."""

    def __init__(self, body: Any, span: Span, context: Context) -> None:
        self._body = body
        self._pieces = iter(body)
        self._span = span
        self._context = context

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token = contexts.attach(self._context)
        try:
            return next(self._pieces)
        except StopIteration:
            raise
        except Exception as error:  # the message may carry secrets
            self._span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            contexts.detach(token)

    def close(self) -> None:
        """As the body's own, if it has one."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def flask(instrumentation: ModuleType) -> None:
    """Hold back the end of requests with a streamed response. A second call changes nothing."""
    import flask  # type: ignore[import-not-found, unused-ignore]

    def finished(_app: Any, response: Any, **_: Any) -> None:
        try:
            span = flask.request.environ.get(instrumentation._ENVIRON_SPAN_KEY)
            if span is None or not span.is_recording() or not response.is_streamed or "end" in vars(span):
                return
            if response.direct_passthrough:  # a file: the server is given it as it is, and closes it
                close_also(response.response, Held(span).close)
            else:
                response.response = Pieces(response.response, span, contexts.get_current())
                response.call_on_close(Held(span).close)
        except Exception:
            guard.failed("streaming.flask")

    flask.request_finished.connect(finished, weak=False)


def close_also(body: Any, then: Callable[[], None]) -> None:
    """Have ``body.close`` call ``then`` at its end. Where that cannot be arranged, it is called at once."""
    close = getattr(body, "close", None)

    def both() -> None:
        try:
            if close is not None:
                close()
        finally:
            then()

    try:
        body.close = both
    except AttributeError:
        then()


def django(instrumentation: ModuleType) -> None:
    """The same for Django, whose middleware ends the span as the response passes it."""

    def response_passes(wrapped: Any, middleware: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            request, response = arguments
            span = request.META.get(middleware._environ_span_key)
            streamed = getattr(response, "streaming", False)
            if streamed and span is not None and span.is_recording() and "end" not in vars(span):
                if not getattr(response, "is_async", False) and getattr(response, "file_to_stream", None) is None:
                    # What is given back when the response is closed stays as it was noted for the old body.
                    response._iterator = Pieces(response._iterator, span, contexts.get_current())
                response._resource_closers.append(Held(span).close)
        except Exception:
            guard.failed("streaming.django")
        return wrapped(*arguments, **named)

    wrapt.wrap_function_wrapper(instrumentation, "_DjangoMiddleware.process_response", response_passes)
