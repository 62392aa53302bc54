"""PyTorch's recurrent modules and cells, compiled, beside live PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import rnngraph as rg
from tests.frontends.torch_support import TOLERANCE, check, close, draw, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}), "proj": (nn.LSTM, {"proj_size": 3}), "gru": (nn.GRU, {}), "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"})}


def states(kind: str, count: int, batch: int, hidden: int, seed: int = 7) -> Any:
    h = draw(count, batch, 3 if kind == "proj" else hidden, seed=seed)
    return (h, draw(count, batch, hidden, seed=seed + 1)) if kind in ("lstm", "proj") else h


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_module(kind: str, layers: int, both: bool) -> None:
    make, options = KINDS[kind]
    torch.manual_seed(layers)
    module = make(4, 6, layers, bidirectional=both, batch_first=True, dropout=0.3 if layers > 1 else 0.0, **options)
    compiled = check(module, [draw(1, 5, 4)], [draw(3, 9, 4)], [draw(2, 1, 4)])
    assert str(compiled.program.plan.specs[0].type) == "f32[batch,time,4]"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_initial_states_and_no_bias(kind: str, batch_first: bool) -> None:
    make, options = KINDS[kind]
    module = make(4, 6, 2, bias=False, batch_first=batch_first, **options)
    example = draw(2, 2, 4), states(kind, 2, 2, 6)
    other = (draw(3, 5, 4) if batch_first else draw(5, 3, 4)), states(kind, 2, 3, 6)
    check(module, example, other)


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_a_stack_of_two_directions_is_one_node(kind: str) -> None:
    module = KINDS[kind][0](4, 6, 2, bidirectional=True)
    layer = rg.from_torch(module.eval(), (draw(5, 2, 4),))
    nodes = [op for op in rg.trace(layer, layer.inputs).walk() if op.name == "rnn"]
    assert [(getattr(op.attrs, "num_layers", 0), getattr(op.attrs, "direction", "")) for op in nodes] == [
        (2, "bidirectional")]
    mode = "rnn_tanh" if kind == "tanh" else kind
    assert f"raise-rnn: an rnn node as it comes: {mode}, 2 layers, bidirectional" in rg.compile(layer).explain()


def test_modules_behind_each_other_are_merged_and_named() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.LSTM(4, 6, batch_first=True), nn.LSTM(6, 6, batch_first=True)
            self.out = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.out(self.high(self.low(x)[0])[0])
            return y

    module = nn.Sequential(Encoder())
    compiled = check(module, [draw(2, 5, 4)], [draw(1, 8, 4)])
    assert "applied: merge-stacked: 0.low+0.high: layers 0.low and 0.high are one rnn node of 2 layers" in \
        compiled.explain()


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_lengths_states_and_streams_of_a_compiled_module(kind: str) -> None:
    module = KINDS[kind][0](4, 6, batch_first=True).eval()
    compiled = rg.compile(module, example_inputs=(draw(2, 5, 4),))
    x = draw(3, 7, 4, seed=3)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 2, 4]), batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        want, finals = module(packed)
    y, *got = compiled(x.numpy(), lengths=[7, 2, 4])
    close(y, nn.utils.rnn.pad_packed_sequence(want, batch_first=True)[0])
    for g, w in zip(got, finals if kind == "lstm" else (finals,), strict=True):
        close(g, w)
    given = states(kind, 1, 3, 6)
    with torch.no_grad():
        want = module(x, given)[0]
    close(compiled(x.numpy(), initial_state=[s.numpy() for s in (given if kind == "lstm" else (given,))])[0], want)
    session = compiled.stream(batch=3)
    parts = [session.feed(x[:, a:b].numpy())[0] for a, b in ((0, 3), (3, 7))]
    close(np.concatenate(parts, 1), module(x)[0])


class Steps(nn.Module):
    """A Python loop over a cell."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, outputs = None, []
        for t in range(x.size(1)):
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(cell: Any, bias: bool) -> None:
    check(Steps(cell(4, 6, bias=bias)), [draw(2, 5, 4)], [draw(3, 5, 4)])


def test_relu_cell() -> None:
    check(Steps(nn.RNNCell(4, 6, nonlinearity="relu")), [draw(2, 3, 4)])


def test_unbatched_input() -> None:
    check(nn.GRU(4, 6), [draw(5, 4)], [draw(8, 4)])


def test_close_to_float64() -> None:
    """The float32 result against the module in float64."""
    module = nn.LSTM(16, 32, 2, bidirectional=True, batch_first=True).eval()
    compiled = rg.compile(module, example_inputs=(draw(2, 5, 16),))
    x = draw(4, 60, 16, seed=5)
    y = compiled(x.numpy())[0]
    with torch.no_grad():
        close(y, module.double()(x.double())[0].float(), TOLERANCE)


modules = st.fixed_dictionaries({
    "kind": st.sampled_from(sorted(KINDS)), "inputs": st.integers(1, 9), "hidden": st.integers(4, 12),
    "layers": st.integers(1, 3), "both": st.booleans(), "bias": st.booleans(), "first": st.booleans(),
    "initial": st.booleans(), "seed": st.integers(0, 999),
    "sizes": st.lists(st.tuples(st.integers(1, 6), st.integers(1, 12)), min_size=1, max_size=3)})


def _random(options: dict[str, Any]) -> None:
    make, more = KINDS[options["kind"]]
    torch.manual_seed(options["seed"])
    module = make(options["inputs"], options["hidden"], options["layers"], bidirectional=options["both"],
                  bias=options["bias"], batch_first=options["first"], **more).eval()
    count = options["layers"] * (1 + options["both"])

    def call(batch: int, time: int) -> list[Any]:
        x = draw(*((batch, time) if options["first"] else (time, batch)), options["inputs"], seed=time)
        return [x, states(options["kind"], count, batch, options["hidden"])] if options["initial"] else [x]

    compiled = rg.compile(module, example_inputs=tuple(call(2, 3)))
    for batch, time in options["sizes"]:
        same(compiled, module, *call(batch, time))


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(modules)
def test_random_modules(options: dict[str, Any]) -> None:
    _random(options)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(modules)
def test_many_random_modules(options: dict[str, Any]) -> None:
    _random(options)
