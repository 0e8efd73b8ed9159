"""Work records: what ``ThreadPoolExecutor.submit``, ``threading.Thread.start`` and anyio hand to another thread.

A request that waits for its pool shows nothing but blocked time otherwise. So the work leaves an internal child span,
``work <function>``, which starts when the work was handed over and carries how long it waited for its thread
(``layerline.pool_wait_ns``). Its account covers what came after: its first slice starts when the thread began. Spans
opened by the work are its children, as the submitter's OpenTelemetry context is attached while it runs.

A thread may live long after the request that started it. Two ways, so that no span stays open for ever and no
background thread hangs all that it ever does under one request:

* a plain thread is work like a pool's: its span is opened as it begins and ended with it. The process waits for such a
  thread before it exits, so somebody means it to end;
* a daemon or a Timer may go on without end. It gets neither context nor open span; it is measured, and if it has ended
  within 10 s and no later than a second after the span that started it, its record is made then. Spans opened by it
  belong to nobody, as without us.

Always one record, however short the work: to decide at its end whether it deserves one, its children would have to be
told of a parent that may never be.

Left out: threads that libraries keep for themselves (those of pools, ``multiprocessing``, OpenTelemetry), and whatever
``opentelemetry-instrumentation-threading`` handles: it hands the context on already. Of what is handed to anyio's
worker threads (a plain ``def`` endpoint of FastAPI) the libraries' own steps are left out. Other threads that were
started before (a queue's consumer) are handed work in ways that we do not see.

The pieces of a streamed body of Starlette's are each made on whatever worker thread is free. Together they leave one
record: it is open from the first to the last, suspended in between, and what the pieces open are its children.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import time_ns
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, StatusCode, Tracer, TracerProvider

from layerline import guard
from layerline.account import Account
from layerline.attributes import POOL_WAIT_NS
from layerline.thread import Open
from layerline.watcher import taken

#: The record of a thread that may never end is made if it lasted at most so long, and ended at most so long after the
#: span that started it (ns).
_LASTED_NS: Final = 10_000_000_000
_AFTER_NS: Final = 1_000_000_000

#: Whose functions in anyio's worker threads are a library's steps, not the app's work: opening a file, the next piece.
_STEPS: Final = ("anyio", "starlette", "fastapi._compat", "contextlib", "posix", "os", "io", "_io", "tempfile")
_LIBRARIES: Final = ("anyio", "concurrent.futures", "multiprocessing", "opentelemetry", "layerline")
#: Whose functions in pools are not the app's work: its threading instrumentation hands the context on already, and the
#: SDK asks who it is after each fork.
_TELEMETRY: Final = ("opentelemetry.", "layerline.")

_account: Account | None = None
_tracer: Tracer | None = None
_submit: Final = ThreadPoolExecutor.submit
_start: Final = threading.Thread.start
_bootstrap_inner: Final = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]


class Work:
    """A piece of work on its way to another thread; a pool calls it in place of the function."""

    __slots__ = ("context", "function", "handed", "parent")

    def __init__(self, function: Callable[..., Any], context: Context, parent: Span) -> None:
        self.function = function
        self.context = context
        self.parent = parent
        self.handed = time_ns()

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """Run it on this thread."""
        function = self.function
        real, context = underneath(function, arguments)
        span = self.begin(name(real))
        if span is None:
            return function(*arguments, **named)
        try:
            if context is None:
                return self.within(span, function, *arguments, **named)
            # It would bring the submitter's context with it, so ours is attached inside.
            while isinstance(function, functools.partial):
                arguments, named = (*function.args, *arguments), {**function.keywords, **named}
                function = function.func
            return context.run(self.within, span, *arguments, **named)
        except BaseException as error:
            self.failed(span, error)
            raise
        finally:
            self.end(span)

    def begin(self, name: str) -> Span | None:
        """Open the span of work that begins now."""
        try:
            if _account is None or _tracer is None:
                return None
            _account.begin(self.handed)
            waited = {POOL_WAIT_NS: max(0, time_ns() - self.handed)}
            return _tracer.start_span(name, self.context, attributes=waited, start_time=self.handed)
        except Exception:
            guard.failed("work.begin")
        return None

    def within(self, span: Span, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Run the function with the submitter's context, and the work's span as the current one."""
        token = contexts.attach(trace.set_span_in_context(span, self.context))
        try:
            return function(*arguments, **named)
        finally:
            contexts.detach(token)

    def failed(self, span: Span, error: BaseException) -> None:
        """The work raised. The message stays with whoever asks for the result: it may carry secrets."""
        try:
            span.set_status(StatusCode.ERROR, type(error).__name__)
        except Exception:
            guard.failed("work.failed")

    def end(self, span: Span) -> None:
        """The work is done."""
        try:
            span.end()
        except Exception:
            guard.failed("work.end")

    def afterwards(self, opened: Open, began: int, name: str) -> None:
        """Make the record of a thread that might never have ended, if it belongs to its request."""
        try:
            now = time_ns()
            ended = getattr(self.parent, "end_time", None) or now
            if _account is None or _tracer is None:
                return
            if now - began > _LASTED_NS or now - ended > _AFTER_NS:
                _account.drop(opened)
                return
            _account.give(opened, self.handed)
            waited = {POOL_WAIT_NS: max(0, began - self.handed)}
            _tracer.start_span(name, self.context, attributes=waited, start_time=self.handed).end()
        except Exception:
            guard.failed("work.afterwards")


class Body:
    """The body of a streamed response of Starlette's that is no coroutine: an iterator, asked from worker threads."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = iter(pieces)
        self._name = name(self._pieces)
        self._work: Work | None = None
        self._span: Span | None = None
        self._asked = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._asked:
            self._asked = True
            self._work = handed_over(next)
            self._span = self._work.begin(self._name) if self._work is not None else None
        elif self._span is not None and _account is not None:
            _account.resume(self._span)  # type: ignore[arg-type]  # begin made it: it is the SDK's
        if self._work is None or self._span is None:
            return next(self._pieces)
        try:
            piece = self._work.within(self._span, next, self._pieces)
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self._work.failed(self._span, error)
            self._end()
            raise
        if _account is not None:
            _account.suspend(self._span)  # type: ignore[arg-type]
        return piece

    def __del__(self) -> None:
        """Nobody asks for the rest: the client has gone."""
        self._end()

    def _end(self) -> None:
        work, span = self._work, self._span
        self._work = self._span = None
        if work is not None and span is not None:
            work.end(span)


def starlette(module: ModuleType) -> None:
    """A hook for the import of ``starlette.responses``: streamed bodies that are made in threads leave a record."""

    def iterate(wrapped: Any, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            if len(arguments) == 1 and _account is not None and isinstance(arguments[0], Iterable):
                arguments = (Body(arguments[0]),)
        except Exception:
            guard.failed("work.body")
        return wrapped(*arguments, **named)

    try:
        wrapt.wrap_function_wrapper(module, "iterate_in_threadpool", iterate)
    except Exception:
        guard.failed("work.starlette")


def handed_over(function: Callable[..., Any]) -> Work | None:
    """The work record to be, if a recording span is open here."""
    try:
        span = trace.get_current_span()
        if _account is not None and span.is_recording() and is_instrumentation_enabled():
            return Work(function, contexts.get_current(), span)
    except Exception:
        guard.failed("work.handed_over")
    return None


def underneath(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, contextvars.Context | None]:
    """What a callable really runs, and the ``contextvars.Context`` that it runs it in, if it does.

    ``asyncio.to_thread`` submits ``partial(context.run, function, …)``; FastAPI hands over a function of its own, which
    is given the endpoint as ``function=``.
    """
    while isinstance(function, functools.partial):
        arguments = (*function.args, *arguments)
        given = function.keywords.get("function")
        function = function.func
        if callable(given) and (getattr(function, "__module__", None) or "").startswith("fastapi."):
            return given, None
    owner = getattr(function, "__self__", None)
    if isinstance(owner, contextvars.Context) and getattr(function, "__name__", "") == "run" and arguments:
        return underneath(arguments[0], arguments[1:])[0], owner
    return function, None


def name(function: Any) -> str:
    """``work <function>``, by its qualified name."""
    return f"work {getattr(function, '__qualname__', None) or type(function).__qualname__}"


@functools.wraps(_submit)  # type: ignore[arg-type]  # generic in what it is given
def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """As the standard library's, and the work leaves a record."""
    if not (getattr(fn, "__module__", None) or "").startswith(_TELEMETRY):
        work = handed_over(fn)
        if work is not None:
            fn = work
    return _submit(self, fn, *args, **kwargs)


@functools.wraps(_start)
def start(self: threading.Thread) -> None:
    """As the standard library's, and the thread leaves a record."""
    work = handed_over(self.run)
    if work is not None and not (module_of(self) or "").startswith(_LIBRARIES):
        self.__dict__["_layerline_work"] = work
    try:
        _start(self)
    except BaseException:
        self.__dict__.pop("_layerline_work", None)
        raise


@functools.wraps(_bootstrap_inner)
def bootstrap_inner(self: threading.Thread) -> None:
    """The whole life of a thread, on that thread. What its work raises goes to ``threading.excepthook``, not to us."""
    work: Work | None = self.__dict__.pop("_layerline_work", None)
    if work is None or _account is None or hasattr(self, "_otel_context"):  # their instrumentation hands it on
        try:
            _bootstrap_inner(self)
        except KeyError:
            # Its last step is to strike the thread off the list of threads. gevent gives threads other numbers: one
            # that was started before (OpenTelemetry's, in each worker of gunicorn) does not find itself.
            if taken() is None or threading._active.pop(self.ident, None) is not self:  # type: ignore[attr-defined]
                raise
        return
    called = name(getattr(self, "_target", None) or type(self).run)
    if self.daemon or isinstance(self, threading.Timer):
        began, opened = time_ns(), _account.hold()
        try:
            _bootstrap_inner(self)
        finally:
            if opened is not None:
                work.afterwards(opened, began, called)
        return
    span = work.begin(called)
    if span is None:
        _bootstrap_inner(self)
        return
    try:
        work.within(span, _bootstrap_inner, self)
    finally:
        work.end(span)


def module_of(thread: threading.Thread) -> str | None:
    """Whose code a thread runs: the module of its target, else of its class."""
    target = getattr(thread, "_target", None)
    if target is not None and not isinstance(thread, threading.Timer):
        return getattr(target, "__module__", None)
    return type(thread).__module__


def anyio(module: ModuleType) -> None:
    """A hook for the import of ``anyio.to_thread``: the app's own functions that it runs in a thread leave a record."""

    def run_sync(wrapped: Any, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if arguments and is_the_app_s(arguments[0]) and (work := handed_over(arguments[0])) is not None:
            return wrapped(work, *arguments[1:], **named)
        return wrapped(*arguments, **named)

    try:
        wrapt.wrap_function_wrapper(module, "run_sync", run_sync)
    except Exception:
        guard.failed("work.anyio")


def is_the_app_s(function: Any) -> bool:
    """Whether a function is not a step of a library's own; methods of files have no module."""
    module = getattr(underneath(function, ())[0], "__module__", None)
    return module is not None and not any(module == step or module.startswith(f"{step}.") for step in _STEPS)


_hooked = False


def install(account: Account, provider: TracerProvider) -> None:
    """Record work from here on; a second call only changes who records it."""
    global _account, _tracer, _hooked
    _tracer = provider.get_tracer("layerline.work")
    _account = account
    if not _hooked:
        _hooked = True
        wrapt.register_post_import_hook(anyio, "anyio.to_thread")
        wrapt.register_post_import_hook(starlette, "starlette.responses")
    if ThreadPoolExecutor.submit is _submit:
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]
    if threading.Thread.start is _start:
        threading.Thread.start = start  # type: ignore[method-assign]
        threading.Thread._bootstrap_inner = bootstrap_inner  # type: ignore[attr-defined]


def uninstall() -> None:
    """Record nothing from here on."""
    global _account, _tracer
    _account = _tracer = None
    if ThreadPoolExecutor.submit is submit:
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
    if threading.Thread.start is start:
        threading.Thread.start = _start  # type: ignore[method-assign]
        threading.Thread._bootstrap_inner = _bootstrap_inner  # type: ignore[attr-defined]
