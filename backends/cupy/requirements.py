"""What every candidate for a GPU asks of the machine, and of weights."""

from __future__ import annotations

from rnngraph.backends.registry import Constraint, Device
from rnngraph.ir import Op, Rnn
from rnngraph.phases.static import is_static


def _constant_weights(op: Op, device: Device) -> bool | str:
    node = Rnn(op)
    for layer in range(node.attrs.num_layers):
        for d in range(len(node.attrs.reverses)):
            for name, w in zip(("W", "R", "bW", "bR", "P"), node.weights(layer, d), strict=False):
                if not is_static(w):
                    return f"{name} of layer {layer} is computed at run time"
    return True


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
WEIGHTS = Constraint("constant-weights", "weights are packed at compile time", _constant_weights)
ALWAYS = (GPU, CUPY)

__all__ = ["ALWAYS", "CUPY", "GPU", "TENSOR_CORES", "WEIGHTS", "asked"]
