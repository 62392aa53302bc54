"""The reference interpreter: read operands, apply the op's `evaluate`, write results. It defines what a graph means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.dims import is_symbol, symbols_of
from rnngraph.ir.opdef import Array
from rnngraph.ir.types import Dims, DType, TensorType, size_of


class Interpreter:
    """Runs ops one by one; with ``float64`` every float is computed in double precision."""

    def __init__(self, dims: Dims, *, float64: bool = False) -> None:
        self.dims = dims
        self.float64 = float64
        self.env: dict[Value, Array] = {}

    def array_dtype(self, dtype: DType) -> np.dtype[Any]:
        return np.dtype(np.float64) if self.float64 and dtype.is_float else dtype.numpy

    def bind(self, value: Value, array: Array) -> None:
        self.env[value] = array

    def run_op(self, op: Op) -> None:
        results = op.opdef.evaluate(self, op, [self.env[v] for v in op.operands])
        for value, array in zip(op.results, results, strict=True):
            self.env[value] = array

    def run_block(self, block: Block, args: Sequence[Array]) -> list[Array]:
        for value, array in zip(block.args, args, strict=True):
            self.env[value] = array
        for op in block.body:
            self.run_op(op)
        return [self.env[v] for v in block.terminator.operands]


def bind_dims(types: Mapping[str, TensorType], arrays: Mapping[str, Array]) -> Dims:
    """The size of every symbol, from the arrays; InputError when a rank, a known dim or two sizes of a symbol clash."""
    dims: Dims = {}
    origin: dict[str, str] = {}
    for name, t in types.items():
        shape = arrays[name].shape
        if len(shape) != t.rank:
            raise InputError(f"input {name!r}: expected {t} (rank {t.rank}), got shape {shape} (rank {len(shape)})")
        for axis, (want, got) in enumerate(zip(t.shape, shape, strict=True)):
            if isinstance(want, int):
                if want != got:
                    raise InputError(f"input {name!r}: expected {t}, got shape {shape} "
                                     f"(axis {axis} is {got}, not {want})")
            elif dims.setdefault(want, got) != got:
                raise InputError(f"input {name!r}: dim {want!r} is {got} here but {dims[want]} in {origin[want]!r}")
            else:
                origin.setdefault(want, name)
    for dim in origin:
        if not is_symbol(dim):
            _check_computed(dim, dims, origin)
    return dims


def _check_computed(dim: str, dims: Dims, origin: Mapping[str, str]) -> None:
    """InputError when an input's computed dim has another size than its symbols say."""
    known = {s: dims[s] for s in symbols_of(dim) if s in dims}
    if known.keys() == symbols_of(dim) and (want := size_of(dim, known)) != dims[dim]:
        where = ", ".join(f"{s} = {n} (input {origin[s]!r})" for s, n in sorted(known.items()))
        raise InputError(f"input {origin[dim]!r}: dim {dim} is {dims[dim]}, expected {want} for {where}")


def evaluate(graph: Graph, inputs: Mapping[str, Array], *, float64: bool = False) -> dict[str, Array]:
    """Run ``graph`` in numpy; inputs and outputs by name. ``float64`` computes every float in double precision.

    Raises InputError for missing or unknown names and for shapes that do not fit.
    """
    types = {n: v.type for n, v in zip(graph.input_names, graph.inputs, strict=True)}
    if missing := [n for n in types if n not in inputs]:
        raise InputError(f"missing input(s) {missing}; graph {graph.name!r} takes {list(types)}")
    if unknown := [n for n in inputs if n not in types]:
        raise InputError(f"unknown input(s) {unknown}; graph {graph.name!r} takes {list(types)}")
    arrays = {n: np.asarray(inputs[n]) for n in types}
    run = Interpreter(bind_dims(types, arrays), float64=float64)
    args = [arrays[n].astype(run.array_dtype(t.dtype), copy=False) for n, t in types.items()]
    with np.errstate(all="ignore"):  # NaN and inf are values here, not accidents
        outs = run.run_block(graph.block, args)
    return {n: np.array(o) for n, o in zip(graph.output_names, outs, strict=True)}
