"""Neighbouring stages as one launch: against the float64 reference, in poisoned memory; mutations; whole streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.codegen.chain import LOOP_STREAMED, ROWS_STREAMED, chains
from rnngraph.backends.cupy.codegen.persistent import misfit
from rnngraph.backends.cupy.kernel import GpuKernel
from rnngraph.backends.cupy.machine import Device
from rnngraph.backends.cupy.nvrtc import binding, build
from rnngraph.backends.cupy.plan import Plan
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import MissingExtraError
from rnngraph.ir import Array, Graph, evaluate
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import ORDERS, SHUFFLED, TOLERANCE, OnGpu, is_wrong, needs_compiler
from tests.backends.llvm.native import error, scheduled
from tests.testing import random_inputs

pytestmark = needs_compiler


def chained(graph: Graph, device: Device | None = None) -> OnGpu:
    """All that can be in a chain is in one."""
    copy, schedule = scheduled(graph)
    for stage in schedule.stages:
        stage.impl = ROWS_STREAMED if not stage.is_scan else "cupy.scan" if misfit(stage) else LOOP_STREAMED
    return OnGpu(copy, GpuKernel(schedule, copy.inputs, copy.outputs, device or ShimDevice()))


def launches(run: OnGpu) -> list[str]:
    """The parts of a call with the sizes of the last one."""
    (plans,) = [free for free in run.kernel.plans.values() if free]
    return [a.name for a in plans[0].actions]


def poison(plan: Plan) -> None:
    """NaN in what launches write; states' starts, sequences and weights are inputs or constants."""
    for action in plan.actions:
        owner = getattr(action.run, "__self__", None)
        for link in getattr(owner, "links", ()):
            for v in link.stage.writes():
                link.values.get(v)[...] = np.nan
            for array in link.left.values():
                if any(array is a for a in link.keep) and array.flags.owndata:
                    array[...] = np.nan


STACKS: dict[str, Callable[[int], nn.Layer]] = {
    "lstms": lambda n: nn.Sequential([nn.LSTM(n, return_sequences=True), nn.LSTM(n), nn.Dense(5)]),
    "grus": lambda n: nn.Sequential([nn.GRU(n, return_sequences=True, reset_after=False),
                                     nn.GRU(n, return_sequences=True), nn.LayerNormalization(), nn.Dense(3)]),
    "directions": lambda n: nn.Sequential([nn.Bidirectional(nn.LSTM(n, return_sequences=True)), nn.Dense(4)]),
    "perceptron": lambda n: nn.Sequential([nn.Dense(n, activation="relu"), nn.LayerNormalization(), nn.SimpleRNN(n),
                                           nn.Dense(4, activation="softmax")]),
}


def check(name: str, units: int, dims: Mapping[str, int], order: int) -> OnGpu:
    """Two calls with the same plan, the second in poisoned memory."""
    run = chained(rg.trace(STACKS[name](units), rg.Input(("batch", "time", 6)), initial_state=name != "perceptron"),
                  ShimDevice(order))
    for seed in range(2):
        inputs = random_inputs(run.graph, dims, seed)
        worst = error(run(inputs), evaluate(run.graph, inputs, float64=True))
        assert worst <= TOLERANCE, f"order {order}: off by {worst:.2e} of the scale with {dict(dims)}"
        for free in run.kernel.plans.values():
            poison(free[0])
    return run


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name: str) -> None:
    for order in ORDERS:
        check(name, 13, {"batch": 2, "time": 1}, order)
    check(name, 13, {"batch": 9, "time": 3}, SHUFFLED)


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("units", [16, 37, 96])
@pytest.mark.parametrize("batch", [1, 2, 8, 17])
def test_more_stacks(name: str, units: int, batch: int) -> None:
    for order in ORDERS:
        check(name, units, {"batch": batch, "time": 2}, order)


def test_a_step_is_one_launch() -> None:
    run = check("lstms", 13, {"batch": 1, "time": 1}, SHUFFLED)
    assert len(launches(run)) == 1


def test_a_copy_cuts_the_launch() -> None:
    """All steps side by side, the batch first, are no view of [time, batch, units]; with one row they are."""
    model = nn.Sequential([nn.LSTM(13, return_sequences=True), nn.Flatten(), nn.Dense(5)])
    for batch, parts in ((3, 3), (1, 1)):
        run = chained(rg.trace(model, rg.Input(("batch", 3, 6)), initial_state=True), ShimDevice(SHUFFLED))
        for seed in range(2):
            inputs = random_inputs(run.graph, {"batch": batch}, seed)
            assert error(run(inputs), evaluate(run.graph, inputs, float64=True)) <= TOLERANCE
        assert len(run.kernel.sources) == 2
        assert run.kernel.sources[0] is run.kernel.sources[1]
        assert len(launches(run)) == parts


MUTANTS = [
    ("rg_grid_sync(arrivals, ++turn);\n        s", "__syncthreads();\n        s"),  # what another block has not written
    ("step == 0 ? a.c0_start", "step == 0 ? a.c0_0"),  # a state that is not there
]


@pytest.mark.parametrize(("old", "new"), MUTANTS)
def test_mutants_are_caught(old: str, new: str) -> None:
    caught = found = 0
    for order in ORDERS:
        device = Mutant(old, new, order)
        run = chained(rg.trace(STACKS["lstms"](13), rg.Input(("batch", "time", 6)), initial_state=True), device)
        found += device.found
        inputs = random_inputs(run.graph, {"batch": 2, "time": 1})
        caught += is_wrong(run, inputs)
    assert found, "the mutation changes nothing: the text is not there"
    assert caught, "no order of the threads shows the defect"


@pytest.mark.parametrize("name", ["lstms", "grus"])
def test_streams(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    layer, given = STACKS[name](12), rg.Input(("batch", "time", 6))
    cpu, gpu = (rg.compile(layer, given, target=target).stream(2) for target in ("cpu", "gpu"))
    x: Array = np.random.default_rng(0).standard_normal((2, 7, 6)).astype(np.float32)
    for t in range(4):
        np.testing.assert_allclose(gpu.step(x[:, t]), cpu.step(x[:, t]), rtol=0, atol=2e-6)
    np.testing.assert_allclose(gpu.feed(x[:, 4:]), cpu.feed(x[:, 4:]), rtol=0, atol=2e-6)
    for state, want in zip(gpu.state.values(), cpu.state.values(), strict=True):
        np.testing.assert_allclose(state, want, rtol=0, atol=2e-6)
    assert len(gpu._program.steps) == 1
    kernel = gpu._program.steps[0].kernel
    assert isinstance(kernel, GpuKernel)
    assert {s.impl for s in kernel.schedule.stages} <= {ROWS_STREAMED, LOOP_STREAMED}
    assert len({source.text for source in kernel.sources}) == 1


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_real_compiler(cell: type[nn.LSTM] | type[nn.GRU], arch: str) -> None:
    """NVRTC builds the step of a network of two layers and a dense one for a GPU without one: nothing is spilled."""
    try:
        binding()
    except MissingExtraError as e:
        pytest.skip(f"no NVRTC: {e}")
    caps = next(c for c in DESCRIBED.values() if c.arch == arch)
    layers = [cell(256, return_sequences=True, kernel_initializer="zeros", recurrent_initializer="zeros")
              for _ in range(2)]
    _, schedule = scheduled(rg.trace(nn.Sequential([*layers, nn.Dense(64)]), rg.Input(("batch", "time", 80))))
    for stage in schedule.stages:
        stage.impl = LOOP_STREAMED if stage.is_scan else ROWS_STREAMED
    (chain,) = chains(schedule, caps.sms, caps.shared)
    built = build(chain.source.text, arch)
    assert built.spilled == 0
    assert [256 * n <= caps.registers for n in built.registers] == [True]
