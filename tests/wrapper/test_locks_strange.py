"""Locks in code that is hard to read: nobody is named who does not hold the lock, and no code of the app's runs."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from types import FrameType
from typing import Any

import pytest

from layerline import locks
from waiting import PATIENCE_S, eventually

#: What is looked for, and another one.
looked_for, another = threading.Lock(), threading.Lock()
ran: list[str] = []


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "looked_for", threading.Lock())
    monkeypatch.setattr(module, "another", threading.Lock())
    monkeypatch.setattr(module, "ran", [])


Rest = Callable[[], object]

# ---- who does not hold it, where the thread rests


def handed_to_a_function(rest: Rest) -> None:
    own = looked_for
    with nullcontext(own):
        rest()


def another_by_condition(rest: Rest, first: bool = True) -> None:
    with another if first else looked_for:
        rest()


def another_by_or(rest: Rest) -> None:
    (another or looked_for).acquire()
    rest()
    (another or looked_for).release()


def only_if_asked(rest: Rest, locking: bool = False) -> None:
    if locking:
        looked_for.acquire()
    try:
        rest()
    finally:
        if locking:
            looked_for.release()


def returned_and_cleans_up(rest: Rest, early: bool = True) -> None:
    try:
        with looked_for:
            if early:
                return
            early = True
    finally:
        rest()


def left_the_loop_and_cleans_up(rest: Rest) -> None:
    for number in range(3):
        try:
            with looked_for:
                if not number:
                    break
                number += 1
        finally:
            rest()


def name_is_another_locks_now(rest: Rest) -> None:
    own = another
    with own:
        own = looked_for
        rest()


def attribute_is_another_locks_now(rest: Rest) -> None:
    node = Plain()
    node.lock = another
    with node.lock:
        node.lock = looked_for
        rest()


def gave_it_back_within(rest: Rest) -> None:
    with looked_for:
        looked_for.release()
        try:
            rest()
        finally:
            looked_for.acquire()


def let_a_function_give_it_back(rest: Rest) -> None:
    with looked_for:
        pause(rest)


def pause(rest: Rest) -> None:
    looked_for.release()
    rest()
    looked_for.acquire()


def timed_by_a_function(rest: Rest) -> None:
    def left() -> float:
        rest()
        return 0.0

    if looked_for.acquire(timeout=left()):
        looked_for.release()


def suspended_generator_holds_it(rest: Rest) -> None:
    def holding() -> Iterator[None]:
        with looked_for:
            yield

    one = holding()
    next(one)
    rest()
    one.close()


# ---- who holds it, where the thread rests


def in_a_handler(rest: Rest) -> None:
    with another, looked_for:
        try:
            raise ValueError
        except ValueError:
            rest()


def at_last(rest: Rest) -> None:
    with looked_for, ExitStack():
        try:
            looked_for.locked()
        finally:
            rest()


def in_a_case(rest: Rest, number: int = 3) -> None:
    while True:
        with looked_for:
            match number:
                case 3:
                    rest()
                    break
                case _:
                    return


def in_a_closure(rest: Rest) -> None:
    own = looked_for

    def inner() -> Iterator[int]:
        with own:
            rest()
            yield 1

    list(inner())


def in_a_coroutine(rest: Rest) -> None:
    async def inner() -> None:
        with looked_for:
            rest()

    with pytest.raises(StopIteration):
        inner().send(None)


def by_acquire_in_a_loop(rest: Rest) -> None:
    for _ in range(1):
        looked_for.acquire()
        while looked_for.locked():
            rest()
            break
        looked_for.release()


class Base:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = looked_for


class Derived(Base):
    pass


def in_an_inherited_slot(rest: Rest) -> None:
    shop = Derived()
    with shop.lock:
        rest()


class Late:
    @cached_property
    def lock(self) -> threading.Lock:
        return looked_for


def in_a_cached_property(rest: Rest) -> None:
    shop = Late()
    with shop.lock:
        rest()


# ---- what has code of its own


class Plain:
    lock: threading.Lock


class Proxy:
    """It says that it is of another class, by code that fails outside of a request, as Werkzeug's proxies do."""

    def __init__(self) -> None:
        self.lock = looked_for

    @property
    def __class__(self) -> Any:
        ran.append("__class__")
        raise RuntimeError

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise NotImplementedError


class Watched:
    """Each access is seen."""

    def __init__(self) -> None:
        self.lock = looked_for

    def __getattribute__(self, name: str) -> Any:
        ran.append(name)
        return object.__getattribute__(self, name)


class Meta(type):
    """Each access to the class is seen, and each comparison."""

    def __getattribute__(cls, name: str) -> Any:
        ran.append(name)
        return type.__getattribute__(cls, name)

    def __eq__(cls, other: object) -> bool:
        ran.append("==")
        return cls is other

    __hash__ = type.__hash__


class OfMeta(metaclass=Meta):
    def __init__(self) -> None:
        self.lock = looked_for


class OfThread(threading.local):
    """It is made anew for each thread that looks into it."""

    def __init__(self) -> None:
        ran.append("__init__")
        self.lock = looked_for


class Names(dict[str, Any]):
    """Globals that are counted."""

    def get(self, *arguments: Any) -> Any:
        ran.append("get")
        return super().get(*arguments)

    def __getitem__(self, name: str) -> Any:
        ran.append(name)
        return super().__getitem__(name)


class Answers:
    """Anything is an attribute of it."""

    def __getattr__(self, name: str) -> Any:
        ran.append(name)
        return looked_for


def in_made(kind: type) -> Callable[[Rest], None]:
    """A function that holds an attribute of one of these."""

    def holds(rest: Rest) -> None:
        shop = kind()
        with shop.lock:
            rest()

    return holds


def in_made_globals(rest: Rest) -> None:
    exec("with lock:\n    rest()", Names(lock=looked_for, rest=rest))  # noqa: S102 - the case in point


@contextmanager
def resting(function: Callable[[Rest], object]) -> Iterator[FrameType]:
    """The innermost frame of a thread that runs this function and rests where that calls ``rest``."""
    at_rest, leave, failed = threading.Event(), threading.Event(), []

    def rest() -> None:
        at_rest.set()
        leave.wait(PATIENCE_S)

    def run() -> None:
        try:
            function(rest)
        except BaseException as problem:
            failed.append(problem)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert at_rest.wait(PATIENCE_S)
        eventually(lambda: innermost(thread).f_code.co_name == "wait", "it at rest")
        yield innermost(thread)
    finally:
        leave.set()
        thread.join(PATIENCE_S)
    assert not failed


def innermost(thread: threading.Thread) -> FrameType:
    return sys._current_frames()[thread.ident or 0]


def is_among(lock: Any, found: list[Any]) -> bool:
    return any(lock is one for one in found)


@pytest.mark.parametrize(
    "stands",
    [
        handed_to_a_function,
        another_by_condition,
        another_by_or,
        only_if_asked,
        returned_and_cleans_up,
        left_the_loop_and_cleans_up,
        name_is_another_locks_now,
        attribute_is_another_locks_now,
        gave_it_back_within,
        let_a_function_give_it_back,
        timed_by_a_function,
        suspended_generator_holds_it,
    ],
)
def test_nobody_is_named_who_does_not_hold_it(stands: Callable[[Rest], None]) -> None:
    """Code that mentions a lock, or held it before, is not taken for its holder."""
    with resting(stands) as frame:
        assert not is_among(looked_for, locks.held(frame))


@pytest.mark.parametrize(
    "stands",
    [
        in_a_handler,
        at_last,
        in_a_case,
        in_a_closure,
        in_a_coroutine,
        by_acquire_in_a_loop,
        in_an_inherited_slot,
        in_a_cached_property,
    ],
)
def test_who_holds_it_in_the_middle_of_something_is_found(stands: Callable[[Rest], None]) -> None:
    """Handlers, ``finally``, ``match``, loops, closures, generators and coroutines within a block belong to it."""
    with resting(stands) as frame:
        assert is_among(looked_for, locks.held(frame))


@pytest.mark.parametrize(
    ("stands", "is_found"),
    [
        (in_made(Proxy), True),
        (in_made(OfMeta), True),
        (in_made(Watched), False),
        (in_made(OfThread), False),
        (in_made(Answers), False),
        (in_made_globals, False),
    ],
)
def test_objects_with_code_of_their_own_do_not_notice(stands: Callable[[Rest], None], is_found: bool) -> None:
    """A look runs no ``__class__``, ``__getattribute__``, ``__getattr__``, ``__eq__``, ``get`` or ``__init__``."""
    with resting(stands) as frame:
        before = list(ran)
        found = locks.held(frame)
        assert ran == before
        assert is_among(looked_for, found) is is_found


def test_of_two_who_seem_to_hold_it_nobody_is_named() -> None:
    """Only one can hold a lock, so the other gave it back in a way that is not seen."""

    @contextmanager
    def given_back() -> Iterator[None]:
        looked_for.release()
        yield
        looked_for.acquire()

    def gives_back(rest: Rest) -> None:
        with looked_for, given_back():
            rest()

    def holds(rest: Rest) -> None:
        with looked_for:
            rest()

    with resting(gives_back) as one:
        assert locks.Held({1: one}).by(looked_for) is None  # nobody has it
        with resting(holds) as other:
            assert locks.Held({2: other}).by(looked_for) == 2
            assert locks.Held({1: one, 2: other}).by(looked_for) is None


def test_a_function_that_uses_its_variables_as_a_dictionary_is_left_alone() -> None:
    """What ``exec`` writes there while it runs is not overwritten by a look."""
    seen = []

    def counts(rest: Rest) -> None:
        own, total = looked_for, 0
        with own:
            exec("total += 1\nrest()\ntotal += 1\nseen.append(total)", globals() | {"seen": seen}, locals())  # noqa: S102 - the case in point
            assert total == 0

    def counts_here(rest: Rest, seen: list[int] = seen) -> None:
        own, total = looked_for, 0
        with own:
            exec("total += 1\nrest()\ntotal += 1\nseen.append(total)")  # noqa: S102 - the case in point
            assert total == 0

    for function in (counts, counts_here):
        with resting(function) as frame:
            for _ in range(3):
                locks.held(frame)
    assert seen == [2, 2]


def test_code_that_the_app_drops_is_dropped() -> None:
    """What is known of it keeps neither the code nor its constants."""
    code = compile("with lock:\n    pass", "made", "exec")
    locks.locking(code)
    dropped = weakref.ref(code)
    del code
    gc.collect()
    assert dropped() is None
