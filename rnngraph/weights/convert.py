"""load, convert: arrays of one system to the canonical form and to another system."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import RecurrentWeights
from rnngraph.weights.files import read
from rnngraph.weights.gates import Array
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format, find


def load(params: Any, source: str, **options: Unpack[Options]) -> RecurrentWeights:
    """The canonical form of recurrent weights that are laid out as ``source`` does it.

    params   arrays by name, or the path of a file that has them (see `read`); for "keras" also the list of
             `layer.get_weights()`, for "mxnet" and "cudnn" also one flat array. Tensors of PyTorch are taken too.
             float16, float32 or float64, all the same
    source   "torch", "keras", "keras_cudnn", "onnx", "mxnet", "mxnet_unpacked", "mxnet_cells" (or "gluon"), "tf",
             "tf_cudnn", "cudnn", "onednn", "openvino", "flux", "lasagne", "element_research", "cntk"
    options  what the arrays do not show; see `Options`, and docs/weights.md for each system

    The result may share memory with the arrays that are given; what `RecurrentWeights.to` writes does not.
    ConversionError names the array that is missing, unknown or of another shape than expected.

    Example:
        >>> import numpy as np
        >>> kernel, recurrent = np.ones((5, 12), np.float32), np.ones((3, 12), np.float32)
        >>> load([kernel, recurrent, np.zeros(12, np.float32)], "keras").hidden
        3
    """
    form = find(source)
    return form.read(as_arrays(params, form, options.get("prefix", "")), options)


def convert(params: Any, source: str, to: str, *, target: Options | None = None,
            **options: Unpack[Options]) -> dict[str, Array]:
    """Recurrent weights of ``source`` as arrays of ``to``, by name.

    ``options`` are those of `load`, ``target`` those of the result (such as prefix, forget_bias, bias_mode,
    fold_bias). Where the target has one bias for two, they are added, which may round once and does not change the
    function; target={"fold_bias": False} makes that an error. What the target cannot hold (peepholes, a projection,
    another placement of the GRU's reset gate, a recurrent bias that r multiplies) is a ConversionError.

    Example:
        >>> import numpy as np
        >>> gates = {"weight_ih_l0": np.ones((9, 2), np.float32), "weight_hh_l0": np.ones((9, 3), np.float32)}
        >>> {name: array.shape for name, array in convert(gates, "torch", "keras").items()}
        {'kernel': (2, 9), 'recurrent_kernel': (3, 9)}
    """
    return load(params, source, **options).to(to, **(target or {}))


def as_arrays(params: Any, form: Format, prefix: str = "") -> dict[str, Array]:
    """Arrays by name from what a user has; what does not start with ``prefix`` may be anything."""
    if isinstance(params, str | os.PathLike):
        params = read(params)
    if isinstance(params, Mapping):
        named = {str(name): value for name, value in params.items()}
        return {name: as_array(value, name) if name.startswith(prefix) else value for name, value in named.items()}
    single = isinstance(params, np.ndarray) or hasattr(params, "detach")
    if form.names is None or not (single or isinstance(params, Sequence)):
        raise ConversionError(f"{form.name}: expected arrays by name, got {type(params).__name__}")
    arrays = [params] if single else list(params)
    return {name: as_array(array, name) for name, array in zip(form.names(len(arrays)), arrays, strict=True)}


def as_array(value: Any, name: str) -> Array:
    """The value as an array of floating point numbers; ConversionError when it is none."""
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # numpy has no such type; exact
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise ConversionError(f"{name}: not an array: {e}") from e
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ConversionError(f"{name}: expected float16, float32 or float64, got {array.dtype}")
    return array
