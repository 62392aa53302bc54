"""Repeated calls: what `NativeKernel.run_into` does for arrays that are as they were, in one native call.

A plan whose sizes have been seen, and whose arrays are all f32, needs nothing of a call but where its arrays lie.
Native code reads that out of the numpy objects (whose layout numpy keeps for extension modules; `offsets` looks it up
and checks it), with their dtype and flags, so that Python has only their shapes to look at.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from functools import cache

import numpy as np

from rnngraph.backends.llvm.pace import Pace
from rnngraph.backends.llvm.plan import Plan
from rnngraph.backends.llvm.pool import Pool, native_calls
from rnngraph.ir import F32, Array

FLOAT = np.dtype(np.float32)
PLAIN = 0x101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED


@cache
def offsets() -> tuple[int, int, int] | None:
    """Bytes from a numpy array's object to its memory's address, dtype and flags; None where they are not found there.

    PyArrayObject_fields: the object's head, char* data, int nd, three pointers, the dtype, int flags.
    """
    head, pointer = object.__basicsize__, ctypes.sizeof(ctypes.c_void_p)
    data, dtype, flags = head, head + 5 * pointer, head + 6 * pointer
    samples: list[Array] = [np.zeros((2, 3), np.float32), np.zeros((4, 4), np.float64)[1:, ::2], np.zeros(3, np.int32)]
    for a in samples:
        found = [ctypes.c_void_p.from_address(id(a) + data).value, ctypes.c_void_p.from_address(id(a) + dtype).value,
                 ctypes.c_int.from_address(id(a) + flags).value & PLAIN]
        plain = 1 * a.flags.c_contiguous + 0x100 * a.flags.aligned
        if found != [a.__array_interface__["data"][0], id(a.dtype), plain]:
            return None
    return data, dtype, flags


class HotCall:
    """Calls with arrays of the shapes of one plan. ``free`` is the kernel's list of plans that wait for a call; where
    threads share one, they are those of ``pool``, while ``pace`` says that it pays."""

    def __init__(self, free: list[Plan], plan: Plan, pool: Pool | None, pace: Pace) -> None:
        self.free = free
        self.shapes = plan.shapes
        self.pool = pool if plan.job.participants > 1 else None
        self.pace = pace
        self.bind, self.call = native_calls()

    def __call__(self, arrays: Sequence[object]) -> list[Array] | None:
        """New outputs; None, with nothing done, when another way must be taken. ``arrays`` are numpy arrays of the
        shapes that the plan is for."""
        try:
            plan = self.free.pop()
        except IndexError:
            return None
        bound = plan.hot or Bound(plan)
        outputs = [np.empty(shape, FLOAT) for shape in self.shapes]
        k = 0
        objects = bound.objects
        for array in arrays:
            objects[k] = id(array)
            k += 1
        for out in outputs:
            objects[k] = id(out)
            k += 1
        done = not self.call(bound.address) if self.pool is None else self.share(plan, bound.address, self.pool)
        self.free.append(plan)
        return outputs if done else None

    def share(self, plan: Plan, address: int, pool: Pool) -> bool:
        """Run on all threads, when they are free and that pays now."""
        if not self.pace.share() or not pool.try_acquire():
            return False
        try:
            if self.bind(address):
                return False
            start = time.perf_counter()
            pool.run(plan.job)
            self.pace.took(time.perf_counter() - start, shared=True)
        finally:
            pool.release()
        return True


class Bound:
    """The words that rg_call reads, of one plan."""

    def __init__(self, plan: Plan) -> None:
        where = offsets()
        assert where is not None
        inputs = len(plan.code.inputs)
        self.slots = np.zeros(inputs + len(plan.shapes), np.int64)
        self.objects = self.slots.data
        base = plan.words.ctypes.data
        patches = [(k if kind == "in" else inputs + k, base + 8 * position, offset)
                   for (kind, k), places in plan.patches for position, offset in places]
        self.patches = np.array(patches, np.int64).reshape(-1, 3)
        self.words = np.array([plan.job.address, self.slots.ctypes.data, inputs, id(FLOAT), *where,
                               self.patches.ctypes.data, len(patches)], np.int64)
        self.address = int(self.words.ctypes.data)
        plan.hot = self


def is_hot(plan: Plan) -> bool:
    """Whether calls of a plan need nothing but its arrays' places."""
    f32 = all(v.type.dtype is F32 for v in (*plan.code.inputs, *plan.code.outputs))
    return (f32 and not plan.given_ends and not plan.arrays.flags
            and not plan.nests.checked and offsets() is not None)


__all__ = ["Bound", "HotCall", "is_hot", "offsets"]
