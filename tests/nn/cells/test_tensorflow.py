"""The numbers that TensorFlow 1.15's own tests expect of its cells.

From tensorflow/contrib/rnn/python/kernel_tests/rnn_cell_test.py: one step with all weights 0.5, biases 0 and states
0.1; expected values have six digits there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import resolve
from tests.nn.cells.harness import Array, assert_native

ROWS = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
RISING = ROWS + np.array([0.0, 0.1, 0.2, 0.3])


@dataclass(frozen=True, slots=True)
class Golden:
    """A cell, its input, and what comes out: the output and the states, in TensorFlow's order, each number for as many
    units as there are."""

    cell: nn.Cell
    x: Array
    y: Array
    states: dict[str, Array]


def each(rows: list[list[float]], units: int) -> Array:
    return np.repeat(np.array(rows), units, axis=1)


def grid_states(direction: str, rows: list[list[float]], first: int = 0) -> dict[str, Array]:
    """c and m of each window, from column ``first`` on."""
    names = [f"{direction}state_f{k:02d}_b00_{s}" for k in range(3) for s in "cm"]
    return {n: np.repeat(np.array(rows)[:, [first + i]], 2, axis=1) for i, n in enumerate(names)}


BLOCKS: dict[str, Any] = {"feature_size": 2, "frequency_skip": 1, "num_frequency_blocks": [3]}
COUPLED_Y = [[0.416383, 0.403238, 0.524020, 0.565425, 0.557865, 0.609699],
             [0.627331, 0.622393, 0.688342, 0.708078, 0.694245, 0.715171],
             [0.711050, 0.709197, 0.736533, 0.744264, 0.737390, 0.745250]]
COUPLED_STATES = [[0.625556, 0.416383, 0.759134, 0.524020, 0.798795, 0.557865],
                  [0.875488, 0.627331, 0.936432, 0.688342, 0.941961, 0.694245],
                  [0.957327, 0.711050, 0.979522, 0.736533, 0.980245, 0.737390]]
FORWARD_Y = [[0.464130, 0.419165, 0.593283, 0.738350, 0.661638, 0.866774],
             [0.669636, 0.628966, 0.736057, 0.895927, 0.755559, 0.954359],
             [0.751109, 0.711716, 0.778357, 0.940779, 0.784530, 0.980604]]
FORWARD_STATES = [[0.710660, 0.464130, 0.877293, 0.593283, 0.958505, 0.661638],
                  [0.967579, 0.669636, 1.038811, 0.736057, 1.058201, 0.755559],
                  [1.053842, 0.751109, 1.079919, 0.778357, 1.085620, 0.784530]]
BACKWARD_Y = [[0.520789, 0.476968, 0.604341, 0.760207, 0.635773, 0.850218],
              [0.692621, 0.652363, 0.737517, 0.899558, 0.745984, 0.946840],
              [0.759940, 0.720652, 0.778552, 0.941606, 0.781035, 0.977731]]
BACKWARD_STATES = [[0.785405, 0.520789, 0.890836, 0.604341, 0.928512, 0.635773],
                   [0.993088, 0.692621, 1.040288, 0.737517, 1.048773, 0.745984],
                   [1.062455, 0.759940, 1.080101, 0.778552, 1.082402, 0.781035]]
AHEAD_Y = [[0.322645, 0.276068, 0.584654, 0.690292, 0.640446, 0.840071],
           [0.493625, 0.449236, 0.730828, 0.865996, 0.749429, 0.944958],
           [0.608587, 0.566683, 0.777345, 0.925820, 0.782597, 0.976858]]
AHEAD_STATES = [[0.516575, 0.322645, 0.866628, 0.584654, 0.934002, 0.640446],
                [0.749836, 0.493625, 1.033488, 0.730828, 1.052186, 0.749429],
                [0.895999, 0.608587, 1.078978, 0.777345, 1.083843, 0.782597]]
UGRNN = [[0.13752282], [0.10545051], [0.10074195]]


def both_ways(offset: int, y: list[list[float]], states: list[list[float]]) -> Golden:
    cell = nn.BidirectionalGridLSTMCell(2, share_time_frequency_weights=True, backward_slice_offset=offset, **BLOCKS)
    return Golden(cell, RISING, np.concatenate([each(FORWARD_Y, 2), each(y, 2)], axis=1),
                  grid_states("fwd_", FORWARD_STATES) | grid_states("bwd_", states))


GOLDENS: dict[str, Golden] = {
    "UGRNN": Golden(nn.UGRNNCell(2), ROWS, each(UGRNN, 2), {"h": each(UGRNN, 2)}),
    "Intersection": Golden(nn.IntersectionRNNCell(2, num_in_proj=2), ROWS,
                           each([[2.00431061], [4.00060606], [6.00008249]], 2), {"h": each(UGRNN, 2)}),
    "NAS": Golden(nn.NASCell(6), ROWS, each([[0.57675087], [0.6189357], [0.62739348]], 6),
                  {"c": each([[0.71579772], [0.78041625], [0.79457647]], 6)}),
    "NAS, projection": Golden(nn.NASCell(6, num_proj=5), ROWS, each([[1.69741797], [1.84003687], [1.87398517]], 5),
                              {"c": each([[0.69855207], [0.77073824], [0.78973997]], 6)}),
    "SRU": Golden(nn.SRUCell(2), np.ones((1, 2)), each([[0.509682]], 2), {}),
    "SRU, three features": Golden(nn.SRUCell(2), np.ones((1, 3)), each([[0.55255556]], 2), {}),
    "GridLSTM, coupled": Golden(nn.GridLSTMCell(2, couple_input_forget_gates=True, **BLOCKS), ROWS,
                                each(COUPLED_Y, 2), grid_states("", COUPLED_STATES)),
    "BidirectionalGridLSTM": both_ways(0, BACKWARD_Y, BACKWARD_STATES),
    "BidirectionalGridLSTM, ahead": both_ways(1, AHEAD_Y, AHEAD_STATES),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_one_step(name: str) -> None:
    golden = GOLDENS[name]
    layer = nn.RNN(golden.cell, return_state=True, name="mine")
    features = golden.x.shape[1]
    layer.build((None, None, features))
    layer.set_weights({n: np.full(w.shape, 0.0 if "bias" in n else 0.5, np.float32) for n, w in layer.weights.items()})
    graph = rg.trace(layer, rg.Input(("batch", 1, features)), initial_state=True)
    model = rg.compile(graph, target="cpu")
    assert_native(model.report)
    batch = len(golden.x)
    states = {n: np.full(resolve(v.shape, {"batch": batch}), 0.1, np.float32)
              for n, v in zip(graph.input_names[1:], graph.inputs[1:], strict=True)}
    got = model.run({"x": golden.x[:, None].astype(np.float32), **states})
    np.testing.assert_allclose(got["y"], golden.y, rtol=1e-6, atol=1e-6)
    for state, want in golden.states.items():
        np.testing.assert_allclose(got[f"mine.{state}"], want, rtol=1e-6, atol=1e-6)


def test_a_reservoir_of_tensorflow_addons() -> None:
    """From tensorflow_addons/rnn/tests/esn_cell_test.py: every initialiser is the constant 0.5, the state 0.3."""
    half = nn.initializers.Constant(0.5)
    cell = nn.ESNCell(3, connectivity=1.0, leaky=1.0, spectral_radius=0.9, use_norm2=True, activation=None,
                      kernel_initializer=half, recurrent_initializer=half, bias_initializer=half)
    model = rg.compile(nn.RNN(cell), rg.Input(("batch", 1, 4)), target="cpu")
    got = model(ROWS[:, None].astype(np.float32), initial_state=np.full((3, 3), 0.3, np.float32))
    np.testing.assert_allclose(got, each([[2.77], [4.77], [6.77]], 3), rtol=1e-5, atol=0.0)
