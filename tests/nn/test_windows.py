"""Pooling, padding and transposed convolution against PyTorch and numpy, with spatial dims as numbers and symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import rnngraph as rg
from rnngraph.errors import InputError, ShapeError, TraceError
from rnngraph.nn import Input, ops
from tests.nn.support import Apply, Array, applied, applied_as, close, some

image = some(2, 9, 7, 3)
line = some(2, 11, 3, seed=1)
SHAPES: dict[bool, list[tuple[int | str, ...]]] = {False: [(2, 9, 7, 3)], True: [("b", "h", "w", 3)]}


def first(x: Array) -> Any:
    """Channels first, as a float64 tensor."""
    return torch.from_numpy(np.moveaxis(x.astype(np.float64), -1, 1))


def last(x: Any) -> Array:
    return np.moveaxis(np.asarray(x.numpy()), 1, -1)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("window", "strides", "padding", "dilation"), [
    ((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 2), (2, 3), (1, 1), (1, 1)), ((3, 3), (1, 2), (1, 0), (2, 1)),
    ((4, 3), (3, 3), (2, 1), (1, 2)),
])
def test_max_pool(symbolic: bool, ceil: bool, window: Any, strides: Any, padding: Any, dilation: Any) -> None:
    values, places = applied_as(lambda t: ops.max_pool_with_indices(
        t, window, strides=strides, padding=padding, dilation=dilation, ceil=ceil), SHAPES[symbolic], image)
    want, index = F.max_pool2d(first(image), window, strides, padding, dilation, ceil, return_indices=True)
    assert (values == last(want)).all()
    assert (places == last(index)).all()
    alone = applied_as(lambda t: ops.max_pool(t, window, strides=strides, padding=padding, dilation=dilation,
                                              ceil=ceil), SHAPES[symbolic], image)
    assert (alone == values).all()


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize(("window", "strides", "padding"), [
    ((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 3), (1, 1)), ((4, 3), (3, 3), (2, 1)),
])
def test_average_pool(symbolic: bool, ceil: bool, count: bool, window: Any, strides: Any, padding: Any) -> None:
    got = applied_as(lambda t: ops.average_pool(t, window, strides=strides, padding=padding, ceil=ceil,
                                                count_padding=count), SHAPES[symbolic], image)
    close(got, last(F.avg_pool2d(first(image), window, strides, padding, ceil, count)), 1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_lp_pool(p: float) -> None:
    got = applied(lambda t: ops.lp_pool(t, (3,), p=p, strides=2), line)
    close(got, last(F.lp_pool1d(first(abs(line)), p, 3, 2)), 1e-6)  # 1 / p is a float32 constant


def test_pooling_of_integers_and_asymmetric_padding() -> None:
    whole = (line * 10).astype(np.int32)
    got = applied_as(lambda t: ops.max_pool(t, (3,), strides=2, padding=[(0, 2)]), [("b", "t", 3)], whole)
    padded = np.pad(whole, ((0, 0), (0, 2), (0, 0)), constant_values=-(2**31))
    assert (got == np.stack([padded[:, i : i + 3].max(1) for i in range(0, 11, 2)], 1)).all()


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"pool: the window \[4\] with dilation \[1\] is larger than the padded input"):
        ops.max_pool(Input((2, 3, 1)), (4,))
    with pytest.raises(ShapeError, match=r"takes \[..., 2 spatial dims, channels\], got f32\[2,3\]"):
        ops.max_pool(Input((2, 3)), (1, 1))
    with pytest.raises(TraceError, match="pool: strides must be a whole number >= 1"):
        ops.average_pool(Input((2, 3, 1)), (2,), strides=0)
    compiled = rg.compile(Apply(lambda t: ops.max_pool(t, (4,), strides=1)), Input(("b", "t", 1)))
    with pytest.raises(InputError, match=r"larger than the padded input|size"):
        compiled(np.zeros((1, 2, 1), np.float32))


# --- transposed convolution ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("strides", "padding", "extra", "dilation", "groups"), [
    (1, 0, 0, 1, 1), (2, 1, 1, 1, 1), ((3, 2), (2, 0), (1, 1), (1, 2), 1), (2, 3, 1, 1, 2), ((1, 3), 0, (0, 2), 2, 2),
])
def test_conv_transpose(symbolic: bool, strides: Any, padding: Any, extra: Any, dilation: Any, groups: int) -> None:
    x, weight = some(2, 5, 4, 4), some(4, 3, 3, 2, seed=5)  # PyTorch's: channels, filters / groups, *size
    per = 4 // groups
    kernel = weight.reshape(groups, per, 3, 3, 2).transpose(3, 4, 1, 0, 2).reshape(3, 2, per, groups * 3)
    got = applied_as(lambda t, k: ops.conv_transpose(t, k, strides=strides, padding=padding, output_padding=extra,
                                                     dilation=dilation, groups=groups),
                     [("b", "h", "w", 4) if symbolic else x.shape, kernel.shape], x, np.ascontiguousarray(kernel))
    want = F.conv_transpose2d(first(x), torch.from_numpy(weight.astype(np.float64)), None, strides, padding, extra,
                              groups, dilation)
    close(got, last(want), 1e-12)


def test_conv_transpose_of_the_same_size() -> None:
    x, kernel = some(1, 4, 2), some(3, 2, 5, seed=2)
    for stride in (1, 2, 3, 4):
        got = applied(lambda t, k, s=stride: ops.conv_transpose(t, k, strides=s, padding="same"), x, kernel,
                      symbolic=False)
        assert got.shape == (1, 4 * stride, 5)


# --- padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
@pytest.mark.parametrize(("low", "high"), [((0, 2, 1), (0, 3, 2)), ((1, 0, 0), (0, 4, 0)), ((0, 0, 0), (0, 0, 0))])
def test_padding(symbolic: bool, mode: Any, low: Any, high: Any) -> None:
    got = applied(lambda t: ops.pad(t, low, high, mode), line, symbolic=symbolic)
    assert (got == np.pad(line, list(zip(low, high, strict=True)), mode)).all()


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_padding_further_than_the_axis_is_long(mode: Any) -> None:
    got = applied(lambda t: ops.pad(t, (0, 0, 7), (0, 0, 8), mode), line, symbolic=False)
    assert (got == np.pad(line, ((0, 0), (0, 0), (7, 8)), mode)).all()


def test_padding_with_a_value_and_cropping() -> None:
    got = applied(lambda t: ops.pad(t, (0, -2, 1), (0, 1, -1), value=7.5), line)
    assert (got == np.pad(line[:, 2:, :-1], ((0, 0), (0, 1), (1, 0)), constant_values=7.5)).all()
    fill = np.array([-3], np.int64)
    got = applied(lambda t, v: ops.pad(t, (1,), (2,), value=v), np.arange(4), fill)
    assert got.tolist() == [-3, 0, 1, 2, 3, -3, -3]


def test_wrong_padding() -> None:
    with pytest.raises(TraceError, match="pad: mode must be one of constant, reflect, edge, wrap, got 'mirror'"):
        ops.pad(Input((3,)), (1,), (1,), "mirror")
    with pytest.raises(TraceError, match="pad: expected 1 numbers in front and behind"):
        ops.pad(Input((3,)), (1, 2), (1, 2))
    compiled = rg.compile(Apply(lambda t: ops.pad(t, (3,), (0,), "reflect")), Input(("n",)))
    with pytest.raises(InputError, match=r"slice: start 1, size 3"):
        compiled(np.zeros(3, np.float32))
