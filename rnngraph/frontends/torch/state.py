"""load_state_dict: the arrays of a PyTorch state dict, or of a file of one, into a model of rnngraph.nn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnngraph import weights
from rnngraph.errors import ConversionError, ImportModelError
from rnngraph.ir import Array
from rnngraph.nn import (
    BatchNormalization,
    Conv1D,
    Conv2D,
    Conv3D,
    Dense,
    Embedding,
    GroupNormalization,
    Layer,
    LayerNormalization,
    RMSNormalization,
)
from rnngraph.nn.canonical import all_or_nothing
from rnngraph.nn.model import LayerGroup
from rnngraph.weights import HasRecurrentWeights, RecurrentWeights

_IGNORED = ("num_batches_tracked",)  # a counter for training
_NORM = {"weight": "gamma", "bias": "beta"}
# of layers that are not recurrent: PyTorch's name of each weight -> ours
_PLAIN: dict[type[Layer], dict[str, str]] = {
    Dense: {"weight": "kernel", "bias": "bias"}, Embedding: {"weight": "embeddings"},
    **{conv: {"weight": "kernel", "bias": "bias"} for conv in (Conv1D, Conv2D, Conv3D)},
    LayerNormalization: _NORM, GroupNormalization: _NORM, RMSNormalization: {"weight": "scale"},
    BatchNormalization: {**_NORM, "running_mean": "moving_mean", "running_var": "moving_variance"}}


@dataclass(frozen=True, slots=True)
class _Module:
    """The arrays of one PyTorch module."""

    name: str
    arrays: dict[str, Array]

    @property
    def recurrent(self) -> bool:
        return any(n.startswith("weight_ih") for n in self.arrays)


def load_state_dict(model: Layer, state: Mapping[str, Any] | str | os.PathLike[str], *, prefix: str = "",
                    names: Mapping[str, str] | None = None) -> None:
    """Set the weights of a model of rnngraph.nn, or of an imported one, from a PyTorch state dict.

    model   a layer, Sequential or Model of recurrent layers, Dense, Embedding, convolutions, normalizations and layers
            without weights; or what `from_torch` gave
    state   a mapping from names to tensors or arrays, or the path of a .safetensors, .npz, .pt or .pth file; of a .pt
            only the description of its tensors is read, nothing in it is run
    prefix  how the names of the model's arrays begin, such as "state_dict." or "encoder."
    names   the PyTorch module for layers, by their path in the model; the others are found by the same path
            ("encoder.lstm" for "encoder/lstm") or, where no name agrees, by their order

    A PyTorch module of several layers may be as many recurrent layers here, one behind the other. Every layer must get
    its weights and every array be used (but for num_batches_tracked); with an error the model is as it was. Epsilons
    are not in a state dict: LayerNormalization's is 1e-3 here and 1e-5 in PyTorch, unless you say so.

    Raises ImportModelError where layers and modules do not go together, ConversionError or ShapeError where sizes do
    not fit.

    Example:
        >>> import torch, rnngraph as rg
        >>> module = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2))
        >>> model = rg.Sequential([rg.nn.Embedding(9, 4), rg.nn.Dense(2)])
        >>> rg.load_state_dict(model, module.state_dict())
        >>> bool((model.weights["dense/bias"] == module[1].bias.detach().numpy()).all())
        True
    """
    where = f" in {Path(state).name}" if isinstance(state, str | os.PathLike) else ""
    arrays = {n: _array(n, a) for n, a in state.items()} if isinstance(state, Mapping) else weights.read(state)
    mine = {n.removeprefix(prefix): a for n, a in arrays.items()
            if n.startswith(prefix) and n.rpartition(".")[2] not in _IGNORED}
    if not mine:
        raise ImportModelError(f"no array{where} has a name that begins with {prefix!r}; there are "
                               f"{', '.join(list(arrays)[:8])}")
    own = model.named_weights()
    if own and own.keys() == mine.keys():
        model.set_weights(mine)
        return
    pairs = _paired(list(_targets(model, "")), _modules(mine), dict(names or {}))
    with all_or_nothing(model):
        for layers, module in pairs:
            _assign(layers, module)


def _array(name: str, value: Any) -> Array:
    if hasattr(value, "detach"):  # a tensor of PyTorch, on any device
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise ImportModelError(f"{name!r} is no array: {e}") from None
    if array.dtype.kind not in "fiub":
        raise ImportModelError(f"{name!r}: expected an array of numbers, got {array.dtype}")
    return array


def _modules(arrays: Mapping[str, Array]) -> dict[str, _Module]:
    found: dict[str, _Module] = {}
    for name, array in arrays.items():
        owner, _, short = name.rpartition(".")
        found.setdefault(owner, _Module(owner, {})).arrays[short] = array
    return found


def _targets(layer: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    """The layers that take weights, with their paths; wrappers and models are looked into."""
    if not isinstance(layer, LayerGroup) and (isinstance(layer, HasRecurrentWeights) or type(layer) in _PLAIN):
        yield path, layer
        return
    inner = [(n, child) for n, child in layer.children().items() if isinstance(child, Layer)]
    if not inner and layer.named_weights():
        raise ImportModelError(f"layer {path or layer.path!r}: weights of {type(layer).__name__} have no counterpart "
                               "in PyTorch that is known; set them by layer.set_weights")
    for name, child in inner:
        yield from _targets(child, f"{path}/{name}" if path and name else path or name)


def _depth(layer: Layer) -> int:
    return layer.recurrent_depth


def _paired(targets: Sequence[tuple[str, Layer]], modules: dict[str, _Module],
            names: dict[str, str]) -> list[tuple[list[Layer], _Module]]:
    """Layers and the module that each (or several recurrent ones together) takes."""
    paths = [path for path, _ in targets]
    if unknown := [p for p in names if p not in paths] or [m for m in names.values() if m not in modules]:
        raise ImportModelError(f"names: {unknown[0]!r} is neither a layer of the model ({', '.join(paths)}) nor a "
                               f"module of the state dict ({', '.join(modules)})")
    chosen = {path: names.get(path, path.replace("/", ".")) for path in paths}
    by_name = {path: module for path, module in chosen.items() if module in modules}
    rest = [m for n, m in modules.items() if n not in by_name.values()]
    pairs: list[tuple[list[Layer], _Module]] = []
    waiting = iter(rest)
    open_layers: list[Layer] = []
    module: _Module | None = None
    for path, layer in targets:
        if path in by_name:
            pairs.append(([layer], modules[by_name[path]]))
            continue
        module = module or next(waiting, None)
        if module is None:
            raise _mismatch(targets, modules, f"no module is left for layer {path!r}")
        if module.recurrent != bool(_depth(layer)):
            raise _mismatch(targets, modules, f"layer {path!r} ({type(layer).__name__}) does not take {module.name!r}")
        open_layers.append(layer)
        if not module.recurrent or sum(map(_depth, open_layers)) >= _layers(module):
            pairs.append((open_layers, module))
            open_layers, module = [], None
    left = [m.name for m in (module, *waiting) if m is not None]
    if left:
        raise _mismatch(targets, modules, f"no layer takes {', '.join(map(repr, left))}")
    return pairs


def _layers(module: _Module) -> int:
    numbers = [n.split("_l")[1].split("_")[0] for n in module.arrays if n.startswith("weight_ih_l")]
    return 1 + max((int(n) for n in numbers if n.isdigit()), default=0)


def _mismatch(targets: Sequence[tuple[str, Layer]], modules: Mapping[str, _Module], why: str) -> ImportModelError:
    ours = ", ".join(f"{p or 'itself'} ({type(layer).__name__})" for p, layer in targets)
    theirs = ", ".join(f"{n or 'itself'} ({', '.join(list(m.arrays)[:2])}, ...)" for n, m in modules.items())
    return ImportModelError(f"{why}; the model has the layers {ours}; the state dict has {theirs}. Say which belong "
                            "together by names={layer: module}, or cut the state dict by prefix=")


def _assign(layers: list[Layer], module: _Module) -> None:
    if module.recurrent:
        loaded = weights.load(module.arrays, "torch", **_mode(layers[0]))
        start = 0
        for layer in layers:
            part = _cells(loaded, start, _depth(layer), module)
            assert isinstance(layer, HasRecurrentWeights), "layers with a depth have recurrent weights"
            weights.assign(layer, part)
            start += _depth(layer)
        if start != loaded.layers:
            raise ConversionError(f"module {module.name!r} has {loaded.layers} layers, the model's {start}")
        return
    (layer,) = layers
    table = _PLAIN[type(layer)]
    if odd := [n for n in module.arrays if n not in table]:
        raise ConversionError(f"module {module.name!r}: {odd[0]!r} has no place in a {type(layer).__name__}")
    values = {table[n]: _turned(layer, n, a) for n, a in module.arrays.items()}
    if not layer.built:
        layer.build(_input_shape(layer, values))
    layer.set_weights(values)


def _mode(layer: Layer) -> dict[str, Any]:
    """For simple RNNs, whose arrays do not say the activation."""
    mode = getattr(layer, "mode", None)
    return {"mode": mode} if isinstance(mode, str) and mode.startswith("rnn") else {}


def _cells(loaded: RecurrentWeights, start: int, depth: int, module: _Module) -> RecurrentWeights:
    if start + depth > loaded.layers:
        raise ConversionError(f"module {module.name!r} has {loaded.layers} layers, the model's {start + depth}")
    return replace(loaded, cells=loaded.cells[start : start + depth])


def _turned(layer: Layer, name: str, array: Array) -> Array:
    """PyTorch's array in our layout, float32."""
    if name == "weight" and isinstance(layer, Dense | Conv1D | Conv2D | Conv3D):
        array = array.transpose((*range(2, array.ndim), 1, 0))
    return np.array(array, np.float32, order="C")


def _input_shape(layer: Layer, values: Mapping[str, Array]) -> tuple[int | None, ...]:
    if isinstance(layer, Dense):
        return None, values["kernel"].shape[0]
    if isinstance(layer, Conv1D | Conv2D | Conv3D):
        kernel = values["kernel"].shape
        return (None, *[None] * (len(kernel) - 2), kernel[-2] * layer.groups)
    if isinstance(layer, Embedding):
        return None, None
    size = next(iter(values.values())).shape[0]
    return None, None, size


__all__ = ["load_state_dict"]
