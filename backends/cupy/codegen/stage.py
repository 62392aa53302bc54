"""A stage as CUDA C: its arguments and one kernel per phase."""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.backends.cupy.codegen.arguments import struct_text
from rnngraph.backends.cupy.codegen.expressions import HELPERS
from rnngraph.backends.cupy.codegen.persistent import LOOP, loop_text
from rnngraph.backends.cupy.codegen.phase import PhaseSource, reducers
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.phases.stages import Stage

NARROW = "narrow"  # the kernel that makes left sides of products bf16
NARROW_TEXT = """
RG_KERNEL narrow(const float* from, rg_bf16* to, int rows, int k, long long stride) {
    long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (at < rows * (long long)k) to[at] = rg_to_bf16(from[at / k * stride + at % k]);
}
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of CUDA C and the kernels in it."""

    text: str
    kernels: tuple[str, ...]


def stage_source(stage: Stage, products: Products | None = None) -> Source:
    """A kernel for each phase; or, with ``products``, one for the whole loop. Equal stages have equal text."""
    head = ['#include "port.h"\n', HELPERS, reducers(), struct_text(stage)]
    if products is not None:
        return Source("\n".join([*head, loop_text(stage, products)]), (LOOP,))
    phases = [PhaseSource(stage, k) for k in range(len(stage.partition.phases))]
    names = tuple(f"phase{p.index}" for p in phases)
    if stage.precision == "bf16":
        head, names = [*head, NARROW_TEXT], (NARROW, *names)
    return Source("\n".join([*head, *(p.text() for p in phases)]), names)


__all__ = ["NARROW", "Source", "stage_source"]
