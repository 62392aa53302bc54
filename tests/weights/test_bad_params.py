"""Arrays that do not fit a layout: a ConversionError that says so, never another exception."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rnngraph.errors import ConversionError, RnngraphError
from rnngraph.weights import FORMATS, CellWeights, Options, RecurrentWeights, load
from tests.weights.support import Array, random_weights
from tests.weights.test_round_trips import RESET, holds, options, write


def cases() -> list[tuple[str, RecurrentWeights]]:
    found = []
    for mode in ("lstm", "gru", "rnn_tanh"):
        for layers in (1, 2):
            for system in FORMATS:
                w = random_weights(mode, 4, 8 if system == "onednn" else 6, layers, 2, biases=1,
                                   reset_after=RESET[system][0])
                if holds(system, w):
                    found.append((system, w))
    return found


def mutations(arrays: dict[str, Array], rng: np.random.Generator) -> list[dict[str, Any]]:
    """The arrays with one of them missing, cut, transposed, of another rank or type, or with one too many."""
    found: list[dict[str, Any]] = [{}]
    for name, array in arrays.items():
        axis = int(rng.integers(0, array.ndim))
        rest = {n: a for n, a in arrays.items() if n != name}
        other = [array.T, array[..., :0], np.take(array, range(array.shape[axis] - 1), axis), array.reshape(-1),
                 array[None], np.concatenate([array, array], axis), array.astype(np.int32), array.astype(np.float64),
                 np.float32(1.0), "text", None, [array], array.astype(complex)]
        found += [rest, *({**rest, name: value} for value in other), {**rest, f"{name}x": array}, {**rest, "x": array},
                  {**rest, name.replace("0", "7"): array}, {**arrays, f"{name}/deep/{name}": array}]
    return found


@pytest.mark.parametrize(("system", "w"), cases(), ids=lambda v: v if isinstance(v, str) else f"{v.mode}-{v.layers}")
def test_mutated_arrays(system: str, w: RecurrentWeights) -> None:
    arrays, said = write(system, w), options(system, w)
    rng = np.random.default_rng(0)
    refused = 0
    for changed in mutations(arrays, rng):
        try:
            assert isinstance(load(changed, system, **said), RecurrentWeights)
        except ConversionError:
            refused += 1
    assert refused >= 3 * len(arrays)


@pytest.mark.parametrize("system", FORMATS)
def test_options_that_make_no_sense(system: str) -> None:
    w = random_weights("lstm", 4, 8, directions=2, biases=1)
    arrays, said = write(system, w), options(system, w)
    for wrong in ({"mode": "gru"}, {"mode": "nonsense"}, {"mode": None}, {"hidden": 0}, {"hidden": "4"}, {"layers": -1},
                  {"directions": 3}, {"projection": -1}, {"projection": 3}, {"bias_mode": "triple"}, {"prefix": "no."},
                  {"reset_after": True}, {"forget_bias": "one"}, {"surprise": 1}, {"layers": 10**9},
                  {"hidden": 10**30}):
        changed: Any = {**said, **wrong}
        try:
            load(arrays, system, **changed)
        except RnngraphError:
            continue
        assert set(wrong) <= {"reset_after", "mode"}, (system, wrong)


def test_what_is_no_set_of_arrays() -> None:
    for params in (None, 3, object(), {"weight_ih_l0": object()}, [np.ones((2, 3))], "", np.ones(3)):
        with pytest.raises((ConversionError, OSError)):
            load(params, "torch")
    with pytest.raises(ConversionError, match="expected the 2 or 3 arrays of a layer or the 4 or 6"):
        load([np.ones((2, 3), np.float32)] * 5, "keras")
    with pytest.raises(ConversionError, match="expected the 2 or 3 arrays"):
        load([], "keras")
    with pytest.raises(ConversionError, match="expected arrays by name, got none"):
        load({}, "torch")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: RecurrentWeights("lstm", ()), "expected one layer or more"),
    (lambda: RecurrentWeights("lstm", ((),)), "expected 1 or 2 directions, got 0"),
    (lambda: RecurrentWeights("nothing", ((CellWeights(np.ones((4, 1)), np.ones((4, 1))),),)), "mode: expected one of"),
    (lambda: RecurrentWeights("lstm", ((CellWeights(np.ones((4, 1)), np.ones((4, 1), np.float32)),),)), "of one dtype"),
    (lambda: RecurrentWeights("lstm", ((CellWeights(np.ones((4, 1)), np.ones((3, 1))),),)), "expected the shapes"),
    (lambda: RecurrentWeights("lstm", ((CellWeights(np.ones((4, 0)), np.ones((4, 1))),),)), "not empty"),
    (lambda: RecurrentWeights("gru", ((CellWeights(np.ones((3, 1)), np.ones((3, 1)), peepholes=np.ones((3, 1))),),)),
     "only an LSTM has a projection or peepholes"),
    (lambda: load({"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.ones((4, 1))}, "torch", mode="gru"),
     "mode 'gru' was asked for, but the arrays have 4 gate"),
    (lambda: load({"fc.weight": np.ones((4, 1)), "weight_hh_l0": np.ones((4, 1))}, "torch"), "unknown array 'fc"),
    (lambda: load({"weight_ih_l0": np.ones((4, 1))}, "torch"), "the array 'weight_hh' is missing"),
    (lambda: load({"kernel": np.ones((4, 4))}, "keras"), "the array 'recurrent_kernel' is missing"),
    (lambda: random_weights("lstm").to("torch", forget_bias=1.0), "the option 'forget_bias' is not known here"),
])
def test_messages(make: Any, message: str) -> None:
    with pytest.raises(ConversionError) as found:
        make()
    assert message in str(found.value)


def test_torch_tensors_that_want_gradients() -> None:
    module = torch.nn.GRU(3, 2)
    w = load(dict(module.named_parameters()), "torch")
    assert w.mode == "gru"
    rounded = load({n: p.bfloat16() for n, p in module.named_parameters()}, "torch")
    np.testing.assert_allclose(rounded.cells[0][0].w, w.cells[0][0].w, rtol=2**-8, atol=0)
    said: Options = {"mode": "gru"}
    assert load(module.state_dict(), "pytorch", **said).equals(w)
