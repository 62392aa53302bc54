"""All ops by name: the table that the parser, the verifier's tests and the backends' lowerings go by."""

from __future__ import annotations

from rnngraph.ir import grid_ops, index_ops, math_ops, ops, order_ops, pool_ops, size_ops
from rnngraph.ir.opdef import OpDef
from rnngraph.ir.rnn import RNN
from rnngraph.ir.scan import SCAN

MODULES = (ops, math_ops, order_ops, index_ops, grid_ops, pool_ops, size_ops)

OPS: dict[str, OpDef] = {
    d.name: d for m in MODULES for d in vars(m).values() if isinstance(d, OpDef)
} | {d.name: d for d in (SCAN, RNN)}
