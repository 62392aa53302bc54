"""cuDNN 9 by ctypes: the functions of its recurrent networks, their enumerations, and errors in its own words.

No other package binds them: CuPy dropped its wrappers in version 14, and cudnn-frontend has no recurrent networks.
Every function returns a status. Signatures are those of ``cudnn_adv.h`` and ``cudnn_graph.h``; the tests compare them
with these files where they are installed.
"""

from __future__ import annotations

import ctypes
import glob
import os
from enum import IntEnum
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from rnngraph.errors import CompileError, MissingExtraError

P, INT, I32, U32, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32, ctypes.c_uint32, ctypes.c_size_t
PP, PINT, PSIZE = ctypes.POINTER(P), ctypes.POINTER(INT), ctypes.POINTER(SIZE)


class DataType(IntEnum):
    FLOAT, DOUBLE, HALF, BFLOAT16 = 0, 1, 2, 9


class Mode(IntEnum):
    RNN_RELU, RNN_TANH, LSTM, GRU = range(4)


class Algorithm(IntEnum):
    STANDARD, PERSIST_STATIC, PERSIST_DYNAMIC, PERSIST_STATIC_SMALL_H = range(4)


class BiasMode(IntEnum):
    NONE, SINGLE_INPUT, DOUBLE, SINGLE_RECURRENT = range(4)


class Direction(IntEnum):
    UNIDIRECTIONAL, BIDIRECTIONAL = range(2)


class MathType(IntEnum):
    """DEFAULT is TF32 for f32 from sm_80 on; FMA is true f32."""

    DEFAULT, TENSOR_OP, TENSOR_OP_ALLOW_CONVERSION, FMA = range(4)


class DataLayout(IntEnum):
    SEQ_MAJOR_UNPACKED, SEQ_MAJOR_PACKED, BATCH_MAJOR_UNPACKED = range(3)


LINEAR_INPUT, FORWARD_INFERENCE, PADDED_IO = 0, 0, 1
STATUS_NOT_SUPPORTED = 3000  # this status and those up to the next thousand

SIGNATURES: MappingProxyType[str, tuple[Any, ...]] = MappingProxyType({
    "cudnnCreate": (PP,), "cudnnDestroy": (P,), "cudnnSetStream": (P, P),
    "cudnnCreateRNNDescriptor": (PP,), "cudnnDestroyRNNDescriptor": (P,),
    # algorithm, cell, bias, direction, input, dtype, math precision and type; sizes: input, hidden, projection,
    # layers; dropout, flags
    "cudnnSetRNNDescriptor_v8": (P, INT, INT, INT, INT, INT, INT, INT, INT, I32, I32, I32, I32, P, U32),
    "cudnnCreateRNNDataDescriptor": (PP,), "cudnnDestroyRNNDataDescriptor": (P,),
    "cudnnSetRNNDataDescriptor": (P, INT, INT, INT, INT, INT, PINT, P),  # dtype, layout, T, B, features, lengths, pad
    "cudnnCreateTensorDescriptor": (PP,), "cudnnDestroyTensorDescriptor": (P,),
    "cudnnSetTensorNdDescriptor": (P, INT, INT, PINT, PINT),
    "cudnnGetRNNWeightSpaceSize": (P, P, PSIZE),
    "cudnnGetRNNTempSpaceSizes": (P, P, INT, P, PSIZE, PSIZE),  # mode, x: workspace, reserve
    # pseudo-layer, size, weights, linear layer: matrix, its address, bias, its address
    "cudnnGetRNNWeightParams": (P, P, I32, SIZE, P, I32, P, PP, P, PP),
    "cudnnBuildRNNDynamic": (P, P, INT),
    # mode, lengths on the device, x, y, h, c, weights, workspace, reserve
    "cudnnRNNForward": (P, P, INT, P, P, P, P, P, P, P, P, P, P, P, SIZE, P, SIZE, P, SIZE, P),
})


@cache
def path() -> str | None:
    """Where libcudnn.so.9 is: in CUDNN_PATH, in a wheel nvidia-cudnn-cu*, where cuda.pathfinder (it comes with CuPy)
    finds it, or its bare name where the loader has it; None when it is nowhere. One in a wheel is not loaded."""
    nvidia = find_spec("nvidia")
    wheels = [os.path.join(p, "cudnn") for p in (nvidia.submodule_search_locations or ())] if nvidia else []
    return _asked_for() or _within(wheels) or _by_pathfinder() or _by_loader()


def _asked_for() -> str | None:
    return _within([p] if (p := os.environ.get("CUDNN_PATH")) else [])


def _within(folders: list[str]) -> str | None:
    for folder in folders:
        if found := sorted(glob.glob(os.path.join(glob.escape(folder), "lib*", "libcudnn.so.9*"))):
            return found[0]
    return None


def _by_pathfinder() -> str | None:
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        return None
    try:
        found: str = load_nvidia_dynamic_lib("cudnn").abs_path
    except Exception:  # its errors of a library that is not there have no common class in all its versions
        return None
    return found if os.path.basename(found).startswith("libcudnn.so.9") else None


def _by_loader() -> str | None:
    try:
        ctypes.CDLL("libcudnn.so.9")
    except OSError:
        return None
    return "libcudnn.so.9"


@cache
def library() -> ctypes.CDLL:
    """The library, with its functions typed; MissingExtraError without it, CompileError when it lacks a function."""
    found = _asked_for() or _by_pathfinder() or path()  # the second loads what the library depends on as well
    if found is None:
        raise MissingExtraError("libcudnn.so.9 was not found; the extras gpu-cuda12 and gpu-cuda13 bring it")
    loaded = ctypes.CDLL(found)
    for name, arguments in SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise CompileError(f"cudnn: {found} has no {name}; rnngraph calls version 9")
        function.argtypes = arguments
        function.restype = INT
    loaded.cudnnGetVersion.restype = SIZE
    loaded.cudnnGetErrorString.restype = ctypes.c_char_p
    loaded.cudnnGetErrorString.argtypes = (INT,)
    loaded.cudnnGetLastErrorString.argtypes = (ctypes.c_char_p, SIZE)
    loaded.cudnnGetLastErrorString.restype = None
    return loaded


class CudnnError(CompileError):
    """A call failed. ``status`` is cuDNN's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def not_supported(self) -> bool:
        """Whether cuDNN understands what is asked and does not do it."""
        return STATUS_NOT_SUPPORTED <= self.status < STATUS_NOT_SUPPORTED + 1000


def function(name: str) -> Any:
    """One of the library's, typed."""
    return getattr(library(), name)


def call(name: str, *arguments: Any) -> None:
    """Call a function; CudnnError with cuDNN's own words when it fails."""
    status = function(name)(*arguments)
    if status:
        cudnn, words = library(), ctypes.create_string_buffer(512)
        cudnn.cudnnGetLastErrorString(words, len(words))
        text = cudnn.cudnnGetErrorString(status).decode()
        raise CudnnError(f"cudnn: {name}: {text} ({status}): {words.value.decode(errors='replace').strip()}", status)


def ints(*numbers: int) -> Any:
    """A C array of ints."""
    return (INT * len(numbers))(*numbers)


__all__ = ["FORWARD_INFERENCE", "LINEAR_INPUT", "PADDED_IO", "SIGNATURES", "Algorithm", "BiasMode", "CudnnError",
           "DataLayout", "DataType", "Direction", "MathType", "Mode", "call", "function", "ints", "library", "path"]
