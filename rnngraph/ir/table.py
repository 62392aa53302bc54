"""All ops by name: the table that the parser, the verifier's tests and the backends' lowerings go by."""

from __future__ import annotations

from rnngraph.ir import ops
from rnngraph.ir.opdef import OpDef
from rnngraph.ir.rnn import RNN
from rnngraph.ir.scan import SCAN

OPS: dict[str, OpDef] = {
    d.name: d for d in (*(v for v in vars(ops).values() if isinstance(v, OpDef)), SCAN, RNN)
}
