"""Which frontend reads a model: by a file's suffix, by an object's class. Each is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from rnngraph.errors import ImportModelError, RnngraphError
from rnngraph.ir import Dim, Shape
from rnngraph.nn import Input, Layer

Given: TypeAlias = Input | Sequence[Dim] | Sequence[Input] | None  # a shape; of a sequence its elements
Inputs: TypeAlias = Input | Sequence[Any] | Mapping[str, Given] | None  # of a sequence Inputs, or shapes
_SUFFIXES = {".onnx": "onnx", ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".json": "mxnet", ".pt2": "torch"}
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".params")  # no architecture is in such a file
_LIBRARIES = {"onnx": "onnx", "keras": "keras", "tf_keras": "keras", "torch": "torch"}  # package of the class


def frontend_of(model: object) -> str | None:
    """The frontend, a folder of `rnngraph.frontends`, that reads ``model``: a path or an object; None if none does."""
    if isinstance(model, str | Path):
        return _SUFFIXES.get(Path(model).suffix.lower())
    packages = (c.__module__.partition(".")[0] for c in type(model).__mro__)
    return next((_LIBRARIES[p] for p in packages if p in _LIBRARIES), None)


def is_weights(path: str | Path) -> bool:
    """Whether a file's suffix says that it holds weights alone."""
    return Path(path).suffix.lower() in WEIGHTS


def load(model: object, inputs: Inputs = None, example_inputs: Sequence[Any] | None = None,
         params: Any = None, example_kwargs: Mapping[str, Any] | None = None) -> Layer:
    """The layer that a foreign model becomes; ImportModelError when no frontend reads it, or when it is broken.

    ``params``: the parameters of a model whose file has none, an MXNet symbol. ``example_kwargs`` is PyTorch's.
    """
    name = frontend_of(model)
    if name is None:
        if isinstance(model, str | Path) and is_weights(model):
            how = "its architecture is the -symbol.json that was saved with it: give that" \
                if Path(model).suffix.lower() == ".params" else \
                "make the model (a torch.nn.Module, or layers of rnngraph.nn) and load the weights into it, " \
                f"rg.load_state_dict(model, {Path(model).name!r}); TorchScript archives are read as weights too"
            raise ImportModelError(f"{model}: expected a model, got a file of weights, which has no architecture: "
                                   f"{how}")
        given = repr(str(model)) if isinstance(model, str | Path) else type(model).__name__
        raise ImportModelError(
            f"cannot read model {given}: expected a layer of rnngraph.nn, a Graph, IR text, a torch.nn.Module, a Keras "
            f"model, an onnx.ModelProto, or the path of a file .rg, {', '.join(_SUFFIXES)}")
    if example_kwargs is not None and name != "torch":
        raise ImportModelError("example_kwargs= is for PyTorch modules; give example_inputs= by name, as a dict")
    more = {n: v for n, v in (("params", params), ("example_kwargs", example_kwargs)) if v is not None}
    layer = import_module(f"rnngraph.frontends.{name}").load(model, inputs, example_inputs, **more)
    assert isinstance(layer, Layer)
    return layer


def input_list(inputs: Inputs) -> dict[str | int, Input | Shape]:
    """What the caller says of inputs, by name or by place: Inputs or shapes; ImportModelError for anything else."""
    found: dict[str | int, Input | Shape] = {}
    for key, said in given_list(inputs).items():
        if isinstance(said, Input):
            found[key] = said
        elif is_shape(said):
            found[key] = shaped(key, said, "f32", "x").shape
        else:
            raise ImportModelError(f"inputs: {expected(key)}, got {said!r}")
    return found


def is_shape(said: Any) -> bool:
    """Whether it is a shape: sizes and symbols, in a tuple or a list."""
    return isinstance(said, tuple | list) and all(isinstance(d, int | str) and not isinstance(d, bool) for d in said)


def expected(key: str | int) -> str:
    """What `inputs` may say of an input."""
    return f"expected an rnngraph.Input(('batch', 'time', 80)), or a shape alone, for input {key!r}"


def shaped(key: str | int, shape: Any, dtype: str, name: str) -> Input:
    """The Input of a shape that the caller gave; ImportModelError when it is none."""
    try:
        return Input(tuple(shape), dtype, name)
    except RnngraphError as e:
        raise ImportModelError(f"inputs: {expected(key)}, got {shape!r}: {e}") from None


def given_list(inputs: Inputs) -> dict[str | int, Given]:
    """As `input_list`, with lists for sequences and None for optionals without an element."""
    if inputs is None:
        return {}
    if isinstance(inputs, Input):
        return {0: inputs}
    if isinstance(inputs, Mapping):
        return {name: inputs[name] for name in inputs}
    if not isinstance(inputs, list | tuple):
        raise ImportModelError(f"inputs: {expected(0)}, or several, by name or place; got {inputs!r}")
    return {0: inputs} if inputs and is_shape(inputs) else dict(enumerate(inputs))
