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
        """Compile one segment; CompileError when the pipeline has not scheduled it, or kernels do not build."""
        from rnngraph.backends.cupy.device import open_device
        from rnngraph.backends.cupy.kernel import GpuKernel

        schedule = getattr(context.artifacts.get("schedule"), "by_op", {}).get(segment.ops[0])
        if schedule is None:
            raise CompileError("cupy: the segment has no schedule; a pipeline for the gpu ends with "
                               "select-implementation,schedule-phases")
        return GpuKernel(schedule, segment.inputs, segment.outputs, open_device())


def backend() -> CupyBackend:
    """The factory that the table of backends names."""
    return CupyBackend()
