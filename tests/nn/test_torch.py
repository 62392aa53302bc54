"""Against PyTorch: float32 weights, both sides computed in float64, so that 1e-6 is generous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from rnngraph.nn import GRU, LSTM, Bidirectional, Layer, Sequential, SimpleRNN
from tests.nn.support import B, I, T, U, close, outputs, some

Array = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 1e-6
LENGTHS = [5, 3, 1]
KINDS = {"lstm": (LSTM, "LSTM", {}), "gru": (GRU, "GRU", {}), "tanh": (SimpleRNN, "RNN", {}),
         "relu": (SimpleRNN, "RNN", {"nonlinearity": "relu"})}


def to_keras(kind: str, module: Any, layer: int, suffix: str) -> list[Array]:
    """PyTorch's weights of one layer and direction as ours: transposed, gates GRU r,z,n -> z,r,h."""
    w, r, bw, br = (getattr(module, f"{n}_l{layer}{suffix}").detach().numpy()
                    for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if kind == "gru":
        w, r, bw, br = (np.concatenate([np.split(v, 3)[i] for i in (1, 0, 2)]) for v in (w, r, bw, br))
        return [w.T, r.T, np.stack([bw, br])]
    return [w.T, r.T, bw + br]


def build(kind: str, directions: int, layers: int) -> tuple[Sequential, Any]:
    make, name, options = KINDS[kind]
    torch.manual_seed(0)
    module = getattr(torch.nn, name)(I, U, layers, batch_first=True, bidirectional=directions == 2, **options)
    arguments: dict[str, Any] = {"activation": "relu"} if kind == "relu" else {}
    stack: list[Layer] = []
    for _ in range(layers):
        one = make(U, return_sequences=True, return_state=True, zero_output_for_mask=True, **arguments)
        stack.append(Bidirectional(one) if directions == 2 else one)
    model = Sequential(stack)
    model.build((None, None, I))
    parts = [(k, suffix) for k in range(layers) for suffix in ("", "_reverse")[:directions]]
    model.set_weights([w for k, suffix in parts for w in to_keras(kind, module, k, suffix)])
    return model, module.double()


def same(got: Mapping[str, Array], y: Any, state: Any) -> None:
    close(got["y"], y.detach().numpy(), TOLERANCE)
    for part, values in zip("hc", state if isinstance(state, tuple) else [state], strict=False):
        ours = np.stack([v for k, v in got.items() if k.endswith(f".{part}")])
        close(ours, values.detach().numpy(), TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_same_as_torch(kind: str, directions: int, layers: int) -> None:
    model, module = build(kind, directions, layers)
    x = some(B, T, I, seed=5)
    with torch.no_grad():
        same(outputs(model, {"x": x}), *module(torch.from_numpy(x).double()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_same_as_torch_with_lengths(kind: str, directions: int, layers: int) -> None:
    model, module = build(kind, directions, layers)
    x = some(B, T, I, seed=6)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x).double(), LENGTHS, batch_first=True)
    with torch.no_grad():
        y, state = module(packed)
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=T)
    same(outputs(model, {"x": x, "lengths": np.array(LENGTHS, np.int32)}, lengths=True), padded, state)
