"""pack, unpack: MXNet's pack_weights and unpack_weights, from dict to dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from rnngraph.errors import ConversionError
from rnngraph.weights.convert import as_array, load
from rnngraph.weights.formats import mxnet_cells, mxnet_unpacked
from rnngraph.weights.options import FlatOptions, Options


def unpack(args: Mapping[str, Any], prefix: str = "", **geometry: Unpack[FlatOptions]) -> dict[str, Any]:
    """The arguments with the recurrent weights behind ``prefix`` taken apart, gate by gate; the others as they are.

    The weights are a flat array, ``{prefix}parameters`` (mx.rnn.FusedRNNCell), whose mode, hidden, layers (1),
    directions (1) and projection (0) have to be said, or those of unfused cells (`{prefix}l0_i2h_weight` or
    `{prefix}i2h_weight`). The result has `{prefix}l0_i2h_i_weight` and so on; ``args`` is not changed.

    ConversionError when there are no such weights, or the flat array is not of this geometry.

    Example:
        >>> import numpy as np
        >>> args = {"fc_bias": np.zeros(2), "rnn_parameters": np.arange(12, dtype=np.float32)}
        >>> sorted(unpack(args, "rnn_", mode="rnn_tanh", hidden=2))
        ['fc_bias', 'rnn_l0_h2h_bias', 'rnn_l0_h2h_weight', 'rnn_l0_i2h_bias', 'rnn_l0_i2h_weight']
    """
    rest = dict(args)
    flat = f"{prefix}parameters"
    if flat in rest:
        weights = load({flat: rest.pop(flat)}, "mxnet", prefix=prefix, **geometry)
        return rest | weights.to("mxnet_unpacked", prefix=prefix)
    found = {name: as_array(rest.pop(name), name) for name in list(rest)
             if name.startswith(prefix) and mxnet_cells.NAME.fullmatch(name[len(prefix):])}
    if not found:
        raise ConversionError(f"unpack: there is no {flat!r} and no {prefix + 'l0_i2h_weight'!r}; there are "
                              f"{', '.join(list(rest)[:8]) or 'no arrays'}")
    if given := [name for name in geometry if name != "mode"]:
        raise ConversionError(f"unpack: {given[0]} is for a flat array, and there is no {flat!r}")
    options: Options = {"prefix": prefix}
    if "mode" in geometry:
        options["mode"] = geometry["mode"]
    weights = mxnet_cells.load(found, options)
    return rest | mxnet_unpacked.split_gates(found, weights.mode)


def pack(args: Mapping[str, Any], prefix: str = "", fused: bool = True) -> dict[str, Any]:
    """The inverse of `unpack`: the gates behind ``prefix`` become ``{prefix}parameters``, or unfused cells' arrays.

    Example:
        >>> import numpy as np
        >>> flat = {"rnn_parameters": np.arange(12, dtype=np.float32)}
        >>> pack(unpack(flat, "rnn_", mode="rnn_tanh", hidden=2), "rnn_")["rnn_parameters"][:4].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    rest = dict(args)
    found = {name[len(prefix):]: as_array(rest.pop(name), name) for name in list(rest)
             if name.startswith(prefix) and mxnet_unpacked.NAME.fullmatch(name[len(prefix):])}
    if not found:
        raise ConversionError(f"pack: there is no array such as {prefix + 'l0_i2h_i_weight'!r}; there are "
                              f"{', '.join(list(rest)[:8]) or 'no arrays'}")
    if not fused:
        joined = mxnet_unpacked.join_gates(found, "pack")
        return rest | {f"{prefix}{name}": array for name, array in joined.items()}
    weights = mxnet_unpacked.load(found, {})
    return rest | weights.to("mxnet", prefix=prefix)
