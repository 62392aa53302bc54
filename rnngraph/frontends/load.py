"""Which frontend reads a model: by a file's suffix, by an object's class. Each is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from rnngraph.errors import ImportModelError
from rnngraph.nn import Input, Layer

Given: TypeAlias = Input | Sequence[Input] | None  # of a sequence its elements, of an absent optional None
Inputs: TypeAlias = Input | Sequence[Input] | Mapping[str, Given] | None
_SUFFIXES = {".onnx": "onnx", ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".json": "mxnet", ".pt2": "torch"}
_LIBRARIES = {"onnx": "onnx", "keras": "keras", "tf_keras": "keras", "torch": "torch"}  # package of the class


def frontend_of(model: object) -> str | None:
    """The frontend, a folder of `rnngraph.frontends`, that reads ``model``: a path or an object; None if none does."""
    if isinstance(model, str | Path):
        return _SUFFIXES.get(Path(model).suffix.lower())
    packages = (c.__module__.partition(".")[0] for c in type(model).__mro__)
    return next((_LIBRARIES[p] for p in packages if p in _LIBRARIES), None)


def load(model: object, inputs: Inputs = None, example_inputs: Sequence[Any] | None = None,
         params: Any = None) -> Layer:
    """The layer that a foreign model becomes; ImportModelError when no frontend reads it, or when it is broken.

    ``params``: the parameters of a model whose file has none, an MXNet symbol.
    """
    name = frontend_of(model)
    if name is None:
        given = repr(str(model)) if isinstance(model, str | Path) else type(model).__name__
        raise ImportModelError(
            f"cannot read model {given}: expected a layer of rnngraph.nn, a Graph, IR text, a torch.nn.Module, a Keras "
            f"model, an onnx.ModelProto, or the path of a file .rg, {', '.join(_SUFFIXES)}")
    more = {} if params is None else {"params": params}
    layer = import_module(f"rnngraph.frontends.{name}").load(model, inputs, example_inputs, **more)
    assert isinstance(layer, Layer)
    return layer


def input_list(inputs: Inputs) -> dict[str | int, Input]:
    """What the caller says of inputs, by name or by place; ImportModelError for what is no Input."""
    found: dict[str | int, Input] = {}
    for key, said in given_list(inputs).items():
        if not isinstance(said, Input):
            raise ImportModelError(f"inputs: expected an Input for input {key!r}, got {said!r}")
        found[key] = said
    return found


def given_list(inputs: Inputs) -> dict[str | int, Given]:
    """As `input_list`, with lists for sequences and None for optionals without an element."""
    if inputs is None:
        return {}
    if isinstance(inputs, Input):
        return {0: inputs}
    if isinstance(inputs, Mapping):
        return {name: inputs[name] for name in inputs}
    return dict(enumerate(inputs))
