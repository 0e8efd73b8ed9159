"""Which lock a thread waits for, and who holds it, read from the byte code that both stand in.

A ``threading.Lock`` does not know its holder. But code that waits stands at ``with NAME:`` or ``NAME.acquire()``, and
code that holds it stands inside such a ``with``, or between ``acquire()`` and ``release()``. Both say by which name or
attribute they reach the lock (``lock``, ``self.pool.lock``), and what that is can be looked up in their frames without
running any code of the app's: plain variables, attributes of instances, slots and classes. Where that cannot be told (a
lock in a list, one that a function returned) nobody is named. An ``RLock`` says itself who owns it.

Source: the exception table of the code (a ``with`` ends in ``WITH_EXCEPT_START``), ``dis`` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import dis
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

#: How a lock is reached: where its first name is looked up, that name, and attributes of it.
Path = tuple[str, ...]

#: Longer code is not read: it would keep the interpreter from the app for a millisecond and more.
_LONGEST: Final = 16_384
_KNOWN_AT_MOST: Final = 2_048
#: Frames of a stack that are looked at for a lock that it holds.
_DEEPEST: Final = 64
_ASKING: Final = ("acquire", "__enter__")
_FIRST: Final = {
    "LOAD_FAST": "local", "LOAD_FAST_CHECK": "local", "LOAD_FAST_BORROW": "local", "LOAD_FAST_LOAD_FAST": "local",
    "STORE_FAST_LOAD_FAST": "local", "LOAD_FAST_BORROW_LOAD_FAST_BORROW": "local", "LOAD_DEREF": "local",
    "LOAD_NAME": "local", "LOAD_GLOBAL": "global",
}  # fmt: skip
#: What stands between a lock and the call that enters it.
_BETWEEN: Final = ("BEFORE_WITH", "CALL", "PRECALL", "LOAD_SPECIAL", "SWAP", "COPY", "PUSH_NULL")
#: What may stand between ``acquire`` and its call: arguments that are no calls themselves.
_ARGUMENTS: Final = ("LOAD_CONST", "LOAD_SMALL_INT", "KW_NAMES", "PRECALL", "PUSH_NULL", *_FIRST)
_WITH: Final = {dis.opmap[name] for name in ("BEFORE_WITH", "WITH_EXCEPT_START") if name in dis.opmap}
_OWNER: Final = re.compile(r" owner=(\d+) ")
_LOCK: Final = type(threading.Lock())
_RLOCK: Final = type(threading.RLock())
_STORES: Final = (GetSetDescriptorType, MemberDescriptorType)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Locking:
    """What a function does with locks: where it asks for one, and from where to where it holds one (byte offsets)."""

    asks: Mapping[int, Path]
    holds: tuple[tuple[int, int, Path], ...]


_NOTHING: Final = Locking({}, ())
_known: dict[int, tuple[CodeType, Locking]] = {}  # by id: two functions of one text have equal code


def wanted(frame: FrameType) -> Any:
    """The lock that the innermost frame of a thread stands at; None where that cannot be told."""
    path = locking(frame.f_code).asks.get(frame.f_lasti)
    return None if path is None else _lock(_found(frame, path))


def holder(lock: Any, stacks: Iterable[tuple[int, FrameType]]) -> int | None:
    """Which of these threads (its number in Python, its innermost frame) holds the lock; None where none is seen to."""
    if type(lock) is _RLOCK:
        owner = _OWNER.search(repr(lock))
        return int(owner[1]) if owner is not None and owner[1] != "0" else None
    return next((ident for ident, frame in stacks if holds(frame, lock)), None)


def holds(innermost: FrameType, lock: Any) -> bool:
    """Whether one of the frames of this stack stands where the lock is held."""
    frame: FrameType | None = innermost
    given_back: list[Any] = []
    for _ in range(_DEEPEST):
        if frame is None:
            break
        code, at = frame.f_code, frame.f_lasti
        if code is threading.Condition.wait.__code__:
            given_back.append(_lock(frame.f_locals.get("self")))
        for begin, end, path in locking(code).holds:
            if begin <= at < end and _lock(_found(frame, path)) is lock:
                return not any(lock is given for given in given_back)
        frame = frame.f_back
    return False


def locking(code: CodeType) -> Locking:
    """What this code does with locks; read once."""
    known = _known.get(id(code))
    if known is None:
        if len(_known) >= _KNOWN_AT_MOST:
            _known.clear()
        known = _known[id(code)] = (code, _read(code))
    return known[1]


def _read(code: CodeType) -> Locking:
    raw = code.co_code
    named = any(name in code.co_names for name in _ASKING)
    if len(raw) > _LONGEST or not (named or _WITH.intersection(raw[::2])):
        return _NOTHING
    each = [one for one in dis.get_instructions(code) if one.opname not in ("CACHE", "NOP", "EXTENDED_ARG")]
    offsets = [one.offset for one in each]
    asks: dict[int, Path] = {}
    holds: list[tuple[int, int, Path]] = []
    # A block of `with`: parts of the code whose exceptions go to the same `WITH_EXCEPT_START`. Between them lie blocks
    # within it. It is over where its `__exit__` is called with three times None.
    blocks: dict[int, list[tuple[int, int]]] = {}
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        handler = bisect_left(offsets, entry.target)
        if entry.start < entry.target and _names(each, handler, 2) == ["PUSH_EXC_INFO", "WITH_EXCEPT_START"]:
            blocks.setdefault(entry.target, []).append((entry.start, entry.end))
    for parts in blocks.values():
        begin, first_end = min(parts)
        entering = bisect_left(offsets, begin) - 1
        path = _path(each, entering, _BETWEEN)
        if path is not None:
            asks[each[entering].offset] = path
            ends = [end for _, end in parts if _exits(each, bisect_left(offsets, end))]
            holds.append((begin, max(ends, default=first_end), path))
    released = [
        (one.offset, path)
        for number, one in enumerate(each)
        if one.opname in ("LOAD_METHOD", "LOAD_ATTR")
        and one.argval == "release"
        and (path := _path(each, number - 1, ())) is not None
    ]
    for number, one in enumerate(each):
        if one.opname not in ("LOAD_METHOD", "LOAD_ATTR") or one.argval not in _ASKING:
            continue
        path = _path(each, number - 1, ())
        call = number + 1
        while call < len(each) and each[call].opname in _ARGUMENTS:
            call += 1
        if path is None or call >= len(each) or not each[call].opname.startswith("CALL"):
            continue
        asks[each[call].offset] = path
        # One that waits for a while only may not have got it.
        plain = each[call].opname == "CALL" and each[call].arg == 0 and one.argval == "acquire"
        end = next((offset for offset, other in released if offset > each[call].offset and other == path), None)
        if plain and end is not None:
            holds.append((each[call].offset + 2, end, path))
    return Locking(asks, tuple(holds))


def _names(each: list[dis.Instruction], number: int, many: int) -> list[str]:
    return [one.opname for one in each[number : number + many]]


def _exits(each: list[dis.Instruction], number: int) -> bool:
    """Whether the call of ``__exit__`` after a block of ``with`` begins here."""
    while number < len(each) and each[number].opname in ("SWAP", "COPY", "PUSH_NULL"):
        number += 1
    nothing = each[number : number + 3]
    return len(nothing) == 3 and all(one.opname == "LOAD_CONST" and one.argval is None for one in nothing)


def _path(each: list[dis.Instruction], number: int, between: tuple[str, ...]) -> Path | None:
    """How the value is reached that was put on the stack last, up to that instruction."""
    while number >= 0 and each[number].opname in between:
        number -= 1
    attributes: list[str] = []
    while number >= 0 and each[number].opname == "LOAD_ATTR":
        attributes.append(each[number].argval)
        number -= 1
    if number < 0 or (where := _FIRST.get(each[number].opname)) is None:
        return None
    name = each[number].argval
    return (where, name[-1] if isinstance(name, tuple) else name, *reversed(attributes))


def _found(frame: FrameType, path: Path) -> Any:
    """What stands at that path in this frame; ``_MISSING`` where it cannot be told without running code."""
    where, name, *attributes = path
    found = (frame.f_globals if where == "global" else frame.f_locals).get(name, _MISSING)
    if found is _MISSING and where == "local":
        found = frame.f_globals.get(name, _MISSING)  # the top level of a module or class
    for attribute in attributes:
        found = _attribute(found, attribute)
    return found


def _attribute(of: Any, name: str) -> Any:
    """An attribute that is merely stored: in the object, in a slot, or in its class."""
    if of is _MISSING:
        return of
    kinds = (of if isinstance(of, type) else type(of)).__mro__
    if not isinstance(of, type) and name in (stored := _stored(of, kinds)):
        return stored[name]
    for each in kinds:
        found = each.__dict__.get(name, _MISSING)
        if found is _MISSING:
            continue
        if isinstance(found, MemberDescriptorType) and not isinstance(of, type):
            try:
                return found.__get__(of, type(of))
            except AttributeError:
                return _MISSING  # a slot that is empty
        return _MISSING if any("__get__" in kind.__dict__ for kind in type(found).__mro__) else found
    return _MISSING


def _stored(of: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    """The attributes that an object itself has; none where its class has code of its own to say so."""
    for each in kinds:
        found = each.__dict__.get("__dict__")
        if found is not None:
            return found.__get__(of, type(of)) if isinstance(found, _STORES) else {}
    return {}


def _lock(found: Any) -> Any:
    """The lock itself: a condition's own, or what was found if it is one; else None."""
    if issubclass(type(found), threading.Condition):
        found = _attribute(found, "_lock")
    return found if type(found) in (_LOCK, _RLOCK) else None
