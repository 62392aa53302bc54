"""PyTorch's symbolic sizes as Dims: the symbols get names that say what they are, where the graph tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch.export import ExportedProgram

from rnngraph.errors import ImportModelError, ShapeError
from rnngraph.ir import Dim
from rnngraph.ir.dims import parse


class Sizes:
    """The names of an exported program's symbols.

    The dims of the first recurrent operator's input are batch and time; without one, the first dim of the inputs is
    the batch. Others are s0, s1, ... ``given`` are names that the caller chose, by PyTorch's.
    """

    def __init__(self, exported: ExportedProgram, given: Mapping[str, str]) -> None:
        nodes = list(exported.graph.nodes)
        specs = {s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"}
        self.inputs = [n.meta.get("val") for n in nodes if n.op == "placeholder" and n.name in specs]
        self.same = _equal_sizes(nodes)
        found: dict[str, str] = {}
        for symbol, name in (*given.items(), *_recurrent(nodes), *_leading(self.inputs)):
            root = self.same.get(symbol, symbol)
            if root not in found and name not in found.values():
                found[root] = name
        number = 0
        for value in self.inputs:
            for symbol in _symbols(value):
                root = self.same.get(symbol, symbol)
                if root not in found:
                    found[root] = f"s{number}"
                    number += 1
        self.names = found

    def shape(self, tensor: torch.Tensor) -> tuple[Dim, ...]:
        """The dims of a tensor of the exported program."""
        return tuple(self.dim(d) for d in tensor.shape)

    def dim(self, size: int | torch.SymInt) -> Dim:
        """A size as a Dim."""
        if isinstance(size, int):
            return size
        expr = size.node.expr
        if expr.is_Integer:
            return int(expr)
        text = str(expr)
        for symbol in sorted(map(str, expr.free_symbols), key=len, reverse=True):
            text = text.replace(symbol, self.names.get(self.same.get(symbol, symbol), symbol))
        try:
            return parse(text.replace("**", "^")) if "**" not in text else _refuse(text)
        except ShapeError as e:
            raise ImportModelError(f"an input has a size {text} that cannot be expressed: {e}; export the module with "
                                   "dynamic_shapes that are plain symbols") from None


def _refuse(text: str) -> Dim:
    raise ShapeError(f"powers of sizes are not supported in {text}")


def _symbols(value: Any) -> Iterator[str]:
    """The symbols in a tensor's dims."""
    for size in value.shape if isinstance(value, torch.Tensor) else ():
        if isinstance(size, torch.SymInt):
            yield from sorted(map(str, size.node.expr.free_symbols))


def _symbol(size: Any) -> str | None:
    """The one symbol in a size."""
    symbols = size.node.expr.free_symbols if isinstance(size, torch.SymInt) else ()
    return str(next(iter(symbols))) if len(symbols) == 1 else None


def _recurrent(nodes: list[torch.fx.Node]) -> Iterator[tuple[str, str]]:
    """Which symbols are the batch and the time of recurrent operators."""
    for node in nodes:
        target: Any = node.target
        short = target._schema.name.partition("::")[2] if isinstance(target, torch._ops.OpOverload) else ""
        args = [a for a in node.args if isinstance(a, torch.fx.Node)]
        value = args[0].meta.get("val") if args else None
        if not isinstance(value, torch.Tensor) or value.dim() != 3:
            continue
        if short in ("lstm", "gru", "rnn_tanh", "rnn_relu", "recurrent", "pack", "pack_input"):
            first = short == "pack_input" or (isinstance(node.args[-1], bool) and node.args[-1])
            batch, time = value.shape[:2] if first else (value.shape[1], value.shape[0])
            for size, called in ((batch, "batch"), (time, "time")):
                if (symbol := _symbol(size)) is not None:
                    yield symbol, called


def _leading(inputs: list[Any]) -> Iterator[tuple[str, str]]:
    """The first dim of the first input that has dims."""
    for value in inputs:
        if isinstance(value, torch.Tensor) and value.dim():
            if (symbol := _symbol(value.shape[0])) is not None:
                yield symbol, "batch"
            return


def _equal_sizes(nodes: list[torch.fx.Node]) -> dict[str, str]:
    """Symbols that must be equal where PyTorch does not say so: a packed input's rows, put in order by its lengths."""
    same: dict[str, str] = {}
    for node in nodes:
        if node.target is torch.ops.aten.index_select.default and _is_order(node.args[2]):
            value, axis, order = cast(tuple[Any, int, Any], node.args)
            sizes = value.meta["val"].shape[axis], order.meta["val"].shape[0]
            a, b = map(_symbol, sizes)
            if a and b:
                first, second = same.get(a, a), same.get(b, b)
                same |= {symbol: first for symbol, root in ((b, second), *same.items()) if root == second}
                same[second] = first
    return same


def _is_order(node: Any) -> bool:
    """Whether a tensor of indices is the order of sorted lengths, so that it picks every row once."""
    while isinstance(node, torch.fx.Node) and node.target in (torch.ops.aten.to.dtype_layout, torch.ops.aten.to.device,
                                                             torch.ops.aten.to.dtype):
        node = node.args[0]
    source = node.args[0] if isinstance(node, torch.fx.Node) and node.args else None
    return isinstance(source, torch.fx.Node) and source.target is torch.ops.aten.sort.default
