"""from_keras: what is to be read, in which of its forms, and the weights that go into the layers."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnngraph import nn
from rnngraph.errors import ImportModelError, IRError, ShapeError, TraceError
from rnngraph.frontends.keras.archive import Saved, major, model_config, read_file, read_json
from rnngraph.frontends.keras.graph import Builder, Part
from rnngraph.frontends.keras.stores import Lists, Store
from rnngraph.frontends.keras.variables import Made, Variables, assign, from_cudnn
from rnngraph.frontends.load import Inputs, input_list
from rnngraph.nn import Layer

# What layers raise that are called with what no layer takes, as a damaged configuration may have it.
SENSELESS = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, AssertionError)
CustomLayers = Mapping[str, Callable[[Mapping[str, Any]], Layer]]


def from_keras(source: Any, config: Any = None, *, inputs: Inputs = None,
               layers: CustomLayers | None = None) -> nn.Model | nn.Sequential:
    """A Keras model as a model of `rnngraph.nn`, its weights set.

    source  a Keras model (Sequential or functional), the path of a .keras or a whole-model .h5 (of Keras 2 or 3), or
            of a file of weights alone, .h5 or .weights.h5, which takes ``config``
    config  for weights alone, the architecture: the text of ``model.to_json()``, the path of a .json with it, or a
            dict. A model of `rnngraph.nn` instead is given the weights, see `load_weights`
    inputs  Inputs by name or place, for models whose files do not say their shapes, or to say other dims and dtypes
    layers  for classes of the user's own: functions of a layer's config (a dict) that give a layer of `rnngraph.nn`,
            whose weights are set in their order

    Sizes that Keras leaves open are the symbols batch, time, d2, ... (of further inputs time1, ... where they may
    differ). Nothing in a file is run: Lambda layers and unknown classes are an ImportModelError that names the layer,
    as is a broken file. Activations have the meaning of the version that wrote the file: hard_sigmoid is
    clip(0.2 x + 0.5, 0, 1) in Keras 2. Training is not imported; Dropout is.

    Example:
        >>> import os
        >>> os.environ["KERAS_BACKEND"] = "torch"
        >>> import keras, rnngraph as rg
        >>> x = keras.Input((None, 8), name="x")
        >>> model = rg.from_keras(keras.Model(x, keras.layers.LSTM(4)(x)))
        >>> model.layers[0].weights["kernel"].shape, rg.compile(model).report.inputs
        ((8, 16), ('x: f32[batch,time,8]',))
    """
    if isinstance(config, Layer):
        load_weights(config, source)
        assert isinstance(config, nn.Model | nn.Sequential)
        return config
    where = "the Keras model"
    if isinstance(source, str | os.PathLike):
        where = os.fspath(source)
    try:
        saved = read_file(Path(where)) if isinstance(source, str | os.PathLike) else _live(source)
        if config is not None:
            saved = Saved(_given(config), saved.keras, saved.store)
        if saved.config is None:
            raise ImportModelError("these are weights alone; give the architecture as config=, such as the text of "
                                   "model.to_json()")
        return _model(saved, inputs, layers or {})
    except ImportModelError as e:
        raise ImportModelError(f"{where}: {e}") from None


def load(model: Any, inputs: Inputs = None, example_inputs: Sequence[Any] | None = None) -> Layer:
    """What `rnngraph.compile` asks a frontend for; see `from_keras`."""
    return from_keras(model, inputs=inputs)


def _given(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if isinstance(config, os.PathLike) or (isinstance(config, str) and "{" not in config):
        try:
            return model_config(Path(config).read_bytes(), os.fspath(config))
        except (OSError, ValueError) as e:  # ValueError: a path with a null byte
            raise ImportModelError(f"config={os.fspath(config)[:200]!r} is no file that can be read "
                                   f"({getattr(e, 'strerror', None) or e}); expected the text of model.to_json(), the "
                                   "path of a .json with it, or a dict") from None
    if isinstance(config, str):
        return model_config(config, "config")
    raise ImportModelError(f"config must be JSON, a path of a .json or a dict, got {type(config).__name__}")


def _live(model: Any) -> Saved:
    """A model of Keras that is in memory."""
    bases = [c.__module__.partition(".")[0] for c in type(model).__mro__]
    package = next((b for b in bases if b in ("keras", "tf_keras")), None)
    if package is None or not hasattr(model, "to_json"):
        raise ImportModelError(f"expected a Keras model or the path of a .keras or .h5, got {type(model).__name__}")
    if type(model).__name__ not in ("Sequential", "Functional", "Model") or not getattr(model, "built", True):
        raise ImportModelError(f"{type(model).__name__} is a class of its own, or not built: only Sequential and "
                               "functional models that know their inputs are read")
    try:
        text = model.to_json()
    except Exception as e:  # whatever a user's layer raises in get_config
        raise ImportModelError(f"its configuration cannot be had: {type(e).__name__}: {str(e)[:200]}") from None
    version = major(getattr(sys.modules.get(package), "__version__", "3"), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Keras's conversion to numpy
        arrays = {layer.name: [np.asarray(a) for a in layer.get_weights()] for layer in model.layers}
    return Saved(read_json(text, "the configuration"), version, Lists(arrays, old=False))


def _model(saved: Saved, inputs: Inputs, custom: CustomLayers) -> nn.Model | nn.Sequential:
    given = input_list(inputs)
    try:
        try:
            model, parts = Builder(saved.keras, saved.store.shapes, custom, given).outermost(saved.config)
        except ShapeError:  # open dims of two inputs have to be one size
            model, parts = Builder(saved.keras, saved.store.shapes, custom, given, True).outermost(saved.config)
        store = saved.store
        if isinstance(store, Lists):
            store = store.named([p.name for p in parts if p.made.layer.named_weights()])
        for part in parts:
            _assign(part, store)
    except (TraceError, IRError) as e:
        raise ImportModelError(str(e)) from None
    except RecursionError:
        raise ImportModelError("a configuration nested without end") from None
    except SENSELESS as e:
        raise ImportModelError(f"the configuration makes no sense: {type(e).__name__}: {str(e)[:200]}") from e
    return model


def _assign(part: Part, store: Store) -> None:
    made = part.made
    if made.variables is None:
        made = Made(made.layer, (Variables("", tuple(made.layer.named_weights())),))
    assert made.variables is not None
    if any(v.targets for v in made.variables):
        assign(made, store.groups(part.name, part.place, made.variables), f"layer {part.name!r}")


def load_weights(model: Layer, source: str | os.PathLike[str]) -> None:
    """Set the weights of a model of `rnngraph.nn` from an HDF5 file of Keras 2 (whole model, or weights alone).

    Layers are found by name, where the file has all names of the model's layers with weights, else by order. LSTM and
    GRU take the weights of CuDNNLSTM and CuDNNGRU too. ImportModelError names the layer whose weights do not fit.
    """
    where = os.fspath(source)
    try:
        store = read_file(Path(where)).store
        if not isinstance(store, Lists):
            raise ImportModelError("weights of Keras 3 are found by its configuration; give that: rg.from_keras(path, "
                                   "config=model.to_json())")
        mine = [layer for layer in getattr(model, "layers", [model]) if layer.named_weights()]
        names = [layer.name or "" for layer in mine]
        store = store.named(names)
        for layer, name in zip(mine, names, strict=True):
            made = Made(layer, tuple(_variables(layer, "")))
            assert made.variables is not None
            assign(made, store.groups(name, "", made.variables), f"layer {name!r}")
    except ImportModelError as e:
        raise ImportModelError(f"{where}: {e}") from None


def _variables(layer: Layer, prefix: str) -> list[Variables]:
    """The weights of a layer of ours in Keras's order, recurrent ones together."""
    if isinstance(layer, nn.Bidirectional):
        return [v for name, child in layer.children().items() for v in _variables(child, f"{prefix}{name}/")]
    names = tuple(f"{prefix}{n}" for n in layer.named_weights())
    fixed = tuple(i for i, n in enumerate(names) if n.rsplit("/", 1)[-1].startswith("moving_"))
    return [Variables("", names, fixed, from_cudnn) if isinstance(layer, nn.RNN) else Variables("", names, fixed)]
