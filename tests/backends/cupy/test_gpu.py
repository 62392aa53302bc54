"""The code for a real GPU, run with a double of CuPy: memory, streams and their order, graphs, launches, errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnngraph.backends.cupy import graphs
from rnngraph.backends.cupy.gpu import CupyDevice
from rnngraph.backends.cupy.nvrtc import cubin
from rnngraph.errors import CompileError, DeviceError
from rnngraph.ir import Array, bind_dims, evaluate
from tests.backends.cupy.fake_cupy import Namespace, installed, nvrtc
from tests.backends.cupy.fake_cupy.cuda import CUDADriverError, Function, OutOfMemoryError
from tests.backends.cupy.fake_cupy.stream import CUDARuntimeError, Stream
from tests.backends.cupy.on_shim import TOLERANCE, OnGpu, needs_compiler, on_gpu
from tests.backends.llvm.native import error
from tests.phases.cells import graph
from tests.testing import random_inputs

pytestmark = needs_compiler
DIMS = {"batch": 3, "time": 4}


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Namespace:
    return installed(monkeypatch)


def on_device(run: OnGpu, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of the device in and out."""
    types = dict(zip(run.graph.input_names, (v.type for v in run.graph.inputs), strict=True))
    outputs = run.kernel.run_there(bind_dims(types, inputs), [inputs[n] for n in run.graph.input_names])
    return dict(zip(run.graph.output_names, outputs, strict=True))


def compare(run: OnGpu, got: Mapping[str, Any], inputs: Mapping[str, Array]) -> None:
    """With the reference in float64."""
    arrays = {n: a.get() for n, a in got.items()}
    assert error(arrays, evaluate(run.graph, inputs, float64=True)) <= TOLERANCE


@pytest.mark.parametrize(("impl", "lengths"), [("cupy.scan", False), ("cupy.loop", True)])
def test_arrays_in_and_out(cupy: Namespace, impl: str, lengths: bool) -> None:
    """Calls with a plan's first launches, its capture and its graph: numpy or CuPy in."""
    run = on_gpu(graph("lstm", 12, 5, lengths=lengths), CupyDevice(), impl)
    for k in range(4):
        inputs = random_inputs(run.graph, DIMS, k)
        given = inputs if k == 1 else {n: cupy.array(a) for n, a in inputs.items()}
        compare(run, on_device(run, given), inputs)
    assert "a CUDA graph" in run.kernel.artifacts()["launches.txt"]


def test_results_on_the_host(cupy: Namespace) -> None:
    run = on_gpu(graph("lstm", 12, 5), CupyDevice())
    for k in range(3):
        inputs = random_inputs(run.graph, DIMS, k)
        found = run.kernel.run(DIMS, [inputs[n] for n in run.graph.input_names])
        got = dict(zip(run.graph.output_names, found, strict=True))
        assert error(got, evaluate(run.graph, inputs, float64=True)) <= TOLERANCE
        assert all(type(a) is np.ndarray for a in found)


def test_the_callers_stream(cupy: Namespace) -> None:
    """What the caller's stream writes before a call is seen, and what it writes after it is not, though nobody waits;
    the results are the caller's own."""
    run, user = on_gpu(graph("lstm", 12, 5), CupyDevice()), cupy.cuda.Stream(non_blocking=True)
    with user:
        inputs = random_inputs(run.graph, DIMS, 0)
        given = {n: cupy.zeros(a.shape, a.dtype) for n, a in inputs.items()}
        results = []
        for _ in range(3):
            for n, a in inputs.items():
                given[n][...] = cupy.array(a)
            results.append(on_device(run, given))
            for a in given.values():
                a[...] = 7.0
        assert not user.done
        for got in results:
            compare(run, got, inputs)
        first = results[0]["y"]
        first[...] = 0.0
        compare(run, results[1], inputs)


def test_the_order_is_needed(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its events the double shows what `test_the_callers_stream` tests."""
    run = on_gpu(graph("lstm", 12, 5), CupyDevice())
    inputs = random_inputs(run.graph, DIMS, 0)
    monkeypatch.setattr(Stream, "wait_event", lambda self, event: None)
    got = on_device(run, {n: cupy.array(a) for n, a in inputs.items()})
    with pytest.raises(AssertionError, match="NaN in output y"):
        compare(run, got, inputs)


def test_a_graph_is_one_launch(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    run, launched = on_gpu(graph("lstm", 12, 5), CupyDevice()), list[str]()
    call = Function.__call__

    def counted(self: Function, *args: Any, **kwargs: Any) -> None:
        launched.append(self.name)
        call(self, *args, **kwargs)

    monkeypatch.setattr(Function, "__call__", counted)
    inputs = random_inputs(run.graph, DIMS)
    counts = []
    for _ in range(4):
        on_device(run, {n: cupy.array(a) for n, a in inputs.items()})
        counts.append(len(launched))
    assert counts[1] == 2 * counts[0], "launched, then captured"
    assert 0 < counts[3] == counts[2] == counts[1], "no launches but those of the graph"


def test_a_capture_that_fails(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = on_gpu(graph("lstm", 12, 5), CupyDevice())

    def refused(self: Stream) -> None:
        self.nodes = None
        raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")

    monkeypatch.setattr(Stream, "end_capture", refused)
    for k in range(3):
        inputs = random_inputs(run.graph, DIMS, k)
        compare(run, on_device(run, {n: cupy.array(a) for n, a in inputs.items()}), inputs)
    assert "could not be captured: cudaErrorStreamCaptureInvalidated" in run.kernel.artifacts()["launches.txt"]


def test_too_much_for_a_graph(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_LAUNCHES", 3)
    run = on_gpu(graph("lstm", 12, 5), CupyDevice())
    inputs = random_inputs(run.graph, DIMS)
    for _ in range(2):
        compare(run, on_device(run, {n: cupy.array(a) for n, a in inputs.items()}), inputs)
    assert "launches are more than 3" in run.kernel.artifacts()["launches.txt"]


def test_a_grid_that_does_not_fit(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy would shrink it with a warning, and its blocks would wait for those that are not there."""
    run = on_gpu(graph("lstm", 12, 5, lengths=True), CupyDevice(), "cupy.loop")
    monkeypatch.setattr(cupy.cuda.driver, "occupancyMaxActiveBlocksPerMultiprocessor", lambda *args: 0)
    with pytest.raises(CompileError, match=r"layer '.*lstm.*': cupy: kernel loop needs \d+ blocks at the same time, "
                                           "the GPU holds 0"):
        on_device(run, random_inputs(run.graph, DIMS))


@pytest.mark.parametrize(("raised", "said"), [
    (CUDADriverError("CUDA_ERROR_LAUNCH_FAILED"), "the GPU has failed: CUDA_ERROR_LAUNCH_FAILED"),
    (OutOfMemoryError("Out of memory allocating 9 bytes"), "memory does not suffice: .*smaller batch"),
])
def test_failures_name_the_layer(cupy: Namespace, monkeypatch: pytest.MonkeyPatch, raised: Exception,
                                 said: str) -> None:
    run = on_gpu(graph("lstm", 12, 5), CupyDevice())
    inputs = random_inputs(run.graph, DIMS)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise raised

    monkeypatch.setattr(Function, "__call__", fails)
    with pytest.raises(DeviceError, match=f"layer '.*lstm.*': cupy: .*{said}"):
        on_device(run, inputs)


def test_no_driver(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**options: Any) -> None:
        raise CUDARuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(cupy.cuda, "Stream", fails)
    with pytest.raises(DeviceError, match="cannot be used: cudaErrorInsufficientDriver; check that `nvidia-smi`"):
        CupyDevice()


def test_cubins_are_kept(cupy: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the compile cache, by source, architecture, options and NVRTC's version; a damaged file is compiled again."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RNNGRAPH_CACHE", str(folder))

    def compiled(text: str, arch: str = "sm_90a") -> int:
        """How many compilations that took, in a process that knows nothing."""
        cubin.cache_clear()
        before = len(nvrtc.compiled)
        assert cubin(text, arch) == text.encode()
        return len(nvrtc.compiled) - before

    assert [compiled("// one"), compiled("// one"), compiled("// two")] == [1, 0, 1]
    (path, *_) = sorted(folder.glob("*.cubin"), key=lambda p: p.stat().st_mtime_ns)
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert [compiled("// one"), compiled("// two")] == [1, 0]
    monkeypatch.setattr(nvrtc, "getVersion", lambda: (13, 1))
    assert compiled("// one") == 1
    cubin.cache_clear()
