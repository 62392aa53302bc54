"""trace: a model definition becomes an IR graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Graph, Value
from rnngraph.nn.context import Options, Trace, activate
from rnngraph.nn.layer import Layer
from rnngraph.nn.model import LayerGroup, Sequential
from rnngraph.nn.symbol import Input
from rnngraph.nn.tensor import Tensor, Traced


class NoRecurrence(TraceError):
    """Lengths or a mask are asked for, ``what``, and no recurrence of the model takes them."""

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        super().__init__(f"trace: {what}=True, but the model has no {why}")


def trace(model: Layer, inputs: Input | Sequence[Input] | None = None, *, lengths: bool = False,
          initial_state: bool = False, mask: bool = False, training: bool = False, seed: int = 0) -> Graph:
    """The IR graph of a model: primitive ops, time as scans, batch and time as symbolic as the inputs say.

    inputs         an Input, or one per input of the model; a Model, or a Sequential starting with an Input, has
                   them
    lengths        add an input ``lengths: i32[batch]``: recurrences over the time of the first recurrent
                   layer stop at each row's length (layers over another time dim run all their steps)
    mask           add an input ``mask: bool[batch,time]`` ([time,batch] where the first recurrent layer is time_major)
                   for the same recurrences, those that have no mask of their own: where it is false, a step leaves
                   the states alone; not together with lengths
    initial_state  add an input per state of each recurrent layer, ``<layer>.h0``, ``<layer>.c0``; else they
                   are zero
    training       dropout is active; its masks follow from ``seed`` and the layers' names

    Outputs are "y" (several: "y0", "y1", ...) and ``<layer>.h``, ``<layer>.c`` for return_state's states.
    Raises ShapeError or TraceError naming the layer, what was expected and what it got.

    Example:
        >>> from rnngraph.nn import GRU, Input, Sequential, trace
        >>> graph = trace(Sequential([GRU(8, return_state=True)]), Input(("batch", "time", 4)), lengths=True)
        >>> graph.input_names, graph.output_names
        (('x', 'lengths'), ('y', 'gru.h'))
    """
    return traced(model, inputs, Options(lengths, initial_state, training, seed, mask=mask))[0]


def traced(model: Layer, inputs: Input | Sequence[Input] | None, options: Options) -> tuple[Graph, tuple[str, ...]]:
    """The graph as `trace` gives it, and the names of the states of stateful layers: ``lstm.h``, ``lstm.c``.

    With ``options.stateful`` each of them is an output, and its first value the input `state_input`, unless the model
    itself gives that layer its initial state.
    """
    if not isinstance(model, Layer):
        raise TraceError(f"trace: expected a layer or model of rnngraph.nn, got {type(model).__name__}")
    given = _inputs(model, inputs)
    graph = Graph()
    if options.lengths and options.mask:
        raise TraceError("trace: expected lengths or a mask, got both; a mask says all that lengths say")
    run = Trace(graph, options)
    with activate(run):
        tensors = [Traced(run, graph.add_input(x.type, x.name)) for x in given]
        result = model.run(*tensors) if isinstance(model, LayerGroup) or not tensors else model(*tensors)
        if options.lengths and run.lengths is None:
            raise NoRecurrence("lengths", "recurrent layer")
        if options.mask and run.mask is None:
            raise NoRecurrence("mask", "recurrent layer without a mask of its own")
        outputs = _outputs(result, model.output_names)
        if options.stateful:
            outputs = {**outputs, **run.kept}
        run.builder.ret(outputs)
    return graph, tuple(run.kept)


def _inputs(model: Layer, inputs: Input | Sequence[Input] | None) -> list[Input]:
    found = list(inputs) if isinstance(inputs, list | tuple) else [inputs] if isinstance(inputs, Input) else []
    if inputs is None:
        found = list(model.inputs)
    if (not found and not model.output_names) or not all(isinstance(x, Input) for x in found):
        raise TraceError("trace: expected an Input or a tuple of them, such as Input(('batch', 'time', 80)), "
                         f"got {inputs!r}")
    names = [x.name for x in found]
    if len(set(names)) != len(names):
        raise TraceError(f"trace: two inputs have one name: {names}; give them names with Input(..., name=)")
    expected = 1 if isinstance(model, Sequential) else len(model.inputs) or len(found)
    if len(found) != expected:
        raise ShapeError(f"trace: the model takes {expected} input(s), got {len(found)}")
    return found


def _outputs(result: Any, names: Sequence[str]) -> dict[str, Value]:
    """Names for the outputs: ``names``; without them, states have theirs, the others are y, or y0, y1, ..."""
    tensors = list(result) if isinstance(result, tuple) else [result]
    if not all(isinstance(t, Tensor) for t in tensors):
        raise TraceError(f"trace: a model's output must be tensors, got {result!r}")
    if names:
        return {n: t.value() for n, t in zip(names, tensors, strict=True)}
    plain = [t for t in tensors if not (isinstance(t, Traced) and t.name)]
    own = {id(t): "y" if len(plain) == 1 else f"y{i}" for i, t in enumerate(plain)}
    return {t.name if isinstance(t, Traced) and t.name else own[id(t)]: t.value() for t in tensors}
