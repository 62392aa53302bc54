"""What cudnnRNNForward computes, in numpy: from the packed weight space, by its formula.

The stand-in for a GPU calls it, so that packing, layouts and selection are tested where there is no cuDNN. Semantics
are those of cuDNN's documentation: GRU's reset gate multiplies ``R h + bR``; past a row's length outputs are zero and
the state stays; the backward direction starts at a row's own last step. Numbers of 16 bits are summed in f32 and
rounded where cuDNN stores them: y and h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.backends.cupy.cudnn.abi import STATUS_NOT_SUPPORTED, CudnnError
from rnngraph.backends.cupy.cudnn.bits import Bf16
from rnngraph.backends.cupy.cudnn.setting import Arrays, Setting
from rnngraph.backends.cupy.cudnn.variants import ALGORITHMS
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, F16, F32, Array
from rnngraph.ir.opdef import round_bf16

Rounding = Callable[[Array], Array]


def as_it_is(x: Array) -> Array:
    return x


def round_tf32(x: Array) -> Array:
    """f32 with the 10 bits of mantissa that TF32 multiplies, to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 13) & 1) + 0xFFF).astype(np.uint32)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def round_f16(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How what is stored is rounded, and how what is multiplied is."""

    stored: Rounding = as_it_is
    multiplied: Rounding = as_it_is

    def product(self, x: Array, w: Array) -> Array:
        out: Array = self.multiplied(x) @ self.multiplied(w).T
        return out


EXACT = Arithmetic()


@dataclass(frozen=True, slots=True)
class Gates:
    """The matrices and biases of a pseudo-layer: the input's, the recurrent ones, and the projection or None."""

    w: list[Array]
    bw: list[Array]
    r: list[Array]
    br: list[Array]
    p: Array | None


def gates_of(space: WeightSpace, weights: Array, pseudo: int) -> Gates:
    """Read a pseudo-layer out of the packed weights."""
    a, hidden = space.attrs, space.attrs.hidden
    matrices, biases = list[Array](), list[Array]()
    for part in space.parts():
        if part.pseudo == pseudo:
            rows, columns = part.shape
            matrices.append(weights[part.matrix : part.matrix + rows * columns].reshape(rows, columns))
            if part.bias is not None:
                biases.append(weights[part.bias : part.bias + hidden])
    g = a.gates
    return Gates(matrices[:g], biases[:g], matrices[g : 2 * g], biases[g:], matrices[2 * g] if a.proj else None)


def forward(space: WeightSpace, weights: Array, x: Array, h0: Array, c0: Array | None,
            lengths: Array | Sequence[int] | None = None, arithmetic: Arithmetic = EXACT) -> tuple[
                Array, Array, Array | None]:
    """y [T, B, directions * features], h_n, and c_n of an LSTM, as cuDNN lays them out; x is [T, B, inputs]."""
    a = space.attrs
    steps, batch = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    h_n, c_n = np.array(h0), None if c0 is None else np.array(c0)
    for layer in range(a.num_layers):
        outputs = []
        for d, reverse in enumerate((False, True)[: len(a.reverses)]):  # cuDNN's only direction is forwards
            pseudo = layer * len(a.reverses) + d
            gates = gates_of(space, weights, pseudo)
            h, c = h_n[pseudo], None if c_n is None else c_n[pseudo]
            y = np.zeros((steps, batch, a.features), x.dtype)
            for t in range(steps)[:: -1 if reverse else 1]:
                on = (t < ends)[:, None]
                new_h, new_c = _step(a.mode, gates, x[t], h, c, arithmetic)
                new_h = arithmetic.stored(new_h)
                y[t] = np.where(on, new_h, 0)
                h = np.where(on, new_h, h)
                c = None if c is None or new_c is None else np.where(on, new_c, c)
            h_n[pseudo] = h
            if c_n is not None:
                c_n[pseudo] = c
            outputs.append(y)
        x = np.concatenate(outputs, 2)
    return x, h_n, c_n


def _step(mode: str, g: Gates, x: Array, h: Array, c: Array | None, arithmetic: Arithmetic) -> tuple[
        Array, Array | None]:
    times = arithmetic.product
    left = [times(x, w) + b for w, b in zip(g.w, g.bw, strict=True)]
    right = [times(h, r) + b for r, b in zip(g.r, g.br, strict=True)]
    if mode == "lstm":
        assert c is not None
        i, f, n, o = (p + q for p, q in zip(left, right, strict=True))
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(n)
        h = _sigmoid(o) * np.tanh(c)
        return (h if g.p is None else times(h, g.p)), c
    if mode == "gru":
        r, z = _sigmoid(left[0] + right[0]), _sigmoid(left[1] + right[1])
        n = np.tanh(left[2] + r * right[2])
        return (1 - z) * n + z * h, None
    total = left[0] + right[0]
    return (np.tanh(total) if mode == "rnn_tanh" else np.maximum(total, 0)), None


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


# --- a network, as a device runs it --------------------------------------------------------------------------------


class ModelNetwork:
    """The model on arrays of numpy, under the conditions that cuDNN sets; CudnnError, `not_supported`, for what the
    algorithm does not do."""

    def __init__(self, setting: Setting, arrays: Arrays, weights: Array) -> None:
        self.setting, self.arrays = setting, arrays
        self.takes = next(t for t in ALGORITHMS.values() if t.algorithm is setting.algorithm)
        if setting.dtype not in self.takes.dtypes or (setting.space.attrs.proj and not self.takes.projection):
            raise _refused(setting, "of this dtype, or with this projection")
        if any(a is not None and not a.flags.c_contiguous for a in (
                arrays.x, arrays.y, arrays.h0, arrays.h_n, arrays.c0, arrays.c_n)):
            raise CompileError("cudnn (model): expected memory without gaps")
        self.weights = _wide(weights, setting)
        self.arithmetic = _arithmetic(setting)

    def run(self, lengths: Sequence[int] | None) -> None:
        s, a = self.setting, self.arrays
        if lengths is not None and any(not 1 <= n <= s.steps for n in lengths):
            raise CompileError(f"cudnn (model): expected lengths in 1..{s.steps}, got {list(lengths)}")
        if lengths is not None and not self.takes.lengths and any(n != s.steps for n in lengths):
            raise _refused(s, "with rows of different lengths")
        x = a.x.transpose(1, 0, 2) if s.batch_major else a.x
        c0 = None if a.c0 is None else _wide(a.c0, s)
        y, h_n, c_n = forward(s.space, self.weights, _wide(x, s), _wide(a.h0, s), c0, lengths, self.arithmetic)
        _store(a.y, y.transpose(1, 0, 2) if s.batch_major else y, s)
        _store(a.h_n, h_n, s)
        if a.c_n is not None and c_n is not None:
            _store(a.c_n, c_n, s)


def _refused(s: Setting, what: str) -> CudnnError:
    return CudnnError(f"cudnn (model): {s.algorithm.name} does no {s.space.attrs.mode} of {s.dtype} {what}",
                      STATUS_NOT_SUPPORTED)


def _arithmetic(s: Setting) -> Arithmetic:
    stored = {BF16: round_bf16, F16: round_f16}.get(s.dtype, as_it_is)
    return Arithmetic(stored, round_tf32 if s.tf32 and s.dtype is F32 else as_it_is)


def _wide(array: Array, s: Setting) -> Array:
    """The numbers that cuDNN computes with."""
    if s.dtype is BF16:
        out = np.empty(array.shape, np.float32)
        Bf16(np, array.shape).widen(array, out)
        return out
    return array.astype(np.float32) if s.dtype is F16 else array


def _store(target: Array, source: Array, s: Setting) -> None:
    if s.dtype is BF16:
        Bf16(np, source.shape).narrow(source, target)
    else:
        target[...] = source


__all__ = ["Arithmetic", "Gates", "ModelNetwork", "forward", "gates_of", "round_tf32"]
