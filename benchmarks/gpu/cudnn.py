"""cuDNN itself, below the compiler: every algorithm, dtype and kind of network.

A network that is made has compared each gate's address with the formula by which weights are packed. What it computes
is compared with the equations in float64, on the numbers as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.correctness import POOL, error_of
from benchmarks.gpu.poison import poison_pool
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, OK, Row
from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.cudnn.abi import Algorithm, CudnnError
from rnngraph.backends.cupy.cudnn.model import forward
from rnngraph.backends.cupy.cudnn.setting import Arrays
from rnngraph.backends.cupy.cudnn.setting import Setting as Network
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.backends.cupy.device import open_device
from rnngraph.ir import BF16, F16, F32, F64, Array, DType, RnnAttrs

MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")
KINDS: dict[str, tuple[DType, bool, float]] = {  # dtype, TF32, tolerance
    "f32": (F32, False, 1e-5), "tf32": (F32, True, 3e-3), "f16": (F16, False, 1e-2), "bf16": (BF16, False, 6e-2),
    "f64": (F64, False, 1e-12)}
STEPS, BATCH, INPUTS = 6, 3, 16


def networks(full: bool) -> Iterator[RnnAttrs]:
    """Every kind of network, of units that no tile divides, and that every one does."""
    for mode in MODES:
        for layers in (1, 2, 3) if full else (2,):
            for direction in ("forward", "bidirectional"):
                for hidden in (5, 64) if full else (6,):
                    yield RnnAttrs(mode, hidden, layers, direction)
    for layers in (1, 2):
        yield RnnAttrs("lstm", 24, layers, "bidirectional", proj=9)


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each network, algorithm and kind of numbers."""
    if not setting.shim and abi.path() is None:
        yield Case("all", _absent)
        return
    for attrs in networks(setting.full or not setting.shim):
        name = f"{attrs.mode} {attrs.hidden} x{attrs.num_layers} {attrs.direction}" + (
            f" to {attrs.proj}" if attrs.proj else "")
        for algorithm in Algorithm:
            for kind in KINDS:
                path = f"{algorithm.name.lower()} {kind}"
                yield Case(f"{name} on {path}", partial(_network, name, path, attrs, algorithm, kind))


def _absent() -> Iterator[Row]:
    yield Row("all", "", ABSENT, note="libcudnn.so.9 was not found")


def _network(name: str, path: str, attrs: RnnAttrs, algorithm: Algorithm, kind: str) -> Iterator[Row]:
    dtype, tf32, tolerance = KINDS[kind]
    space, device = WeightSpace(attrs, INPUTS), open_device()
    made = Network(space, dtype, algorithm, STEPS, BATCH, tf32)
    host = _numbers(space)
    stored = {n: _stored(a, dtype) for n, a in host.items()}
    poison_pool(device.xp, POOL // 8)
    on_device = {n: device.xp.asarray(a) for n, a in stored.items() if n != "weights"}
    y, h_n = (device.xp.full(s, _nan(dtype), made.held) for s in (
        made.sequence(attrs.features * len(attrs.reverses)), host["h0"].shape))
    c_n = device.xp.full(host["c0"].shape, _nan(dtype), made.held) if attrs.has_cell else None
    arrays = Arrays(on_device["x"], y, on_device["h0"], h_n, on_device.get("c0"), c_n)
    try:
        device.rnn(made, arrays, stored["weights"]).run(None)
    except CudnnError as e:
        yield Row(name, path, ABSENT if e.not_supported else FAIL, note=str(e))
        return
    got = [_wide(_fetched(device, a), dtype) for a in (y, h_n, c_n) if a is not None]
    wide = {n: _wide(a, dtype).astype(np.float64) for n, a in stored.items()}
    want = forward(space, wide["weights"], wide["x"], wide["h0"], wide.get("c0"))
    worst = max(error_of(a, w) for a, w in zip(got, [w for w in want if w is not None], strict=True))
    yield Row(name, path, OK if worst <= tolerance else FAIL, {"error": worst, "tolerance": tolerance})


def _numbers(space: WeightSpace) -> dict[str, Array]:
    """Weights as PyTorch starts them: larger ones make a network whose errors grow from step to step."""
    a, rng = space.attrs, np.random.default_rng(0)
    most = a.hidden**-0.5
    found = {"x": rng.standard_normal((STEPS, BATCH, space.inputs)),
             "h0": rng.uniform(-1, 1, (space.pseudo_layers, BATCH, a.features)),
             "weights": rng.uniform(-most, most, space.size)}
    if a.has_cell:
        found["c0"] = rng.uniform(-1, 1, (space.pseudo_layers, BATCH, a.hidden))
    return found


def _stored(x: Array, dtype: DType) -> Array:
    """As cuDNN stores numbers: of bf16 the bits, to nearest even."""
    if dtype is not BF16:
        return x.astype(dtype.numpy)
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _wide(x: Array, dtype: DType) -> Array:
    return (x.astype(np.uint32) << 16).view(np.float32) if dtype is BF16 else x


def _nan(dtype: DType) -> Any:
    return 0x7FC0 if dtype is BF16 else np.nan


def _fetched(device: Any, array: Any) -> Array:
    if isinstance(array, np.ndarray):
        return array
    device.stream.synchronize()
    found: Array = array.get()
    return found


__all__ = ["cases", "networks"]
