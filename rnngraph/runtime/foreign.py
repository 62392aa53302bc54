"""What callers hold in PyTorch or CuPy, as what a compiled model takes. Neither is ever imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnngraph.data.packing import PackedSequence
from rnngraph.errors import InputError

PLAIN = frozenset({np.ndarray})  # types that need no second look


def plain(value: object) -> object:
    """Tensors (of any device, bf16 as float32) and CuPy's arrays as numpy's, PyTorch's packed sequences as ours; others
    as they are."""
    cupy: Any = sys.modules.get("cupy")  # who gives an array of it has imported it
    if cupy is not None and isinstance(value, cupy.ndarray):
        return value.get()
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "nn"):
        return value
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        parts: list[Any] = [None if t is None else _array(t) for t in value]
        return PackedSequence(*parts)
    return _array(value) if isinstance(value, torch.Tensor) else value


def all_plain(values: Iterable[object], place: Any = None) -> tuple[object, ...]:
    """`plain` of each, but for what lies at ``place``, the memory of a GPU: it stays there."""
    return tuple(v if type(v) is np.ndarray or (place is not None and place.holds(v)) else plain(v) for v in values)


def _array(tensor: Any) -> object:
    torch: Any = sys.modules["torch"]
    if tensor.device.type == "meta":
        raise InputError(f"expected values, got a tensor {list(tensor.shape)} on the device meta, which has none")
    dense = tensor.detach().float() if tensor.dtype is torch.bfloat16 else tensor.detach()
    return dense.to_dense().cpu().resolve_conj().resolve_neg().numpy()
