"""Packed sequences inside modules, and as their inputs and outputs, beside live PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import rnngraph as rg
from rnngraph.errors import ImportModelError, InputError
from rnngraph.ir import Array
from tests.frontends.torch_support import check, close, draw

KINDS: list[Any] = [nn.LSTM, nn.GRU, nn.RNN]


class Tagger(nn.Module):
    """Padded sequences and lengths in, packed within."""

    def __init__(self, make: Any, batch_first: bool, enforce_sorted: bool, padding_value: float = 0.0) -> None:
        super().__init__()
        self.rnn = make(4, 6, 2, bidirectional=True, batch_first=batch_first)
        self.out = nn.Linear(12, 3)
        self.batch_first, self.enforce_sorted, self.padding_value = batch_first, enforce_sorted, padding_value

    def forward(self, x: torch.Tensor, lengths: torch.Tensor, state: Any = None) -> Any:
        packed = pack_padded_sequence(x, lengths, self.batch_first, self.enforce_sorted)
        y, final = self.rnn(packed, state)
        padded, counts = pad_packed_sequence(y, self.batch_first, self.padding_value)
        return self.out(padded), counts, final


def batch(rows: list[int], batch_first: bool, seed: int = 0) -> list[torch.Tensor]:
    x = draw(len(rows), max(rows), 4, seed=seed)
    return [x if batch_first else x.transpose(0, 1).contiguous(), torch.tensor(rows)]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_within(make: Any, batch_first: bool, enforce_sorted: bool) -> None:
    calls = [[9, 9, 4, 1], [3]] if enforce_sorted else [[1, 9, 4, 9], [3]]
    compiled = check(Tagger(make, batch_first, enforce_sorted), batch([7, 5, 2], batch_first),
                     *(batch(rows, batch_first, 1) for rows in calls))
    assert [op.name for op in compiled.program.graph.walk()].count("top_k") == 0, "putting rows in order is undone"


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_within_and_initial_states(enforce_sorted: bool) -> None:
    rows = [7, 5, 2] if enforce_sorted else [2, 7, 5]
    example = [*batch([7, 5, 2], True), (draw(4, 3, 6), draw(4, 3, 6, seed=1))]
    other = [*batch(rows, True, 2), (draw(4, 3, 6, seed=3), draw(4, 3, 6, seed=4))]
    check(Tagger(nn.LSTM, True, enforce_sorted), example, other)


def test_padding_value_and_steps_on_packed_data() -> None:
    class Steps(Tagger):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor, state: Any = None) -> Any:
            packed = pack_padded_sequence(x, lengths, True, False)
            inner = PackedSequence(torch.tanh(packed.data) * 2.0, packed.batch_sizes, packed.sorted_indices,
                                   packed.unsorted_indices)
            y, _ = self.rnn(inner)
            scored = PackedSequence(torch.log_softmax(self.out(y.data), 1), y.batch_sizes, y.sorted_indices,
                                    y.unsorted_indices)
            return pad_packed_sequence(scored, True, -9.0)[0]

    check(Steps(nn.GRU, True, False), batch([7, 5, 2], True), batch([2, 8, 5], True, 1))


def test_packed_data_over_rows_is_refused() -> None:
    class Mean(Tagger):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor, state: Any = None) -> Any:
            return pack_padded_sequence(x, lengths, True).data.mean(0)

    with pytest.raises(ImportModelError, match="the data of a PackedSequence is used as a tensor"):
        rg.compile(Mean(nn.GRU, True, True).eval(), example_inputs=tuple(batch([7, 5, 2], True)))


def ours(packed: PackedSequence) -> rg.data.PackedSequence:
    arrays: list[Any] = [None if t is None else t.detach().numpy() for t in packed]
    return rg.data.PackedSequence(*arrays)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("order", [[5, 4, 2], [2, 5, 4]])
def test_packed_input_and_output(make: Any, both: bool, order: list[int]) -> None:
    module = make(4, 6, 2, bidirectional=both).eval()
    compiled = rg.compile(module, example_inputs=(pack_sequence([draw(4, 4), draw(2, 4)]),))
    packed = pack_sequence([draw(n, 4, seed=n) for n in order], enforce_sorted=False)
    with torch.no_grad():
        want, finals = module(packed)
    y, *got = compiled(ours(packed))
    assert isinstance(y, rg.data.PackedSequence)
    close(y.data, want.data)
    np.testing.assert_array_equal(y.batch_sizes, want.batch_sizes.numpy())
    for g, w in zip(got, finals if make is nn.LSTM else (finals,), strict=True):
        close(g, w)


def test_packed_input_given_padded() -> None:
    """Without lengths every row has all the steps; with them, a row ends where they say."""
    module = nn.GRU(4, 6).eval()
    compiled = rg.compile(module, example_inputs=(pack_sequence([draw(4, 4), draw(2, 4)]),))
    x = draw(3, 5, 4, seed=2)
    with torch.no_grad():
        close(_first(compiled(x.numpy())), module(x.transpose(0, 1))[0].transpose(0, 1))
        packed = pack_padded_sequence(x, torch.tensor([5, 3, 1]), batch_first=True)
        close(_first(compiled(x.numpy(), lengths=[5, 3, 1])), pad_packed_sequence(module(packed)[0], True)[0])


def _first(outputs: Any) -> Array:
    found: Array = outputs[0]
    return found


def test_the_longest_row_has_all_steps() -> None:
    """pad_packed_sequence cuts at the longest row, so that the output's time is not the input's."""
    compiled = rg.compile(Tagger(nn.GRU, True, False).eval(), example_inputs=tuple(batch([7, 5, 2], True)))
    x = draw(3, 9, 4).numpy()
    with pytest.raises(InputError, match=r"'lengths': the longest row must have all 9 steps, got 7.*total_length="):
        compiled(x, np.array([2, 7, 5]))
    compiled(x, np.array([2, 9, 5]))


def test_total_length() -> None:
    class Whole(Tagger):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor, state: Any = None) -> Any:
            y, _ = self.rnn(pack_padded_sequence(x, lengths, True, False))
            return self.out(pad_packed_sequence(y, True, total_length=x.size(1))[0])

    example = batch([7, 5, 2], True)
    check(Whole(nn.GRU, True, False), example, [draw(3, 9, 4), torch.tensor([2, 7, 5])])


def test_lengths_that_are_computed() -> None:
    class Counted(Tagger):
        def forward(self, x: torch.Tensor, mask: torch.Tensor, state: Any = None) -> Any:
            y, _ = self.rnn(pack_padded_sequence(x, mask.sum(1), True, False))
            return self.out(pad_packed_sequence(y, True)[0])

    mask = torch.arange(7)[None] < torch.tensor([7, 5, 2])[:, None]
    with pytest.warns(UserWarning, match="is taken to give all time steps"):
        check(Counted(nn.GRU, True, False), [batch([7, 5, 2], True)[0], mask])


class Tail(nn.Module):
    """Packed sequences in and out, and a plain sequence beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 6, bidirectional=True)

    def forward(self, seqs: PackedSequence, scale: torch.Tensor, **more: PackedSequence) -> Any:
        y, h = self.rnn(seqs)
        for other in more.values():
            y = PackedSequence(y.data + other.data, *y[1:])
        padded, _ = pad_packed_sequence(y, batch_first=True)
        return {"packed": y, "padded": padded * scale, "last": h}


@pytest.mark.parametrize("order", [[5, 4, 2], [2, 5, 4], [3]])
def test_what_pytorch_packs_is_given_as_it_is(order: list[int]) -> None:
    """Where the module gives tensors there are tensors; where it gives packed sequences, packed ones."""
    module = Tail().eval()
    pair = {"seqs": pack_sequence([draw(4, 4), draw(2, 4)]), "scale": draw(1)}
    compiled = rg.compile(module, example_inputs={**pair, "third": pack_sequence([draw(4, 1), draw(2, 1)])})
    assert compiled.input_names == ("seqs", "scale", "third")
    packed, more = (pack_sequence([draw(n, size, seed=n) for n in order], enforce_sorted=False) for size in (4, 1))
    with torch.no_grad():
        want = module(packed, draw(1), third=more)
    got = compiled.run({"seqs": packed, "scale": draw(1), "third": more})
    assert isinstance(got["packed"], rg.data.PackedSequence)
    close(got["packed"].data, want["packed"].data)
    close(got["padded"], want["padded"])
    close(got["last"], want["last"])
    y, *_ = compiled(packed, draw(1), third=more)
    np.testing.assert_array_equal(y.data, got["packed"].data)


def test_a_module_with_packed_inputs_keeps_its_names() -> None:
    layer = rg.from_torch(Tail().eval(), (pack_sequence([draw(4, 4)]), draw(1)))
    assert [x.name for x in layer.inputs] == ["seqs", "scale"]
    assert {n.rpartition(".")[0] for n in layer.weights} == {"rnn"}
