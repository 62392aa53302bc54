"""What becomes of a torch.nn.Module, an ExportedProgram or a .pt2 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.export import export
from rnngraph.frontends.torch.model import TorchModel
from rnngraph.frontends.torch.reader import read


def imported(model: object, example_inputs: Sequence[Any] | None = None,
             example_kwargs: Mapping[str, Any] | None = None, dynamic_shapes: Any = None) -> TorchModel:
    """The layer of a module or an exported program."""
    if isinstance(model, ExportedProgram):
        return TorchModel(read(model))
    if isinstance(model, torch.jit.ScriptModule):
        raise ImportModelError("a TorchScript module cannot be exported: give the torch.nn.Module that it was made of, "
                               "with its state_dict")
    if not isinstance(model, torch.nn.Module):
        raise ImportModelError(f"expected a torch.nn.Module or a torch.export.ExportedProgram, got "
                               f"{type(model).__name__}")
    if example_inputs is None and not example_kwargs:
        raise ImportModelError(f"{type(model).__name__}: give example_inputs=(x, ...), tensors that its forward could "
                               "be called with; their sizes stay open wherever they can")
    args = tuple(example_inputs) if isinstance(example_inputs, list | tuple) else (example_inputs,)
    exported = export(model, args if example_inputs is not None else (), example_kwargs, dynamic_shapes)
    return TorchModel(read(exported, name=type(model).__name__))
