"""MxnetModel: an MXNet symbol with its parameters as a layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import ImportedModel, Names, identifiers
from rnngraph.frontends.load import input_list
from rnngraph.frontends.mxnet.files import read_params, symbol_and_params
from rnngraph.frontends.mxnet.ops import register
from rnngraph.frontends.mxnet.shapes import infer_inputs
from rnngraph.frontends.mxnet.symbol import Graph, read_symbol
from rnngraph.frontends.mxnet.walker import Resolved, Walker, is_open, names_of, needed, solve
from rnngraph.ir import Array, Dim, TensorType
from rnngraph.ir.dims import substitute, symbols_of
from rnngraph.ir.types import dtype_of
from rnngraph.nn import Input
from rnngraph.nn.context import active
from rnngraph.nn.symbol import abstract_trace
from rnngraph.nn.tensor import Tensor, Traced, wrap

WEIGHT = re.compile(r".*(_weight|_bias|_gamma|_beta|_moving_mean|_moving_var|_running_mean|_running_var|_parameters)")


class MxnetModel(ImportedModel):
    """A symbol: each call walks it and emits its ops, which carry the names of its nodes."""

    def __init__(self, graph: Graph, params: Mapping[str, Array], inputs: Sequence[Input], outputs: Sequence[str],
                 names: Names, values: Mapping[str, Array]) -> None:
        super().__init__(inputs, outputs, names=names)
        self.graph = graph
        self.params = dict(params)
        self.values = dict(values)
        self.loose = False
        self.solved = self._inferred()

    def call(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self._walk(inputs, self.solved)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def specialized(self, values: Mapping[str, Array], sizes: Mapping[str, Dim]) -> Self:
        known = dict(sizes)
        inputs = [Input(tuple(substitute(d, known) for d in x.shape), x.dtype, x.name)
                  for x in self.inputs if x.name not in values]
        return type(self)(self.graph, self.params, inputs, self.output_names, self.names,
                          {**self.values, **{n: np.asarray(a) for n, a in values.items()}})

    def _walk(self, inputs: Sequence[Tensor], solved: Mapping[str, Dim]) -> list[Tensor]:
        trace = active()
        foreign = self.names.inputs
        given = {foreign.get(x.name, x.name): t for x, t in zip(self.inputs, inputs, strict=True)}
        given |= {foreign.get(n, n): wrap(trace.builder.const(a)) for n, a in self.values.items()}
        for node in needed(self.graph):
            if node.op == "null" and node.name not in given and node.name in self.params:
                given[node.name] = self._weight(node.name)
        return Walker(solved, loose=self.loose).run(self.graph, given)

    def _weight(self, name: str) -> Tensor:
        array = self.params[name]
        type_ = TensorType(dtype_of(array), array.shape)
        return wrap(active().constant((id(self), name), type_, lambda: array, name))

    def _inferred(self) -> dict[str, Dim]:
        """The sizes that the symbol leaves open. MXNet 2 writes the batch of an export into the zeros that a recurrence
        starts with; where these do not fit, their rows are inferred as well."""
        try:
            return self._solved()
        except ImportModelError:
            self.loose = any(n.op == "_npi_zeros" for n in self.graph.nodes)
            if not self.loose:
                raise
            try:
                return self._solved()
            except ImportModelError:
                self.loose = False
            raise

    def _solved(self) -> dict[str, Dim]:
        """The sizes that the symbol leaves open, by walks over types alone; each finds one."""
        solved: dict[str, Dim] = {}
        while True:
            with abstract_trace() as trace:
                tensors = [Traced(trace, trace.graph.add_input(x.type, x.name)) for x in self.inputs]
                try:
                    outputs = self._walk(tensors, solved)
                except Resolved as e:
                    solved = solve(solved, e)
                    continue
            open_ = [d for t in outputs for d in t.shape if any(is_open(s) for s in symbols_of(d))]
            if open_:
                raise ImportModelError("a size that the symbol leaves open (0 in the shape of zeros) cannot be "
                                       f"inferred: an output has the shape {[str(t.type) for t in outputs]}")
            return solved


def load(model: Any, inputs: Any = None, example_inputs: Sequence[Any] | None = None,
         params: str | Path | Mapping[str, Array] | None = None) -> MxnetModel:
    """The layer of a -symbol.json file and of the parameters beside it; see `from_mxnet`."""
    return from_mxnet(symbol=model, params=params, inputs=inputs)


def from_mxnet(prefix: str | Path | None = None, epoch: int | None = None, *, symbol: str | Path | None = None,
               params: str | Path | Mapping[str, Array] | None = None, inputs: Any = None) -> MxnetModel:
    """An MXNet model as a layer, from ``prefix-symbol.json`` and ``prefix-EPOCH.params`` (save_checkpoint, export).

    prefix  the path without the ends; or ``symbol`` and ``params`` are the paths of the two files
    epoch   which parameters (0003 for 3); None takes the file where there is one
    params  a file of arrays, or arrays by name; names may begin with "arg:" and "aux:"
    inputs  `rnngraph.Input`s, or shapes, by name or place: for inputs whose shapes do not follow from the weights. The
            others have the sizes batch, time, ... as symbols

    MXNet is not needed. Inputs are the variables without parameters that the outputs follow from, so labels are left
    out; outputs have MXNet's names, such as ``dense0_fwd_output``. Raises ImportModelError for files that are broken,
    ops that are not supported (all of them, with node names), and inputs whose shapes are not known.
    """
    register()
    where, found = symbol_and_params(prefix, epoch, symbol, params)
    graph = read_symbol(where)
    arrays = read_params(found) if found is not None else {}
    variables = [n for n in needed(graph) if n.op == "null"]
    given = _given(inputs)
    free = [n for n in variables if n.name not in arrays]
    if missing := [n.name for n in free if WEIGHT.fullmatch(n.name) and n.name not in given]:
        raise ImportModelError(f"{where}: the parameters {found or '(none)'} lack {', '.join(missing[:10])}"
                               f"{' and more' if len(missing) > 10 else ''}; if these are inputs, list them in inputs=")
    if unknown := [n for n in given if isinstance(n, str) and n not in {v.name for v in free}]:
        raise ImportModelError(f"inputs: the model has no input {unknown[0]!r}; it has {[v.name for v in free]}")
    names = identifiers(n.name for n in free)
    made = infer_inputs(graph, free, {n: a.shape for n, a in arrays.items()}, names, given)
    outputs = identifiers(names_of(graph), "y")
    foreign = Names(*({n: name for name, n in table.items() if n != name} for table in (names, outputs)))
    return MxnetModel(graph, arrays, made, list(outputs.values()), foreign, {})


def _given(inputs: Any) -> dict[str | int, Any]:
    """What the caller says of inputs, by name or by place: Inputs, or shapes alone."""
    return {**input_list(inputs)}


__all__ = ["MxnetModel", "from_mxnet", "load"]
