"""Normalizations and einsum against PyTorch and numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import Input, ops
from tests.nn.support import applied, close, some

x = some(3, 6, 5, 4) * 2 + 1
mean, gamma, beta = some(6, seed=1), some(6, seed=2), some(6, seed=3)
variance = some(6, seed=4) ** 2 + np.float32(0.1)


def double(a: Any) -> Any:
    return torch.from_numpy(a.astype(np.float64))


def test_batch_norm() -> None:
    got = applied(lambda t, m, v, g, b: ops.batch_norm(t, m, v, g, b, axis=1, epsilon=1e-3), x, mean, variance, gamma,
                  beta)
    want = F.batch_norm(double(x), double(mean), double(variance), double(gamma), double(beta), eps=1e-3)
    close(got, want.numpy(), 1e-6)  # epsilon is a float32 constant
    last = applied(lambda t, m, v: ops.batch_norm(t, m, v), np.moveaxis(x, 1, -1), mean, variance)
    close(last, np.moveaxis(F.batch_norm(double(x), double(mean), double(variance), eps=1e-3).numpy(), 1, -1), 1e-6)


def test_instance_and_group_norm() -> None:
    got = applied(lambda t, g, b: ops.instance_norm(t, g, b, axis=1), x, gamma, beta)
    close(got, F.instance_norm(double(x), weight=double(gamma), bias=double(beta)).numpy(), 1e-7)
    for groups in (1, 2, 6):
        got = applied(lambda t, g, b, n=groups: ops.group_norm(t, n, g, b, axis=1, epsilon=1e-5), x, gamma, beta,
                      symbolic=False)
        close(got, F.group_norm(double(x), groups, double(gamma), double(beta)).numpy(), 1e-7)
    with pytest.raises(ShapeError, match=r"group_norm: expected channels in axis 1 of .* that 4 groups divide"):
        ops.group_norm(Input((2, 6, 3)), 4, axis=1)
    with pytest.raises(TraceError, match="instance_norm: expected"):
        ops.instance_norm(Input((2, 6)))


def test_layer_norm_over_several_axes() -> None:
    scale, shift = some(5, 4, seed=5), some(5, 4, seed=6)
    got = applied(lambda t, g, b: ops.layer_norm(t, g, b, axis=(2, 3), epsilon=1e-5), x, scale, shift)
    close(got, F.layer_norm(double(x), (5, 4), double(scale), double(shift)).numpy(), 1e-7)


def test_rms_norm() -> None:
    scale = some(5, 4, seed=5)
    got = applied(lambda t, g: ops.rms_norm(t, g, axis=(-2, -1), epsilon=1e-6), x, scale)
    close(got, F.rms_norm(double(x), (5, 4), double(scale), 1e-6).numpy(), 1e-7)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_local_response_norm(size: int) -> None:
    got = applied(lambda t: ops.local_response_norm(t, size, alpha=0.2, beta=0.5, bias=1.5, axis=1), x)
    want = np.zeros(x.shape)
    wide = x.astype(np.float64)
    for c in range(6):
        part = wide[:, max(0, c - (size - 1) // 2) : c + size - 1 - (size - 1) // 2 + 1]
        want[:, c] = wide[:, c] / (1.5 + 0.2 / size * (part**2).sum(1)) ** 0.5
    close(got, want, 1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalize(p: int) -> None:
    zero = np.concatenate([x[:, :, :, 0], np.zeros((3, 6, 1), np.float32)], 2)
    zero[0, 0] = 0
    got = applied(lambda t: ops.lp_normalize(t, p, axis=-1), zero)
    close(got, F.normalize(double(zero), p, -1).numpy(), 1e-12)
    assert not got[0, 0].any()


a, b, c = some(3, 4, 5), some(3, 5, 6, seed=1), some(6, 4, seed=2)
square = some(4, 4, 3)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("equation", "operands"), [
    ("bij,bjk->bik", (a, b)), ("bij,bjk", (a, b)), ("...j,...jk->...k", (a[:, 0], b)), ("bij,bjk,ki->b", (a, b, c)),
    ("ijk->kji", (a,)), ("ijk->", (a,)), ("iij->ij", (square,)), ("iij", (square,)), ("ii...->...", (square,)),
    ("ij,k->ijk", (c, mean)), ("bij,bjk->ki", (a, b)), ("...ij->...ji", (a,)), ("ij,ij->", (c, c)),
    ("i...,i...->...", (a, a)), ("a b c , a c d -> b d", (a, b)), ("bij,ki->bkj", (a, c)), ("i,i->i", (mean, mean)),
    ("bij,jk->bik", (a, some(5, 2, seed=8))), ("b...,b...->b...", (a, a)), ("ba,b->a", (c, mean)),
    ("aij,ajk->aik", (a[:1], b)), ("i,j->", (mean, gamma)), ("bi,b...k->b...i", (a[:, :, 0], b)),
])
def test_einsum(equation: str, operands: Any, symbolic: bool) -> None:
    got = applied(lambda *xs: ops.einsum(equation, *xs), *operands, symbolic=symbolic)
    np.testing.assert_allclose(got, np.einsum(equation, *[o.astype(np.float64) for o in operands]), atol=1e-12)


def test_einsum_of_integers() -> None:
    p, q = np.arange(12).reshape(3, 4), np.arange(8).reshape(4, 2)
    assert (applied(lambda s, t: ops.einsum("ij,jk", s, t), p, q) == p @ q).all()


@pytest.mark.parametrize(("equation", "message"), [
    ("ij,jk", "is about 2 operand"), ("ijk", "does not fit an operand of rank 2"), ("i->i", "does not fit"),
    ("ij->k", "'k' of the result stands in no operand"), ("ij->ii", "must name each axis once"),
    ("i.j", "expected letters"), ("ii", "'i' stands for axes of 2 and 3"),
])
def test_equations_that_do_not_fit(equation: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        ops.einsum(equation, Input((2, 3)))
