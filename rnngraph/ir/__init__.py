"""The IR: typed SSA dataflow in which time is a ``scan``. This is the package's door; import from here."""

from __future__ import annotations

from rnngraph.ir.builder import Builder, build_graph, make_op
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.evaluate import Interpreter, bind_dims, evaluate
from rnngraph.ir.opdef import Array, Attrs, Cost, Literal, OpDef
from rnngraph.ir.rnn import RNN, Rnn, RnnAttrs, expand_rnn
from rnngraph.ir.scan import SCAN, Scan, ScanAttrs
from rnngraph.ir.table import OPS
from rnngraph.ir.text import parse, to_text
from rnngraph.ir.types import (
    BF16,
    BOOL,
    DTYPES,
    F16,
    F32,
    F64,
    I8,
    I32,
    I64,
    Dim,
    Dims,
    DType,
    Shape,
    TensorType,
    numel,
    resolve,
)
from rnngraph.ir.verify import verify

__all__ = [
    "BF16",
    "BOOL",
    "DTYPES",
    "F16",
    "F32",
    "F64",
    "I8",
    "I32",
    "I64",
    "OPS",
    "RNN",
    "SCAN",
    "Array",
    "Attrs",
    "Block",
    "Builder",
    "Cost",
    "DType",
    "Dim",
    "Dims",
    "Graph",
    "Interpreter",
    "Literal",
    "Op",
    "OpDef",
    "Rnn",
    "RnnAttrs",
    "Scan",
    "ScanAttrs",
    "Shape",
    "TensorType",
    "Value",
    "bind_dims",
    "build_graph",
    "evaluate",
    "expand_rnn",
    "make_op",
    "numel",
    "parse",
    "resolve",
    "to_text",
    "verify",
]
