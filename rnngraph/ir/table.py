"""All ops by name: the table that the parser, the verifier's tests and the backends' lowerings go by."""

from __future__ import annotations

from rnngraph.ir import grid_ops, ops
from rnngraph.ir.opdef import OpDef
from rnngraph.ir.rnn import RNN
from rnngraph.ir.scan import SCAN

OPS: dict[str, OpDef] = {
    d.name: d for d in (*(v for m in (ops, grid_ops) for v in vars(m).values() if isinstance(v, OpDef)), SCAN, RNN)
}
