"""An ``rnn`` node as cuDNN's descriptors: made, checked against the weight space's formula, and run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rnngraph.backends.cupy.cudnn.abi import (
    FORWARD_INFERENCE,
    LINEAR_INPUT,
    PADDED_IO,
    Algorithm,
    BiasMode,
    DataLayout,
    DataType,
    Direction,
    MathType,
    Mode,
    P,
    call,
    ints,
)
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, F16, F32, F64, DType, RnnAttrs

MODES = {"lstm": Mode.LSTM, "gru": Mode.GRU, "rnn_tanh": Mode.RNN_TANH, "rnn_relu": Mode.RNN_RELU}
DTYPES = {F32: DataType.FLOAT, F64: DataType.DOUBLE, F16: DataType.HALF, BF16: DataType.BFLOAT16}
MATH = {F64: DataType.DOUBLE}  # what sums are kept in; f32 for every other type


class Handle:
    """Owns one cuDNN object and destroys it with itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pointer = P()
        call(f"cudnnCreate{kind}", ctypes.byref(self.pointer))

    def __del__(self) -> None:
        if self.pointer:
            call(f"cudnnDestroy{self.kind}", self.pointer)
            self.pointer = P()


def describe(attrs: RnnAttrs, inputs: int, dtype: DType, algorithm: Algorithm, *, tf32: bool = False) -> Handle:
    """The network's descriptor; CudnnError, `not_supported`, for what the algorithm does not do. f32 is true f32
    unless ``tf32``."""
    made = Handle("RNNDescriptor")
    math = MathType.DEFAULT if tf32 or dtype is not F32 else MathType.FMA
    call("cudnnSetRNNDescriptor_v8", made.pointer, algorithm, MODES[attrs.mode], BiasMode.DOUBLE,
         Direction.BIDIRECTIONAL if len(attrs.reverses) == 2 else Direction.UNIDIRECTIONAL, LINEAR_INPUT,
         DTYPES[dtype], MATH.get(dtype, DataType.FLOAT), math, inputs, attrs.hidden, attrs.features, attrs.num_layers,
         None, PADDED_IO)
    return made


def sequence(dtype: DType, steps: int, batch: int, features: int, lengths: tuple[int, ...]) -> Handle:
    """The descriptor of [steps, batch, features], rows padded with zeros to their end."""
    made = Handle("RNNDataDescriptor")
    zero = (ctypes.c_double if dtype is F64 else ctypes.c_float)(0.0)
    call("cudnnSetRNNDataDescriptor", made.pointer, DTYPES[dtype], DataLayout.SEQ_MAJOR_UNPACKED, steps, batch,
         features, ints(*lengths), ctypes.byref(zero))
    return made


def states(dtype: DType, count: int, batch: int, features: int) -> Handle:
    """The descriptor of [layers * directions, batch, features]."""
    made = Handle("TensorDescriptor")
    call("cudnnSetTensorNdDescriptor", made.pointer, DTYPES[dtype], 3, ints(count, batch, features),
         ints(batch * features, features, 1))
    return made


@dataclass(frozen=True, slots=True)
class Buffers:
    """Addresses on the device of a call: x, y, the states in and out (0: none), lengths as i32, weights."""

    x: int
    y: int
    h0: int
    h_n: int
    c0: int
    c_n: int
    lengths: int
    weights: int


class Network:
    """A node for given sizes. ``room(bytes)`` gives device memory that lives as long as the network."""

    def __init__(self, space: WeightSpace, dtype: DType, algorithm: Algorithm, steps: int, batch: int,
                 lengths: tuple[int, ...], stream: int, room: Callable[[int], int], *, tf32: bool = False) -> None:
        a = space.attrs
        self.space, self.dtype = space, dtype
        self.handle = Handle("")
        call("cudnnSetStream", self.handle.pointer, stream)
        self.rnn = describe(a, space.inputs, dtype, algorithm, tf32=tf32)
        count, directions = space.pseudo_layers, len(a.reverses)
        self.x = sequence(dtype, steps, batch, space.inputs, lengths)
        self.y = sequence(dtype, steps, batch, a.features * directions, lengths)
        self.h = states(dtype, count, batch, a.features)
        self.c = states(dtype, count, batch, a.hidden)
        if algorithm is Algorithm.PERSIST_DYNAMIC:
            call("cudnnBuildRNNDynamic", self.handle.pointer, self.rnn.pointer, batch)
        work, reserve = ctypes.c_size_t(), ctypes.c_size_t()
        call("cudnnGetRNNTempSpaceSizes", self.handle.pointer, self.rnn.pointer, FORWARD_INFERENCE, self.x.pointer,
             ctypes.byref(work), ctypes.byref(reserve))
        self.work_bytes, self.work = work.value, room(work.value) if work.value else 0

    def check(self, weights: int) -> None:
        """CompileError when this version of cuDNN keeps a gate elsewhere than `WeightSpace` says."""
        size, itemsize = ctypes.c_size_t(), self.dtype.itemsize
        call("cudnnGetRNNWeightSpaceSize", self.handle.pointer, self.rnn.pointer, ctypes.byref(size))
        if size.value < self.space.size * itemsize:
            raise CompileError(f"cudnn: expected at least {self.space.size * itemsize} bytes of weights, got "
                               f"{size.value}")
        matrix, bias = Handle("TensorDescriptor"), Handle("TensorDescriptor")
        for part in self.space.parts():
            at, bias_at = P(), P()
            call("cudnnGetRNNWeightParams", self.handle.pointer, self.rnn.pointer, part.pseudo, size.value, weights,
                 part.linear, matrix.pointer, ctypes.byref(at), bias.pointer, ctypes.byref(bias_at))
            _expect(part, "matrix", (at.value or 0) - weights, part.matrix * itemsize)
            if part.bias is not None:
                _expect(part, "bias", (bias_at.value or 0) - weights, part.bias * itemsize)

    def run(self, b: Buffers) -> None:
        """Start the whole network on the stream."""
        call("cudnnRNNForward", self.handle.pointer, self.rnn.pointer, FORWARD_INFERENCE, b.lengths, self.x.pointer,
             b.x, self.y.pointer, b.y, self.h.pointer, b.h0, b.h_n, self.c.pointer, b.c0, b.c_n,
             self.space.size * self.dtype.itemsize,
             b.weights, self.work_bytes, self.work, 0, None)


def _expect(part: Any, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise CompileError(f"cudnn: the {what} of pseudo-layer {part.pseudo}, linear layer {part.linear} lies at byte "
                           f"{got} of the weight space, expected {expected}; this version orders weights otherwise")


__all__ = ["Buffers", "Handle", "Network", "describe", "sequence", "states"]
