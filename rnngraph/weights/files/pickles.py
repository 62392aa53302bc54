"""Pickles as data: what one would make, without making it. Nothing that a pickle names is looked up or called.

Python's own values come out as they are; every class, function and object that a pickle names or calls becomes a
description (`Name`, `Made`) for whoever knows what to do with it.
"""

from __future__ import annotations

import codecs
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from rnngraph.errors import ImportModelError

MAX_BYTES = 64 * 2**20  # of one pickle; arrays stand outside of it
MAX_DEPTH = 200  # of nested values, for whoever walks what comes out


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function, by its module and name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Made:
    """What calling ``function`` with ``args`` would give, and what the pickle would do to it afterwards."""

    function: Any
    args: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list)  # appended
    pairs: list[tuple[Any, Any]] = field(default_factory=list)  # set by key


@dataclass(eq=False, slots=True)
class Persistent:
    """An object outside of the pickle, by what the pickle says of it."""

    id: Any


_MARK = object()
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
# opcodes whose argument is the value
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
           "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "BINBYTES", "BINBYTES8",
           "SHORT_BINBYTES", "BYTEARRAY8"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict, "EMPTY_SET": list}
_NOTHING = {"PROTO", "FRAME"}
_BROKEN = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError, EOFError)


def read_pickle(data: bytes | BytesIO) -> Any:
    """What a pickle describes; a stream is left behind it. ImportModelError where it is broken or too large."""
    stream = data if isinstance(data, BytesIO) else BytesIO(data)
    if len(stream.getbuffer()) - stream.tell() > MAX_BYTES and isinstance(data, bytes):
        raise ImportModelError(f"a pickle of {len(data)} bytes, more than {MAX_BYTES}")
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the escapes in texts
            while (code := stream.read(1)) != b".":
                if code == b"":
                    raise ImportModelError("a pickle without an end")
                machine.step(*_instruction(code, stream))
            return machine.stack.pop()
    except ImportModelError:
        raise
    except _BROKEN as e:
        raise ImportModelError(f"a broken pickle: {type(e).__name__}: {str(e)[:80]}") from None


def _instruction(code: bytes, stream: BytesIO) -> tuple[str, Any]:
    """The name of an opcode, and its argument."""
    opcode = _OPCODES[code.decode("latin-1")]
    if opcode.name == "STRING":  # any bytes, as Python 2 writes them; pickletools takes ASCII alone
        return opcode.name, codecs.escape_decode(pickletools.read_stringnl(stream, decode=False))[0].decode("latin-1")
    return opcode.name, None if opcode.arg is None else opcode.arg.reader(stream)


class _Machine:
    """The stack and the memo of a pickle being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name not in _NOTHING:
            action = _ACTIONS.get(name)
            if action is None:
                raise ImportModelError(f"a pickle with the opcode {name}, which weights do not need")
            action(self, argument)

    def marked(self) -> list[Any]:
        """What stands above the last mark, which goes."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ImportModelError("a broken pickle: there is no mark")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def pair(self) -> tuple[Any, Any]:
        second = self.stack.pop()
        return self.stack.pop(), second

    def wrap(self, count: int) -> None:
        """The last ``count`` values as a tuple."""
        found = tuple(self.stack[len(self.stack) - count :])
        if len(found) != count:
            raise ImportModelError("a broken pickle: too few values for a tuple")
        del self.stack[len(self.stack) - count :]
        self.stack.append(found)

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        (target if isinstance(target, list) else target.items).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(target, dict):
                target[key] = value
            else:
                target.pairs.append((key, value))

    def make(self, function: Any, args: Any) -> None:
        if not isinstance(args, tuple):
            raise ImportModelError("a broken pickle: a call without a tuple of arguments")
        self.stack.append(Made(function, args))

    def build(self) -> None:
        target, state = self.pair()
        if not isinstance(target, Made):
            raise ImportModelError("a broken pickle: a state for what is no object")
        target.state = state
        self.stack.append(target)


def _named(machine: _Machine, text: str) -> None:
    module, _, name = text.partition(" ")
    machine.stack.append(Name(module, name))


def _stack_named(machine: _Machine) -> None:
    module, name = machine.pair()
    machine.stack.append(Name(str(module), str(name)))


def _new_with_keywords(machine: _Machine) -> None:
    args, keywords = machine.pair()
    machine.make(machine.stack.pop(), (*args, keywords))


def _instance(machine: _Machine, function: Any, args: list[Any]) -> None:
    machine.make(function, tuple(args))


def _object(machine: _Machine) -> None:
    function, *args = machine.marked()
    machine.make(function, tuple(args))


_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda m, _: m.stack.append(_MARK), "POP": lambda m, _: m.stack.pop(), "POP_MARK": lambda m, _: m.marked(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]), "TUPLE": lambda m, _: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.wrap(1), "TUPLE2": lambda m, _: m.wrap(2), "TUPLE3": lambda m, _: m.wrap(3),
    "LIST": lambda m, _: m.stack.append(m.marked()), "FROZENSET": lambda m, _: m.stack.append(m.marked()),
    "DICT": lambda m, _: _dict(m), "APPEND": lambda m, _: _append(m), "APPENDS": lambda m, _: _appends(m),
    "ADDITEMS": lambda m, _: _appends(m), "SETITEM": lambda m, _: _set_item(m), "SETITEMS": lambda m, _: _set_items(m),
    "PUT": lambda m, a: m.put(int(a)), "BINPUT": lambda m, a: m.put(a), "LONG_BINPUT": lambda m, a: m.put(a),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)), "GET": lambda m, a: m.stack.append(m.memo[int(a)]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]), "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": _named, "STACK_GLOBAL": lambda m, _: _stack_named(m), "REDUCE": lambda m, _: m.make(*m.pair()),
    "NEWOBJ": lambda m, _: m.make(*m.pair()), "NEWOBJ_EX": lambda m, _: _new_with_keywords(m),
    "INST": lambda m, a: _instance(m, Name(*a.split(" ", 1)), m.marked()), "OBJ": lambda m, _: _object(m),
    "BUILD": lambda m, _: m.build(), "PERSID": lambda m, a: m.stack.append(Persistent(a)),
    "BINPERSID": lambda m, _: m.stack.append(Persistent(m.stack.pop()))}


def _dict(machine: _Machine) -> None:
    values = machine.marked()
    machine.stack.append({})
    machine.set_items(values)


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.extend([value])


def _appends(machine: _Machine) -> None:
    values = machine.marked()
    machine.extend(values)


def _set_item(machine: _Machine) -> None:
    key, value = machine.pair()
    machine.set_items([key, value])


def _set_items(machine: _Machine) -> None:
    values = machine.marked()
    machine.set_items(values)
