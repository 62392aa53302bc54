"""The recurrences of a model: how they are written, what they are, and what runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rnngraph import backends, passes
from rnngraph.errors import CompileError
from rnngraph.frontends.imported import ImportedModel, NeedsSize, NeedsValue, settling
from rnngraph.frontends.load import Inputs, load
from rnngraph.ir import Array, Dim, Graph, Op, Rnn, RnnAttrs, Scan, ScanAttrs, dims
from rnngraph.nn import Layer
from rnngraph.nn.trace import trace
from rnngraph.rewrite import PassContext, Remark

LAST = "merge-stacked"  # the pass of the default pipeline behind which recurrences are as they were recognised
SPEAKERS = frozenset({"roll-steps", "iterate-sequences", "masks-to-lengths", "raise-rnn", "merge-bidirectional",
                      "merge-stacked"})


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A loop over time.

    kind        "rnn" (an LSTM, GRU or simple RNN, of any number of layers and directions) or "scan" (any other step)
    layer       the layer or foreign node; of several, merged, their names joined by "+"
    form        how the model has it: "scan", "unrolled", or the foreign op (LSTM, GRU, RNN, Scan, Loop, ...)
    steps       their number, or its symbol
    direction   "forward", "reverse", "bidirectional"
    mode, input, hidden, layers, projected   of an rnn: lstm, gru, rnn_tanh, rnn_relu; sizes (projected: 0 for none)
    states      of a scan: name -> type
    lengths     whether rows have lengths
    until       the carry that ends the loop, "" for none
    selected    whether implementations were selected (not yet, for one as it is written)
    native      whether generated code runs it; else numpy does
    implementations   what was selected for it
    why         remarks on what it could not become, and which copies it was
    """

    kind: str
    layer: str
    form: str
    steps: Dim
    direction: str
    mode: str = ""
    input: Dim = 0
    hidden: int = 0
    layers: int = 0
    projected: int = 0
    states: dict[str, str] = field(default_factory=dict)
    lengths: bool = False
    until: str = ""
    selected: bool = False
    native: bool = False
    implementations: tuple[str, ...] = ()
    why: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"{self.mode}, input {self.input}, hidden {self.hidden}, layers {self.layers}" if self.kind == "rnn" \
            else " ".join(f"{n}:{t}" for n, t in self.states.items())
        extra = [f"projected to {self.projected}"] * bool(self.projected) + ["lengths"] * self.lengths \
            + [f"until {self.until}"] * bool(self.until)
        return ", ".join([f"{self.kind} {self.layer or '(no layer)'}: {self.form}", what, self.direction,
                          f"steps {self.steps}", *extra,
                          *(["native" if self.native else "in numpy"] if self.selected else [])])


def recurrences(model: object, inputs: Inputs = None, *, example_inputs: Any = None,
                target: str = "cpu") -> list[Recurrence]:
    """The recurrences of whatever `rnngraph.compile` takes, as they are after recognition and merges, in order.

    Nothing is compiled to code. A model whose structure follows from the value of an input, or from a size, is the one
    for ``example_inputs``; without them it raises NeedsValue or NeedsSize.

    >>> import rnngraph as rg
    >>> model = rg.nn.Sequential([rg.nn.LSTM(4, return_sequences=True), rg.nn.LSTM(4)])
    >>> for r in rg.recurrences(model, rg.Input(("batch", "time", 3))): print(r)
    rnn lstm+lstm_1: scan, lstm, input 3, hidden 4, layers 2, forward, steps time, native
    """
    graph, origins = _graph(model, inputs, example_inputs)
    return inspect(graph, origins, target=target)[1]


def inspect(graph: Graph, origins: Mapping[str, str], *, target: str = "cpu") -> tuple[
        list[Recurrence], list[Recurrence], list[Remark]]:
    """(recurrences as written, as recognised, what the passes say about them); ``graph`` is not changed."""
    text = passes.PIPELINES["default"].split(",")
    cut = text.index(LAST) + 1
    context = PassContext(target, backends.default_registry())
    written = [_of_op(op, origins, [], None) for op in graph.walk() if op.name in ("scan", "rnn")]
    raised = graph.clone()
    passes.run(",".join(text[:cut]), raised, context, verify_each=False)
    remarks = [r for r in context.remarks if r.pass_name in SPEAKERS]
    final = raised.clone()
    passes.run(",".join(text[cut:]), final, PassContext(target, context.registry), verify_each=False)
    found = [_of_op(op, origins, remarks, final) for op in raised.walk() if op.name in ("scan", "rnn")]
    return written, found, remarks


def origins_of(model: object) -> Mapping[str, str]:
    """The foreign op of each node, by the layer that ops carry."""
    return model.origins() if isinstance(model, ImportedModel) else {}


def _graph(model: object, inputs: Inputs, example_inputs: Any) -> tuple[Graph, Mapping[str, str]]:
    if isinstance(model, Graph):
        return model, {}
    if not isinstance(model, Layer):
        model, inputs = load(model, inputs, example_inputs), None
    if isinstance(inputs, Mapping):
        raise CompileError("inputs by name are for models from files; give a layer's inputs in its call's order")
    if isinstance(model, ImportedModel):
        return _specialized(model, example_inputs), origins_of(model)
    return trace(model, inputs), origins_of(model)


def _specialized(model: ImportedModel, example_inputs: Any) -> Graph:
    """The graph; where it follows from values or sizes, the one for the example."""
    given = model.arrays(example_inputs)
    if isinstance(given, Mapping):
        theirs = {x.name: model.names.inputs.get(x.name, x.name) for x in model.inputs}
        named = {own: given[name] for own, name in theirs.items() if name in given}
    else:
        named = dict(zip((x.name for x in model.inputs), given or (), strict=False))
    arrays = {n: np.asarray(a) for n, a in named.items()}
    known = {d: n for x in model.inputs if x.name in arrays for d, n in zip(x.shape, arrays[x.name].shape, strict=False)
             if dims.is_symbol(d)}
    values: dict[str, Array] = {}
    sizes: dict[str, Dim] = {}
    while True:
        try:
            return settling(model.specialized(values, sizes) if values or sizes else model, trace)
        except NeedsValue as e:
            if not {*e.names} <= {*arrays} - {*values}:
                raise
            values |= {n: arrays[n] for n in e.names}
        except NeedsSize as e:
            if not {*e.symbols} <= {*known} - {*sizes}:
                raise
            sizes |= {s: known[s] for s in e.symbols}


def _chosen(graph: Graph | None, layer: str) -> tuple[tuple[str, ...], bool]:
    """What was selected for a layer's loops, and whether generated code runs all of the layer."""
    own = [op for op in graph.walk() if op.impl and (op.layer == layer or op.layer.startswith(f"{layer}/l"))] \
        if graph is not None else []
    loops = {op.impl for op in own if op.name in ("scan", "rnn")}
    return tuple(sorted(loops)), bool(own) and not any(op.impl.startswith("reference") for op in own)


def _of_op(op: Op, origins: Mapping[str, str], remarks: Sequence[Remark], final: Graph | None) -> Recurrence:
    layers = op.layer.split("+")
    own = [r for r in remarks if r.layer in (op.layer, *layers)]
    rolled = any(r.pass_name == "roll-steps" and r.kind == "applied" for r in own)
    form = "unrolled" if rolled else next((origins[n] for n in layers if n in origins), "scan")
    implementations, native = _chosen(final, op.layer)
    why = tuple(r.message for r in own if r.kind == "missed" or r.pass_name == "roll-steps")
    if isinstance(op.attrs, RnnAttrs):
        a, x = op.attrs, Rnn(op).x
        return Recurrence("rnn", op.layer, form, x.shape[0], a.direction, a.mode, x.shape[2], a.hidden, a.num_layers,
                          a.proj, lengths=a.lengths, selected=final is not None, native=native,
                          implementations=implementations, why=why)
    assert isinstance(op.attrs, ScanAttrs)
    states = {n: str(v.type) for n, v in zip(op.attrs.carries, Scan(op).carry_args, strict=True)}
    return Recurrence("scan", op.layer, form, op.attrs.steps, "reverse" if op.attrs.reverse else "forward",
                      states=states, lengths=op.attrs.lengths, until=op.attrs.until,
                      selected=final is not None, native=native, implementations=implementations, why=why)
