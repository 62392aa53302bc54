"""The reference with products of narrower numbers: what kernels in bf16 and TF32 ought to give, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnngraph.ir import Array, Graph, Interpreter, Op, bind_dims
from rnngraph.ir.opdef import round_bf16


def round_tf32(array: Array) -> Array:
    """To the nearest number with 10 bits behind the point of its mantissa, ties to even; held as float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    out: Array = ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).view(np.float32).reshape(np.shape(array))
    return out


NARROW = {"bf16": round_bf16, "tf32": round_tf32}


class Rounded(Interpreter):
    """Computes in float64, and rounds what products multiply: all of them, or those of loops."""

    def __init__(self, dims: dict[str, int], precision: str, *, loops_only: bool) -> None:
        super().__init__(dims, float64=True)
        self.narrow = NARROW[precision]
        self.loops_only = loops_only

    def run_op(self, op: Op) -> None:
        inside = op.parent is not None and op.parent.parent is not None
        if op.name == "matmul" and (inside or not self.loops_only):
            left, right = (self.narrow(self.env[v].astype(np.float32)).astype(np.float64) for v in op.operands)
            self.env[op.results[0]] = left @ right
        else:
            super().run_op(op)


def evaluate_rounded(graph: Graph, inputs: Mapping[str, Array], precision: str, *,
                     loops_only: bool = False) -> dict[str, Array]:
    """The outputs by name."""
    types = dict(zip(graph.input_names, (v.type for v in graph.inputs), strict=True))
    run = Rounded(dict(bind_dims(types, inputs)), precision, loops_only=loops_only)
    args = [inputs[n].astype(run.array_dtype(t.dtype), copy=False) for n, t in types.items()]
    return dict(zip(graph.output_names, run.run_block(graph.block, args), strict=True))
