"""What every candidate for a GPU asks of the machine, and of weights."""

from __future__ import annotations

from rnngraph.backends.registry import Constraint, Device
from rnngraph.ir import Op
from rnngraph.phases.static import constant_weights


def asked(precision: str) -> Constraint:
    """Of implementations whose products are in ``precision``."""
    return Constraint("precision", f"products in {precision} are what compile(precision={precision!r}) asks for",
                      lambda op, d: d.precision == precision or f"it is {d.precision}")


def _tensor_cores(op: Op, device: Device) -> bool | str:
    """A device that names no architecture is the stand-in, which computes as those that have them."""
    old = [f for f in device.features if f.startswith("sm_") and int(f[3:].rstrip("a")) < 80]
    return f"it is {old[0]}" if old else True


GPU = Constraint("gpu", "an NVIDIA GPU with a driver must be present", lambda op, d: d.has("gpu"))
CUPY = Constraint("cupy", "CuPy must be installed", lambda op, d: d.has("cupy"))
TENSOR_CORES = Constraint("tensor-cores", "tensor cores multiply TF32 and bf16 from sm_80 on", _tensor_cores)
WEIGHTS = Constraint("constant-weights", "weights are packed at compile time",
                     lambda op, _: constant_weights(op))
ALWAYS = (GPU, CUPY)

__all__ = ["ALWAYS", "CUPY", "GPU", "TENSOR_CORES", "WEIGHTS", "asked"]
