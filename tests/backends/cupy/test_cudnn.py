"""cuDNN without a GPU: where weights lie, the model of a call, signatures and descriptors of an installed library."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnngraph.backends.cupy.cudnn.model import forward
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.ir import RnnAttrs, evaluate
from tests.backends.cupy.rnn_nodes import node_graph, node_of
from tests.testing import random_inputs

MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")


CASES = [RnnAttrs(mode, 5, layers, direction) for mode in MODES for layers in (1, 2)
         for direction in ("forward", "bidirectional")]
CASES += [RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), RnnAttrs("lstm", 4, lengths=True),
          RnnAttrs("gru", 4, 2, "bidirectional", lengths=True)]


@pytest.mark.parametrize("attrs", CASES, ids=lambda a: f"{a.mode}-{a.num_layers}-{a.direction}-{a.proj}-{a.lengths}")
def test_the_packed_weights_mean_the_node(attrs: RnnAttrs) -> None:
    made = node_graph(attrs, 6)
    node, space = node_of(made), WeightSpace(attrs, 6)
    feeds = random_inputs(made, {"T": 7, "B": 3})
    want = evaluate(made, feeds, float64=True)
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
    got = forward(space, space.pack(node).astype(np.float64), wide["x"], wide["h"], wide.get("c"), wide.get("lengths"))
    for name, array in zip(("y", "h_n", "c_n"), got, strict=True):
        if array is not None:
            np.testing.assert_allclose(array, want[name], rtol=0, atol=1e-12)


def test_parts_tile_the_space() -> None:
    space = WeightSpace(RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), 6)
    taken = np.zeros(space.size, int)
    for part in space.parts():
        rows, columns = part.shape
        taken[part.matrix : part.matrix + rows * columns] += 1
        if part.bias is not None:
            taken[part.bias : part.bias + 5] += 1
    assert (taken == 1).all()


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_pytorchs_weights_in_pytorchs_order(kind: type[torch.nn.LSTM | torch.nn.GRU]) -> None:
    """PyTorch's flat weights hold the same gates, matrices of a layer and then its biases."""
    torch.manual_seed(0)
    module = kind(6, 5, 2, bidirectional=True)
    mode = "lstm" if kind is torch.nn.LSTM else "gru"
    space = WeightSpace(RnnAttrs(mode, 5, 2, "bidirectional"), 6)
    named = dict(module.named_parameters())
    flat = [named[f"{what}_{side}_l{layer}{d}"].detach().numpy().ravel() for what in ("weight", "bias")
            for layer in range(2) for d in ("", "_reverse") for side in ("ih", "hh")]
    x, h = np.random.default_rng(0).standard_normal((4, 3, 6)), np.zeros((4, 3, 5))
    y, *_ = forward(space, np.concatenate(flat).astype(np.float64), x, h, h if mode == "lstm" else None)
    want, _ = module.double()(torch.from_numpy(x))
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=0, atol=1e-12)
