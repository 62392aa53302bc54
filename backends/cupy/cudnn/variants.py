"""cuDNN's implementations of an rnn node: an algorithm and a precision each, and what the algorithms take, as data.

What an algorithm takes was measured on the descriptors of cuDNN 9.19 (status 3000 for what it does not), and for
variable lengths is what NVIDIA's table of recurrent features says. A size that an algorithm cannot do shows up only
when it is built for a GPU: no such limit is documented, so none stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from rnngraph.backends.cupy.cudnn.abi import Algorithm
from rnngraph.ir import BF16, F16, F32, F64, DType

PRECISIONS = ("f32", "tf32", "bf16")  # of products of f32 nodes; nodes of other dtypes compute as cuDNN does for them


@dataclass(frozen=True, slots=True)
class Takes:
    """The dtypes of an algorithm, and whether it does projections and rows of different lengths."""

    algorithm: Algorithm
    dtypes: tuple[DType, ...]
    projection: bool = False
    lengths: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One implementation: what it is called among cuDNN's, what the algorithm takes, the precision of f32 nodes."""

    label: str
    takes: Takes
    precision: str

    @property
    def name(self) -> str:
        return ".".join(("cupy.cudnn", self.label, *(() if self.precision == "f32" else (self.precision,))))

    def storage(self, dtype: DType) -> DType:
        """What a node's numbers are stored in while cuDNN runs."""
        return BF16 if self.precision == "bf16" else dtype


ALGORITHMS: MappingProxyType[str, Takes] = MappingProxyType({
    "standard": Takes(Algorithm.STANDARD, (F32, F16, BF16, F64), projection=True, lengths=True),
    "persist_static": Takes(Algorithm.PERSIST_STATIC, (F32, F16, BF16)),
    "persist_dynamic": Takes(Algorithm.PERSIST_DYNAMIC, (F32, F16, BF16, F64)),
    "small_h": Takes(Algorithm.PERSIST_STATIC_SMALL_H, (F32, F16, BF16)),
})
VARIANTS: MappingProxyType[str, Variant] = MappingProxyType({v.name: v for v in (
    Variant(label, takes, precision) for precision in PRECISIONS for label, takes in ALGORITHMS.items())})

__all__ = ["ALGORITHMS", "PRECISIONS", "VARIANTS", "Takes", "Variant"]
