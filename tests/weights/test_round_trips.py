"""Every pair of layouts, there and back, to the bit where nothing is lost; what is lost is an error that says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.errors import ConversionError
from rnngraph.weights import FORMATS, CellWeights, Options, RecurrentWeights, load
from tests.weights.support import Array, random_weights, same_bits

# what a system cannot hold, stated here apart from the code
RESET = {**dict.fromkeys(FORMATS, (True, False)), **dict.fromkeys(
    ("torch", "keras_cudnn", "mxnet", "mxnet_unpacked", "mxnet_cells", "tf_cudnn", "cudnn", "lasagne"), (True,)),
    "element_research": (False,), "cntk": (False,)}
PEEPHOLES = {"onnx", "tf", "onednn", "lasagne", "cntk"}
PROJECTION = {"torch", "mxnet", "mxnet_unpacked", "mxnet_cells", "cudnn", "onednn", "tf", "element_research", "cntk"}
TWO_BIASES = {"torch", "keras_cudnn", "onnx", "mxnet", "mxnet_unpacked", "mxnet_cells", "tf_cudnn", "cudnn"}
NO_PLAIN = {"keras_cudnn", "element_research"}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 6e-8, -6e-8, 6e4]


def options(system: str, w: RecurrentWeights) -> Options:
    """What has to be said when the arrays of ``system`` are read."""
    found = Options(mode=w.mode)
    if system in ("mxnet", "cudnn"):
        found |= Options(hidden=w.hidden, layers=w.layers, directions=w.directions, projection=w.projection)
    if system == "tf_cudnn":
        found["directions"] = w.directions
    if system in ("keras", "onnx", "openvino", "onednn") and w.mode == "gru":
        found["reset_after"] = w.reset_after
    if system == "tf" and w.mode == "lstm":
        found["forget_bias"] = 0.0
    return found


def write(system: str, w: RecurrentWeights) -> dict[str, Array]:
    return w.to(system, forget_bias=0.0) if system == "tf" and w.mode == "lstm" else w.to(system)


def holds(system: str, w: RecurrentWeights) -> bool:
    """Whether the layout can hold these weights, from the tables above."""
    gru = w.mode == "gru"
    return not ((gru and w.reset_after not in RESET[system])
                or (w.projection and system not in PROJECTION)
                or (any(c.peepholes is not None for c in w) and system not in PEEPHOLES)
                or (system in NO_PLAIN and w.mode.startswith("rnn"))
                or (system == "onednn" and len({c.input for c in w}) > 1))


@st.composite
def architectures(draw: st.DrawFn, biases: tuple[int, ...] = (0, 1, 2)) -> RecurrentWeights:
    mode = draw(st.sampled_from(("lstm", "gru", "rnn_tanh", "rnn_relu")))
    hidden, layers, directions = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    projection = draw(st.sampled_from((0, 0, 1, 2))) if mode == "lstm" else 0
    same = directions * (projection or hidden)  # oneDNN's layers have one size of input
    w = random_weights(mode, hidden, draw(st.sampled_from((same, draw(st.integers(1, 7))))), layers, directions,
                       biases=draw(st.sampled_from(biases)), projection=projection,
                       peepholes=mode == "lstm" and draw(st.booleans()),
                       reset_after=mode != "gru" or draw(st.booleans()), seed=draw(st.integers(0, 2**32 - 1)),
                       dtype=draw(st.sampled_from((np.float16, np.float32, np.float64))))
    if draw(st.booleans()):
        for cell in w:
            for array in cell.arrays.values():
                array.reshape(-1)[:: draw(st.integers(1, 3))] = draw(st.sampled_from(SPECIAL))
    return w


@settings(max_examples=60, deadline=None)
@given(architectures(biases=(1,)), st.data())
def test_every_pair_there_and_back(w: RecurrentWeights, data: st.DataObject) -> None:
    systems = [s for s in FORMATS if holds(s, w)]
    a, b = data.draw(st.sampled_from(systems)), data.draw(st.sampled_from(systems))
    first = write(a, w)
    middle = write(b, load(first, a, **options(a, w)))
    same_bits(write(a, load(middle, b, **options(b, w))), first)
    same_bits(write(b, load(first, a, **options(a, w))), middle)


@settings(max_examples=30, deadline=None)
@given(architectures(biases=(0,)), st.data())
def test_no_bias_becomes_zeros_where_a_system_needs_one(w: RecurrentWeights, data: st.DataObject) -> None:
    systems = [s for s in FORMATS if holds(s, w)]
    a, b = data.draw(st.sampled_from(systems)), data.draw(st.sampled_from(systems))
    first = write(a, w)
    back = write(a, load(write(b, load(first, a, **options(a, w))), b, **options(b, w)))
    same_bits({name: back[name] for name in first}, first)
    assert all(not array.any() for name, array in back.items() if name not in first)


@settings(max_examples=40, deadline=None)
@given(architectures(biases=(2,)), st.data())
def test_two_biases_stay_two(w: RecurrentWeights, data: st.DataObject) -> None:
    two = TWO_BIASES | ({"keras"} if w.mode == "gru" and w.reset_after else set())
    systems = [s for s in FORMATS if holds(s, w) and s in two]
    if not systems:
        return
    a, b = data.draw(st.sampled_from(systems)), data.draw(st.sampled_from(systems))
    back = load(write(b, load(write(a, w), a, **options(a, w))), b, **options(b, w))
    assert back.equals(w)


@settings(max_examples=40, deadline=None)
@given(architectures())
def test_every_layout_holds_or_says_what_is_lost(w: RecurrentWeights) -> None:
    for system in FORMATS:
        lost_bias = w.mode == "gru" and w.reset_after and system in ("flux", "lasagne") and any(
            c.recurrent_bias is not None and np.any(c.recurrent_bias[2 * c.hidden :] != 0) for c in w)
        if holds(system, w) and not lost_bias:
            write(system, w)
            continue
        with pytest.raises(ConversionError):
            write(system, w)


def test_arrays_are_copies_in_c_order() -> None:
    w = random_weights("lstm", hidden=4, inputs=4, directions=2)
    for system in FORMATS:
        for name, array in write(system, w).items():
            assert array.flags["C_CONTIGUOUS"], (system, name)
            assert not any(np.shares_memory(array, a) for cell in w for a in cell.arrays.values()), (system, name)


def test_the_order_of_gates() -> None:
    """Each gate's rows hold its own number, so that the order can be read off."""
    numbers = {"i": 1.0, "f": 2.0, "g": 3.0, "o": 4.0, "r": 5.0, "z": 6.0, "n": 7.0}
    expected = {  # read off the systems' own sources
        "lstm": {"torch": "ifgo", "keras": "ifgo", "onnx": "iofg", "openvino": "figo", "onednn": "ifgo", "tf": "igfo",
                 "cudnn": "ifgo", "mxnet": "ifgo", "flux": "ifgo", "element_research": "ifog", "cntk": "igfo"},
        "gru": {"torch": "rzn", "keras": "zrn", "onnx": "zrn", "openvino": "zrn", "onednn": "zrn", "cudnn": "rzn",
                "mxnet": "rzn", "flux": "rzn", "element_research": "rzn", "cntk": "zrn"}}
    for mode, systems in expected.items():
        for system, order in systems.items():
            gates = "ifgo" if mode == "lstm" else "rzn"
            column = np.array([numbers[g] for g in gates], np.float32)
            cell = CellWeights(column[:, None], column[:, None], column)
            arrays = write(system, RecurrentWeights(mode, ((cell,),), reset_after=RESET[system][0]))
            found = next(a for a in arrays.values() if a.size >= len(order)).reshape(-1)[: len(order)]
            if system == "element_research":
                found = arrays["weight"][0]
            assert found.tolist() == [numbers[g] for g in order], (mode, system)


@pytest.mark.parametrize(("system", "kind", "message"), [
    ("torch", {"mode": "gru", "reset_after": False}, "PyTorch: the reset gate of its GRU works on the product R h"),
    ("cntk", {"mode": "gru"}, "CNTK: the reset gate of its GRU works on the state h"),
    ("keras", {"mode": "lstm", "projection": 2}, "Keras: has no place for the projection"),
    ("torch", {"mode": "lstm", "peepholes": True}, "PyTorch: has no place for the peepholes"),
    ("lasagne", {"mode": "gru"}, "the recurrent bias of the candidate gate n would be lost"),
    ("flux", {"mode": "gru"}, "the recurrent bias of the candidate gate n would be lost"),
    ("keras_cudnn", {"mode": "rnn_tanh"}, "has no layout for rnn_tanh, only lstm, gru"),
    ("onednn", {"mode": "lstm", "layers": 2}, "oneDNN: the layers of one primitive have one size of input"),
    ("nowhere", {"mode": "lstm"}, "unknown system 'nowhere'; expected one of torch, keras"),
])
def test_what_is_lost_is_named(system: str, kind: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message.replace("(", r"\(")):
        random_weights(**kind).to(system)


def test_layers_of_different_sizes() -> None:
    low, high = random_weights("lstm", 3, 5), random_weights("lstm", 2, 3)
    w = RecurrentWeights.stack([low, high])
    assert load(w.to("keras"), "keras").layers == 2
    with pytest.raises(ConversionError, match="one number of units for all layers; these weights have"):
        w.to("torch")
    assert w.layer(1).equals(high)
    with pytest.raises(ConversionError, match="expected layers of one kind"):
        RecurrentWeights.stack([low, random_weights("gru", 2, 3)])


def test_folding_two_biases() -> None:
    w = random_weights("lstm")
    cell = w.cells[0][0]
    assert cell.bias is not None
    assert cell.recurrent_bias is not None
    np.testing.assert_array_equal(w.to("keras")["bias"], cell.bias + cell.recurrent_bias)
    with pytest.raises(ConversionError, match="fold_bias=False forbids"):
        w.to("keras", fold_bias=False)
    random_weights("lstm", biases=1).to("keras", fold_bias=False)


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_relu"])
def test_bias_modes_of_cudnn(mode: str) -> None:
    w = random_weights(mode, layers=2, biases=1)
    sizes = {m: w.to("cudnn", bias_mode=m)["parameters"].size for m in ("double", "single_input")}
    rows = w.cells[0][0].w.shape[0]
    assert sizes["double"] - sizes["single_input"] == 2 * rows
    geometry = Options(mode=mode, hidden=3, layers=2)
    back = load(w.to("cudnn", bias_mode="single_input"), "cudnn", **(geometry | Options(bias_mode="single_input")))
    assert back.equals(w)
    with pytest.raises(ConversionError, match="the biases would be lost"):
        w.to("cudnn", bias_mode="none")
    if mode == "gru":
        with pytest.raises(ConversionError, match="input's bias of the candidate gate n would be lost"):
            w.to("cudnn", bias_mode="single_recurrent")
        return
    single = w.to("cudnn", bias_mode="single_recurrent")
    recurrent = load(single, "cudnn", **(geometry | Options(bias_mode="single_recurrent")))
    assert all(c.bias is None for c in recurrent)
    same_bits(recurrent.to("cudnn", bias_mode="single_input"), w.to("cudnn", bias_mode="single_input"))


def test_forget_bias_of_tensorflow_is_exact_where_there_are_two_biases() -> None:
    arrays = random_weights("lstm", biases=1).to("tf", forget_bias=0.0)
    state = load(arrays, "tf").to("torch")  # tf's default: the graph adds 1.0
    np.testing.assert_array_equal(state["bias_hh_l0"].reshape(4, 3)[:, 0], [0, 1, 0, 0])
    same_bits(load(state, "torch").to("tf"), arrays)
    np.testing.assert_array_equal(load(arrays, "tf").to("keras")["bias"][3:6], state["bias_ih_l0"][3:6] + np.float32(1))
