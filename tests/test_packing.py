"""Packing against torch.nn.utils.rnn: the same arrays, and errors where PyTorch raises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import rnn

from rnngraph import data
from rnngraph.data import PackedSequence
from rnngraph.errors import InputError

LENGTHS = {"falling": [5, 3, 3, 1], "any": [2, 5, 1, 4], "one": [4], "equal": [3, 3, 3]}


def sequences(lengths: list[int], *features: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, *features), np.float32) for n in lengths]


def same(ours: PackedSequence, theirs: rnn.PackedSequence) -> None:
    for name, a, b in zip(ours._fields, ours, theirs, strict=True):
        if b is None:
            assert a is None, name
        else:
            np.testing.assert_array_equal(a, b.numpy(), err_msg=name)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("features", [(), (3,), (2, 3)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_like_torch(lengths: list[int], features: tuple[int, ...], batch_first: bool) -> None:
    ours = sequences(lengths, *features)
    theirs = [torch.from_numpy(a) for a in ours]
    for side in ("left", "right"):
        np.testing.assert_array_equal(
            data.pad_sequence(ours, batch_first, -1.0, side),
            rnn.pad_sequence(theirs, batch_first, -1.0, side).numpy())
    padded = data.pad_sequence(ours, batch_first)
    for enforce in (False, True):
        if enforce and (np.diff(lengths) > 0).any():
            continue
        packed = data.pack_padded_sequence(padded, lengths, batch_first, enforce)
        torch_packed = rnn.pack_padded_sequence(torch.from_numpy(padded), torch.tensor(lengths), batch_first, enforce)
        same(packed, torch_packed)
        same(data.pack_sequence(ours, enforce), rnn.pack_sequence(theirs, enforce))
        for total in (None, 7):
            got = data.pad_packed_sequence(packed, batch_first, 9.0, total)
            want = rnn.pad_packed_sequence(torch_packed, batch_first, 9.0, total)
            np.testing.assert_array_equal(got[0], want[0].numpy())
            np.testing.assert_array_equal(got[1], want[1].numpy())
        for a, b in zip(data.unpack_sequence(packed), ours, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(data.unpad_sequence(padded, lengths, batch_first), ours, strict=True):
        np.testing.assert_array_equal(a, b)


BAD: list[tuple[str, Any, str]] = [
    ("rising", lambda m, a: m.pack_padded_sequence(a(np.zeros((3, 2))), a([1, 3])), "expected falling lengths"),
    ("zero", lambda m, a: m.pack_padded_sequence(a(np.zeros((3, 2))), a([1, 0])), "lengths of at least 1"),
    ("count", lambda m, a: m.pack_padded_sequence(a(np.zeros((3, 2))), a([1])), r"integers \[2\], got int64\[1\]"),
    ("empty", lambda m, a: m.pack_padded_sequence(a(np.zeros((3, 0))), a(np.zeros(0, np.int64))), "at least one"),
    ("total", lambda m, a: m.pad_packed_sequence(m.pack_sequence([a(np.ones(3))]), total_length=2), "at least"),
    ("none", lambda m, a: m.pad_sequence([]), "expected arrays"),
    ("shapes", lambda m, a: m.pad_sequence([a(np.ones((2, 3))), a(np.ones((2, 4)))]), "differ in their length alone"),
    ("side", lambda m, a: m.pad_sequence([a(np.ones(3))], padding_side="top"), "'left' or 'right'"),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_errors_where_torch_has_them(call: Any, message: str) -> None:
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)):
        call(rnn, torch.as_tensor)
    with pytest.raises(InputError, match=message):
        call(data, np.asarray)


def test_lengths_beyond_the_input() -> None:
    """Which PyTorch takes, with a sequence that ends early."""
    with pytest.raises(InputError, match="at most 3"):
        data.pack_padded_sequence(np.zeros((3, 2)), [4, 1])


@pytest.mark.parametrize(("fields", "message"), [
    (([1, 2, 3], [2, 2]), "data must have 4 steps"),
    (([1, 2, 3], [1, 2]), "never grow"),
    (([1, 2, 3], [2, 1, 0]), "at least 1"),
    (([1, 2, 3], []), "batch_sizes must be integers"),
    (([1, 2, 3], [2.0, 1.0]), "batch_sizes must be integers"),
    (([1, 2, 3], [2, 1], [0, 0]), "sorted_indices must hold 0..1 once each"),
])
def test_fields_that_contradict_each_other(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.pad_packed_sequence(PackedSequence(*fields))


def test_a_sequence_without_the_inverse_order() -> None:
    packed = data.pack_sequence(sequences([1, 3, 2]), enforce_sorted=False)
    np.testing.assert_array_equal(data.pad_packed_sequence(packed._replace(unsorted_indices=None))[0],
                                  data.pad_packed_sequence(packed)[0])
    assert packed.lengths.tolist() == [3, 2, 1]
