"""Weights of 8 bits without a sign, for an oracle that is exact on every CPU.

ONNX Runtime multiplies u8 by i8 in pairs whose sums it holds within 16 bits where the CPU has no better instruction
(AVX2 without VNNI). Of u8 by u8 it is exact. i8 weights and zero points, each 128 larger, are the same numbers as u8.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

OPERANDS: Final = {"DynamicQuantizeLSTM": (1, 2, 9, 11), "MatMulInteger": (1, 3), "ConvInteger": (1, 3)}


def unsigned(data: bytes) -> bytes:
    """The model with its i8 weights as u8; those without a zero point stay."""
    model = onnx.load_from_string(data)
    tensors = {t.name: t for t in model.graph.initializer}
    tensors |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    names = {node.input[at] for node in model.graph.node for at in OPERANDS.get(node.op_type, ())
             if len(node.input) > max(OPERANDS[node.op_type])}
    for name in names & tensors.keys():
        array = numpy_helper.to_array(tensors[name])
        if array.dtype == np.int8:
            tensors[name].CopyFrom(numpy_helper.from_array((array.astype(np.int16) + 128).astype(np.uint8),
                                                           tensors[name].name))
    return bytes(model.SerializeToString())
