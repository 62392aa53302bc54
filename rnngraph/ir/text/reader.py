"""What stands inside an op's line: words, types, attributes, constants and resources. No eval."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import numpy as np

from rnngraph.errors import ShapeError
from rnngraph.ir.dims import parse
from rnngraph.ir.opdef import NO_ATTRS, Array, Attrs, Literal, OpDef
from rnngraph.ir.ops import ConstAttrs
from rnngraph.ir.text.lexer import Token, tokenize
from rnngraph.ir.types import DTYPES, MAX_DIM, Dim, TensorType

T = TypeVar("T")
_ESCAPE = re.compile(r"\\(.)")


class Cursor:
    """A place in the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.tokens = tokenize(text)
        self.at = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, text: str) -> bool:
        if self.token.text == text and self.token.kind in ("punct", "word"):
            self.next()
            return True
        return False

    def expect(self, text: str) -> Token:
        if self.token.text != text or self.token.kind not in ("punct", "word"):
            raise self.token.error(f"expected {text!r}, got {self.token}")
        return self.next()

    def expect_kind(self, kind: str, what: str) -> Token:
        if self.token.kind != kind:
            raise self.token.error(f"expected {what}, got {self.token}")
        return self.next()

    def items(self, close: str, item: Callable[[], T]) -> list[T]:
        """Comma-separated items up to and including ``close``."""
        out: list[T] = []
        while not self.accept(close):
            if out:
                self.expect(",")
            out.append(item())
        return out


class Reader(Cursor):
    """Reads types, attributes and constants; ``resources`` holds the large constants by key."""

    def __init__(self, text: str, resources: dict[str, Array]) -> None:
        super().__init__(text)
        self.resources = resources

    def attrs(self, opdef: OpDef) -> Attrs:
        declared = {f.name: f for f in fields(opdef.attrs)}
        given: dict[str, Any] = {}
        at = self.token
        if self.accept("{"):
            for token, value in self.items("}", self.item):
                if token.text not in declared or token.text in given:
                    raise token.error(f"{opdef.name} takes the attributes {list(declared)} once each, got {token}")
                given[token.text] = _convert(token, declared[token.text].type, value)
        required = [n for n, f in declared.items() if f.default is MISSING]
        if missing := [n for n in required if n not in given]:
            raise at.error(f"{opdef.name} needs the attribute(s) {missing}")
        return opdef.attrs(**given) if declared else NO_ATTRS

    def item(self) -> tuple[Token, Any]:
        key = self.expect_kind("word", "an attribute's name")
        self.expect("=")
        return key, self.attribute()

    def attribute(self) -> Any:
        if self.accept("["):
            return tuple(self.items("]", self.attribute_scalar))
        return self.attribute_scalar()

    def attribute_scalar(self) -> Any:
        token = self.token
        if token.kind == "number":
            self.next()
            return _number(token)
        if token.kind == "word" and token.text in ("true", "false"):
            return self.next().text == "true"
        return self.word()

    def word(self) -> str:
        token = self.next()
        if token.kind == "word":
            return token.text
        if token.kind == "string":
            return _ESCAPE.sub(lambda m: "\n" if m.group(1) == "n" else m.group(1), token.text[1:-1])
        raise token.error(f"expected a word or a string, got {token}")

    def type(self) -> TensorType:
        token = self.expect_kind("word", "a type such as f32[T,B,4]")
        if token.text not in DTYPES:
            raise token.error(f"unknown dtype {token.text!r}; expected one of {', '.join(DTYPES)}")
        self.expect("[")
        return TensorType(DTYPES[token.text], tuple(self.items("]", self.dim)))

    def dim(self) -> Dim:
        """A number, a symbol, or an expression without spaces."""
        start, depth, parts = self.token, 0, list[str]()
        while self.token.kind in ("word", "number", "punct") and (depth or self.token.text not in (",", "]", ")")):
            token = self.next()
            depth += (token.text == "(") - (token.text == ")")
            parts.append(token.text)
            if self.token.line != token.line or self.token.column != token.column + len(token.text):
                break
        text = "".join(parts)
        if text.isdigit():
            if len(text) > 15 or int(text) > MAX_DIM:
                raise start.error("a dim is at most 2**48")
            return int(text)
        try:
            canonical = parse(text)
        except ShapeError as e:
            raise start.error(f"expected a dim (a number, a symbol or an expression), got {text[:40]!r}: {e}") from None
        if not isinstance(canonical, str):
            raise start.error(f"expected a dim (a number, a symbol or an expression), got {text[:40]!r}")
        if canonical != text:
            raise start.error(f"the size {text} is spelled {canonical}")
        return canonical

    def const(self) -> ConstAttrs:
        start = self.token
        if self.accept("splat"):
            self.expect("(")
            values = [self.attribute_scalar()]
            self.expect(")")
            literal = self.typed(start, values, splat=True)
        elif self.accept("["):
            literal = self.typed(start, self.items("]", self.attribute_scalar), splat=False)
        else:
            key = self.expect_kind("symbol", "splat(...), [...] or a @resource")
            literal = self.typed_resource(key)
        return ConstAttrs(literal)

    def typed(self, at: Token, values: list[Any], *, splat: bool) -> Literal:
        self.expect(":")
        t = self.type()
        shape = _concrete(at, t)
        if any(isinstance(v, str) for v in values):
            raise at.error(f"a constant of type {t} holds numbers")
        if any(isinstance(v, bool) != (t.dtype.kind == "bool") for v in values):
            raise at.error(f"a constant of type {t} holds {'true and false' if t.dtype.kind == 'bool' else 'numbers'}")
        count = int(np.prod(shape, dtype=np.int64))
        if not splat and count != len(values):
            raise at.error(f"a constant of type {t} needs {count} values, got {len(values)}")
        try:
            array = np.asarray(values[0] if splat else values, t.dtype.numpy)
        except (OverflowError, ValueError) as e:
            raise at.error(f"values do not fit {t.dtype}: {e}") from None
        return Literal(np.broadcast_to(array, shape) if splat else array.reshape(shape), t.dtype)

    def typed_resource(self, key: Token) -> Literal:
        self.expect(":")
        t = self.type()
        array = self.resources.get(key.text[1:])
        if array is None:
            raise key.error(f"resource {key.text} is neither in the text nor given; "
                            "print with resources=True or pass resources=")
        if array.shape != t.shape or array.dtype != t.dtype.numpy:
            raise key.error(f"resource {key.text} is {array.dtype}{list(array.shape)}, the text says {t}")
        return Literal(array, t.dtype)

    def read_resources(self) -> None:
        """Resources stand behind the graph; read them first."""
        at, self.at = self.at, 0
        seen = set[str]()
        while self.token.kind != "end":
            if self.token.text == "resource" and self.tokens[self.at + 1].kind == "symbol":
                key = self.read_resource()
                if key.text in seen:
                    raise key.error(f"resource {key.text} stands in the text twice")
                seen.add(key.text)
            else:
                self.next()
        self.at = at

    def read_resource(self) -> Token:
        self.expect("resource")
        key = self.expect_kind("symbol", "the resource's @key")
        t = self.type()
        self.expect("base64")
        token = self.expect_kind("string", "base64 text")
        shape = _concrete(key, t)
        try:
            data = base64.b64decode(token.text[1:-1], validate=True)
        except binascii.Error as e:
            raise token.error(f"bad base64: {e}") from None
        if len(data) != int(np.prod(shape, dtype=np.int64)) * t.dtype.numpy.itemsize:
            raise token.error(f"resource {key.text} has {len(data)} bytes, {t} needs another number")
        self.resources[key.text[1:]] = np.frombuffer(data, t.dtype.numpy).reshape(shape)
        return key

    def skip_resource(self) -> None:
        self.read_resource()


def _concrete(at: Token, t: TensorType) -> tuple[int, ...]:
    shape = tuple(d for d in t.shape if isinstance(d, int))
    if len(shape) != t.rank:
        raise at.error(f"a constant has no symbolic dims, got {t}")
    if np.prod([float(d) for d in shape]) > 2**28:
        raise at.error(f"a constant of type {t} is too large")
    return shape


def _number(token: Token) -> int | float:
    text = token.text
    if len(text) > 400:
        raise token.error("number is too long")
    try:
        return int(text)
    except ValueError:
        return float(text)


def _convert(at: Token, annotation: Any, value: Any) -> Any:
    """Check an attribute's value against its field's annotation (a string: annotations are postponed)."""
    if annotation == "DType":
        if value not in DTYPES:
            raise at.error(f"{at.text} must be a dtype, got {value!r}")
        return DTYPES[value]
    checks: dict[str, Callable[[Any], bool]] = {
        "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
        "float": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
        "bool": lambda v: isinstance(v, bool),
        "str": lambda v: isinstance(v, str),
        "Dim": lambda v: isinstance(v, int | str) and not isinstance(v, bool),
        "Shape": lambda v: isinstance(v, tuple) and all(isinstance(d, int | str) for d in v),
        "tuple[int, ...]": lambda v: isinstance(v, tuple) and all(isinstance(d, int) for d in v),
        "tuple[str, ...]": lambda v: isinstance(v, tuple) and all(isinstance(d, str) for d in v),
    }
    if not checks[annotation](value):
        raise at.error(f"{at.text} must be {annotation}, got {value!r}")
    return float(value) if annotation == "float" else value
