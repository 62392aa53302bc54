"""One float64 numpy step of the cells that slide over the features, window by window as TensorFlow does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.nn.cells.harness import Array, State, Step, Weights, wide
from tests.nn.cells.references import affine, sigmoid


def clip(x: Array, bound: float | None) -> Array:
    return x if bound is None else np.clip(x, -bound, bound)


def time_freq(weights: Weights, size: int, skip: int, cell_clip: float | None = None,
              forget_bias: float = 1.0) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        m_freq = np.zeros_like(s["state_f00_m"])
        out: State = {}
        count = int((x.shape[1] - size) / skip) + 1
        for k in range(count):
            c, m = s[f"state_f{k:02d}_c"], s[f"state_f{k:02d}_m"]
            sums = affine([x[:, k * skip : k * skip + size], m, m_freq],
                          [w["kernel"], w["recurrent_kernel"], w["frequency_kernel"]], w["bias"])
            i, j, f, o = np.split(sums, 4, axis=1)
            f = sigmoid(f + forget_bias + w.get("peephole_f", 0.0) * c)
            i = sigmoid(i + w.get("peephole_i", 0.0) * c)
            c = clip(f * c + i * np.tanh(j), cell_clip)
            m_freq = sigmoid(o + w.get("peephole_o", 0.0) * c) * np.tanh(c)
            out |= {f"state_f{k:02d}_c": c, f"state_f{k:02d}_m": m_freq}
        return np.concatenate([out[f"state_f{k:02d}_m"] for k in range(count)], axis=1), out

    return step


def grid(weights: Weights, size: int, skip: int, blocks: list[int], starts: list[int] | None = None,
         backward: int | None = None, **options: Any) -> Step:
    """``backward``: the slice offset of the backward half; None: there is none."""
    directions = [""] if backward is None else ["fwd_", "bwd_"]

    def step(x: Array, s: State) -> tuple[Array, State]:
        outputs: list[Array] = []
        new: State = {}
        for direction in directions:
            offset = (backward or 0) if direction == "bwd_" else 0
            padded = np.pad(x, [(0, 0), (max(0, -offset), max(0, offset))])
            for b, count in enumerate(blocks):
                first = (starts[b] if starts else 0) + max(0, offset)
                windows = [padded[:, first + k * skip : first + k * skip + size] for k in range(count)]
                if direction == "bwd_":
                    windows.reverse()
                out, states = grid_block(wide(weights, f"{direction}b{b:02d}_"), windows,
                                         [f"{direction}state_f{k:02d}_b{b:02d}" for k in range(count)], s, **options)
                outputs += out
                new |= states
        return np.concatenate(outputs, axis=1), new

    return step


def grid_block(w: dict[str, Array], windows: list[Array], names: list[str], s: State, *,
               cell_clip: float | None = None, forget_bias: float = 1.0, coupled: bool = False,
               ) -> tuple[list[Array], State]:
    out: list[Array] = []
    new: State = {}
    shared = "time_kernel" not in w
    c_f = m_f = np.zeros_like(s[names[0] + "_m"])
    for x, name in zip(windows, names, strict=True):
        c_t, m_t = s[name + "_c"], s[name + "_m"]
        cells: dict[str, Array] = {}
        out_sums: dict[str, Array] = {}
        for lstm, own in (("freq", c_f), ("time", c_t)):
            part = "freq" if shared else lstm
            sums = affine([x, m_t, m_f], [w[f"{part}_{k}kernel"] for k in ("", "recurrent_", "frequency_")],
                          w[f"{part}_bias"])
            i, j, *f, o = np.split(sums, 3 if coupled else 4, axis=1)
            i_gate = sigmoid(i + peephole(w, part, "i", c_f, c_t))
            f_gate = 1 - i_gate if coupled else sigmoid(f[0] + forget_bias + peephole(w, part, "f", c_f, c_t))
            cells[lstm] = clip(f_gate * own + i_gate * np.tanh(j), cell_clip)
            out_sums[lstm] = o
        m: dict[str, Array] = {}
        for lstm in ("freq", "time"):
            seen = peephole(w, "freq" if shared else lstm, "o", cells["freq"], cells["time"])
            m[lstm] = sigmoid(out_sums[lstm] + seen) * np.tanh(cells[lstm])
        c_f, m_f = cells["freq"], m["freq"]
        new |= {name + "_c": cells["time"], name + "_m": m["time"]}
        out += [m["time"], m["freq"]]
    return out, new


def peephole(w: dict[str, Array], lstm: str, gate: str, c_f: Array, c_t: Array) -> Array:
    zero = np.zeros(c_f.shape[1])
    p_f, p_t = (w.get(f"{lstm}_peephole_{gate}_{state}", zero) for state in ("freq", "time"))
    return np.asarray(p_f * c_f + p_t * c_t)
