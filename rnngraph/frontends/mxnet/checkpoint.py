"""Checkpoints of mx.rnn: the weights of recurrent layers gate by gate, which fused and unfused cells can read.

python/mxnet/rnn/rnn.py: save_rnn_checkpoint unpacks the weights of the cells and writes a .params file whose names
begin with "arg:" and "aux:"; load_rnn_checkpoint packs them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from rnngraph.nn import RNN, BidirectionalCell, Cell, DropoutCell, FusedRNN, SequentialCell
from rnngraph.weights import HasRecurrentWeights, Options, RecurrentWeights, assign, convert, load
from rnngraph.weights.files import read, save
from rnngraph.weights.formats.mxnet_unpacked import NAME, join_gates

Recurrent: TypeAlias = "HasRecurrentWeights | Cell"
Layers: TypeAlias = "Recurrent | Sequence[Recurrent] | Mapping[str, Recurrent]"


class RNNCheckpoint(NamedTuple):
    """What `load_rnn_checkpoint` found: the path of the symbol, where there is one, and the arrays by name."""

    symbol: Path | None
    arg_params: dict[str, Array]
    aux_params: dict[str, Array]


def save_rnn_checkpoint(layers: Layers, prefix: str | Path, epoch: int, arg_params: Mapping[str, Any] | None = None,
                        aux_params: Mapping[str, Any] | None = None, symbol: str | Path | None = None) -> Path:
    """Write ``PREFIX-EPOCH.params`` as mx.rnn.save_rnn_checkpoint does, which mx.rnn.load_rnn_checkpoint reads.

    layers      a recurrent layer or cell, a Sequential, or several: by the prefix of their arrays' names in a mapping,
                or in a list, where a `FusedRNN` has its own prefix and others have none. Their weights are written
                gate by gate: ``{prefix}l0_i2h_i_weight``
    arg_params  further arrays; those of the layers among them, packed or not, are written in place of their weights
    aux_params  auxiliary states, such as moving means
    symbol      the path of a -symbol.json to copy to ``PREFIX-symbol.json``

    Returns the path written. Raises ImportModelError for names that are there twice, TraceError for layers without
    weights, ConversionError for weights that MXNet's cells cannot hold.

    Example:
        >>> import tempfile
        >>> from rnngraph.nn import FusedRNN
        >>> layer = FusedRNN("gru", 3)
        >>> layer.build((None, None, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_rnn_checkpoint(layer, f"{folder}/m", 7)
        ...     path.name, sorted(load_rnn_checkpoint(layer, f"{folder}/m", 7).arg_params)
        ('m-0007.params', ['gru_parameters'])
    """
    arrays = {n: np.asarray(a) for n, a in (arg_params or {}).items()}
    for start, layer in _named(layers).items():
        given = _own(arrays, start, layer)
        if isinstance(layer, FusedRNN) and f"{start}parameters" in given:
            own = layer.unpack_weights(given)
        elif given:
            own = _split(given, start)
        else:
            own = _weights(layer).to("mxnet_unpacked", prefix=start)
        arrays = {n: a for n, a in arrays.items() if n not in given}
        if twice := sorted(arrays.keys() & own.keys()):
            raise ImportModelError(f"save_rnn_checkpoint: the array {twice[0]!r} is there twice")
        arrays |= own
    target = _file(prefix, epoch)
    save(target, {**{f"arg:{n}": a for n, a in arrays.items()},
                  **{f"aux:{n}": np.asarray(a) for n, a in (aux_params or {}).items()}})
    if symbol is not None:
        shutil.copyfile(symbol, f"{prefix}-symbol.json")
    return target


def load_rnn_checkpoint(layers: Layers, prefix: str | Path, epoch: int) -> RNNCheckpoint:
    """Read ``PREFIX-EPOCH.params`` of mx.rnn.save_rnn_checkpoint, and set the weights of the layers.

    layers  as of `save_rnn_checkpoint`; those that are not built are built. A checkpoint of unfused cells fits a
            `FusedRNN` and the other way round

    Returns (symbol, arg_params, aux_params), with the arrays of the layers packed as MXNet packs them: one flat
    ``{prefix}parameters`` for a FusedRNN, else the gates of each matrix joined. Raises ImportModelError for a file that
    is broken or lacks a layer's arrays, ConversionError and TraceError where they do not fit the layer.
    """
    args: dict[str, Array] = {}
    aux: dict[str, Array] = {}
    path = _file(prefix, epoch)
    for name, array in read(path).items():
        kind, _, plain = name.partition(":")
        if kind not in ("arg", "aux"):
            raise ImportModelError(f"{path}: the name {name!r} does not begin with arg: or aux:")
        (args if kind == "arg" else aux)[plain] = array
    for start, layer in _named(layers).items():
        own = _own(args, start, layer)
        if not own:
            raise ImportModelError(f"{path}: has no arrays of a recurrent layer that begin with {start!r}; it has "
                                   f"{', '.join(sorted(args)[:8])}")
        packed, options = own, _options(layer, start)
        if isinstance(layer, FusedRNN):
            packed = own if f"{start}parameters" in own else layer.pack_weights(own)
            own = layer.unpack_weights(packed)
        elif not all(NAME.fullmatch(n.removeprefix(start)) for n in own):
            raise ImportModelError(f"{path}: {sorted(own)[0]!r} is packed; a FusedRNN unpacks it")
        else:
            packed = {f"{start}{n}": a for n, a in join_gates({n.removeprefix(start): a for n, a in own.items()},
                                                              "mxnet_unpacked").items()}
        _assign(layer, load(own, "mxnet_unpacked", **options))
        args = {**{n: a for n, a in args.items() if n not in own and n not in packed}, **packed}
    symbol = Path(f"{prefix}-symbol.json")
    return RNNCheckpoint(symbol if symbol.is_file() else None, args, aux)


def _file(prefix: str | Path, epoch: int) -> Path:
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise ImportModelError(f"epoch is a number >= 0, got {epoch!r}")
    return Path(f"{prefix}-{epoch:04d}.params")


def _named(layers: Layers) -> dict[str, Recurrent]:
    """The layers by the prefix of their arrays' names."""
    if isinstance(layers, Mapping):
        return dict(layers)
    listed: list[Any] = list(layers) if isinstance(layers, list | tuple) else [layers]
    found: dict[str, Recurrent] = {}
    for layer in listed:
        start = layer.prefix if isinstance(layer, FusedRNN) else ""
        if start in found:
            raise ImportModelError(f"two recurrent layers have the prefix {start!r}; give them as {{prefix: layer}}")
        found[start] = layer
    return found


def _weights(layer: Recurrent) -> RecurrentWeights:
    """The weights of a layer, a cell, or cells in a row (what `FusedRNN.unfuse` gives)."""
    cell = layer.cell if isinstance(layer, RNN) else layer
    if isinstance(cell, SequentialCell):
        return FusedRNN.fuse(cell).recurrent_weights()
    return (RNN(layer) if isinstance(layer, Cell) else layer).recurrent_weights(weights_only=True)


def _options(layer: Recurrent, start: str) -> Options:
    """Of a plain RNN the arrays do not say which activation it has."""
    cell = layer.cell if isinstance(layer, RNN) else layer
    fused = FusedRNN.fuse(cell) if isinstance(cell, SequentialCell) else cell
    return Options(prefix=start, mode=fused.mode) if isinstance(fused, FusedRNN) else Options(prefix=start)


def _assign(layer: Recurrent, weights: RecurrentWeights) -> None:
    cell = layer.cell if isinstance(layer, RNN) else layer
    if not isinstance(cell, SequentialCell):
        return assign(RNN(layer) if isinstance(layer, Cell) else layer, weights)
    fused = FusedRNN.fuse(cell)
    fused.set_recurrent_weights(weights)
    features = weights.input
    for part in (c for c in cell if not isinstance(c, DropoutCell)):
        for one in (part.l_cell, part.r_cell) if isinstance(part, BidirectionalCell) else (part,):
            one.ensure_built(features)
        features = part.output_size
    cell.set_weights(fused.unfuse().weights)


def _own(arrays: Mapping[str, Array], start: str, layer: Recurrent) -> dict[str, Array]:
    """The arrays of a recurrent layer among others."""
    flat = f"{start}parameters"
    return {n: a for n, a in arrays.items() if n.startswith(start) and (
        NAME.fullmatch(n.removeprefix(start)) or (n == flat and isinstance(layer, FusedRNN)))}


def _split(arrays: Mapping[str, Array], start: str) -> dict[str, Array]:
    """Arrays of cells, or of gates already, gate by gate."""
    joined = join_gates({n.removeprefix(start): a for n, a in arrays.items()}, "mxnet_unpacked")
    return convert(joined, "mxnet_cells", "mxnet_unpacked", target={"prefix": start})


__all__ = ["RNNCheckpoint", "load_rnn_checkpoint", "save_rnn_checkpoint"]
