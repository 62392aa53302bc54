"""Compiled native code against torch.nn with the same float32 weights: one module of each kind, size and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.ir import Array
from rnngraph.nn import GRU, LSTM, Bidirectional, Layer, Sequential, SimpleRNN
from rnngraph.runtime.model import CompiledModel

KINDS: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any]]] = {  # ours, torch's, options of each
    "lstm": (LSTM, "LSTM", {}, {}),
    "gru": (GRU, "GRU", {}, {}),
    "tanh": (SimpleRNN, "RNN", {}, {"nonlinearity": "tanh"}),
    "relu": (SimpleRNN, "RNN", {"activation": "relu"}, {"nonlinearity": "relu"}),
}
# torch's gates r, z, n are our z, r, h
TO_KERAS = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "tanh": (0,), "relu": (0,)}


@dataclass(frozen=True)
class Pair:
    """The same network twice."""

    compiled: CompiledModel
    module: Any
    stack: list[Layer]


def pair(kind: str, layers: int, directions: int, hidden: int, inputs: int, threads: int = 1) -> Pair:
    make, name, options, torch_options = KINDS[kind]
    torch.manual_seed(hidden + layers)
    module = getattr(torch.nn, name)(inputs, hidden, layers, batch_first=True, bidirectional=directions == 2,
                                     **torch_options)
    stack: list[Layer] = []
    for k in range(layers):
        one = make(hidden, return_sequences=True, return_state=True, zero_output_for_mask=True,
                   name=None if directions == 2 else f"layer{k}", **options)
        stack.append(Bidirectional(one, name=f"layer{k}") if directions == 2 else one)
    model = Sequential(stack)
    model.build((None, None, inputs))
    model.set_weights([w for k in range(layers) for end in ("", "_reverse")[:directions]
                       for w in torch_weights(kind, module, f"_l{k}{end}")])
    compiled = rg.compile(model, rg.Input(("batch", "time", inputs)), target="cpu", threads=threads)
    return Pair(compiled, module, stack)


def torch_weights(kind: str, module: Any, end: str) -> list[Array]:
    """One layer and direction in our layout: transposed, gates reordered, the biases joined but for GRU."""
    gates = TO_KERAS[kind]
    arrays = [getattr(module, f"{n}{end}").detach().numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    w, r, bw, br = (np.concatenate([np.split(a, len(gates))[g] for g in gates]) for a in arrays)
    return [w.T, r.T, np.stack([bw, br]) if kind == "gru" else bw + br]


def states_of(pair: Pair) -> list[str]:
    """The graph's names of the final states, in torch's order: layer by layer, forward before backward."""
    return [n for n in pair.compiled.output_names if n != "y"]


def assert_close(got: Array, want: Any, *, tolerance: float) -> None:
    """Largest error relative to the scale of what is expected."""
    expected = want.detach().numpy()
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got / scale, expected / scale, rtol=0.0, atol=tolerance)


def check(both: Pair, x: Array, *, lengths: list[int] | None = None, seed: int | None = None) -> None:
    """Outputs and final states agree. ``seed``: draw initial states, else zeros."""
    module, given, names = both.module, torch.from_numpy(x), states_of(both)
    parts = sorted({n.rsplit(".", 1)[1] for n in names}, reverse=True)  # h, c
    state = None
    if seed is not None:
        rng = np.random.default_rng(seed)
        shape = (len(names) // len(parts), len(x), module.hidden_size)
        state = {p: rng.standard_normal(shape).astype(np.float32) for p in parts}
    initial = None
    if state is not None:
        initial = {n: state[p][i] for p in parts for i, n in enumerate(m for m in names if m.endswith(p))}
    hidden: Any = None if state is None else torch.from_numpy(state["h"])
    if state is not None and len(parts) == 2:
        hidden = (hidden, torch.from_numpy(state["c"]))
    with torch.no_grad():
        if lengths is None:
            y, finals = module(given, hidden)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(given, torch.tensor(lengths), batch_first=True,
                                                             enforce_sorted=False)
            y, finals = module(packed, hidden)
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    got = dict(zip(both.compiled.output_names, both.compiled(x, lengths=lengths, initial_state=initial), strict=True))
    assert_close(got["y"], y, tolerance=1e-5)
    for part, final in zip(parts, finals if isinstance(finals, tuple) else [finals], strict=True):
        assert_close(np.stack([got[n] for n in names if n.endswith(f".{part}")]), final, tolerance=1e-5)


def data(batch: int, steps: int, inputs: int) -> Array:
    return np.random.default_rng(batch * steps).standard_normal((batch, steps, inputs)).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_directions(kind: str, directions: int, layers: int) -> None:
    both = pair(kind, layers, directions, hidden=19, inputs=7, threads=1 + layers % 2)
    x = data(5, 11, 7)
    check(both, x)
    check(both, x, seed=2)
    check(both, x, lengths=[11, 3, 1, 7, 10])
    check(both, x, lengths=[2, 11, 5, 5, 1], seed=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("hidden", "inputs", "batch", "steps"), [
    (1, 1, 1, 1), (16, 3, 1, 70), (64, 64, 33, 6), (130, 1, 2, 9), (100, 40, 8, 20),
])
def test_sizes(kind: str, hidden: int, inputs: int, batch: int, steps: int) -> None:
    both = pair(kind, 1, 1, hidden, inputs)
    check(both, data(batch, steps, inputs), seed=4)


def test_one_compile_serves_every_batch_and_time() -> None:
    both = pair("lstm", 2, 2, hidden=33, inputs=5, threads=2)
    for batch, steps in [(1, 1), (1, 70), (33, 2), (6, 31), (17, 13)]:
        check(both, data(batch, steps, 5), seed=batch)
        check(both, data(batch, steps, 5), lengths=[1 + (7 * i) % steps for i in range(batch)])


def test_a_stack_is_one_native_program() -> None:
    both = pair("lstm", 3, 2, hidden=8, inputs=4)
    (kernel,) = both.compiled.report.kernels
    assert kernel.backend == "llvm"
    assert len(both.stack) == 3
