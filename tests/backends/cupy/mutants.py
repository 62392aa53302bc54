"""Kernels with a defect put in, which some order of the threads must show."""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.shim import ShimDevice, ShimModule


class Mutant(ShimDevice):
    """Builds every kernel with one text replaced by another: everywhere, or the occurrence ``which`` alone."""

    def __init__(self, old: str, new: str, order: int, which: int | None = None) -> None:
        super().__init__(order)
        self.old, self.new, self.which = old, new, which
        self.found = 0

    def build(self, source: Source) -> ShimModule:
        self.found += source.text.count(self.old)
        if self.which is None:
            return super().build(Source(source.text.replace(self.old, self.new), source.kernels))
        pieces = source.text.split(self.old)
        at = self.which + 1
        text = self.old.join(pieces[:at]) + self.new + self.old.join(pieces[at:]) if at < len(pieces) else source.text
        return super().build(Source(text, source.kernels))
