"""The GPU backend. It registers its candidates and constraints without importing CuPy; see `rnngraph.backends.cupy.candidates`."""

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
        raise CompileError(f"the cupy backend has no kernels in this version; op {segment.ops[0].name!r} of layer "
                           f"{segment.ops[0].layer!r} cannot be built for the GPU; compile with target='cpu'")


def backend() -> CupyBackend:
    """The factory that the table of backends names."""
    return CupyBackend()
