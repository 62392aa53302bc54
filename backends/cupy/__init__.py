"""The GPU backend. Its candidates and constraints (`candidates`) are registered without importing CuPy."""

from __future__ import annotations

from rnngraph.backends.cupy.candidates import implementations
from rnngraph.backends.registry import BuildContext, Implementation, Kernel
from rnngraph.errors import CompileError
from rnngraph.ir import Graph
from rnngraph.runtime.segments import Segment


class CupyBackend:
    """See the module."""

    name = "cupy"

    def implementations(self) -> tuple[Implementation, ...]:
        return implementations()

    def build(self, graph: Graph, segment: Segment, context: BuildContext) -> Kernel:
        op = segment.ops[0]
        raise CompileError(f"the cupy backend has no kernels in this version; op {op.name!r} of layer {op.layer!r} "
                           "cannot be built for the GPU; compile with target='cpu'")


def backend() -> CupyBackend:
    """The factory that the table of backends names."""
    return CupyBackend()
