"""The microkernels: right sums, the same bits whatever the tile or the blocking, and no spills in the hot loops."""

from __future__ import annotations

import functools
import re
from ctypes import c_int64, c_void_p

import numpy as np
import pytest

from rnngraph.backends.llvm import cpu, jit, microkernel
from tests.backends.llvm.helpers import F32, TARGETS, aligned, callable_at

TILE = (c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_int64)
PAIR = (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_int64)


@functools.cache
def loaded(level: str) -> jit.Library:
    target = TARGETS[level]
    return jit.Library([microkernel.library(target)], microkernel.symbols(target))


def operands(parts: int, width: int, rows: int, k: int) -> tuple[F32, F32]:
    """(a with a row stride that is no multiple of anything, w)"""
    rng = np.random.default_rng(k * 100 + rows)
    a = rng.standard_normal((rows, k + 3)).astype(np.float32)
    w = aligned((k, parts, width))
    w[...] = rng.standard_normal((k, parts, width))
    return a, w


def run_tile(level: str, rows: int, parts: int, a: F32, w: F32, acc: F32, k: int, beta: int) -> None:
    call = callable_at(loaded(level), microkernel.name(rows, parts), *TILE)
    call(acc, acc.strides[0] // 4, a, a.strides[0] // 4, w, k, beta)


def expected(a: F32, w: F32, k: int) -> F32:
    """Sums in float64."""
    sums: F32 = np.einsum("rk,knl->rnl", a[:, :k].astype(np.float64), w.astype(np.float64)).astype(np.float32)
    return sums


@pytest.mark.parametrize("level", TARGETS)
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_every_tile_sums(level: str, parts: int) -> None:
    width = TARGETS[level].width
    for rows in microkernel.row_variants(parts, TARGETS[level]):
        for k in (0, 1, 3, 4, 7, 64):
            a, w = operands(parts, width, rows, k)
            acc = aligned((rows, parts + 1, width))
            run_tile(level, rows, parts, a, w, acc, k, 0)
            np.testing.assert_allclose(acc[:, :parts], expected(a, w, k), rtol=1e-5, atol=1e-5)
            assert np.isnan(acc[:, parts]).all(), "wrote behind the tile"


@pytest.mark.parametrize("level", TARGETS)
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_bits_do_not_depend_on_rows_or_blocking(level: str, parts: int) -> None:
    width, k = TARGETS[level].width, 37
    variants = microkernel.row_variants(parts, TARGETS[level])
    a, w = operands(parts, width, variants[-1], k)
    single = aligned((variants[-1], parts, width))
    for row in range(variants[-1]):
        run_tile(level, 1, parts, a[row:row + 1], w, single[row:row + 1], k, 0)
    for rows in variants:
        whole, blocked = aligned((rows, parts, width)), aligned((rows, parts, width))
        run_tile(level, rows, parts, a[:rows], w, whole, k, 0)
        for start, stop in ((0, 5), (5, 24), (24, k)):
            run_tile(level, rows, parts, a[:rows, start:], w[start:], blocked, stop - start, int(start > 0))
        np.testing.assert_array_equal(whole.view(np.int32), single[:rows].view(np.int32))
        np.testing.assert_array_equal(blocked.view(np.int32), single[:rows].view(np.int32))


@pytest.mark.parametrize("level", TARGETS)
def test_pairs_give_the_bits_of_single_tiles(level: str) -> None:
    target = TARGETS[level]
    assert microkernel.pair_parts(target)
    for parts in microkernel.pair_parts(target):
        a, w = operands(parts, target.width, 2, 23)
        other = aligned(w.shape)
        other[...] = w[::-1]
        got, want = aligned((2, 2, parts, target.width)), aligned((2, 2, parts, target.width))
        call = callable_at(loaded(level), microkernel.pair_name(parts), *PAIR)
        for beta in (0, 1):
            call(got[0], got[1], a, w, other, 23, beta)
            for acc, side in zip(want, (w, other), strict=True):
                run_tile(level, 1, parts, a[:1], side, acc, 23, beta)
        np.testing.assert_array_equal(got[:, 0].view(np.int32), want[:, 0].view(np.int32))


def loops(assembly: str) -> list[str]:
    """The text of every innermost-looking loop: from a label to the first jump back to it."""
    found = []
    for label in re.finditer(r"^(\.LBB\d+_\d+):", assembly, re.M):
        rest = assembly[label.end():]
        back = re.search(rf"\tj\w+\t{re.escape(label[1])}$", rest, re.M)
        if back:
            found.append(rest[:back.end()])
    return found


@pytest.mark.skipif(not cpu.native_target().is_x86, reason="reads x86 assembly")
@pytest.mark.parametrize("level", ["generic", "avx2", "avx512"])
def test_hot_loops_never_touch_the_stack(level: str) -> None:
    target = cpu.target(level)  # compiled, not run: also where the machine has no AVX-512
    assembly = jit.emit_assembly(microkernel.emit_microkernels(target), target)
    multiply = "fmadd" if target.has_fma else "mulps"
    for symbol in microkernel.symbols(target):
        body = re.split(rf"^{symbol}:", assembly, flags=re.M)[1].split(".Lfunc_end")[0]
        hot = [loop for loop in loops(body) if multiply in loop]
        assert len(hot) == 2, f"{symbol}: expected the unrolled loop and the remainder, got {len(hot)}"
        for loop in hot:
            assert "rsp" not in loop, f"{symbol} spills:\n{loop}"
    assert ("zmm" in assembly) == (level == "avx512")


def test_row_variants_follow_the_registers() -> None:
    wide, narrow = cpu.target("avx512"), cpu.target("avx2")
    assert [microkernel.row_variants(n, wide) for n in (1, 2, 3, 4)] == [(1, 2, 3, 4, 8)] * 3 + [(1, 2, 3, 4, 6)]
    assert [microkernel.row_variants(n, narrow) for n in (1, 2, 3, 4)] == [
        (1, 2, 3, 4, 8), (1, 2, 3, 4, 6), (1, 2, 3, 4), (1, 2, 3)]
