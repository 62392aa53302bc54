"""Packed input: compiled models beside PyTorch's on packed sequences, and the steps that are run."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.nn.utils import rnn

import rnngraph as rg
from rnngraph import nn
from rnngraph.data import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from rnngraph.errors import InputError, TraceError
from rnngraph.ir import Array, evaluate
from tests.backends.llvm.test_ends import row_steps

LENGTHS = {"falling": [7, 5, 5, 2, 1], "any": [2, 7, 1, 5, 5], "equal": [4, 4], "one": [3]}
F, U = 6, 8
GATES = {"LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2], "RNN": [0]}  # torch's gates in Keras's order: i f c o; z r h


def close(got: Array, want: torch.Tensor) -> None:
    expected = want.detach().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max(initial=0)))


def weights(module: torch.nn.RNNBase, suffix: str) -> dict[str, Array]:
    """One layer and direction of torch's weights, as our layers take them."""
    w, r, bw, br = (getattr(module, f"{n}_{suffix}").detach().numpy()
                    for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    order = np.concatenate([np.arange(g * U, (g + 1) * U) for g in GATES[module.mode.split("_")[0]]])
    bias = np.stack([bw[order], br[order]]) if module.mode == "GRU" else bw[order] + br[order]
    return {"kernel": w[order].T.copy(), "recurrent_kernel": r[order].T.copy(), "bias": bias}


def models(kind: str, layers: int, both: bool) -> tuple[torch.nn.RNNBase, nn.Sequential]:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(F, U, num_layers=layers, bidirectional=both)
    make = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.SimpleRNN}[kind]
    parts: list[Any] = [make(U, return_sequences=True, return_state=True) for _ in range(layers)]
    ours = nn.Sequential([rg.Input(("batch", "time", F)), *([nn.Bidirectional(p) for p in parts] if both else parts)])
    values: dict[str, Array] = {}
    for k, layer in enumerate(ours.layers):
        for name, suffix in (("forward/", f"l{k}"), ("backward/", f"l{k}_reverse")) if both else (("", f"l{k}"),):
            values |= {f"{layer.name}/{name}{n}": v for n, v in weights(theirs, suffix).items()}
    ours.set_weights(values)
    return theirs, ours


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("initial", [False, True])
def test_beside_torch(lengths: list[int], kind: str, layers: int, both: bool, initial: bool) -> None:
    theirs, ours = models(kind, layers, both)
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((n, F), np.float32) for n in lengths]
    packed = pack_sequence(sequences, enforce_sorted=False)
    theirs_packed = rnn.pack_sequence([torch.from_numpy(s) for s in sequences], enforce_sorted=False)
    count = layers * (1 + both)
    first = [rng.standard_normal((count, len(lengths), U), np.float32) for _ in range(1 + (kind == "LSTM"))]
    hx: Any = [torch.from_numpy(f) for f in first]
    want, finals = theirs(theirs_packed, (tuple(hx) if kind == "LSTM" else hx[0]) if initial else None)
    model = rg.compile(ours)
    state = [f[k] for k in range(count) for f in first] if initial else None
    y, *states = cast(Any, model(packed, initial_state=state))
    assert isinstance(y, PackedSequence)
    close(y.data, want.data)
    np.testing.assert_array_equal(y.batch_sizes, want.batch_sizes.numpy())
    np.testing.assert_array_equal(cast(Array, y.sorted_indices), want.sorted_indices.numpy())
    flat = [f[k] for k in range(count) for f in (finals if kind == "LSTM" else [finals])]
    for got, expected in zip(states, flat, strict=True):
        close(got, expected)
    counted = row_steps(model.variant(lengths=True, packed=True, initial_state=initial))
    assert set(counted) == {sum(lengths)}


def packed_input(enforce_sorted: bool = False) -> tuple[PackedSequence, list[Array]]:
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((n, F), np.float32) for n in ([7, 3, 2] if enforce_sorted else [3, 7, 2])]
    return pack_sequence(sequences, enforce_sorted=enforce_sorted), sequences


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_no_projection_of_padding(enforce_sorted: bool) -> None:
    packed, sequences = packed_input(enforce_sorted)
    model = rg.compile(nn.LSTM(U), rg.Input(("batch", "time", F)))
    got = model(packed)
    for row, s in zip(np.asarray(got), sequences, strict=True):
        np.testing.assert_allclose(row, np.asarray(model(s[None]))[0], rtol=0, atol=1e-6)
    program = model.variant(lengths=True, packed=True)
    said = [str(r) for p in program.report.passes for r in p.remarks]
    assert any("rows are packed, and none is multiplied past its end" in s for s in said)
    assert not any("left the scan" in s for s in said)
    assert set(row_steps(program)) == {12}


def test_time_major_and_layers_around() -> None:
    packed, _ = packed_input()
    model = nn.Sequential([nn.Dense(5), nn.LSTM(U, return_sequences=True, time_major=True), nn.Dense(3)])
    compiled = rg.compile(model, rg.Input(("time", "batch", F)))
    padded, lengths = pad_packed_sequence(packed)
    graph = rg.trace(model, rg.Input(("time", "batch", F)), lengths=True)
    want = evaluate(graph, {"x": padded, "lengths": lengths.astype(np.int32)}, float64=True)["y"]
    got = cast(PackedSequence, compiled(packed))
    np.testing.assert_allclose(got.data, pack_padded_sequence(want, lengths, enforce_sorted=False).data, atol=1e-5)


def test_words_and_another_input_with_a_row_per_sequence() -> None:
    words = rg.Input(("batch", "time"), "i32", "words")
    row = rg.Input(("batch", U), name="row")
    h = nn.GRU(U)(nn.Embedding(9, F)(words))
    compiled = rg.compile(nn.Model([words, row], h + row))
    packed = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])], enforce_sorted=False)
    rows = np.random.default_rng(0).standard_normal((2, U), np.float32)
    want = compiled(np.array([[1, 2, 0], [3, 4, 5]]), rows, lengths=[2, 3])
    np.testing.assert_allclose(compiled(packed, rows), want, atol=1e-6)
    np.testing.assert_allclose(compiled.run({"words": packed, "row": rows})["y"], want, atol=1e-6)
    with pytest.raises(InputError, match="input 'row': expected 2 rows"):
        compiled(packed, rows[:1])


def test_a_graph_with_lengths() -> None:
    packed, _ = packed_input()
    layer = nn.LSTM(U)
    x = rg.Input(("batch", "time", F))
    compiled = rg.compile(rg.trace(layer, x, lengths=True))
    np.testing.assert_allclose(compiled(packed), rg.compile(layer, x)(packed), atol=1e-6)


def test_bad_calls() -> None:
    packed, _ = packed_input()
    x = rg.Input(("batch", "time", F))
    model = rg.compile(nn.LSTM(U), x)
    for name, given in (("lengths", [1, 2, 3]), ("mask", np.ones((3, 7), bool))):
        with pytest.raises(InputError, match=f"expected packed input alone, got {name}="):
            model(packed, **{name: given})
    with pytest.raises(InputError, match="data must have 12 steps"):
        model(packed._replace(data=packed.data[:5]))
    with pytest.raises(InputError, match="dtype float64"):
        model(packed._replace(data=packed.data.astype(np.float64)))
    with pytest.raises(InputError, match="at most 5 steps"):
        rg.compile(nn.LSTM(U), rg.Input(("batch", 5, F)))(packed)
    with pytest.raises(TraceError, match="layer 'lstm': with packed input, expected sequences in the order"):
        rg.compile(nn.LSTM(U, go_backwards=True, return_sequences=True), x)(packed)
    a, b = (rg.Input(("batch", "time", F), name=n) for n in "ab")
    both = rg.compile(nn.Model([a, b], nn.LSTM(U)(a + b)))
    with pytest.raises(InputError, match="inputs 'a' and 'b' are packed differently"):
        both(packed, packed_input(True)[0])
