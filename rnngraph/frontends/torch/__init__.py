"""PyTorch modules and exported programs: `from_torch` makes a layer of them, as `load` does for `rnngraph.compile`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnngraph.errors import ImportModelError, MissingExtraError

if TYPE_CHECKING:
    from rnngraph.frontends.torch.model import TorchModel


def from_torch(module: object, example_inputs: Sequence[Any] | Mapping[str, Any] | None = None, *,
               example_kwargs: Mapping[str, Any] | None = None, dynamic_shapes: Any = None) -> TorchModel:
    """The layer that a torch.nn.Module, or a torch.export.ExportedProgram, becomes.

    module          any module that torch.export takes; it is exported in evaluation mode. LSTM, GRU and RNN stay whole,
                    with open time, packed sequences included
    example_inputs  what its forward is called with, in order, or a dict by the names of its parameters; an exported
                    program needs none. A PackedSequence stands for an input [batch, time, ...] whose lengths each call
                    of the compiled model says
    example_kwargs  those by name, beside others in order
    dynamic_shapes  as torch.export takes them; None leaves every size open that can be

    The layer's inputs have the names of forward's parameters, its outputs are y, or y0, y1, ..., or the keys of a dict;
    its weights have the module's names. Dims are "batch" and "time" where recurrent layers tell, else s0, s1, ...

    Raises ImportModelError where torch.export refuses the module (with its reason), or where an operator is not
    supported (all of them, with the modules that call them); InputError where the module itself cannot be called with
    the example inputs; MissingExtraError without PyTorch.

    >>> import torch, rnngraph as rg
    >>> module = torch.nn.LSTM(3, 4, batch_first=True).eval()
    >>> layer = rg.from_torch(module, (torch.zeros(1, 5, 3),))
    >>> layer.inputs, layer.output_names
    ([<Input input: f32[batch,time,3]>], ('y0', 'y1', 'y2'))
    >>> rg.compile(layer, layer.inputs)(torch.zeros(2, 9, 3).numpy())[0].shape
    (2, 9, 4)
    """
    _torch()
    from rnngraph.frontends.torch.importing import imported  # with the extra

    return imported(module, example_inputs, example_kwargs, dynamic_shapes)


def load(model: object, inputs: Any = None, example_inputs: Any = None,
         example_kwargs: Mapping[str, Any] | None = None) -> TorchModel:
    """As `from_torch`, for `rnngraph.compile`."""
    if isinstance(model, str | Path):
        raise ImportModelError(
            f"{model}: rnngraph does not read .pt2 files, because reading one with PyTorch may run code that is in it; "
            "if you trust the file, give compile what torch.export.load returns")
    if inputs is not None:
        raise ImportModelError("a PyTorch module's inputs follow from example_inputs=; leave inputs= out")
    return from_torch(model, example_inputs, example_kwargs=example_kwargs)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("PyTorch models need the package torch: pip install 'rnngraph[torch]'") from None
    return torch


__all__ = ["from_torch", "load"]
