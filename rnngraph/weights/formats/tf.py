"""TensorFlow's cells of tf.nn.rnn_cell and tf.contrib.rnn: kernel [I+H, G*H] and bias, as in checkpoints.

BasicLSTMCell and LSTMCell: gates i j f o (j is the candidate), w_i_diag, w_f_diag, w_o_diag (peepholes),
projection/kernel [H, P]; the graph adds forget_bias (default 1.0; 0.0 for CudnnCompatibleLSTMCell) to gate f. GRUCell:
gates/kernel (r u) and candidate/kernel, the reset gate on h. CudnnCompatibleGRUCell (reset_after): the candidate has
input_projection and hidden_projection, with a bias each. BasicRNNCell: kernel, bias. Names may be paths
(`rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel`); fw and bw are the directions.

forget_bias becomes the recurrent bias of gate f, so that no number is rounded where the target has two biases; what is
written has the forget bias that the option says subtracted.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits, add
from rnngraph.weights.gates import GATES, PEEPHOLES, Array, join, reorder, split
from rnngraph.weights.names import matrix, mode_of, need, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "igfo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}
DIAGONALS = tuple(f"w_{g}_diag" for g in PEEPHOLES)
LEAVES = ("kernel", "bias", "gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias",
          "candidate/input_projection/kernel", "candidate/input_projection/bias",
          "candidate/hidden_projection/kernel", "candidate/hidden_projection/bias", "projection/kernel", *DIAGONALS)


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    first = found[0][0]
    if "gates/kernel" in first:
        mode_of(3, options.get("mode"))
        after = "candidate/input_projection/kernel" in first
        cells = tuple(tuple(_gru(site, after) for site in layer) for layer in found)
        return RecurrentWeights("gru", cells, after)
    named = [mode for word, mode in (("lstm", "lstm"), ("rnn_cell", "rnn_tanh")) if any(word in n for n in params)]
    mode = options.get("mode") or (named[0] if named else "lstm" if _is_lstm(first) else "rnn_tanh")
    if mode == "gru":
        raise ConversionError("tf: a GRU has gates/kernel, which is missing")
    if "forget_bias" in options and mode != "lstm":
        raise ConversionError("tf: only an LSTM has a forget_bias")
    compatible = any("cudnn_compatible" in name for name in params)
    forget = options.get("forget_bias", 0.0 if compatible else 1.0)
    return RecurrentWeights(mode, tuple(tuple(_cell(site, mode, forget) for site in layer) for layer in found))


def _is_lstm(site: dict[str, Array]) -> bool:
    """Whether there are more columns than units: [I+H, 4*H] has 4*H > H; a plain cell has a square part."""
    kernel, bias = matrix(site, "kernel"), site.get("bias")
    columns = kernel.shape[1]
    if bias is not None and bias.shape != (columns,):
        raise ConversionError(f"tf: expected a bias [{columns}], got {list(bias.shape)}")
    if "projection/kernel" in site or any(name in site for name in DIAGONALS):
        return True
    if columns % 4 == 0 and kernel.shape[0] > columns:
        raise ConversionError(f"tf: a kernel {list(kernel.shape)} may be an LSTM's or a plain cell's; give the mode")
    return bool(kernel.shape[0] <= columns)


def _cell(site: dict[str, Array], mode: str, forget: float) -> CellWeights:
    kernel = matrix(site, "kernel")
    hidden = kernel.shape[1] // len(ORDER[mode])
    projection = matrix(site, "projection/kernel").T if "projection/kernel" in site else None
    output = hidden if projection is None else projection.shape[0]
    w, r = rows(kernel, output, ORDER[mode], mode)
    bias = reorder(need(site, "bias"), ORDER[mode], GATES[mode]) if "bias" in site else None
    extra = None
    if mode == "lstm" and forget != 0.0:
        extra = np.zeros(w.shape[0], w.dtype)
        extra[hidden : 2 * hidden] = forget
    diagonals = [need(site, name) for name in DIAGONALS if name in site]
    if diagonals and (len(diagonals) != 3 or len({d.shape for d in diagonals}) != 1 or diagonals[0].ndim != 1):
        raise ConversionError(f"tf: expected {', '.join(DIAGONALS)} of one shape [H], got "
                              f"{[list(d.shape) for d in diagonals]}")
    return CellWeights(w, r, bias, extra, projection, np.stack(diagonals) if diagonals else None)


def rows(kernel: Array, output: int, order: str, mode: str) -> tuple[Array, Array]:
    """W and R from one kernel [I+P, G*H]."""
    inputs = kernel.shape[0] - output
    if inputs < 1:
        raise ConversionError(f"tf: a kernel {list(kernel.shape)} has no rows for an input beside {output} units")
    return reorder(kernel[:inputs].T, order, GATES[mode]), reorder(kernel[inputs:].T, order, GATES[mode])


def _gru(site: dict[str, Array], after: bool) -> CellWeights:
    gates = matrix(site, "gates/kernel")
    hidden = gates.shape[1] // 2
    parts = {g: split(gates, "rz", 1)[g].T for g in "rz"}
    inputs = gates.shape[0] - hidden
    if inputs < 1:
        raise ConversionError(f"tf: gates/kernel {list(gates.shape)} has no rows for an input beside {hidden} units")
    bias = split(need(site, "gates/bias"), "rz") if "gates/bias" in site else None
    if after:
        last = matrix(site, "candidate/input_projection/kernel").T, matrix(site, "candidate/hidden_projection/kernel").T
    else:
        candidate = matrix(site, "candidate/kernel")
        last = candidate[:inputs].T, candidate[inputs:].T
    w = np.concatenate([parts["r"][:, :inputs], parts["z"][:, :inputs], last[0]])
    r = np.concatenate([parts["r"][:, inputs:], parts["z"][:, inputs:], last[1]])
    if bias is None:
        return CellWeights(w, r)
    zero = np.zeros_like(bias["r"])
    if not after:
        return CellWeights(w, r, join(bias | {"n": need(site, "candidate/bias")}, "rzn"))
    inner, outer = (need(site, f"candidate/{which}_projection/bias") for which in ("input", "hidden"))
    return CellWeights(w, r, join(bias | {"n": inner}, "rzn"), join({"r": zero, "z": zero, "n": outer}, "rzn"))


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    if "forget_bias" in options and weights.mode != "lstm":
        raise ConversionError("tf: only an LSTM has a forget_bias")
    forget, fold = options.get("forget_bias", 1.0), options.get("fold_bias", True)
    return write_sites(weights, options.get("prefix", ""), lambda cell: _arrays(cell, weights, forget, fold))


def _arrays(cell: CellWeights, weights: RecurrentWeights, forget: float, fold: bool) -> dict[str, Array]:
    if weights.mode == "gru":
        return _gru_arrays(cell, weights.reset_after, fold)
    order = ORDER[weights.mode]
    kernels = [reorder(a, weights.gates, order).T for a in (cell.w, cell.r)]
    assert cell.bias is not None
    bias = cell.bias
    recurrent = np.zeros_like(bias) if cell.recurrent_bias is None else cell.recurrent_bias.copy()
    if weights.mode == "lstm":
        gate = slice(cell.hidden, 2 * cell.hidden)
        recurrent[gate] -= bias.dtype.type(forget)
    found = {"kernel": np.concatenate(kernels),
             "bias": reorder(add(bias, recurrent, "TensorFlow's cells", fold), weights.gates, order)}
    if cell.projection is not None:
        found["projection/kernel"] = cell.projection.T
    if cell.peepholes is not None:
        found |= dict(zip(DIAGONALS, cell.peepholes, strict=True))
    return found


def _gru_arrays(cell: CellWeights, after: bool, fold: bool) -> dict[str, Array]:
    assert cell.bias is not None
    assert cell.recurrent_bias is not None
    w, r = split(cell.w, "rzn"), split(cell.r, "rzn")
    inner, outer = split(cell.bias, "rzn"), split(cell.recurrent_bias, "rzn")
    both = {g: add(inner[g], outer[g], "TensorFlow's cells", fold) for g in "rzn"}
    found = {"gates/kernel": np.concatenate([join(w, "rz").T, join(r, "rz").T]), "gates/bias": join(both, "rz")}
    if not after:
        return found | {"candidate/kernel": np.concatenate([w["n"].T, r["n"].T]), "candidate/bias": both["n"]}
    return found | {"candidate/input_projection/kernel": w["n"].T, "candidate/input_projection/bias": inner["n"],
                    "candidate/hidden_projection/kernel": r["n"].T, "candidate/hidden_projection/bias": outer["n"]}


FORMAT = Format("tf", "TensorFlow's cells", ORDER,
                Limits("two", (True, False), projection=True, peepholes=True, need_bias=True), load, store,
                load_options=("mode", "forget_bias"), store_options=("forget_bias",))
