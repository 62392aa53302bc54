"""Emitter: the ONNX model that grows. Names, constants, sizes as values, nodes of the main graph and of bodies.

A body sees what stands outside of it, so constants and sizes are made once, in the main graph. A broadcast is written
only where its users cannot broadcast by themselves, as elementwise ops can.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnngraph.errors import ExportError
from rnngraph.ir import Array, Block, Dim, DType, Literal, Op, Shape, TensorType, Value
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.dims import factor_of, is_symbol, terms_of

CODES = {"f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "bool": 9, "f16": 10, "f64": 11, "u32": 12,
         "u64": 13}
LAST = np.iinfo(np.int64).max  # an end that means the axis' own


class Emitter:
    """What is written so far; ``scopes`` are the nodes of the blocks that are open, the main graph's first."""

    def __init__(self, onnx: Any, opset: int) -> None:
        self.onnx = onnx
        self.opset = opset
        self.names: dict[Value, str] = {}
        self.initializers: dict[Literal, Any] = {}
        self.scopes: dict[Block | None, list[Any]] = {}
        self.block: Block | None = None
        self.layer = ""
        self.symbols: dict[str, tuple[str, int]] = {}  # where each is found: an input, and an axis
        self.outputs: set[str] = set()
        self._sizes: dict[Dim, str] = {}
        self._taken: Counter[str] = Counter()

    # --- names ----------------------------------------------------------------------------------------------------

    def fresh(self, hint: str, *, exact: bool = False) -> str:
        """A name that nothing has yet; ``exact`` keeps all characters, as of a foreign model's inputs."""
        base = (hint if exact else re.sub(r"[^A-Za-z0-9_.\-/]", "_", hint)) or "v"
        while True:
            self._taken[base] += 1
            name = base if self._taken[base] == 1 else f"{base}_{self._taken[base] - 1}"
            if name == base or not self._taken[name]:
                self._taken[name] += name != base
                return name

    def name(self, value: Value) -> str:
        """The name of a value, which is written now where it was put off."""
        if value not in self.names:
            op = value.op
            if op is None or op.name not in LAZY:
                raise ExportError(f"{op.name if op else 'an argument'}: has no name yet")
            outer, self.block, layer = self.block, op.parent, self.layer
            if op.name == "const":
                self.names[value] = self._literal(op)
            else:
                self.layer = op.layer
                self.names[value] = self._expanded(op)
            self.block, self.layer = outer, layer
        return self.names[value]

    def operands(self, op: Op) -> list[str]:
        return [self.name(v) for v in op.operands]

    def broadcastable(self, values: Sequence[Value]) -> list[str]:
        """Names of values of one shape for a node that broadcasts: one of them at least has the shape itself."""
        if all(_is_broadcast(v) for v in values):
            values = list(values)
            return [self.name(values[0]), *(self._narrow(v) for v in values[1:])]
        return [self._narrow(v) for v in values]

    def _narrow(self, value: Value) -> str:
        """A broadcast's operand with its axes where the result has them; any other value itself."""
        op = value.op
        if op is None or not _is_broadcast(value) or value in self.names:
            return self.name(value)
        assert isinstance(op.attrs, ir_ops.BroadcastAttrs)
        (x,), axes, rank = op.operands, op.attrs.axes, value.type.rank
        if list(axes) != sorted(axes):
            return self.name(value)
        missing = _missing(axes, rank)
        return self.node("Unsqueeze", [self.name(x), self.ints(missing)]) if missing else self.name(x)

    def _expanded(self, op: Op) -> str:
        assert isinstance(op.attrs, ir_ops.BroadcastAttrs)
        (x,), axes, rank = op.operands, op.attrs.axes, op.result.type.rank
        source = self.name(x)
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        if order != list(range(len(axes))):
            source = self.node("Transpose", [source], perm=order)
        missing = _missing(axes, rank)
        source = self.node("Unsqueeze", [source, self.ints(missing)]) if missing else source
        return self.node("Expand", [source, self.shape(op.result.shape)], hint=op.result.hint)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def node(self, op_type: str, inputs: Sequence[str], hint: str = "", **attributes: Any) -> str:
        """Write a node with one output; its name."""
        return self.nodes(op_type, inputs, [hint], **attributes)[0]

    def nodes(self, op_type: str, inputs: Sequence[str], hints: Sequence[str | None], **attributes: Any) -> list[str]:
        """Write a node with several outputs; None is one that is left out."""
        layer = self.layer.split("@")[0]
        outputs = ["" if h is None else self.fresh("/".join(p for p in (layer, h or op_type.lower()) if p))
                   for h in hints]
        given = {n: v for n, v in attributes.items() if v is not None}
        name = self.fresh("/".join(p for p in (layer, op_type) if p))
        self.scopes[self.block].append(self.onnx.helper.make_node(op_type, list(inputs), outputs, name=name, **given))
        return outputs

    def constant(self, array: Array, hint: str = "") -> str:
        """The name of an initializer with this content; equal ones are one."""
        literal = Literal(np.asarray(array))
        if literal not in self.initializers:
            name = self.fresh(hint or "constant")
            data = np.ascontiguousarray(literal.array).reshape(literal.array.shape)
            self.initializers[literal] = self.onnx.numpy_helper.from_array(data, name)
        found: str = self.initializers[literal].name
        return found

    def _literal(self, op: Op) -> str:
        assert isinstance(op.attrs, ir_ops.ConstAttrs)
        literal = op.attrs.value
        self.code(literal.dtype, op)
        return self.constant(literal.array, "/".join(p for p in (op.layer.split("@")[0], op.result.hint) if p))

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.asarray(values, np.int64), "ints")

    # --- types and sizes ------------------------------------------------------------------------------------------

    def code(self, dtype: DType, owner: Op | str) -> int:
        """ONNX's number of a dtype."""
        if dtype.name not in CODES:
            raise ExportError(f"{owner}: values of {dtype} cannot be written, expected one of {', '.join(CODES)}")
        return CODES[dtype.name]

    def info(self, name: str, type: TensorType) -> Any:
        """The declaration of an input or output."""
        return self.onnx.helper.make_tensor_value_info(name, self.code(type.dtype, name), list(type.shape))

    def shape(self, shape: Shape) -> str:
        """i64[rank]: a shape as a value."""
        if all(isinstance(d, int) for d in shape):
            return self.ints([d for d in shape if isinstance(d, int)])
        return self._main("Concat", [self.size(d) for d in shape], ("shape", *shape), axis=0)

    def size(self, dim: Dim) -> str:
        """i64[1]: a size as a value."""
        if isinstance(dim, int):
            return self.ints([dim])
        if is_symbol(dim):
            if dim not in self.symbols:
                raise ExportError(f"the size {dim!r} is that of no input by itself: give an input whose shape has it")
            name, axis = self.symbols[dim]
            return self._main("Shape", [name], dim, start=axis, end=axis + 1)
        total = ""
        for factors, coefficient in terms_of(dim).items():
            term = self.ints([coefficient]) if coefficient != 1 or not factors else ""
            for factor in factors:
                size = self._factor(factor)
                term = self._main("Mul", [term, size], ("*", term, size)) if term else size
            total = self._main("Add", [total, term], ("+", total, term)) if total else term
        return total

    def _factor(self, text: str) -> str:
        kind, parts = factor_of(text)
        if kind == "":
            return self.size(text)
        names = [self.size(p) for p in parts]
        if kind in ("max", "min"):
            return self._main(kind.capitalize(), names, (kind, *names))
        rest = self._main("Mod", names, ("%", *names))  # Div rounds towards 0, a size that is divided may be below
        whole = self._main("Sub", [names[0], rest], ("-", names[0], rest))
        return self._main("Div", [whole, names[1]], ("//", *names))

    def _main(self, op_type: str, inputs: Sequence[str], key: Any, **attributes: Any) -> str:
        """A node of the main graph, written once."""
        if key not in self._sizes:
            block, layer = self.block, self.layer
            self.block, self.layer = next(iter(self.scopes)), "sizes"
            self._sizes[key] = self.node(op_type, inputs, **attributes)
            self.block, self.layer = block, layer
        return self._sizes[key]


LAZY = frozenset(("const", "broadcast"))


def _missing(axes: Sequence[int], rank: int) -> list[int]:
    """Where a broadcast's operand lacks axes behind its first, for Unsqueeze; those in front are added anyway."""
    first = min(axes, default=rank)
    return [i - first for i in range(first, rank) if i not in axes]


def _is_broadcast(value: Value) -> bool:
    return value.op is not None and value.op.name == "broadcast"
