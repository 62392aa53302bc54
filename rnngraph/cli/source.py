"""Where the command line gets its models: text IR (file or stdin), or a model in a user's Python file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import click
import numpy as np

import rnngraph as rg
from rnngraph.errors import ImportModelError, ParseError
from rnngraph.frontends.imported import ImportedModel, NeedsSize, NeedsValue, settling
from rnngraph.frontends.load import frontend_of, is_weights, load
from rnngraph.ir import Array, Graph, parse
from rnngraph.nn import Input, Layer
from rnngraph.report import dump

P = ParamSpec("P")
R = TypeVar("R")


def read_graph(file: str) -> Graph:
    """The graph in ``file`` ("-": stdin); constants that it refers to come from a resources.npz beside it.

    A parse error names the file, before line and column.
    """
    try:
        return parse(sys.stdin.read()) if file == "-" else dump.read(file)
    except ParseError as e:
        raise ImportModelError(f"{'stdin' if file == '-' else file}:{e}") from None
    except UnicodeDecodeError as e:
        raise ImportModelError(f"stdin: not text: {e.reason} at byte {e.start}") from None


def read_npy(path: str) -> Array:
    """The array of an .npy; ImportModelError when it is not one. Pickled objects are refused."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise ImportModelError(f"{path}: not a readable .npy file: {e}") from None
    if not isinstance(array, np.ndarray):
        raise ImportModelError(f"{path}: expected one array (.npy), got an archive")
    return array


def read_python(spec: str) -> tuple[object, ModuleType]:
    """``file.py:name`` -> that object, and the module. The file is the user's own program and is run."""
    file, _, name = spec.rpartition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(2, "No such file", file)
    loading = spec_from_file_location(Path(file).stem, file)
    if loading is None or loading.loader is None:
        raise ImportModelError(f"{file}: not a Python file")
    module = module_from_spec(loading)
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        loading.loader.exec_module(module)
    except Exception as e:
        raise ImportModelError(f"{file}: running it failed: {type(e).__name__}: {e}") from e
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        known = ", ".join(n for n in vars(module) if not n.startswith("_")) or "nothing"
        raise ImportModelError(f"{file}: has no {name!r}; it defines {known}")
    return getattr(module, name), module


def model_options(function: Callable[P, R]) -> Callable[P, R]:
    """The arguments that every command with a MODEL has: MODEL, --shape, --value."""
    for option in (
        click.option("--value", "values", multiple=True, metavar="NAME=NUMBER[,NUMBER...]",
                     help="The value of an input, or a size, that decides the structure of a model from elsewhere."),
        click.option("--shape", "shapes", multiple=True, metavar="[NAME=]DIM,DIM,...[:DTYPE]",
                     help="An input of a Python model, or one whose shape a file leaves open, as x=batch,time,80:f32; "
                          "words are symbolic dims."),
        click.argument("model"),
    ):
        function = option(function)
    return function


def load_model(spec: str, shapes: Sequence[str], values: Sequence[str] = ()) -> tuple[Any, list[Input] | None]:
    """What MODEL names, a graph or a model, and the inputs to trace it with (None: it has its own).

    A Python file's ``inputs`` (an rnngraph.Input or a list of them) is used when no --shape is given.
    """
    if frontend_of(spec) is not None or is_weights(spec):
        given = [parse_shape(s, f"x{i}" if i else "x") for i, s in enumerate(shapes)]
        return _specialized(load(spec, {x.name: x for x in given}), values), None
    if values:
        raise ImportModelError(f"{spec}: --value is for models from elsewhere, such as .onnx files")
    file = spec.rpartition(":")[0]
    if not file.endswith(".py"):
        if spec.endswith(".py"):
            raise ImportModelError(f"{spec}: which model? Write {spec}:NAME, the name that the file gives it")
        if shapes:
            raise ImportModelError(f"{spec}: a graph has its inputs; --shape is for models in Python files")
        return read_graph(spec), None
    model, module = read_python(spec)
    if shapes:
        return model, [parse_shape(s, f"x{i}" if i else "x") for i, s in enumerate(shapes)]
    inputs = getattr(module, "inputs", None)
    return model, [inputs] if isinstance(inputs, Input) else inputs


def _specialized(model: Layer, values: Sequence[str]) -> Layer:
    """The model with the values and sizes of --value known."""
    if not values:
        return model
    if not isinstance(model, ImportedModel):
        raise ImportModelError("--value: this model's structure depends on no value")
    known: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for item in values:
        name, _, text = item.rpartition("=")
        try:
            numbers = [float(n) if "." in n else int(n) for n in text.split(",")]
        except ValueError:
            raise ImportModelError(f"--value {item}: expected NAME=NUMBER[,NUMBER...]") from None
        x = next((x for x in model.inputs if name in (x.name, model.names.inputs.get(x.name))), None)
        if x is None:
            sizes[name] = int(numbers[0])
            continue
        array = np.asarray(numbers[0] if x.rank == 0 else numbers, x.dtype.numpy)
        known[x.name] = array.reshape([d if isinstance(d, int) else -1 for d in x.shape])
    return model.specialized(known, sizes)


def read_model(spec: str, shapes: Sequence[str], values: Sequence[str] = (), *, lengths: bool = False) -> Graph:
    """The graph of MODEL: read, or traced."""
    model, inputs = load_model(spec, shapes, values)
    return traced_model(model, inputs, lengths=lengths)


def traced_model(model: Any, inputs: list[Input] | None, *, lengths: bool = False) -> Graph:
    """The graph of what `load_model` gave."""
    if isinstance(model, Graph):
        return model
    try:
        if isinstance(model, ImportedModel):
            return settling(model, lambda settled: rg.trace(settled, lengths=lengths))
        return rg.trace(model, inputs, lengths=lengths)
    except (NeedsValue, NeedsSize) as e:
        raise ImportModelError(f"{e}; give it with --value NAME=NUMBER") from None


def parse_shape(text: str, default_name: str) -> Input:
    """An Input from ``[name=]dim,dim,...[:dtype]``.

    >>> parse_shape("words=batch,time:i32", "x")
    <Input words: i32[batch,time]>
    """
    name, _, rest = text.rpartition("=")
    dims, _, dtype = rest.partition(":")
    shape = tuple(int(d) if d.isdecimal() else d for d in (part.strip() for part in dims.split(",")))
    return Input(shape, dtype or "f32", name or default_name)
