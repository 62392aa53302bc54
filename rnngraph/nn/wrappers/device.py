"""DeviceWrapper and DeviceLayer: a cell or a layer with a device of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import Value
from rnngraph.ir.placement import DEVICES
from rnngraph.nn.cell import Cell
from rnngraph.nn.context import active
from rnngraph.nn.layer import Layer
from rnngraph.nn.loop import Loop
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper

_NAME = re.compile(r"/?(?:device:)?(cpu|gpu)(?::0)?", re.IGNORECASE)


class DeviceWrapper(CellWrapper):
    """A cell that runs on ``device``, "cpu" or "gpu" (tf.nn.RNNCellDeviceWrapper; "/gpu:0" and "/device:GPU:0" too).

    The ops of the cell carry the device behind their layer's name (``lstm@gpu``), and the loop that runs the cell as
    well. Selection takes implementations of that device alone; where there are none, `rnngraph.compile` raises a
    SelectionError that names the layer, as it does for a loop whose cells are placed on two devices. Without a wrapper
    selection is free. TraceError for another name.

    Example:
        >>> from rnngraph.nn import RNN, DeviceWrapper, GRUCell, Input, trace
        >>> graph = trace(RNN(DeviceWrapper(GRUCell(4), "cpu"), name="low"), Input(("batch", "time", 3)))
        >>> [op.layer for op in graph.walk() if op.name == "scan"]
        ['low@cpu']
    """

    def __init__(self, cell: Cell, device: str) -> None:
        super().__init__(cell)
        self.device = _device(self.label, device)

    def inner(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        with active().on(self.device):
            return super().inner(x, state)

    def run(self, loop: Loop, unroll: bool) -> tuple[Value, list[Value]]:
        with active().on(self.device):
            return super().run(loop, unroll)


class DeviceLayer(Layer):
    """A layer, or a whole model, that runs on ``device``; see `DeviceWrapper`. Weights keep their names.

    Example:
        >>> from rnngraph.nn import LSTM, DeviceLayer, Input, trace
        >>> graph = trace(DeviceLayer(LSTM(4), "gpu", name="low"), Input(("batch", "time", 3)))
        >>> {op.layer for op in graph.walk() if op.name == "scan"}
        {'low/lstm@gpu'}
    """

    def __init__(self, layer: Layer, device: str, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(layer, Layer):
            raise TraceError(f"layer {self.path!r}: expected a layer to place, got {layer!r}")
        self.layer = layer
        self.device = _device(f"layer {self.path!r}", device)

    @property
    def input_dtype(self) -> str:
        """The dtype of the input: the layer's."""
        return self.layer.input_dtype

    def children(self) -> Mapping[str, Layer]:
        return {"": self.layer}

    def call(self, *inputs: Any, **kwargs: Any) -> Any:
        with active().on(self.device):
            return self.layer(*inputs, **kwargs)

    def pass_mask(self, inputs: Any, result: Any) -> None:
        """Nothing to do: the layer has."""


def _device(label: str, name: str) -> str:
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise TraceError(f"{label}: device must be one of {', '.join(DEVICES)}, got {name!r}")
    return match[1].lower()
