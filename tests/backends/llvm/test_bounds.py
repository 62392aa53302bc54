"""Native code stays within the arrays it is given, and what lies in padding or in old workspaces never matters.

Arrays are placed so that they end where an inaccessible page begins, or begin where one ends: a stray access kills
the process, so the sweep runs in one of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from rnngraph.backends.llvm import plan
from rnngraph.ir import Array
from rnngraph.nn import Dense, Input, trace
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import PLANNERS, Native, native
from tests.phases.cells import CELLS, graph
from tests.testing import random_inputs

ROOT = Path(__file__).parents[3]
SIZES = tuple({"batch": b, "time": t} for b, t in ((1, 1), (3, 2), (17, 1), (33, 3), (5, 9)))


class Fenced:
    """Memory between two pages that nobody may touch."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.room = -(-max(size, 1) // page) * page
        self.map = mmap.mmap(-1, self.room + 2 * page)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for fence in (self.start, self.start + page + self.room):
            if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, at_end: bool) -> Array:
        size = int(np.prod(shape)) * dtype.itemsize
        start = mmap.PAGESIZE + (self.room - size if at_end else 0)
        return np.frombuffer(self.map, dtype, int(np.prod(shape)), start).reshape(shape)


def fenced(array: Array, *, at_end: bool) -> Array:
    out = Fenced(array.nbytes).array(array.shape, array.dtype, at_end=at_end)
    out[...] = array
    return out


@contextmanager
def fenced_outputs(*, at_end: bool) -> Iterator[None]:
    """Plans place their outputs between fences."""
    class Numpy:
        def __getattr__(self, name: str) -> object:
            return getattr(np, name)

        @staticmethod
        def empty(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
            kind = np.dtype(dtype)
            return Fenced(int(np.prod(shape)) * kind.itemsize).array(tuple(shape), kind, at_end=at_end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "np", Numpy())
        yield


def sweep(kinds: list[str], units: list[int], targets: list[str], modes: list[str | None]) -> None:
    for kind in kinds:
        for n in units:
            made = graph(kind, n, n + 2, lengths=n % 2 == 1)
            for target in targets:
                for mode in modes:
                    with pytest.MonkeyPatch.context() as patch:
                        if mode:
                            patch.setattr(plan, "Planner", PLANNERS[mode])
                        sweep_sizes(native(made, TARGETS[target], 2 if mode else 1))


def sweep_sizes(run: Native, sizes: Sequence[Mapping[str, int]] = SIZES) -> None:
    for dims in sizes:
        inputs = random_inputs(run.graph, dims)
        want = run(inputs)
        for at_end in (True, False):
            placed = {name: fenced(a, at_end=at_end) for name, a in inputs.items()}
            with fenced_outputs(at_end=at_end):
                got = run(placed)
            for name, expected in want.items():
                assert not got[name].flags.owndata  # it lies between fences
                np.testing.assert_array_equal(got[name], expected)


def run_sweep(call: str) -> None:
    code = f"from tests.backends.llvm.test_bounds import *\n{call}\nprint('in bounds')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "in bounds"


needs_mprotect = pytest.mark.skipif(os.name != "posix", reason="mprotect")


@needs_mprotect
def test_a_stray_access_would_be_seen() -> None:
    code = ("from tests.backends.llvm.test_bounds import *\n"
            "a = Fenced(64).array((16,), np.dtype(np.float32), at_end=True)\nctypes.string_at(a.ctypes.data, 65)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode != 0


@needs_mprotect
def test_bounds() -> None:
    kinds = ["lstm", "gru_before", "projected", "layer_normed", "row_gate", "stacked", "delays", "summary", "sru"]
    run_sweep(f"sweep({kinds}, [5, 17], list(TARGETS)[-2:], [None])\n"
              f"sweep({kinds[:6]}, [19], ['generic'], ['rows', 'lanes'])")


def sweep_rows(lanes: list[int], targets: list[str]) -> None:
    for n in lanes:
        for target in targets:
            made = trace(Dense(n), Input(("batch", 7)))
            sweep_sizes(native(made, TARGETS[target]), [{"batch": b} for b in range(1, 18)])


@needs_mprotect
def test_bounds_of_every_number_of_rows() -> None:
    run_sweep("sweep_rows([6, 20, 41, 70], list(TARGETS))")


@needs_mprotect
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bounds_of_every_width() -> None:
    run_sweep("sweep(list(CELLS), [1, 3, 8, 15, 33, 65], list(TARGETS), [None, 'lanes'])")


# --- padding and old workspaces -------------------------------------------------------------------------------------


def poison(run: Native) -> None:
    """NaN in all of every workspace, padding included."""
    for free in run.kernel.plans.values():
        for made in free:
            for buffer in made.keep:
                whole = buffer
                while isinstance(whole.base, np.ndarray):
                    whole = whole.base
                if buffer.flags.writeable and not any(buffer is a for _, a in made.relaid.values()):
                    whole.view(np.uint8)[...] = 0xff


@pytest.mark.parametrize("kind", CELLS)
def test_nothing_leaks_from_padding(kind: str) -> None:
    made = graph(kind, 13, 7, lengths=True, initial_state=False)
    for run in (native(made), native(made, TARGETS["generic"])):
        for batch, time in ((3, 5), (33, 2), (1, 0)):
            inputs = random_inputs(run.graph, {"batch": batch, "time": time})
            want = run(inputs)
            poison(run)
            for name, got in run(inputs).items():
                np.testing.assert_array_equal(got, want[name])
