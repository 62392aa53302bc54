"""take, gather, scatter, reverse_sequence, trilu, tile, expand against numpy and torch; indices out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import InputError, ShapeError
from rnngraph.nn import Input, ops
from tests.nn.support import Apply, applied, applied_as, some

x = some(3, 4, 5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_take(axis: int, dtype: Any) -> None:
    index = np.array([[0, -1], [2, -3]], dtype)
    assert (applied(lambda t, i: ops.take(t, i, axis), x, index) == np.take(x, index, axis)).all()
    assert (applied(lambda t, i: ops.take(t, i, axis), x, index[0, 1]) == np.take(x, -1, axis)).all()


@pytest.mark.parametrize("index", [4, -5, 2**62])
def test_indices_out_of_range(index: int) -> None:
    one = np.array([[[index]]], np.int64)
    message = rf"(indices|values) must be in -4..3.*got {index}..{index}"
    inputs = (Input(("a", "b", "c")), Input((1, 1, 1), dtype="i64", name="i"))
    for f in (lambda t, i: ops.take(t, i, 1), lambda t, i: ops.gather_elements(t, i, 1),
              lambda t, i: ops.scatter_elements(t, i, ops.cast(i, "f32"), 1)):
        with pytest.raises(InputError, match=message):
            rg.compile(Apply(f), inputs)(x, one)
    for g in (lambda t, i: ops.gather_nd(t, i, 0), lambda t, i: ops.scatter_nd(
            t, i, ops.zeros_like(ops.gather_nd(t, i * 0)))):
        with pytest.raises(InputError, match=message.replace("-4..3", "-3..2") if index == 2**62 else "indices must"):
            rg.compile(Apply(g), inputs)(x, one)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_elements(axis: int) -> None:
    rng = np.random.default_rng(axis)
    index = rng.integers(-x.shape[axis], x.shape[axis], (2, 3, 4))
    got = applied(lambda t, i: ops.gather_elements(t, i, axis), x, index, symbolic=False)
    positive = torch.from_numpy(np.where(index < 0, index + x.shape[axis], index))
    assert (got == torch.gather(torch.from_numpy(x), axis, positive).numpy()).all()
    updates = some(2, 3, 4, seed=7)
    for ours, theirs in (("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")):
        got = applied(lambda t, i, u, r=ours: ops.scatter_elements(t, i, u, axis, r), x, index, updates,
                      symbolic=False, float64=False)
        want = torch.from_numpy(x).scatter_reduce(axis, positive, torch.from_numpy(updates), theirs)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)


def test_scatter_without_reduction() -> None:
    data, index = np.zeros((3, 3), np.float32), np.array([[1, 0, 2], [0, 2, 1]])
    updates = np.array([[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]], np.float32)
    got = applied(lambda t, i, u: ops.scatter_elements(t, i, u, 0), data, index, updates, float64=False)
    want = torch.from_numpy(data).scatter(0, torch.from_numpy(index), torch.from_numpy(updates))
    assert (got == want.numpy()).all()


def test_gather_nd() -> None:
    index = np.array([[[0, 1], [-1, -2]], [[2, 0], [1, 3]]])
    got = applied_as(lambda t, i: ops.gather_nd(t, i), [("a", 4, "c"), ("p", "q", 2)], x, index)
    assert (got == x[index[..., 0], index[..., 1]]).all()
    batched = np.array([[[1]], [[-1]], [[0]]])
    got = applied_as(lambda t, i: ops.gather_nd(t, i, 1), [("a", "b", "c"), ("a", 1, 1)], x, batched)
    assert (got == np.stack([x[b, batched[b, :, 0]] for b in range(3)])).all()
    twice = np.zeros((3, 4, 1), np.int64) - 1
    got = applied_as(lambda t, i: ops.gather_nd(t, i, 2), [("a", "b", "c"), ("a", "b", 1)], x, twice)
    assert (got == x[:, :, -1]).all()


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd(reduction: str) -> None:
    index = np.array([[0, 1], [-1, -2], [0, 1]]) if reduction != "none" else np.array([[0, 1], [-1, -2], [2, 3]])
    updates = some(3, 5, seed=3)
    got = applied_as(lambda t, i, u: ops.scatter_nd(t, i, u, reduction), [("a", "b", 5), ("k", 2), ("k", 5)], x, index,
                     updates, float64=False)
    want, f = x.copy(), {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(reduction)
    for place, u in zip(index, updates, strict=True):
        want[tuple(place)] = u if f is None else f(want[tuple(place)], u)
    assert (got == want).all()


def test_an_input_that_is_an_index_is_checked_before_the_call() -> None:
    inputs = (Input(("a", 4)), Input(("n",), dtype="i64", name="i"))
    compiled = rg.compile(Apply(lambda t, i: ops.take(t, i, 1)), inputs)
    np.testing.assert_array_equal(compiled(x[:, :, 0], np.array([-4, 3])), x[:, [0, 3], 0])
    with pytest.raises(InputError, match=r"input 'i': values must be in -4..3, the table's last row .*; got -5..0"):
        compiled(x[:, :, 0], np.array([-5, 0]))


def test_what_a_slice_leaves_out_need_not_be_an_index() -> None:
    """Words and something larger side by side in one input."""
    model = Apply(lambda t, i: ops.take(t, i[:, 0]))
    compiled = rg.compile(model, (Input((4, 5)), Input(("n", 2), dtype="i64", name="i")))
    np.testing.assert_array_equal(compiled(x[0], np.array([[1, 1000], [-1, 2000]])), x[0][[1, -1]])
    with pytest.raises(InputError, match=r"indices must be in -4..3, got"):
        compiled(x[0], np.array([[1, 0], [4, 0]]))


def test_typing_of_indices() -> None:
    i, table = Input((2, 2), dtype="i32", name="i"), Input((3, 4))
    with pytest.raises(ShapeError, match="take: indices must be integers, got f32"):
        ops.take(table, Input((2,)))
    with pytest.raises(ShapeError, match=r"gather_elements: indices must have the rank of f32\[3,4\], got i32\[2\]"):
        ops.gather_elements(table, Input((2,), dtype="i32"))
    with pytest.raises(ShapeError, match=r"gather_elements: indices i32\[4,2\] are larger than f32\[3,4\] in dim 0"):
        ops.gather_elements(table, Input((4, 2), dtype="i32"), 1)
    with pytest.raises(ShapeError, match=r"gather_nd: the last dim of the indices must be in 1..2, got i32\[5\]"):
        ops.gather_nd(table, Input((5,), dtype="i32"))
    with pytest.raises(ShapeError, match="scatter_nd: reduction must be one of none, add, mul, max, min, got 'mean'"):
        ops.scatter_nd(table, i, Input((2,)), "mean")
    with pytest.raises(ShapeError, match=r"scatter_elements: updates must be f32\[2,2\], got f32\[2\]"):
        ops.scatter_elements(table, i, Input((2,)), 0)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0), (2, 0)])
def test_reverse_sequence(time: int, batch: int) -> None:
    lengths = np.array([(i * 2) % (x.shape[time] + 1) for i in range(x.shape[batch])], np.int32)
    got = applied(lambda t, n: ops.reverse_sequence(t, n, time, batch), x, lengths)
    want = x.copy()
    for row, n in enumerate(lengths):
        at: list[Any] = [slice(None)] * 3
        at[batch], at[time] = slice(row, row + 1), slice(0, n)
        want[tuple(at)] = np.flip(x[tuple(at)], time)
    assert (got == want).all()


@pytest.mark.parametrize("k", [-2, 0, 1, 7])
@pytest.mark.parametrize("symbolic", [False, True])
def test_triangles(k: int, symbolic: bool) -> None:
    assert (applied(lambda t: ops.trilu(t, k), x, symbolic=symbolic) == np.triu(x, k)).all()
    assert (applied(lambda t, n: ops.trilu(t, n, upper=False), x, np.array(k, np.int64)) == np.tril(x, k)).all()


def test_repetition() -> None:
    assert (applied(lambda t: ops.tile(t, (2, 1, 3)), x) == np.tile(x, (2, 1, 3))).all()
    got = applied_as(lambda t: ops.expand(t, (2, "n", 5)), [("n", 1)], x[0, :, :1])
    assert (got == np.broadcast_to(x[0, :, :1], (2, 4, 5))).all()
    with pytest.raises(ShapeError, match="broadcast"):
        ops.expand(Input((3,)), (4,))
