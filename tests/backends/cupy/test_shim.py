"""The stand-in itself: what kernels may do gives what a GPU gives, and what they may not do is an error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from rnngraph.backends.cupy import shim
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError
from rnngraph.ir import Array
from tests.backends.cupy.on_shim import ORDERS, needs_compiler

pytestmark = needs_compiler

TEXT = """
#include "port.h"

RG_KERNEL totals(const float* x, float* y, int n) {
    RG_SHARED(float, shared);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    for (int by = 16; by > 0; by >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, by);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0.0f;
        for (unsigned k = 0; k < blockDim.x / 32; k++) all += shared[k];
        y[blockIdx.x] = all + blockIdx.x;
    }
    rg_grid_sync(nullptr, 1);
    if (threadIdx.x == 0) y[gridDim.x + blockIdx.x] = y[(blockIdx.x + 1) % gridDim.x];
}

RG_KERNEL product(const rg_u32* a, const rg_u32* b, float* d) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    rg_mma_16816(sums, a + 4 * threadIdx.x, b + 2 * threadIdx.x);
    for (int i = 0; i < 4; i++) d[4 * threadIdx.x + i] = sums[i];
}

RG_KERNEL half_a_block() { if (threadIdx.x < 40) __syncthreads(); }
RG_KERNEL two_barriers() { if (threadIdx.x < 32) __syncthreads(); else rg_grid_sync(nullptr, 1); }
RG_KERNEL some_lanes(float* y) { y[threadIdx.x] = __shfl_sync(0xFFFFu, 1.0f, 0); }
RG_KERNEL unwritten(float* y) { RG_SHARED(float, shared); y[threadIdx.x] = shared[threadIdx.x]; }
"""
KERNELS = ("totals", "product", "half_a_block", "two_barriers", "some_lanes", "unwritten")


def launch(kernel: str, blocks: int, threads: int, args: list[Array | np.generic], order: int = 0,
           shared: int = 0) -> None:
    pointers = [np.int64(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in args]
    ShimDevice(order).build(Source(TEXT, KERNELS)).launch(kernel, (blocks, 1, 1), (threads, 1, 1), pointers, shared)


@pytest.mark.parametrize("order", ORDERS)
def test_barriers_and_shuffles(order: int) -> None:
    x = np.arange(1000, dtype=np.float32)
    y = np.full(10, np.nan, np.float32)
    launch("totals", 5, 96, [x, y, np.int32(1000)], order, 64)
    want = 499500.0 + np.arange(5)
    np.testing.assert_array_equal(y, np.concatenate([want, np.roll(want, -1)]))


def _bf16(x: Array) -> Array:
    """The bits of numbers that bfloat16 has exactly."""
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint32)


@pytest.mark.parametrize("order", ORDERS)
def test_tensor_core_product(order: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 8, (16, 16)), rng.integers(-8, 8, (16, 8))
    left, right = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32)
    for lane in range(32):  # as the PTX manual lays fragments out
        group, t = divmod(lane, 4)
        for r in range(4):
            row, column = group + 8 * (r % 2), 2 * t + 8 * (r // 2)
            left[lane, r] = _bf16(a[row, column]) | _bf16(a[row, column + 1]) << 16
        for r in range(2):
            row = 2 * t + 8 * r
            right[lane, r] = _bf16(b[row, group]) | _bf16(b[row + 1, group]) << 16
    out = np.zeros((32, 4), np.float32)
    launch("product", 1, 32, [left, right, out], order)
    got = np.zeros((16, 8))
    for lane in range(32):
        group, t = divmod(lane, 4)
        for r in range(4):
            got[group + 8 * (r // 2), 2 * t + r % 2] = out[lane, r]
    np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize(("kernel", "message"), [
    ("half_a_block", "40 threads wait for each other for ever"),
    ("two_barriers", "for ever|in a different barrier"),
    ("some_lanes", "a shuffle without all lanes"),
    ("nothing", "no kernel nothing"),
])
@pytest.mark.parametrize("order", ORDERS)
def test_what_a_kernel_may_not_do(kernel: str, message: str, order: int) -> None:
    with pytest.raises(CompileError, match=message):
        launch(kernel, 1, 64, [np.zeros(64, np.float32)], order)


def test_shared_memory_starts_as_nan() -> None:
    y = np.zeros(32, np.float32)
    launch("unwritten", 1, 32, [y], shared=128)
    assert np.isnan(y).all()


def test_what_does_not_compile_says_why() -> None:
    with pytest.raises(CompileError, match=r"g\+\+ refused a kernel:(.|\n)*nowhere"):
        ShimDevice().build(Source('#include "port.h"\nRG_KERNEL k() { nowhere(); }\n', ("k",)))


def test_the_next_process_does_not_build_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path / "objects"))
    text = f"{TEXT}\nRG_TABLE(RG_ENTRY(unwritten))\n"
    assert shim._loaded(text, ("-O0", *shim.FLAGS)).rg_launch
    shim._compiler()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("g++ was started"))
    assert shim._loaded(text, ("-O0", *shim.FLAGS)).rg_launch
    (kept,) = (tmp_path / "objects").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
