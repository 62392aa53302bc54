"""The GPU's candidates, their constraints as data, and their costs; read also where there is no GPU."""

from __future__ import annotations

from rnngraph.backends.registry import Constraint, Device, Implementation, Machine
from rnngraph.ir import F16, F32, F64, OPS, Dims, Op, Rnn, RnnAttrs, Scan, resolve

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


def _scan_floats(op: Op, device: Device) -> bool | str:
    found = {v.type.dtype for v in (*op.results, *Scan(op).xs) if v.type.dtype.is_float}
    bad = [str(d) for d in found if d not in CUDNN_DTYPES]
    return not bad or f"it carries {', '.join(sorted(bad))}"


GPU = Constraint("gpu", "an NVIDIA GPU with a driver must be present", lambda op, d: d.has("gpu"))
CUPY = Constraint("cupy", "CuPy must be installed", lambda op, d: d.has("cupy"))
CUDNN = Constraint("cudnn", "the cuDNN 9 library must be installed", lambda op, d: d.has("cudnn"))
KERNELS = Constraint("kernels", "this version of rnngraph has no GPU kernels yet; compile with target='cpu'",
                     lambda op, d: False)
CUDNN_DTYPE = Constraint("dtype", "cuDNN computes f32, f16 and f64", _dtypes)
CUDNN_RESET = Constraint("reset-after", "cuDNN's GRU multiplies the reset gate onto R h + bR, not onto h",
                         _reset_after)
CUDNN_PAD = Constraint("pad", "cuDNN writes zeros past a row's length, it does not repeat the last output",
                       _pad)
CUDNN_DROPOUT = Constraint("dropout", "cuDNN draws its own dropout masks, so the numbers would differ",
                           _dropout)
CUDNN_PROJECTION = Constraint("projection", "cuDNN projects h to fewer features than the LSTM's units", _projection)
SCAN_DTYPE = Constraint("dtype", "the fused loop computes f32, f16 and f64", _scan_floats)

ALWAYS = (GPU, CUPY, KERNELS)


def cudnn_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """One launch sequence for the whole node; layers and directions overlap as a wavefront."""
    node = Rnn(op)
    steps = resolve(node.x.shape, dims)[0]
    wavefront = steps + node.attrs.num_layers - 1
    return machine.gpu.seconds(op.opdef.cost(op, dims), launches=4, steps=wavefront)


def fused_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """One persistent kernel per scan, one grid barrier per step."""
    (steps,) = resolve((Scan(op).attrs.steps,), dims)
    return machine.gpu.seconds(op.opdef.cost(op, dims), steps=steps)


def op_cost(op: Op, dims: Dims, machine: Machine) -> float:
    return machine.gpu.seconds(op.opdef.cost(op, dims))


def implementations() -> tuple[Implementation, ...]:
    """cuDNN for rnn nodes, one persistent kernel for a scan, CuPy for every other op."""
    rest = frozenset(n for n, d in OPS.items() if not d.terminator and n not in ("const", "scan", "rnn"))
    return (
        Implementation("cupy.cudnn", "cupy", "gpu", frozenset({"rnn"}),
                       (GPU, CUPY, CUDNN, CUDNN_DTYPE, CUDNN_RESET, CUDNN_PAD, CUDNN_DROPOUT, CUDNN_PROJECTION,
                        KERNELS),
                       cudnn_cost),
        Implementation("cupy.fused", "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, SCAN_DTYPE), fused_cost),
        Implementation("cupy.op", "cupy", "gpu", rest, ALWAYS, op_cost),
    )
