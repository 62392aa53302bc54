"""Text to IR: recursive descent, every op re-typed by its own rule. No eval: hostile text gives ParseError."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import numpy as np

from rnngraph.errors import IRError, ParseError
from rnngraph.ir import ops
from rnngraph.ir.builder import make_op
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.opdef import NO_ATTRS, Array, Attrs, Literal, OpDef
from rnngraph.ir.scan import SCAN, ScanAttrs
from rnngraph.ir.table import OPS
from rnngraph.ir.text.lexer import Token, tokenize
from rnngraph.ir.types import DTYPES, Dim, DType, TensorType

T = TypeVar("T")
_ESCAPE = re.compile(r"\\(.)")
MAX_DEPTH = 64  # nested scans; deeper text is refused rather than overflowing the stack


def parse(text: str, resources: Mapping[str, Array] | None = None) -> Graph:
    """Read a graph. ``resources`` gives large constants that the text only refers to (the keys without @).

    Raises ParseError with line and column for bad syntax, unknown ops, types that do not fit, unknown values.
    """
    return _Parser(text, dict(resources or {})).graph()


class _Parser:
    def __init__(self, text: str, resources: dict[str, Array]) -> None:
        self.tokens = tokenize(text)
        self.at = 0
        self.values: dict[str, Value] = {}
        self.resources = resources
        self.depth = 0

    # --- tokens ---------------------------------------------------------------------------------------------

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

    # --- graph ------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.read_resources()
        self.expect("graph")
        name = self.expect_kind("symbol", "the graph's @name").text[1:]
        graph = Graph(name)
        self.expect("(")
        self.items(")", lambda: self.argument(graph.block))
        self.expect("{")
        self.block_body(graph.block, None)
        while self.token.text == "resource":
            self.skip_resource()
        if self.token.kind != "end":
            raise self.token.error(f"expected end of text, got {self.token}")
        return graph

    def argument(self, block: Block) -> None:
        token = self.expect_kind("value", "an argument %name")
        self.expect(":")
        self.define(token, block.add_arg(self.type(), token.text[1:]))

    def define(self, token: Token, value: Value) -> None:
        if token.text in self.values:
            raise token.error(f"{token.text} is defined twice")
        name = token.text[1:]
        value.hint = "" if name.isdigit() else name
        self.values[token.text] = value

    def use(self) -> Value:
        token = self.expect_kind("value", "a value %name")
        try:
            return self.values[token.text]
        except KeyError:
            raise token.error(f"{token.text} is not defined before its use") from None

    def block_body(self, block: Block, scan: tuple[tuple[str, ...], tuple[str, ...]] | None) -> tuple[str, ...]:
        """Ops up to the closing brace; for a scan body returns the names it emits."""
        emitted: tuple[str, ...] = ()
        while not self.accept("}"):
            start = self.token
            if block.ops and block.ops[-1].opdef.terminator:
                raise start.error("an op stands after the block's terminator")
            if scan is None and self.accept("return"):
                names, values = self.named(None)
                self.insert(block, start, ops.RETURN, values, ops.ReturnAttrs(names))
            elif scan is not None and self.accept("yield"):
                emitted = self.yield_op(block, start, scan[0])
            else:
                self.op(block)
        if not block.ops or not block.ops[-1].opdef.terminator:
            raise self.tokens[self.at - 1].error(f"block must end with {'return' if scan is None else 'yield'}")
        return emitted

    def insert(self, block: Block, at: Token, opdef: OpDef, operands: list[Value], attrs: Attrs,
               blocks: tuple[Block, ...] = ()) -> Op:
        try:
            op = make_op(opdef, operands, attrs, blocks)
        except (IRError, AttributeError, TypeError, ValueError, IndexError) as e:
            raise at.error(str(e)) from e
        if opdef.terminator:
            self.meta(op)
        block.append(op)
        return op

    # --- ops ----------------------------------------------------------------------------------------------------

    def op(self, block: Block) -> None:
        names: list[Token] = []
        while self.token.kind == "value":
            names.append(self.next())
            if not self.accept(","):
                break
        if names:
            self.expect("=")
        at = self.expect_kind("word", "an op name")
        opdef = OPS.get(at.text)
        if opdef is None or opdef.terminator:
            raise at.error(f"unknown op {at.text!r}")
        if opdef is SCAN:
            op = self.scan(block, at)
        elif opdef is ops.CONST:
            op = self.insert(block, at, opdef, [], self.const())
        else:
            operands = []
            while self.token.kind == "value":
                operands.append(self.use())
                if not self.accept(","):
                    break
            op = self.insert(block, at, opdef, operands, self.attrs(opdef))
        if opdef is not ops.CONST:
            self.check_types(op)
        if len(names) != len(op.results):
            raise at.error(f"{op.name} has {len(op.results)} result(s), {len(names)} name(s) are given")
        for token, result in zip(names, op.results, strict=True):
            self.define(token, result)
        self.meta(op)

    def check_types(self, op: Op) -> None:
        if not op.results:
            self.accept(":")
            return
        self.expect(":")
        for i, result in enumerate(op.results):
            if i:
                self.expect(",")
            at = self.token
            if (t := self.type()) != result.type:
                raise at.error(f"result {i} of {op.name} is {result.type}, the text says {t}")

    def meta(self, op: Op) -> None:
        if not self.accept("<"):
            return
        for key, value in self.items(">", self.meta_item):
            if key == "layer":
                op.layer = value
            else:
                op.impl = value

    def meta_item(self) -> tuple[str, str]:
        key = self.expect_kind("word", "layer or impl")
        if key.text not in ("layer", "impl"):
            raise key.error(f"expected layer or impl, got {key}")
        self.expect("=")
        return key.text, self.word()

    def named(self, close: str | None) -> tuple[tuple[str, ...], list[Value]]:
        """``name = %value, ...`` up to ``close``, or to where the list ends."""
        pairs: list[tuple[str, Value]] = []

        def item() -> tuple[str, Value]:
            name = self.word()
            self.expect("=")
            return name, self.use()

        if close is not None:
            pairs = self.items(close, item)
        elif self.token.kind in ("word", "string"):
            pairs.append(item())
            while self.accept(","):
                pairs.append(item())
        return tuple(n for n, _ in pairs), [v for _, v in pairs]

    def scan(self, block: Block, at: Token) -> Op:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise at.error(f"scans are nested deeper than {MAX_DEPTH}")
        self.expect("carry")
        self.expect("(")
        carries, inits = self.named(")")
        self.expect("over")
        self.expect("(")
        xs, sequences = self.named(")")
        lengths: list[Value] = []
        if self.accept("lengths"):
            self.expect("(")
            lengths = [self.use()]
            self.expect(")")
        options = self.scan_options()
        self.expect("{")
        self.expect("^")
        self.expect("(")
        body = Block()
        self.items(")", lambda: self.argument(body))
        self.expect(":")
        ys = self.block_body(body, (carries, xs))
        attrs = ScanAttrs(carries, xs, ys, options["steps"], options.get("reverse", False), bool(lengths),
                          options.get("pad", "zero"))
        self.depth -= 1
        return self.insert(block, at, SCAN, [*inits, *sequences, *lengths], attrs, (body,))

    def scan_options(self) -> dict[str, Any]:
        at = self.expect("{")
        kinds: dict[str, tuple[type, ...]] = {"steps": (int, str), "reverse": (bool,), "pad": (str,)}
        out: dict[str, Any] = {}
        for token, value in self.items("}", self.item):
            if type(value) not in kinds.get(token.text, ()):
                raise token.error(f"scan takes steps (a dim), reverse (bool), pad (word); got {token.text} = {value!r}")
            out[token.text] = value
        if "steps" not in out:
            raise at.error("scan needs steps = <number or symbol>")
        return out

    def yield_op(self, block: Block, at: Token, carries: tuple[str, ...]) -> tuple[str, ...]:
        self.expect("carry")
        self.expect("(")
        names, values = self.named(")")
        if names != carries:
            raise at.error(f"yield must name the carries {list(carries)} in order, got {list(names)}")
        self.expect("emit")
        self.expect("(")
        ys, emitted = self.named(")")
        self.insert(block, at, ops.YIELD, [*values, *emitted], ops.YieldAttrs(len(values)))
        return ys

    # --- attributes, types, constants --------------------------------------------------------------------------

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
        token = self.next()
        if token.kind == "word":
            return token.text
        if token.kind == "number" and token.text.isdigit():
            return int(token.text)
        raise token.error(f"expected a dim (a number or a symbol), got {token}")

    def const(self) -> ops.ConstAttrs:
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
        return ops.ConstAttrs(literal)

    def typed(self, at: Token, values: list[Any], *, splat: bool) -> Literal:
        self.expect(":")
        t = self.type()
        shape = _concrete(at, t)
        if any(isinstance(v, str) for v in values):
            raise at.error(f"a constant of type {t} holds numbers")
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
        while self.token.kind != "end":
            if self.token.text == "resource" and self.tokens[self.at + 1].kind == "symbol":
                self.read_resource()
            else:
                self.next()
        self.at = at

    def read_resource(self) -> None:
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


__all__ = ["DType", "ParseError", "parse"]
