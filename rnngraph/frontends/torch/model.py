"""TorchModel: an exported program as a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import ImportedModel, identifiers
from rnngraph.frontends.torch.items import Item, Packed, tensor_of
from rnngraph.frontends.torch.ops import register
from rnngraph.frontends.torch.ops.numbers import scalar
from rnngraph.frontends.torch.ops.packing import padded
from rnngraph.frontends.torch.program import Program, WeightInfo
from rnngraph.frontends.torch.reader import arrays_by_name, arrays_in
from rnngraph.frontends.torch.walker import walk
from rnngraph.ir import F32, I64, Array, Dim, TensorType, Value
from rnngraph.ir.dims import substitute
from rnngraph.nn import Input
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


class TorchModel(ImportedModel):
    """An exported program: each call walks it and emits its ops, which carry the names of the modules.

    Its weights have the module's names: ``weights["encoder.lstm.weight_ih_l0"]``, and can be set by them.
    """

    def __init__(self, program: Program, values: Mapping[str, Array] | None = None,
                 sizes: Mapping[str, Dim] | None = None) -> None:
        self.values, self.sizes = dict(values or {}), dict(sizes or {})
        known: dict[str, Dim] = dict(self.sizes)
        inputs = [Input(tuple(substitute(d, known) for d in i.shape), i.dtype, i.name) for i in program.inputs
                  if i.name not in self.values]
        super().__init__(inputs, [name for name, _ in program.outputs])
        self.program = program
        self.packed_outputs = program.packed
        self.others: dict[str, Fixed] = {}
        register()
        self._add_weights(program.weights)

    def _add_weights(self, infos: Mapping[str, WeightInfo]) -> None:
        """float32 weights as a layer's, others as constants."""
        for key, info in infos.items():
            if info.dtype is F32 and 0 not in info.shape and info.name not in self._weights:
                self.add_weight(info.name, info.shape, "zeros").assign(info.array())
            elif info.name not in self._weights:
                self.others[key] = Fixed(info)

    def call(self, *inputs: Tensor) -> Any:
        given = dict(zip((x.name for x in self.inputs), inputs, strict=True))
        items: dict[str, Item] = {**given, **{n: _constant(a) for n, a in self.values.items()}}
        for key, info in self.program.weights.items():
            items[key] = self.others[key] if key in self.others else self._weights[info.name]
        outputs = [_output(item) for item in walk(self.program, items)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def arrays(self, example_inputs: Any) -> Any:
        """The tensors in the example, in order or by name; packed ones padded."""
        if isinstance(example_inputs, Mapping):
            return arrays_by_name(example_inputs)
        return None if example_inputs is None else arrays_in(example_inputs)

    def no_rows(self, what: str) -> str:
        return (f"{what}= says which steps recurrent layers run, and {self.program.name or 'the module'} has none that "
                "take it; inputs of forward that say so are given with the others")

    def specialized(self, values: Mapping[str, Array], sizes: Mapping[str, Dim]) -> Self:
        made = type(self)(self.program, {**self.values, **values}, {**self.sizes, **sizes})
        made.set_weights(self.weights) if self._weights else None
        return made


class Fixed(Tensor):
    """A constant of the program that is no float32 weight."""

    def __init__(self, info: WeightInfo) -> None:
        self.info = info
        self._array: Array | None = None

    @property
    def type(self) -> TensorType:
        return TensorType(self.info.dtype, self.info.shape)

    def value(self) -> Value:
        return active().constant((id(self), ""), self.type, self._values, identifiers([self.info.name])[self.info.name])

    def _values(self) -> Array:
        if self._array is None:
            self._array = self.info.array()
        return self._array


def _constant(array: Array) -> Tensor:
    return wrap(active().builder.const(np.asarray(array)))


def _output(item: Item) -> Tensor:
    if isinstance(item, Packed):
        return padded(item)
    if isinstance(item, int | float | bool | str):
        return scalar(item, F32 if isinstance(item, float) else I64)
    if item is None:
        raise ImportModelError("an output has no value")
    return tensor_of(item)
