"""The shapes of inputs, from what the nodes behind them need: files do not tell them.

A shape is a list of sizes: numbers, names of symbols ("batch", "time"), None where only the rank is known. One walk
from the outputs to the inputs: a node's output shape, where known, and its weights say what its inputs have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TypeAlias

from rnngraph.errors import ConversionError, ImportModelError
from rnngraph.frontends.mxnet.attributes import Attributes
from rnngraph.frontends.mxnet.ops.rnn import MODES, geometry_of
from rnngraph.frontends.mxnet.registry import used_inputs
from rnngraph.frontends.mxnet.symbol import Entry, Graph, Node
from rnngraph.frontends.mxnet.walker import needed
from rnngraph.ir import Dim
from rnngraph.nn import Input

Partial: TypeAlias = "list[Dim | None] | None"
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Rule: TypeAlias = "Callable[[Node, Partial, Sequence[tuple[int, ...] | None]], Sequence[Partial]]"
DTYPES = {"0": "f32", "1": "f64", "2": "f16", "3": "u8", "4": "i32", "5": "i8", "6": "i64", "7": "bool"}
SPATIAL = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}
# Ops whose first input has the shape of the output.
ALIKE = frozenset((
    "Activation", "LeakyReLU", "Dropout", "BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "softmax",
    "log_softmax", "SoftmaxOutput", "SoftmaxActivation", "SequenceMask", "SequenceReverse", "_copy", "BlockGrad",
    "Cast", "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "square", "abs", "clip", "negative", "erf", "reverse",
    "LogisticRegressionOutput", "LinearRegressionOutput", "_plus_scalar", "_minus_scalar", "_rminus_scalar",
    "_mul_scalar", "_div_scalar", "_rdiv_scalar", "_power_scalar", "cumsum", "L2Normalization"))
BOTH = frozenset(("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "add_n", "_maximum", "_minimum"))


def infer_inputs(graph: Graph, free: Sequence[Node], shapes: Shapes, names: Mapping[str, str],
                 given: Mapping[str | int, object]) -> list[Input]:
    """An `Input` for each free variable: what is given for it, or what the graph tells."""
    found = _walk_back(graph, shapes)
    made = []
    for place, node in enumerate(free):
        said = given.get(node.name, given.get(place))
        shape = _declared(node) or found.get((node.number, 0))
        dtype = DTYPES.get(node.attrs.texts.get("__dtype__", "0"), "f32")
        if isinstance(said, Input):
            made.append(Input(said.shape, said.dtype, names[node.name]))
        elif isinstance(said, tuple | list):
            made.append(Input(tuple(said), dtype, names[node.name]))
        elif shape is None:
            raise ImportModelError(f"input {node.name!r}: its shape does not follow from the weights; give it as "
                                   f"inputs={{{node.name!r}: rnngraph.Input((...))}}")
        else:
            symbol = names[node.name].replace(".", "_").replace("-", "_")
            made.append(Input(tuple(f"{symbol}_{axis}" if d is None else d for axis, d in enumerate(shape)), dtype,
                              names[node.name]))
    return made


def _declared(node: Node) -> Partial:
    """The shape that a variable was made with, where it is whole."""
    if "__shape__" not in node.attrs.texts:
        return None
    sizes = Attributes(node.attrs.texts, str(node)).ints("__shape__")
    return list(sizes) if sizes and min(sizes) > 0 else None


def _walk_back(graph: Graph, shapes: Shapes) -> dict[Entry, list[Dim | None]]:
    found: dict[Entry, list[Dim | None]] = {}
    outputs: dict[int, list[Dim | None]] = {}  # of each node, that of some output
    weights = _of_weights(graph, shapes)
    for node in reversed(needed(graph)):
        if node.op == "null":
            continue
        inputs = used_inputs(node)
        known = [weights.get(n) for n, _ in inputs]
        for entry, wanted in zip(inputs, _of_inputs(node, outputs.get(node.number), known), strict=False):
            if wanted is not None and entry not in found:
                found[entry] = outputs[entry[0]] = list(wanted)
    return found


def _of_weights(graph: Graph, shapes: Shapes) -> dict[int, tuple[int, ...]]:
    """The shapes of weights, and of the flat array that Gluon joins those of a recurrent layer to."""
    found: dict[int, tuple[int, ...]] = {}
    for node in graph.nodes:
        given = [found.get(n) for n, _ in node.inputs]
        if node.op == "null" and node.name in shapes:
            found[node.number] = shapes[node.name]
        elif node.op in ("Reshape", "reshape") and given and given[0] is not None and node.attrs.text("shape") in (
                "-1", "(-1,)"):
            found[node.number] = (prod(given[0]),)
        elif node.op in ("_rnn_param_concat", "Concat") and given and all(g is not None and len(g) == 1 for g in given):
            found[node.number] = (sum(g[0] for g in given if g is not None),)
    return found


def _of_inputs(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    if node.op in ALIKE:
        return [out]
    if node.op in BOTH:
        weight = next((k for k in known if k is not None), None)
        return [out or (None if weight is None else [*weight])] * len(known)
    rule = RULES.get(node.op)
    return [] if rule is None else rule(node, out, known)


def _rnn(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    g = geometry_of(node)
    blob, features = known[1] if len(known) > 1 else None, None
    if blob is not None and len(blob) == 1:
        try:
            features = g.inputs(blob[0], str(node))
        except ConversionError as e:
            raise ImportModelError(str(e)) from None
    rows = g.layers * g.directions
    states: list[Partial] = [[rows, "batch", size] for size in (g.output, g.hidden)[: 1 + (g.mode == MODES[0])]]
    return [["time", "batch", features], None, *states, ["batch"]]


def _dense(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    weight = known[1] if len(known) > 1 else None
    features = weight[1] if weight is not None and len(weight) == 2 else None
    if node.attrs.flag("flatten", True):
        return [["batch", features]]
    return [None if out is None else [*out[:-1], features]]


def _convolution(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    weight, n = known[1] if len(known) > 1 else None, len(node.attrs.ints("kernel"))
    if weight is None or len(weight) != n + 2 or n not in SPATIAL:
        return []
    channels = weight[0] if node.op == "Deconvolution" else weight[1] * node.attrs.integer("num_group", 1)
    if node.attrs.text("layout", "None").endswith("C"):
        return [["batch", *SPATIAL[n], weight[-1]]]
    return [["batch", channels, *SPATIAL[n]]]


def _swapped(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    if out is None:
        return []
    order = list(range(len(out)))
    if node.op == "transpose":
        axes = node.attrs.ints("axes", ()) or tuple(order[::-1])
        if sorted(a % len(out) for a in axes) != order:
            return []
        source: list[Dim | None] = [None] * len(out)
        for place, axis in enumerate(axes):
            source[axis % len(out)] = out[place]
        return [source]
    a, b = (node.attrs.integer(n, 0) for n in ("dim1", "dim2"))
    if not max(abs(a), abs(b)) < len(out):
        return []
    order[a], order[b] = order[b], order[a]
    return [[out[i] for i in order]]


def _split(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    axis, count = node.attrs.integer("axis", 1), node.attrs.integer("num_outputs")
    if out is None or not 0 <= axis <= len(out):
        return []
    if node.attrs.flag("squeeze_axis"):
        return [[*out[:axis], count, *out[axis:]]]
    size = out[axis] if axis < len(out) else None
    return [[*out[:axis], size * count if isinstance(size, int) else None, *out[axis + 1 :]]]


def _expanded(node: Node, out: Partial, known: Sequence[tuple[int, ...] | None]) -> Sequence[Partial]:
    axis = node.attrs.integer("axis")
    if out is None or not -len(out) <= axis < len(out):
        return []
    return [[d for i, d in enumerate(out) if i != axis % len(out)]]


RULES: dict[str, Rule] = {
    "RNN": _rnn, "FullyConnected": _dense, "Convolution": _convolution, "Deconvolution": _convolution,
    "SwapAxis": _swapped, "transpose": _swapped, "SliceChannel": _split, "expand_dims": _expanded,
    "Embedding": lambda node, out, known: [] if out is None else [out[:-1]],
}
