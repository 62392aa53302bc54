"""Models: layers in a row (Sequential), or a graph of calls (Model). A model is a layer, so models nest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn.canonical import all_or_nothing
from rnngraph.nn.core_layers import Dropout, Masking
from rnngraph.nn.layer import Layer
from rnngraph.nn.symbol import Input, Symbol, nodes_before
from rnngraph.nn.tensor import Tensor, Traced, map_tensors
from rnngraph.weights import HasRecurrentWeights, RecurrentWeights


class LayerGroup(Layer):
    """What Sequential and Model share: named layers.

    foreign  of a model read from a file, its names of inputs and of outputs by those here, where the two differ
    """

    foreign: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Nothing to do: the layers within have."""

    def __init__(self, layers: Sequence[Layer], name: str | None) -> None:
        super().__init__(name)
        self._layers = list({id(layer): layer for layer in layers}.values())
        name_layers(self.path, self._layers)
        self.assign_path("")

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, a shared one once."""
        return list(self._layers)

    def get_layer(self, name: str) -> Layer:
        """The layer of a name; TraceError lists the names when there is none."""
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise TraceError(f"model {self.path!r} has no layer {name!r}; it has {', '.join(self.children())}")

    def children(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in self._layers if layer.name is not None}

    def assign_path(self, path: str) -> None:
        self._path = path
        for name, child in self.children().items():
            child.assign_path(f"{path}/{name}" if path else name)


class Sequential(LayerGroup):
    """Layers in a row, each taking the output of the one before; the first element may be an `Input`.

    Layers without a name get Keras's: lstm, lstm_1, ... TraceError for two layers of one name. The final
    states of layers with return_state follow the output.

    Example:
        >>> from rnngraph.nn import Bidirectional, Dense, Input, LSTM, Sequential
        >>> model = Sequential([Input(("batch", "time", 80)), Bidirectional(LSTM(16)), Dense(10)])
        >>> [layer.name for layer in model.layers]
        ['bidirectional', 'dense']
        >>> model.weights["bidirectional/forward/kernel"].shape
        (80, 64)
    """

    def __init__(self, layers: Sequence[Layer | Input], name: str | None = None) -> None:
        if not isinstance(layers, list | tuple):
            raise TraceError(f"Sequential: expected a list of layers, got {layers!r}")
        self.inputs = [x for x in layers[:1] if isinstance(x, Input)]
        rest = [x for x in layers[len(self.inputs):] if isinstance(x, Layer)]
        if not rest or len(rest) != len(layers) - len(self.inputs):
            raise TraceError(f"Sequential: expected layers, the first may be an Input; got {list(layers)!r}")
        self._order = rest
        super().__init__(rest, name)
        if self.inputs:
            self.build(self.inputs[0].shape)

    @property
    def input_dtype(self) -> str:
        """The dtype of the input: the first layer's, or that of the Input."""
        return self.inputs[0].dtype.name if self.inputs else self._order[0].input_dtype

    @property
    def recurrent_depth(self) -> int:
        return sum(layer.recurrent_depth for layer in self._order)

    def recurrent_weights(self, weights_only: bool = False) -> RecurrentWeights:
        """The weights of the recurrent layers, one behind the other; see `rnngraph.weights.extract`."""
        return RecurrentWeights.stack([part.recurrent_weights(weights_only) for part in self._recurrent()])

    def set_recurrent_weights(self, weights: RecurrentWeights) -> None:
        """Set the weights of the recurrent layers; see `rnngraph.weights.assign`."""
        parts = self._recurrent()
        if self.recurrent_depth != weights.layers:
            raise TraceError(f"model {self.path!r} has {self.recurrent_depth} recurrent layer(s), the weights are of "
                             f"{weights.layers}")
        with all_or_nothing(self):
            start = 0
            for part, layer in parts.items():
                depth = layer.recurrent_depth
                part.set_recurrent_weights(replace(weights, cells=weights.cells[start : start + depth]))
                start += depth

    def _recurrent(self) -> dict[HasRecurrentWeights, Layer]:
        """The recurrent layers; TraceError when there is none, or another layer than dropout stands between them."""
        found = [i for i, layer in enumerate(self._order) if layer.recurrent_depth]
        if not found:
            raise TraceError(f"model {self.path!r} has no recurrent layer whose weights could be taken or set")
        between = [self._order[i] for i in range(found[0], found[-1]) if i not in found]
        if odd := [layer.name for layer in between if not isinstance(layer, Dropout | Masking)]:
            raise TraceError(f"model {self.path!r}: layer {odd[0]!r} stands between recurrent layers, so that they are "
                             "no stack; take the weights of each by itself")
        parts = [self._order[i] for i in found]
        if len(set(parts)) != len(parts):
            raise TraceError(f"model {self.path!r}: a recurrent layer stands there twice; its weights are one layer's")
        return {part: part for part in parts if isinstance(part, HasRecurrentWeights)}

    def call(self, x: Tensor) -> Any:
        states: list[Tensor] = []
        outputs: list[Tensor] = [x]
        for layer in self._order:
            if len(outputs) != 1:
                raise TraceError(f"layer {layer.name!r} takes one input, but the layer before it gives "
                                 f"{len(outputs)}; compose them with Model")
            result = layer(outputs[0])
            results = list(result) if isinstance(result, tuple) else [result]
            outputs = [t for t in results if not _is_state(t)]
            states.extend(t for t in results if _is_state(t))
        return outputs[0] if len(outputs) == 1 and not states else (*outputs, *states)


class Model(LayerGroup):
    """The calls that lead from ``inputs`` to ``outputs`` (one or several): branches and shared layers.

    Example:
        >>> from rnngraph.nn import Dense, Input, LSTM, Model
        >>> x = Input(("batch", "time", 8))
        >>> h = LSTM(8, return_sequences=True)(x)
        >>> model = Model(inputs=x, outputs=Dense(2)(h + x))
        >>> [layer.name for layer in model.layers]
        ['lstm', 'dense']
    """

    def __init__(self, inputs: Input | Sequence[Input], outputs: Tensor | Sequence[Tensor],
                 name: str | None = None) -> None:
        self.inputs = list(inputs) if isinstance(inputs, Sequence) else [inputs]
        given = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        self.outputs = [s for s in given if isinstance(s, Symbol)]
        if not all(isinstance(x, Input) for x in self.inputs) or not self.inputs:
            raise TraceError(f"Model: inputs must be Inputs, got {inputs!r}")
        if not self.outputs or len(self.outputs) != len(given):
            raise TraceError(f"Model: outputs must be what layers gave for the inputs, got {outputs!r}")
        self._nodes = nodes_before(self.outputs)
        self._check_reach()
        super().__init__([n.function for n in self._nodes if isinstance(n.function, Layer)], name)

    def _check_reach(self) -> None:
        known = {id(x) for x in self.inputs}
        for symbol in [*self.outputs, *(s for n in self._nodes for s in n.inputs)]:
            if symbol.node is None and id(symbol) not in known:
                raise TraceError(f"Model: the outputs depend on {symbol!r}, which is not among the inputs "
                                 f"({', '.join(map(repr, self.inputs))})")

    @property
    def recurrent_depth(self) -> int:
        return sum(layer.recurrent_depth for layer in self._layers)

    def recurrent_weights(self, weights_only: bool = False) -> RecurrentWeights:
        """TraceError: a graph of calls is no stack of layers."""
        raise self._no_stack()

    def set_recurrent_weights(self, weights: RecurrentWeights) -> None:
        """TraceError: a graph of calls is no stack of layers."""
        raise self._no_stack()

    def _no_stack(self) -> TraceError:
        return TraceError(f"model {self.path!r}: calls in a graph are no stack of layers; take the weights of each "
                          f"layer by itself, with get_layer(name): {', '.join(self.children())}")

    def call(self, *inputs: Any) -> Any:
        given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else list(inputs)
        if len(given) != len(self.inputs):
            raise ShapeError(f"expected {len(self.inputs)} inputs, got {len(given)}")
        known: dict[int, Tensor] = {id(s): t for s, t in zip(self.inputs, given, strict=True)}
        results: dict[int, Any] = {}

        def find(t: Tensor) -> Tensor:
            if not isinstance(t, Symbol):
                return t
            if t.node is None:
                return known[id(t)]
            result = results[id(t.node)]
            found: Tensor = result[t.index] if isinstance(result, tuple) else result
            return found

        for node in self._nodes:
            results[id(node)] = node.function(*map_tensors(find, node.args),
                                              **map_tensors(find, dict(node.kwargs)))
        outputs = tuple(find(s) for s in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def name_layers(model: str, layers: Sequence[Layer]) -> None:
    """Give layers without a name Keras's names; TraceError when two explicit names are the same."""
    taken: set[str] = set()
    for layer in layers:
        if layer.name is not None:
            if layer.name in taken:
                raise TraceError(f"model {model!r} has two layers named {layer.name!r}; give one of them "
                                 "another name")
            taken.add(layer.name)
    for layer in layers:
        if layer.name is None:
            base = layer.default_name()
            layer.name = next(n for n in _candidates(base) if n not in taken)
            taken.add(layer.name)


def _candidates(base: str) -> Iterator[str]:
    yield base
    number = 1
    while True:
        yield f"{base}_{number}"
        number += 1


def _is_state(t: Tensor) -> bool:
    return isinstance(t, Traced) and bool(t.name)
