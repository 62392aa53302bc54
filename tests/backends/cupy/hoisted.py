"""Loops as the pipeline makes them, and what NVRTC makes of their kernels."""

from __future__ import annotations

import re

import pytest

from rnngraph.backends.cupy import nvrtc
from rnngraph.backends.cupy.caps import DeviceCaps
from rnngraph.backends.cupy.codegen.persistent import arranged
from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.errors import MissingExtraError
from rnngraph.passes import run as run_passes
from rnngraph.phases.stages import Stage
from rnngraph.rewrite import PassContext
from tests.backends.llvm.native import scheduled
from tests.phases.cells import graph


def loop(kind: str, units: int) -> Stage:
    """A layer's loop: the projection of the input stands in front of it."""
    made = graph(kind, units, 64, recurrent_initializer="zeros").clone()
    run_passes("expand-rnn,canonicalize,fuse-gate-matmuls,hoist-invariant,hoist-input-projection,cse,dce", made,
               PassContext())
    _, schedule = scheduled(made)
    (stage,) = (s for s in schedule.stages if s.is_scan)
    return stage


def assert_no_memory_for_registers(stage: Stage, impl: str, caps: DeviceCaps) -> None:
    """The loop's kernel fits, nothing spills, and its arrays of weights and sums are registers. Skips without NVRTC."""
    try:
        nvrtc.binding()
    except MissingExtraError as e:
        pytest.skip(str(e))
    products = arranged(stage, impl, caps.sms, caps.shared)
    assert products is not None
    built = nvrtc.build(stage_source(stage, products).text, caps.arch)
    assert built.spilled == 0
    assert set(re.findall(r"(\d+) bytes stack frame", built.log)) == {"0"}
    assert all(256 * n <= caps.registers for n in built.registers)
