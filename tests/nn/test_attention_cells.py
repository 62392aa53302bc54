"""Attention around cells: against numpy written from the equations, natively and in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import (
    RNN,
    AttentionCell,
    BahdanauAttentionCell,
    BidirectionalCell,
    GRUCell,
    Input,
    LSTMCell,
    Model,
    ResidualCell,
    SimpleRNNCell,
)
from tests.nn.numpy_cells import Array, gru, lstm, wide
from tests.nn.support import B, I, T, X, close, outputs, randomize, some

x = some(B, T, I)
EXACT = 1e-12
SLOTS, D = 4, 3
memory = some(B, SLOTS, D, seed=3)
COUNTS = np.array([4, 1, 0], np.int32)


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def test_attention_over_the_last_outputs() -> None:
    """tf.contrib.rnn AttentionCellWrapper.call and ._attention, with states [B, L, S]."""
    made = RNN(AttentionCell(LSTMCell(5), attn_length=3, attn_size=2, attn_vec_size=4, input_size=7),
               return_sequences=True, return_state=True, name="r")
    randomize(made)
    w = wide({k: v for k, v in made.weights.items() if "/" not in k})
    cell = lstm({k: v for k, v in made.weights.items() if "/" in k})
    attns, kept, h, c = np.zeros((B, 2)), np.zeros((B, 3, 2)), np.zeros((B, 5)), np.zeros((B, 5))
    ys = []
    for t in range(T):
        given = np.concatenate([x[:, t], attns], 1) @ w["kernel"] + w["bias"]
        y, (h, c) = cell(given, [h, c])
        query = np.concatenate([h, c], 1) @ w["query_kernel"] + w["query_bias"]
        a = softmax((w["attn_v"] * np.tanh(kept @ w["attn_w"] + query[:, None])).sum(-1))
        attns = (a[..., None] * kept).sum(1)
        out = np.concatenate([y, attns], 1) @ w["output_kernel"] + w["output_bias"]
        kept = np.concatenate([kept[:, 1:], out[:, None]], 1)
        ys.append(out)
    got = outputs(made, {"x": x})
    close(got["y"], np.stack(ys, 1), EXACT)
    for name, value in {"cell.h": h, "cell.c": c, "attns": attns, "attn_states": kept.reshape(B, 6)}.items():
        close(got[f"r.{name}"], value, EXACT)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("options", [{}, {"lengths": np.array([5, 2, 0], np.int32)}], ids=["whole", "lengths"])
def test_attention_over_the_last_outputs_native(length: int, options: dict[str, Any]) -> None:
    made = RNN(AttentionCell(GRUCell(17), length, 11), return_sequences=True, name="r")
    randomize(made)
    compiled = rg.compile(made, X, target="cpu", threads=2)
    program = compiled.variant(lengths=bool(options))
    assert not any(op.impl.startswith("reference") for op in program.graph.block.ops)
    want = outputs(made, {"x": x, **options}, **dict.fromkeys(options, True))["y"]
    np.testing.assert_allclose(compiled(x, **options), want, rtol=0, atol=1e-5)


def model_of(options: dict[str, Any], which: str) -> tuple[Model, RNN]:
    inputs = [Input(("batch", "time", I)), Input(("batch", SLOTS, D), name="memory")]
    if which != "all":
        inputs.append(Input(("batch", SLOTS), "bool", name="kept") if which == "mask" else
                      Input(("batch",), "i32", name="kept"))
    layer = RNN(BahdanauAttentionCell(GRUCell(5), 6, D, **options), return_sequences=True, return_state=True, name="r")
    model = Model(inputs, list(layer(inputs[0], constants=inputs[1:])))
    model.set_weights([some(*a.shape, seed=i) * np.float32(0.5) for i, a in enumerate(model.weights.values())])
    return model, layer


def bahdanau(weights: dict[str, Array], options: dict[str, Any], counts: Array) -> tuple[Array, Array, Array]:
    """Bahdanau's attention as tf.contrib.seq2seq has it, row by row; a row without slots has a context of zero."""
    w = wide({k: v for k, v in weights.items() if "cell/" not in k})
    cell = gru({k: v for k, v in weights.items() if "cell/" in k}, True)
    v = w["attention_v"]
    if "attention_g" in w:
        v = w["attention_g"] * v / np.linalg.norm(v)
    rows, finals, attentions = [], [], []
    for b in range(B):
        h, attention = np.zeros((1, 5)), np.zeros((1, options.get("attention_layer_size", D)))
        slots = memory[b, : counts[b]].astype(np.float64)
        ys = []
        for t in range(T):
            y, (h,) = cell(np.concatenate([x[b : b + 1, t], attention], 1), [h])
            scores = np.tanh(slots @ w["memory_kernel"] + y @ w["query_kernel"] + w.get("attention_b", 0.0)) @ v
            attention = softmax(scores)[None] @ slots if len(slots) else np.zeros((1, D))
            if "attention_kernel" in w:
                attention = np.concatenate([y, attention], 1) @ w["attention_kernel"]
            ys.append(attention if options.get("output_attention", True) else y)
        rows.append(np.concatenate(ys))
        finals.append(h)
        attentions.append(attention)
    return np.stack(rows), np.concatenate(finals), np.concatenate(attentions)


@pytest.mark.parametrize("options", [{}, {"attention_layer_size": 4, "normalize": True}, {"output_attention": False}])
@pytest.mark.parametrize("which", ["all", "mask", "lengths"])
def test_bahdanau(options: dict[str, Any], which: str) -> None:
    model, _ = model_of(options, which)
    counts = np.full(B, SLOTS) if which == "all" else COUNTS
    y, h, attention = bahdanau(model.weights, options, counts)
    feeds: dict[str, Array] = {"x": x, "memory": memory}
    if which != "all":
        feeds["kept"] = COUNTS if which == "lengths" else np.arange(SLOTS) < COUNTS[:, None]
    got = outputs(model, feeds, None)
    close(got["y"], y, 1e-9)  # masked scores are summed with 1e9
    close(got["r.cell.h"], h, 1e-9)
    close(got["r.attention"], attention, 1e-9)
    compiled = rg.compile(model, target="cpu", threads=2)
    assert all(op.impl == "llvm.scan" for op in compiled.program.graph.block.ops if op.name == "scan")
    if which != "lengths":  # integers are compared in front of the loop, by the reference
        assert not any(op.impl.startswith("reference") for op in compiled.program.graph.block.ops)
    for name, value in compiled.run(feeds).items():
        np.testing.assert_allclose(value, got[name], rtol=0, atol=1e-5)


def test_a_wrapper_around_attention_hands_on_the_memory() -> None:
    cell = ResidualCell(BahdanauAttentionCell(GRUCell(5), 6, D, attention_layer_size=I))
    given, kept = Input((B, T, I)), Input((B, SLOTS, D), name="memory")
    by_hand, states = [], cell.begin_state(B)
    for t in range(T):
        y, states = cell(given[:, t], states, constants=[kept])
        by_hand.append(y)
    whole, _ = cell.unroll(T, given, constants=[kept])
    got = rg.compile(Model([given, kept], [whole, *by_hand]))(x, memory)
    np.testing.assert_allclose(np.stack(list(got[1:]), 1), got[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("constants", "message"), [
    ([], r"layer 'r': cell BahdanauAttentionCell: expected a memory .*constants=memory"),
    ([("batch", SLOTS, D + 1)], r"expected a memory f32\[batch, slots, 3\] .*got f32\[batch,4,4\]"),
    ([("batch", "slots", D)], "an integer number of slots"),
    ([("batch", SLOTS, D), ("batch", SLOTS)], r"expected bool\[batch, 4\] or i32\[batch\] as the second constant"),
])
def test_memories_that_do_not_fit(constants: list[tuple[Any, ...]], message: str) -> None:
    layer = RNN(BahdanauAttentionCell(GRUCell(5), 6, D), name="r")
    with pytest.raises(ShapeError, match=message):
        layer(X, constants=[Input(s, name=f"c{i}") for i, s in enumerate(constants)])


def test_cells_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="AttentionCell: expected a cell with states"):
        AttentionCell(BidirectionalCell(GRUCell(2), GRUCell(2)), 3)
    with pytest.raises(ShapeError, match="attn_length must be an int >= 1, got 0"):
        AttentionCell(GRUCell(2), 0)
    with pytest.raises(TraceError, match="got constants, but no cell's step takes them"):
        RNN(SimpleRNNCell(3))(X, constants=[Input(("batch", 2), name="c")])
