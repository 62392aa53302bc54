"""What NVRTC makes of the kernels: no spills, registers and shared memory that a block has. It needs no GPU."""

from __future__ import annotations

import pytest

from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.codegen.persistent import PRODUCTS, THREADS, arranged, loop_bytes
from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.backends.cupy.nvrtc import binding, build
from rnngraph.errors import MissingExtraError
from rnngraph.ir import Graph
from tests.backends.llvm.native import scheduled
from tests.backends.llvm.test_images import image_graph
from tests.backends.llvm.test_until import graph as until_graph
from tests.phases.cells import CELLS, graph

GPUS = ("a100", "h100")  # sm_80, sm_90a


@pytest.fixture(autouse=True)
def nvrtc() -> None:
    try:
        binding()
    except MissingExtraError as e:
        pytest.skip(str(e))


def check(made: Graph, gpu: str) -> dict[str, int]:
    """The most registers of a thread, by implementation; AssertionError for what a GPU does not hold."""
    caps, found = DESCRIBED[gpu], dict[str, int]()
    for stage in scheduled(made)[1].stages:
        takes = {"phases": None} | {i: arranged(stage, i, caps.sms, caps.shared) for i in PRODUCTS
                                    if stage.is_scan and not stage.shifts.margins}
        for impl, products in takes.items():
            if impl != "phases" and products is None:
                continue
            built = build(stage_source(stage, products).text, caps.arch)
            assert built.spilled == 0, f"{impl}: {built.spilled} bytes spill"
            assert max(built.registers) * THREADS <= caps.registers
            assert products is None or loop_bytes(stage, products) <= caps.shared
            found[impl] = max(found.get(impl, 0), *built.registers)
    return found


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, gpu: str) -> None:
    assert {"phases", "cupy.loop"} <= set(check(graph(kind, 37, 7), gpu))


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("units", [256, 512, 1024])
@pytest.mark.parametrize("kind", ["lstm", "gru_after", "gru_before"])
def test_sizes(kind: str, units: int, gpu: str) -> None:
    assert "phases" in check(graph(kind, units, 80, recurrent_initializer="zeros"), gpu)


@pytest.mark.parametrize("gpu", GPUS)
def test_images_and_rows_that_end(gpu: str) -> None:
    check(image_graph("gru", (5,), 2, 3, 9, lengths=True), gpu)
    assert "cupy.loop" in check(until_graph(", pad = repeat"), gpu)
