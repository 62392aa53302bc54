"""Graphs run by the GPU backend alone on the stand-in, without passes or selection."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from rnngraph.backends.cupy.codegen.persistent import PRODUCTS, misfit
from rnngraph.backends.cupy.kernel import GpuKernel
from rnngraph.backends.cupy.machine import Device
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError
from rnngraph.ir import Array, Graph, bind_dims, evaluate
from tests.backends.llvm.native import error, scheduled
from tests.testing import random_inputs

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None,
                                    reason="g++ is not installed: the stand-in for a GPU builds its kernels with it")
FORWARDS, BACKWARDS, SHUFFLED = 0, 1, 5
ORDERS = (FORWARDS, BACKWARDS, SHUFFLED)
TOLERANCE = 1e-5  # of the largest number of an output


@dataclass(frozen=True)
class OnGpu:
    """A graph as one kernel of the GPU backend."""

    graph: Graph
    kernel: GpuKernel

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        types = dict(zip(self.graph.input_names, (v.type for v in self.graph.inputs), strict=True))
        arrays = [inputs[n] for n in self.graph.input_names]
        return dict(zip(self.graph.output_names, self.kernel.run(bind_dims(types, inputs), arrays), strict=True))


def on_gpu(graph: str | Graph, device: Device | None = None, impl: str = "cupy.scan") -> OnGpu:
    """Compile all of a graph for the GPU; with that of a loop every scan that can be is one kernel."""
    copy, schedule = scheduled(graph)
    for stage in schedule.stages:
        stage.impl = "" if impl in PRODUCTS and misfit(stage) else impl
    return OnGpu(copy, GpuKernel(schedule, copy.inputs, copy.outputs, device or ShimDevice()))


def assert_on_gpu(graph: str | Graph, dims: Mapping[str, int], *, orders: tuple[int, ...] = ORDERS,
                  seed: int = 0, impl: str = "cupy.scan") -> None:
    """The result equals the float64 reference's, to `TOLERANCE`, in every order of the threads; twice (the second call
    reuses the plan)."""
    for order in orders:
        run = on_gpu(graph, ShimDevice(order), impl)
        for k in range(2):
            inputs = random_inputs(run.graph, dims, seed + k)
            worst = error(run(inputs), evaluate(run.graph, inputs, float64=True))
            assert worst <= TOLERANCE, f"order {order}: off by {worst:.2e} of the scale with {dict(dims)}"


def is_wrong(run: OnGpu, inputs: Mapping[str, Array]) -> bool:
    """Whether a mutated kernel gives other numbers, NaN, or threads that wait for ever."""
    try:
        return error(run(inputs), evaluate(run.graph, inputs, float64=True)) > TOLERANCE
    except (AssertionError, CompileError):
        return True
