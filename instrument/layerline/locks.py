"""Which lock a thread waits for, and who holds it, read from the byte code that both stand in.

A ``threading.Lock`` does not know its holder. But code that waits stands at ``with NAME:`` or ``NAME.acquire()``, and
code that holds it stands inside such a ``with``, or between ``acquire()`` and ``release()``. Both say by which name or
attribute they reach the lock (``lock``, ``self.pool.lock``), and what that is can be looked up in their frames without
running any code of the app's: plain variables, attributes of instances, slots and classes. Where that cannot be told (a
lock in a list, one that a function returned, an object whose class has code of its own for attributes) nobody is named,
and likewise where two threads seem to hold it. An ``RLock`` says itself who owns it.

Before Python 3.13, to read a variable of a running function is to write all of them into a dictionary of its frame, the
one that ``locals()`` returns there. So functions that use that are left alone (``_SEES_ITS_FRAME``). What the others'
variables were at a look is kept alive until the next look, at most until the function returns.

Source: the exception table of the code (a ``with`` ends in ``WITH_EXCEPT_START``), ``dis`` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import re
import sys
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final

#: How a lock is reached: where its first name is looked up, that name, and attributes of it.
Path = tuple[str, ...]
#: From where to where in the code (byte offsets), and which lock.
Stretch = tuple[int, int, Path]
#: What an ``await`` is made of, up to where it goes on. From Python 3.12 on it ends in ``END_SEND``.
_AWAIT: Final = (
    "GET_AWAITABLE", "LOAD_CONST", "SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT", "END_SEND",
)  # fmt: skip

#: Longer code is not read: it would keep the interpreter from the app for several milliseconds.
_LONGEST: Final = 8_192
_KNOWN_AT_MOST: Final = 2_048
#: Frames of a stack that are looked at for a lock that it holds.
_DEEPEST: Final = 64
_ASKING: Final = ("acquire", "__enter__")
_FIRST: Final = {
    "LOAD_FAST": "local", "LOAD_FAST_CHECK": "local", "LOAD_FAST_BORROW": "local", "LOAD_FAST_LOAD_FAST": "local",
    "STORE_FAST_LOAD_FAST": "local", "LOAD_FAST_BORROW_LOAD_FAST_BORROW": "local", "LOAD_DEREF": "local",
    "LOAD_NAME": "name", "LOAD_GLOBAL": "global",
}  # fmt: skip
#: What stands between a lock and the call of its ``__enter__`` since Python 3.14.
_BETWEEN: Final = ("LOAD_SPECIAL", "SWAP", "COPY", "PUSH_NULL")
#: What may stand between ``acquire`` and its call, and how many values it puts on the stack.
_ARGUMENTS: Final = {
    "PRECALL": 0, "PUSH_NULL": 0, "KW_NAMES": 0, "LOAD_CONST": 1, "LOAD_SMALL_INT": 1, "LOAD_FAST": 1,
    "LOAD_FAST_CHECK": 1, "LOAD_FAST_BORROW": 1, "LOAD_DEREF": 1, "LOAD_NAME": 1, "LOAD_GLOBAL": 1,
    "LOAD_FAST_LOAD_FAST": 2, "LOAD_FAST_BORROW_LOAD_FAST_BORROW": 2,
}  # fmt: skip
_ENTERS: Final = ("BEFORE_WITH", "BEFORE_ASYNC_WITH")
_WITH: Final = {dis.opmap[name] for name in (*_ENTERS, "WITH_EXCEPT_START") if name in dis.opmap}
_JUMPS: Final = {*dis.hasjrel, *dis.hasjabs}
#: Before Python 3.13, who uses these sees the dictionary that a look writes into.
_SEES_ITS_FRAME: Final = {"locals", "vars", "exec", "eval", "f_locals"} if sys.version_info < (3, 13) else set[str]()
_OWNER: Final = re.compile(r" owner=(\d+) ")
_LOCK: Final = type(threading.Lock())
_RLOCK: Final = type(threading.RLock())
_CONDITION: Final = threading.Condition
#: While these wait, their lock is given back.
_WAITS: Final = tuple(getattr(kind.wait, "__code__", None) for kind in (threading.Condition, asyncio.Condition))
_MISSING: Final = object()

# A class is asked for its bases and attributes in this way, because `each.__mro__` can run code of its metaclass; and
# nothing is compared by `==` or asked by `isinstance`, which can run code of the object.
_kinds: Final = type.__dict__["__mro__"].__get__
_attributes: Final = type.__dict__["__dict__"].__get__
_plain: Final = object.__getattribute__


@dataclass(frozen=True, slots=True)
class Locking:
    """What a function does with locks: where (byte offset) it asks for one, and where it holds one."""

    asks: Mapping[int, Path]
    holds: tuple[Stretch, ...]
    #: The same of what it has awaited (``async with``): there it holds one of asyncio's, which ``holds`` is not about.
    awaited: tuple[Stretch, ...]
    #: Where it has given one back that it, or a caller of it, held.
    gave: tuple[Stretch, ...]


_NOTHING: Final = Locking({}, (), (), ())
#: By id, because two functions of one text have equal code. Code that the app drops is not kept.
_known: dict[int, tuple[weakref.ref[CodeType], Locking]] = {}


def wanted(frame: FrameType) -> Any:
    """The lock that the innermost frame of a thread stands at; None where that cannot be told."""
    at = frame.f_lasti
    path = locking(frame.f_code).asks.get(at)
    if path is None:
        return None
    lock = _lock(_found(frame, path))
    return lock if frame.f_lasti == at else None  # it went on meanwhile


class Held:
    """Which of these threads hold which locks, at one look. Worked out once, however many wait."""

    def __init__(self, stacks: Mapping[int, FrameType]) -> None:
        """``stacks``: the innermost frames of threads, by their numbers in Python."""
        self._stacks: Mapping[int, FrameType] | None = stacks
        self._by: dict[int, list[tuple[Any, int]]] = {}  # by the lock's id

    def by(self, lock: Any) -> int | None:
        """The number of the thread that holds this lock; None where none is seen to.

        If two seem to hold it, one of them has given it back where that cannot be seen.
        """
        if type(lock) is _RLOCK:
            owner = _OWNER.search(repr(lock))
            return int(owner[1]) if owner is not None and owner[1] != "0" else None
        stacks, self._stacks = self._stacks, None
        for ident, frame in (stacks or {}).items():
            for each in held(frame):
                self._by.setdefault(id(each), []).append((each, ident))
        holders = {ident for _, ident in self._by.get(id(lock), ())}
        return holders.pop() if len(holders) == 1 and lock.locked() else None


def held(innermost: FrameType) -> list[Any]:
    """The locks, other than ``RLock``, for which a frame of this stack stands where they are held."""
    return _held(_outwards(innermost), _plain_lock, lambda does: does.holds)


def held_by_task(frames: Iterable[FrameType]) -> list[Any]:
    """The same of asyncio's locks and the coroutines of a task that await each other, the innermost frame first."""
    return _held(frames, _tasks_lock, lambda does: does.awaited)


def _outwards(frame: FrameType | None) -> Iterable[FrameType]:
    for _ in range(_DEEPEST):
        if frame is None:
            break
        yield frame
        frame = frame.f_back


def _held(
    frames: Iterable[FrameType], lock_of: Callable[[Any], Any], stretches: Callable[[Locking], tuple[Stretch, ...]]
) -> list[Any]:
    found: list[Any] = []
    given: list[Any] = []  # by a frame further in: then its callers do not hold it either
    for frame in frames:
        code, at = frame.f_code, frame.f_lasti
        does = locking(code)
        for begin, end, path in stretches(does):
            if begin <= at < end:
                lock = lock_of(_found(frame, path))
                if lock is not None and all(lock is not one for one in given) and frame.f_lasti == at:
                    found.append(lock)
        for begin, end, path in does.gave:
            if begin <= at < end:
                given.append(lock_of(_found(frame, path)))
        if code in _WAITS:
            given.append(lock_of(_found(frame, ("local", "self"))))
    return found


def locking(code: CodeType) -> Locking:
    """What this code does with locks; read once."""
    known = _known.get(id(code))
    if known is None or known[0]() is not code:
        if len(_known) >= _KNOWN_AT_MOST:
            _known.clear()
        known = _known[id(code)] = (weakref.ref(code), _read(code))
    return known[1]


def _read(code: CodeType) -> Locking:
    raw = code.co_code
    named = any(name in code.co_names for name in (*_ASKING, "release"))
    if len(raw) > _LONGEST or not (named or _WITH.intersection(raw[::2])):
        return _NOTHING
    text = _Text(code)
    released = text.released()
    asks: dict[int, Path] = {}
    holds: list[Stretch] = []
    awaited: list[Stretch] = []
    for asked, path, parts, by_await in (*text.withs(), *text.acquired(released)):
        asks[asked] = path
        if not parts:
            continue
        begin, end = min(parts)[0], max(last for _, last in parts)
        if text.rebinds(begin, end, path):
            continue
        back = min((at for at, other in released if begin <= at < end and other == path), default=end)
        of_its_kind = awaited if by_await else holds
        of_its_kind.extend((first, min(last, back), path) for first, last in parts if first < back)
    gave = [
        (at, min((again for again, other in asks.items() if again > at and other == path), default=len(raw)), path)
        for at, path in released
    ]
    return Locking(asks, tuple(holds), tuple(awaited), tuple(gave))


class _Text:
    """The instructions of some code."""

    def __init__(self, code: CodeType) -> None:
        self.each = [one for one in dis.get_instructions(code) if one.opname not in ("CACHE", "NOP", "EXTENDED_ARG")]
        self.offsets = [one.offset for one in self.each]
        self.handled = list(dis.Bytecode(code).exception_entries)  # type: ignore[attr-defined]
        jumps = [(one.offset, one.argval) for one in self.each if one.opcode in _JUMPS]
        raised = [(at, one.target) for one in self.handled for at in (one.start, one.end - 2)]
        #: From where to where it may go, other than to the next instruction; both ends of what a handler is for.
        self.ways = [(at, self.next(to)) for at, to in (*jumps, *raised)]
        self.targets = {to for _, to in self.ways}
        self.readable = not _SEES_ITS_FRAME.intersection(code.co_names)

    def number(self, offset: int) -> int:
        """Of the first instruction at this offset or behind it."""
        return bisect_left(self.offsets, offset)

    def next(self, offset: int) -> int:
        """The offset of the first instruction there or behind."""
        number = self.number(offset)
        return self.offsets[number] if number < len(self.offsets) else offset

    def withs(self) -> Iterable[tuple[int, Path, list[tuple[int, int]], bool]]:
        """Each ``with``: where it asks for its lock, how it reaches it, its block's parts, whether it is ``async``.

        A part belongs to the block if what is raised there goes to its ``WITH_EXCEPT_START``, at once or by handlers
        within the block. So a ``return`` in the middle, and what a ``finally`` outside does then, are no part of it.
        """
        blocks: dict[int, list[tuple[int, int]]] = {}
        begins: dict[int, int] = {}
        for entry in self.handled:
            target, seen = entry.target, set[int]()
            while target not in seen:
                seen.add(target)
                if self.names(target, 2) == ["PUSH_EXC_INFO", "WITH_EXCEPT_START"]:
                    blocks.setdefault(target, []).append((entry.start, entry.end))
                    if target == entry.target:
                        begins[target] = min(entry.start, begins.get(target, entry.start))
                target = next((one.target for one in self.handled if one.start <= target < one.end), target)
        for target, parts in blocks.items():
            if target not in begins or (entering := self.number(begins[target]) - 1) < 0:
                continue
            by_await = self.each[entering].opname in _AWAIT[-2:]
            while by_await and entering > 0 and self.each[entering].opname in _AWAIT:
                entering -= 1
            last = entering - 1
            if self.each[entering].opname == "CALL":
                if self.each[last].opname != "LOAD_SPECIAL":
                    continue
                while last >= 0 and self.each[last].opname in _BETWEEN:
                    last -= 1
            elif self.each[entering].opname not in _ENTERS:
                continue
            path = self.path(last, entering)
            if path is not None:
                yield self.offsets[entering], path, parts, by_await

    def acquired(self, released: Sequence[tuple[int, Path]]) -> Iterable[tuple[int, Path, list[tuple[int, int]], bool]]:
        """Each ``acquire()``: where it asks, how it reaches its lock, from where to where it surely holds it.

        And whether that is awaited. One that waits for a while only, or not at all, may not have got it.
        """
        for number, one in enumerate(self.each):
            if one.argval not in _ASKING or not _is_method(one) or (path := self.path(number - 1, number)) is None:
                continue
            call, given = number + 1, 0
            while call < len(self.each) and (pushed := _ARGUMENTS.get(self.each[call].opname)) is not None:
                if self.each[call].opname == "LOAD_GLOBAL" and (self.each[call].arg or 0) & 1:
                    break  # a function that is called for an argument
                given += pushed
                call += 1
            if call >= len(self.each) or (name := self.each[call].opname) not in ("CALL", "CALL_KW"):
                continue
            asked = self.offsets[call]
            if given != (self.each[call].arg or 0) + (name == "CALL_KW"):
                continue
            then = call + 1
            if by_await := self.names(asked, 2)[1:] == ["GET_AWAITABLE"]:
                while then < len(self.each) and self.each[then].opname in _AWAIT:
                    then += 1
            begin = self.offsets[then] if then < len(self.each) else asked
            end = next((at for at, other in released if at > asked and other == path), None)
            if name != "CALL" or given or one.argval != "acquire" or end is None:
                yield asked, path, [], by_await
                continue
            # Who comes in from elsewhere may not hold it.
            while (
                outside := min(
                    (to for at, to in self.ways if begin <= to < end and not asked <= at < end), default=None
                )
            ) is not None:
                end = outside
            yield asked, path, [(begin, end)] if begin < end else [], by_await

    def released(self) -> list[tuple[int, Path]]:
        """Where locks are given back, and which."""
        return [
            (one.offset, path)
            for number, one in enumerate(self.each)
            if one.argval == "release" and _is_method(one) and (path := self.path(number - 1, number)) is not None
        ]

    def rebinds(self, begin: int, end: int, path: Path) -> bool:
        """Whether a name or an attribute of the path is set there: then it may lead to another lock than before."""
        for one in self.each[self.number(begin) : self.number(end)]:
            if not one.opname.startswith(("STORE_", "DELETE_")):
                continue
            names = one.argval if isinstance(one.argval, tuple) else (one.argval,)
            if one.opname == "STORE_FAST_LOAD_FAST":
                names = names[:1]
            if any(name in path[2:] if one.opname.endswith("_ATTR") else name == path[1] for name in names):
                return True
        return False

    def names(self, offset: int, many: int) -> list[str]:
        """What the instructions there are called."""
        number = self.number(offset)
        return [one.opname for one in self.each[number : number + many]]

    def path(self, number: int, user: int) -> Path | None:
        """How the value is reached that is put on the stack last by that instruction, for the one that uses it.

        None where that depends on what was decided on the way (``with a if x else b``).
        """
        attributes: list[str] = []
        while number >= 0 and self.each[number].opname == "LOAD_ATTR" and not _is_method(self.each[number]):
            attributes.append(self.each[number].argval)
            number -= 1
        if number < 0 or (where := _FIRST.get(self.each[number].opname)) is None:
            return None
        if self.targets.intersection(self.offsets[number + 1 : user + 1]):
            return None
        name = self.each[number].argval
        if where == "local" and not self.readable:
            return None
        return (where, name[-1] if isinstance(name, tuple) else name, *reversed(attributes))


def _is_method(one: dis.Instruction) -> bool:
    """Whether it looks a method up that is called then."""
    if one.opname == "LOAD_METHOD":
        return True
    return one.opname == "LOAD_ATTR" and sys.version_info >= (3, 12) and bool((one.arg or 0) & 1)


def _found(frame: FrameType, path: Path) -> Any:
    """What stands at that path in this frame; ``_MISSING`` where it cannot be told without running code."""
    where, name, *attributes = path
    code = frame.f_code
    found: Any = _MISSING
    if where == "local":
        if code.co_flags & inspect.CO_OPTIMIZED:
            found = frame.f_locals.get(name, _MISSING)
    elif where == "global":
        found = _entry(frame.f_globals, name)
    elif not (code.co_cellvars or code.co_freevars) and type(frame.f_locals) is dict:
        found = _entry(frame.f_locals, name)
        if found is _MISSING:
            found = _entry(frame.f_globals, name)
    for attribute in attributes:
        found = _attribute(found, attribute)
    return found


def _entry(names: Any, name: str) -> Any:
    return names.get(name, _MISSING) if type(names) is dict else _MISSING


def stored(of: Any, name: str) -> Any:
    """An attribute that is merely stored, read without running any code of the object's; None where there is none."""
    found = _attribute(of, name)
    return None if found is _MISSING else found


def _attribute(of: Any, name: str) -> Any:
    """An attribute that is merely stored: in the object, in a slot, or in its class."""
    if of is _MISSING:
        return of
    kinds = _kinds(type(of))
    reads, found = _first(kinds, "__getattribute__"), _first(kinds, name)
    if issubclass(type(of), type):
        if reads is not type.__getattribute__ or found is not _MISSING:
            return _MISSING  # its metaclass has a say
        found = _first(_kinds(of), name)
        return _MISSING if _has(found, "__get__") else found
    if reads is not _plain and reads is not ModuleType.__getattribute__:
        return _MISSING
    try:
        if found is _MISSING or type(found) is MemberDescriptorType or not _has(found, "__get__"):
            return _plain(of, name)
        if not _has(found, "__set__") and not _has(found, "__delete__"):
            return _stored(of, kinds).get(name, _MISSING)  # such as what a `cached_property` has worked out
    except (AttributeError, TypeError):  # none, a slot that is empty, or one of another class
        pass
    return _MISSING


def _first(kinds: tuple[type, ...], name: str) -> Any:
    """What the first of these classes that has it says."""
    for each in kinds:
        found = _attributes(each).get(name, _MISSING)
        if found is not _MISSING:
            return found
    return _MISSING


def _has(found: Any, method: str) -> bool:
    return _first(_kinds(type(found)), method) is not _MISSING


def _stored(of: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    """The attributes that an object itself has; none where its class has code of its own to say so."""
    found = _first(kinds, "__dict__")
    if type(found) is GetSetDescriptorType or type(found) is MemberDescriptorType:
        stored = found.__get__(of, type(of))
        return stored if type(stored) is dict else {}
    return {}


def _lock(found: Any) -> Any:
    """The lock itself: a condition's own, or what was found if it is one; else None."""
    if issubclass(type(found), _CONDITION):
        found = _attribute(found, "_lock")
    return found if type(found) is _LOCK or type(found) is _RLOCK else None


def _plain_lock(found: Any) -> Any:
    lock = _lock(found)
    return lock if type(lock) is _LOCK else None


def _tasks_lock(found: Any) -> Any:
    """As ``_lock``, of asyncio."""
    if issubclass(type(found), asyncio.Condition):
        found = _attribute(found, "_lock")
    return found if issubclass(type(found), asyncio.Lock) else None
