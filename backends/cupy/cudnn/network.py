"""An ``rnn`` node as cuDNN's descriptors: made, checked against the weight space's formula, and run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any, Protocol

import numpy as np

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
    function,
    ints,
)
from rnngraph.backends.cupy.cudnn.setting import Arrays, Setting
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, F16, F32, F64, Array, DType, RnnAttrs

MODES = {"lstm": Mode.LSTM, "gru": Mode.GRU, "rnn_tanh": Mode.RNN_TANH, "rnn_relu": Mode.RNN_RELU}
DTYPES = {F32: DataType.FLOAT, F64: DataType.DOUBLE, F16: DataType.HALF, BF16: DataType.BFLOAT16}
MATH = {F64: DataType.DOUBLE}  # what sums are kept in; f32 for every other type


class Handle:
    """Owns one descriptor and destroys it with itself."""

    def __init__(self, kind: str) -> None:
        self.pointer = P()
        self.destroy = function(f"cudnnDestroy{kind}")  # at exit it can no longer be looked for
        call(f"cudnnCreate{kind}", ctypes.byref(self.pointer))

    def __del__(self) -> None:
        if self.pointer:
            self.destroy(self.pointer)
            self.pointer = P()


class Session:
    """cuDNN's context for a stream; ``lock``: what uses it takes turns. It lasts as long as the process: when that
    ends, the driver may be gone before it."""

    def __init__(self, stream: int) -> None:
        self.pointer = P()
        self.lock = Lock()
        call("cudnnCreate", ctypes.byref(self.pointer))
        call("cudnnSetStream", self.pointer, stream)


@cache
def session(stream: int) -> Session:
    """The one of a stream, made once."""
    return Session(stream)


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


def set_sequence(made: Handle, dtype: DType, steps: int, batch: int, features: int, lengths: tuple[int, ...], *,
                 batch_major: bool = False) -> None:
    """Make it the descriptor of [steps, batch, features], or [batch, steps, features], rows padded with zeros to their
    end."""
    zero = (ctypes.c_double if dtype is F64 else ctypes.c_float)(0.0)
    layout = DataLayout.BATCH_MAJOR_UNPACKED if batch_major else DataLayout.SEQ_MAJOR_UNPACKED
    call("cudnnSetRNNDataDescriptor", made.pointer, DTYPES[dtype], layout, steps, batch, features, ints(*lengths),
         ctypes.byref(zero))


def states(dtype: DType, count: int, batch: int, features: int) -> Handle:
    """The descriptor of [layers * directions, batch, features]."""
    made = Handle("TensorDescriptor")
    call("cudnnSetTensorNdDescriptor", made.pointer, DTYPES[dtype], 3, ints(count, batch, features),
         ints(batch * features, features, 1))
    return made


class Memory(Protocol):
    """What a network asks of the device that it runs on."""

    @property
    def xp(self) -> Any:
        """The namespace of its arrays."""

    def address(self, array: Array) -> int:
        """Of the first element."""


class Network:
    """A setting on its memory. CudnnError, `not_supported`, for what the algorithm does not do; CompileError when this
    version of cuDNN keeps a gate elsewhere than `WeightSpace` says."""

    def __init__(self, setting: Setting, arrays: Arrays, weights: Array, device: Memory, stream: int) -> None:
        s, a = setting, setting.space.attrs
        self.setting, self.arrays, self.device = setting, arrays, device
        self.session = session(stream)
        self.rnn = describe(a, s.space.inputs, s.dtype, s.algorithm, tf32=s.tf32)
        self.x, self.y = Handle("RNNDataDescriptor"), Handle("RNNDataDescriptor")
        self.full = (s.steps,) * s.batch
        self.lengths = self.full
        self.set_lengths(self.full)
        count = s.space.pseudo_layers
        self.h = states(s.dtype, count, s.batch, a.features)
        self.c = states(s.dtype, count, s.batch, a.hidden)
        with self.session.lock:
            if s.algorithm is Algorithm.PERSIST_DYNAMIC:
                call("cudnnBuildRNNDynamic", self.session.pointer, self.rnn.pointer, s.batch)
            self.weights = self.upload(weights)
            self.check(device.address(self.weights))
            self.work_bytes = self.workspace()
        self.work: Array | None = device.xp.empty(self.work_bytes, np.uint8) if self.work_bytes else None

    def set_lengths(self, lengths: tuple[int, ...]) -> None:
        """cuDNN reads lengths on the host, from the descriptors."""
        s, a = self.setting, self.setting.space.attrs
        features = a.features * len(a.reverses)
        set_sequence(self.x, s.dtype, s.steps, s.batch, s.space.inputs, lengths, batch_major=s.batch_major)
        set_sequence(self.y, s.dtype, s.steps, s.batch, features, lengths, batch_major=s.batch_major)
        self.lengths = lengths

    def workspace(self) -> int:
        """The bytes that a call needs; rows that end early need no more."""
        work, reserve = ctypes.c_size_t(), ctypes.c_size_t()
        call("cudnnGetRNNTempSpaceSizes", self.session.pointer, self.rnn.pointer, FORWARD_INFERENCE, self.x.pointer,
             ctypes.byref(work), ctypes.byref(reserve))
        return work.value

    def upload(self, weights: Array) -> Array:
        """The weights in as much memory as cuDNN asks for."""
        size = ctypes.c_size_t()
        call("cudnnGetRNNWeightSpaceSize", self.session.pointer, self.rnn.pointer, ctypes.byref(size))
        if size.value < weights.nbytes:
            raise CompileError(f"cudnn: expected at least {weights.nbytes} bytes of weights, got {size.value}")
        out: Array = self.device.xp.zeros(size.value, np.uint8)
        out[: weights.nbytes] = self.device.xp.asarray(weights.view(np.uint8))
        return out

    def check(self, weights: int) -> None:
        """Every address in the weight space against the formula."""
        itemsize = self.setting.dtype.itemsize
        matrix, bias = Handle("TensorDescriptor"), Handle("TensorDescriptor")
        for part in self.setting.space.parts():
            at, bias_at = P(), P()
            call("cudnnGetRNNWeightParams", self.session.pointer, self.rnn.pointer, part.pseudo, self.weights.nbytes,
                 weights, part.linear, matrix.pointer, ctypes.byref(at), bias.pointer, ctypes.byref(bias_at))
            _expect(part, "matrix", (at.value or 0) - weights, part.matrix * itemsize)
            if part.bias is not None:
                _expect(part, "bias", (bias_at.value or 0) - weights, part.bias * itemsize)

    def run(self, lengths: Sequence[int] | None) -> None:
        """Start the whole network on the stream; nothing is allocated. cuDNN copies the lengths to the device itself
        (from 8.9.1 on), so the argument for them is NULL."""
        ends = self.full if lengths is None else tuple(lengths)
        if ends != self.lengths:
            self.set_lengths(ends)
        a, at = self.arrays, self.address
        with self.session.lock:
            call("cudnnRNNForward", self.session.pointer, self.rnn.pointer, FORWARD_INFERENCE, None, self.x.pointer,
                 at(a.x), self.y.pointer, at(a.y), self.h.pointer, at(a.h0), at(a.h_n), self.c.pointer, at(a.c0),
                 at(a.c_n), self.weights.nbytes, at(self.weights), self.work_bytes, at(self.work), 0, None)

    def address(self, array: Array | None) -> int | None:
        return None if array is None else self.device.address(array)


def _expect(part: Any, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise CompileError(f"cudnn: the {what} of pseudo-layer {part.pseudo}, linear layer {part.linear} lies at byte "
                           f"{got} of the weight space, expected {expected}; this version orders weights otherwise")


__all__ = ["Handle", "Memory", "Network", "describe", "set_sequence", "states"]
