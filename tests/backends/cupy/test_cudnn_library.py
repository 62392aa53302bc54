"""An installed libcudnn, without a GPU: signatures against its headers, descriptors, and what they take."""

from __future__ import annotations

import ctypes
import re
from enum import IntEnum
from pathlib import Path

import pytest

from rnngraph.backends.cupy import device
from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.cudnn.abi import (
    Algorithm,
    BiasMode,
    CudnnError,
    DataLayout,
    DataType,
    Direction,
    MathType,
    Mode,
    P,
)
from rnngraph.backends.cupy.cudnn.network import DTYPES, Handle, describe, set_sequence
from rnngraph.backends.cupy.cudnn.variants import ALGORITHMS
from rnngraph.ir import BF16, F16, F32, F64, DType, RnnAttrs

needs_library = pytest.mark.skipif(abi.path() is None, reason="libcudnn.so.9 is not installed")


def headers() -> list[str]:
    found = abi.path()
    assert found is not None
    texts = [h.read_text() for h in sorted((Path(found).resolve().parent.parent / "include").glob("cudnn*.h"))]
    if not texts:
        pytest.skip("the headers are not beside the library")
    return texts


@needs_library
def test_signatures_match_the_headers() -> None:
    texts = headers()
    kinds = {"int": ctypes.c_int, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "size_t": ctypes.c_size_t}
    for name, arguments in abi.SIGNATURES.items():
        (declared,) = {m.group(1) for t in texts for m in [re.search(rf"^{name}\(([^)]+)\);", t, re.M)] if m}
        parts = [re.sub(r"/\*.*?\*/|\bconst\b", "", part).strip() for part in declared.split(",")]
        assert len(parts) == len(arguments), name
        for part, argument in zip(parts, arguments, strict=True):
            pointer = "*" in part or "[" in part or re.match(r"cudnn\w+Descriptor_t|cudnnHandle_t|cudaStream_t", part)
            expected = ctypes.c_void_p if pointer else kinds.get(part.split()[0], ctypes.c_int)
            assert ctypes.sizeof(argument) == ctypes.sizeof(expected), f"{name}: {part}"
            assert pointer or argument is expected, f"{name}: {part}"


NAMED: list[tuple[type[IntEnum], str]] = [  # what the headers write before a member's name
    (Algorithm, "CUDNN_RNN_ALGO_"), (Direction, "CUDNN_"), (DataLayout, "CUDNN_RNN_DATA_LAYOUT_"),
    (DataType, "CUDNN_DATA_"), (Mode, "CUDNN_"),
]
MEMBERS: list[tuple[IntEnum, str]] = [
    *((member, prefix + member.name) for kind, prefix in NAMED for member in kind),
    (BiasMode.NONE, "CUDNN_RNN_NO_BIAS"), (BiasMode.SINGLE_INPUT, "CUDNN_RNN_SINGLE_INP_BIAS"),
    (BiasMode.DOUBLE, "CUDNN_RNN_DOUBLE_BIAS"), (BiasMode.SINGLE_RECURRENT, "CUDNN_RNN_SINGLE_REC_BIAS"),
    (MathType.DEFAULT, "CUDNN_DEFAULT_MATH"), (MathType.TENSOR_OP, "CUDNN_TENSOR_OP_MATH"),
    (MathType.TENSOR_OP_ALLOW_CONVERSION, "CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION"), (MathType.FMA, "CUDNN_FMA_MATH"),
]


@needs_library
def test_enumerations_match_the_headers() -> None:
    texts = headers()
    for member, name in MEMBERS:
        values = {m for t in texts for m in re.findall(rf"^\s*{name}\s*=\s*(\d+)", t, re.M)}
        assert values == {str(member.value)}, name


# --- what descriptors hold ------------------------------------------------------------------------------------------


def numbers(library_call: str, handle: Handle, kinds: list[type]) -> list[int]:
    """The fields of a descriptor, by its getter."""
    fields = [kind() for kind in kinds]
    function = getattr(abi.library(), library_call)
    assert function(handle.pointer, *(ctypes.byref(f) for f in fields)) == 0
    return [f.value or 0 for f in fields]


@needs_library
@pytest.mark.parametrize(("attrs", "dtype", "tf32"), [
    (RnnAttrs("lstm", 64, 2, "bidirectional", proj=32), F32, False), (RnnAttrs("gru", 5), F32, True),
    (RnnAttrs("rnn_tanh", 7, 3), F16, False), (RnnAttrs("rnn_relu", 7), F64, False)])
def test_a_network_comes_back_as_it_was_described(attrs: RnnAttrs, dtype: DType, tf32: bool) -> None:
    made = describe(attrs, 33, dtype, Algorithm.STANDARD, tf32=tf32)
    i, i32 = ctypes.c_int, ctypes.c_int32
    *got, dropout, flags = numbers("cudnnGetRNNDescriptor_v8", made, [i] * 8 + [i32] * 4 + [P, ctypes.c_uint32])
    mode = {"lstm": Mode.LSTM, "gru": Mode.GRU, "rnn_tanh": Mode.RNN_TANH, "rnn_relu": Mode.RNN_RELU}[attrs.mode]
    math = MathType.FMA if dtype is F32 and not tf32 else MathType.DEFAULT
    direction = Direction.BIDIRECTIONAL if attrs.direction == "bidirectional" else Direction.UNIDIRECTIONAL
    sums = DTYPES[F64 if dtype is F64 else F32]
    assert got == [Algorithm.STANDARD, mode, BiasMode.DOUBLE, direction, 0, DTYPES[dtype], sums, math, 33,
                   attrs.hidden, attrs.features, attrs.num_layers]
    assert (dropout, flags) == (0, abi.PADDED_IO)


@needs_library
@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("batch_major", [False, True])
def test_sequences_come_back_as_they_were_described(dtype: DType, batch_major: bool) -> None:
    made = Handle("RNNDataDescriptor")
    for lengths in ((4, 1, 3), (4, 4, 4)):  # set again in every call
        set_sequence(made, dtype, 4, 3, 5, lengths, batch_major=batch_major)
        fields = [ctypes.c_int() for _ in range(5)]
        found, fill = (ctypes.c_int * 3)(), ctypes.c_double(9.0)
        assert abi.library().cudnnGetRNNDataDescriptor(made.pointer, *(ctypes.byref(f) for f in fields), 3, found,
                                                       ctypes.byref(fill)) == 0
        assert [f.value for f in fields] == [DTYPES[dtype], 2 if batch_major else 0, 4, 3, 5]
        assert tuple(found) == lengths
        assert bytes(fill)[: dtype.itemsize] == bytes(dtype.itemsize)


# --- what descriptors take: the support matrix, measured again --------------------------------------------------------


def taken(attrs: RnnAttrs, dtype: DType, algorithm: Algorithm, *, tf32: bool = False) -> bool:
    try:
        describe(attrs, 32, dtype, algorithm, tf32=tf32)
    except CudnnError as e:
        if not e.not_supported:
            raise
        return False
    return True


@needs_library
@pytest.mark.parametrize("label", ALGORITHMS)
@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_the_matrix_of_constraints_is_that_of_the_library(label: str, dtype: DType, mode: str) -> None:
    takes = ALGORITHMS[label]
    for attrs in (RnnAttrs(mode, 64), RnnAttrs(mode, 64, 2, "bidirectional"), RnnAttrs(mode, 4099)):
        assert taken(attrs, dtype, takes.algorithm) == (dtype in takes.dtypes)
        assert taken(attrs, dtype, takes.algorithm, tf32=True) == (dtype in takes.dtypes)
    if mode == "lstm":
        projects = dtype in takes.dtypes and takes.projection
        assert taken(RnnAttrs(mode, 64, proj=32), dtype, takes.algorithm) == projects
    assert not taken(RnnAttrs(mode, 64, proj=65), dtype, takes.algorithm)


@needs_library
@pytest.mark.parametrize(("lengths", "words"), [((3, 0, 2), ""), ((0, 0, 0), ""), ((3, 5, 2), "currentSeqLength"),
                                                ((3, -1, 2), "currentSeqLength")])
def test_lengths_that_descriptors_take(lengths: tuple[int, ...], words: str) -> None:
    """They take 0 too; JAX's issue 17966 is why a call does without."""
    made = Handle("RNNDataDescriptor")
    if not words:
        set_sequence(made, F32, 4, 3, 5, lengths)
        return
    with pytest.raises(CudnnError, match=words):
        set_sequence(made, F32, 4, 3, 5, lengths)


@needs_library
@pytest.mark.parametrize(("steps", "batch", "features"), [(0, 3, 5), (4, 0, 5), (4, 3, 0)])
def test_sizes_of_none_are_refused(steps: int, batch: int, features: int) -> None:
    with pytest.raises(CudnnError, match="<= 0"):
        set_sequence(Handle("RNNDataDescriptor"), F32, steps, batch, features, (steps,) * batch)


# --- where it is -----------------------------------------------------------------------------------------------------


@pytest.fixture
def looked_for_again() -> None:
    abi.path.cache_clear()
    device._found.cache_clear()


@pytest.mark.usefixtures("looked_for_again")
def test_the_device_and_the_calls_look_in_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "lib64" / "libcudnn.so.9"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setenv("CUDNN_PATH", str(tmp_path))
    try:
        assert abi.path() == str(library)
        assert "cudnn" in device._found().features
    finally:
        abi.path.cache_clear()
        device._found.cache_clear()
