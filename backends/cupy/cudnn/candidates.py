"""cuDNN's candidates for rnn nodes: its constraints as data, and its cost."""

from __future__ import annotations

from rnngraph.backends.cupy.requirements import CUPY, GPU
from rnngraph.backends.registry import Constraint, Device, Implementation, Machine
from rnngraph.ir import F16, F32, F64, Dims, Op, Rnn, RnnAttrs, resolve

CUDNN_DTYPES = (F32, F16, F64)


def _dtypes(op: Op, device: Device) -> bool | str:
    dtype = op.operands[0].type.dtype
    return dtype in CUDNN_DTYPES or f"x is {dtype}"


def _reset_after(op: Op, device: Device) -> bool | str:
    a = op.attrs
    assert isinstance(a, RnnAttrs)
    return a.mode != "gru" or a.reset_after or "reset_after is false"


def _pad(op: Op, device: Device) -> bool | str:
    a = op.attrs
    assert isinstance(a, RnnAttrs)
    return not a.lengths or a.pad == "zero" or f"pad is {a.pad!r}"


def _dropout(op: Op, device: Device) -> bool | str:
    a = op.attrs
    assert isinstance(a, RnnAttrs)
    return a.dropout == 0 or f"dropout is {a.dropout:g}"


def _projection(op: Op, device: Device) -> bool | str:
    a = op.attrs
    assert isinstance(a, RnnAttrs)
    return a.proj < a.hidden or f"h is projected from {a.hidden} features to {a.proj}"


CUDNN = Constraint("cudnn", "the cuDNN 9 library must be installed", lambda op, d: d.has("cudnn"))
CUDNN_CALLS = Constraint("calls", "this version of rnngraph does not call cuDNN yet; its own kernels run the node",
                         lambda op, d: False)
CUDNN_DTYPE = Constraint("dtype", "cuDNN computes f32, f16 and f64", _dtypes)
CUDNN_RESET = Constraint("reset-after", "cuDNN's GRU multiplies the reset gate onto R h + bR, not onto h",
                         _reset_after)
CUDNN_PAD = Constraint("pad", "cuDNN writes zeros past a row's length, it does not repeat the last output",
                       _pad)
CUDNN_DROPOUT = Constraint("dropout", "cuDNN draws its own dropout masks, so the numbers would differ",
                           _dropout)
CUDNN_PROJECTION = Constraint("projection", "cuDNN projects h to fewer features than the LSTM's units", _projection)


def cudnn_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """One launch sequence for the whole node; layers and directions overlap as a wavefront."""
    node = Rnn(op)
    steps = resolve(node.x.shape, dims)[0]
    wavefront = steps + node.attrs.num_layers - 1
    return machine.gpu.seconds(op.opdef.cost(op, dims), launches=4, steps=wavefront)


def cudnn_implementations() -> tuple[Implementation, ...]:
    """One for every algorithm."""
    return (
        Implementation("cupy.cudnn", "cupy", "gpu", frozenset({"rnn"}),
                       (GPU, CUPY, CUDNN, CUDNN_DTYPE, CUDNN_RESET, CUDNN_PAD, CUDNN_DROPOUT, CUDNN_PROJECTION,
                        CUDNN_CALLS),
                       cudnn_cost, tried=True),
    )


__all__ = ["cudnn_implementations"]
