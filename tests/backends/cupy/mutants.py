"""Kernels with a defect put in, which some order of the threads must show."""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.shim import ShimDevice, ShimModule


class Mutant(ShimDevice):
    """Builds every kernel with one text replaced by another."""

    def __init__(self, old: str, new: str, order: int) -> None:
        super().__init__(order)
        self.old, self.new = old, new
        self.found = 0

    def build(self, source: Source) -> ShimModule:
        self.found += source.text.count(self.old)
        return super().build(Source(source.text.replace(self.old, self.new), source.kernels))
