"""IR to text. One line per op; constants above `INLINE` elements are printed as references to resources.

    graph @main(%x: f32[T,B,3]) {
      %w = const @0123456789abcdef : f32[3,4]
      %y = matmul %x, %w : f32[T,B,4] <layer = dense>
      return y = %y
    }
    resource @0123456789abcdef f32[3,4] base64 "..."
"""

from __future__ import annotations

import base64
import re
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np

from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.opdef import Array, Attrs, Literal
from rnngraph.ir.ops import ConstAttrs, ReturnAttrs, YieldAttrs
from rnngraph.ir.scan import Scan, ScanAttrs
from rnngraph.ir.types import DType

INLINE = 16
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-/]")
_WORDS = {"true", "false", "inf", "nan"}


def resource_key(literal: Literal) -> str:
    """How a large constant is named in text: the first 16 hex digits of its content's digest."""
    return literal.digest[:16]


def resources_of(graph: Graph) -> dict[str, Array]:
    """The arrays that the text of ``graph`` refers to, by key."""
    found: dict[str, Array] = {}
    for op in graph.walk():
        if isinstance(op.attrs, ConstAttrs) and not _inline(op.attrs.value):
            found[resource_key(op.attrs.value)] = op.attrs.value.array
    return found


def to_text(graph: Graph, *, resources: bool = True) -> str:
    """Text of ``graph``; with ``resources`` large constants follow as base64, so that it parses back alone."""
    return _Printer().graph(graph, resources)


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.counter = 0

    def graph(self, graph: Graph, resources: bool) -> str:
        args = ", ".join(f"{self.define(v, exact=True)}: {v.type}" for v in graph.inputs)
        lines = [f"graph @{graph.name}({args}) {{", *self.block(graph.block, "  "), "}"]
        if resources:
            types = {resource_key(op.attrs.value): op.attrs.value
                     for op in graph.walk() if isinstance(op.attrs, ConstAttrs) and not _inline(op.attrs.value)}
            for key, literal in types.items():
                data = base64.b64encode(np.ascontiguousarray(literal.array).data).decode()
                lines.append(f'resource @{key} {literal.type} base64 "{data}"')
        return "\n".join(lines) + "\n"

    def define(self, value: Value, *, exact: bool = False) -> str:
        base = value.hint if exact or not value.hint else _safe(value.hint)
        if not base:
            base, self.counter = str(self.counter), self.counter + 1
        name, n = base, 1
        while name in self.taken:
            name, n = f"{base}_{n}", n + 1
        self.taken.add(name)
        self.names[value] = f"%{name}"
        return f"%{name}"

    def use(self, value: Value) -> str:
        return self.names.get(value, f"%<undefined {value.hint}>")

    def uses(self, values: tuple[Value, ...]) -> str:
        return ", ".join(map(self.use, values))

    def block(self, block: Block, indent: str) -> list[str]:
        return [line for op in block.ops for line in self.op(op, indent)]

    def op(self, op: Op, indent: str) -> list[str]:
        if isinstance(op.attrs, ScanAttrs):
            return self.scan(op, indent)
        if isinstance(op.attrs, ReturnAttrs):
            return [f"{indent}return {self.named(op.attrs.names, op.operands)}{self.meta(op)}"]
        operands = self.uses(op.operands)
        attrs = _literal(op.attrs.value) if isinstance(op.attrs, ConstAttrs) else _attrs(op.attrs)
        results = ", ".join(self.define(r) for r in op.results)
        types = ", ".join(str(r.type) for r in op.results)
        body = " ".join(part for part in (op.name, operands, attrs) if part)
        return [f"{indent}{results} = {body} : {types}{self.meta(op)}"]

    def named(self, names: tuple[str, ...], values: tuple[Value, ...]) -> str:
        return ", ".join(f"{_word(n)} = {self.use(v)}" for n, v in zip(names, values, strict=True))

    def scan(self, op: Op, indent: str) -> list[str]:
        s = Scan(op)
        a = s.attrs
        parts = [f"carry({self.named(a.carries, s.inits)})", f"over({self.named(a.xs, s.xs)})"]
        if s.lengths is not None:
            parts.append(f"lengths({self.use(s.lengths)})")
        options = [f"steps = {_attribute(a.steps)}"]
        if a.reverse:
            options.append("reverse = true")
        if a.pad != "zero":
            options.append(f"pad = {a.pad}")
        if a.until:
            options.append(f"until = {_word(a.until)}")
        args = ", ".join(f"{self.define(v)}: {v.type}" for v in s.body.args)
        lines = [f"{indent}^({args}):"]
        for inner in s.body.ops:
            if isinstance(inner.attrs, YieldAttrs):
                lines.append(f"{indent}  yield carry({self.named(a.carries, s.next_carries)}) "
                             f"emit({self.named(a.ys, s.emitted)}){self.meta(inner)}")
            else:
                lines.extend(self.op(inner, indent + "  "))
        results = ", ".join(self.define(r) for r in op.results)
        types = ", ".join(str(r.type) for r in op.results)
        head = f"{indent}{results + ' = ' if results else ''}scan {' '.join(parts)} {{{', '.join(options)}}} {{"
        return [head, *lines, f"{indent}}} : {types}{self.meta(op)}"]

    def meta(self, op: Op) -> str:
        items = [f"{k} = {_word(v)}" for k, v in (("layer", op.layer), ("impl", op.impl)) if v]
        return f" <{', '.join(items)}>" if items else ""


@lru_cache(maxsize=4096)
def _safe(hint: str) -> str:
    return _UNSAFE.sub("_", hint)


def _inline(literal: Literal) -> bool:
    return literal.splat is not None or literal.array.size <= INLINE


def _literal(literal: Literal) -> str:
    if literal.splat is not None:
        return f"splat({_scalar(literal.splat)})"
    if literal.array.size <= INLINE:
        return f"[{', '.join(_scalar(v) for v in literal.array.reshape(-1).tolist())}]"
    return f"@{resource_key(literal)}"


@lru_cache(maxsize=4096)
def _attrs(attrs: Attrs) -> str:
    items = [f"{f.name} = {_attribute(getattr(attrs, f.name))}" for f in fields(attrs)]
    return f"{{{', '.join(items)}}}" if items else ""


def _attribute(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute, value))}]"
    if isinstance(value, DType):
        return value.name
    if isinstance(value, str):
        return _word(value)
    return _scalar(value)


def _scalar(value: float | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    """A bare identifier where possible, else a quoted string."""
    if IDENTIFIER.fullmatch(text) and text not in _WORDS:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
