"""What becomes of a torch.nn.Module, an ExportedProgram or a .pt2 file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from rnngraph.errors import ImportModelError, InputError
from rnngraph.frontends.torch.export import export
from rnngraph.frontends.torch.model import TorchModel
from rnngraph.frontends.torch.reader import read


def imported(model: object, example_inputs: Any = None,
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
    if packed := list(_quantized(model, "")):
        raise ImportModelError(f"{', '.join(packed)}: the weights are packed by PyTorch's quantization (torch.ao), and "
                               "torch.export cannot look into them: compile the module as it was before it was "
                               "quantized; quantized ONNX files (ONNX Runtime's quantize_dynamic) can be compiled")
    if example_inputs is None and not example_kwargs:
        raise ImportModelError(f"{type(model).__name__}: give example_inputs=(x, ...), or a dict by the names of "
                               "forward's parameters: tensors that it could be called with; their sizes stay open "
                               "wherever they can")
    args, kwargs = _arguments(example_inputs, example_kwargs)
    exported = export(model, args, kwargs, dynamic_shapes)
    return TorchModel(read(exported, name=type(model).__name__))


def _arguments(example: Any, by_name: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What forward is called with: a list or tuple in order, a mapping by name, anything else alone."""
    named = dict(by_name or {})
    if isinstance(example, Mapping):
        if both := sorted(n for n in named if n in example):
            raise InputError(f"example_inputs and example_kwargs both give {both}")
        args, named = (), {**example, **named}
    elif example is None:
        args = ()
    else:
        several = isinstance(example, list | tuple) and not isinstance(example, PackedSequence)
        args = tuple(example) if several else (example,)
    if bad := [n for n in named if not isinstance(n, str)]:
        raise InputError(f"example inputs by name: expected the names of forward's parameters, got the keys {bad}; a "
                         "mapping that is itself an argument goes into a tuple: example_inputs=({...},)")
    tensors: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(_tensor, (args, named))
    return tensors


def _quantized(module: torch.nn.Module, name: str) -> Iterator[str]:
    """The outermost modules whose weights are objects of PyTorch's quantized kernels."""
    if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
        yield f"{name!r} ({type(module).__name__})"
        return
    for child, inner in module.named_children():
        yield from _quantized(inner, f"{name}.{child}".lstrip("."))


def _tensor(value: Any) -> Any:
    """numpy arrays as tensors."""
    return torch.from_numpy(value.copy(order="C")) if isinstance(value, np.ndarray) else value
