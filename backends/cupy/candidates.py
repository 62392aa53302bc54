"""The GPU's candidates, their constraints as data, and their costs; read also where there is no GPU."""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.persistent import Layout, blocks_for, misfit
from rnngraph.backends.registry import Constraint, Device, Implementation, Machine
from rnngraph.ir import F16, F32, F64, OPS, Dims, Op, Rnn, RnnAttrs, Scan, resolve
from rnngraph.phases.lanes import LANES, Unsupported
from rnngraph.phases.stages import JOINS, VIEWS, Stage, rows_stage, scan_stage
from rnngraph.phases.static import is_static

CUDNN_DTYPES = (F32, F16, F64)
COMPUTE = frozenset(name for name, d in OPS.items() if "interpreted" not in d.tags
                    and (name in ("matmul", "cast") or d.tags & {"elementwise", "reduce"}))
MOVES = (VIEWS | JOINS) - {"const", "shift_rows", "windows"}
ALONE = frozenset(n for n, d in OPS.items() if not d.terminator and n not in ("const", "scan", "rnn", "shift_rows"))


# --- cuDNN ----------------------------------------------------------------------------------------------------------


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


# --- kernels of our own ---------------------------------------------------------------------------------------------


def _lanes(op: Op, device: Device) -> bool | str:
    loop = op.name in ("scan", "rnn")  # what its body computes on is checked with the body
    for v in (*op.operands, *op.results):
        if v.type.dtype not in LANES and not (loop and v.type.dtype.kind == "int"):
            return f"%{v.hint or v.index} is {v.type}"
    return True


def _stage(make: Stage) -> bool | str:
    return not make.shifts.margins or "memory is read at other rows than its own"


def _phases(op: Op, device: Device) -> bool | str:
    try:
        return _stage(scan_stage(op))
    except Unsupported as e:
        return str(e)


def _resident(op: Op, device: Device) -> bool | str:
    try:
        stage = scan_stage(op)
    except Unsupported:
        return True  # that is the other constraint's to say
    if reason := misfit(stage):
        return reason
    sms, shared = device.limits.get("sms", 0), device.limits.get("shared", 0)
    least = Layout(stage, max(sms, 1)).bytes
    return blocks_for(stage, sms, shared) > 0 or f"a block of {sms} would need {least >> 10} KiB, it has {shared >> 10}"


def _rows(op: Op, device: Device) -> bool | str:
    try:
        return _stage(rows_stage([op]))
    except Unsupported as e:
        return str(e)


def _constant_weights(op: Op, device: Device) -> bool | str:
    node = Rnn(op)
    for layer in range(node.attrs.num_layers):
        for d in range(len(node.attrs.reverses)):
            for name, w in zip(("W", "R", "bW", "bR", "P"), node.weights(layer, d), strict=False):
                if not is_static(w):
                    return f"{name} of layer {layer} is computed at run time"
    return True


GPU = Constraint("gpu", "an NVIDIA GPU with a driver must be present", lambda op, d: d.has("gpu"))
CUPY = Constraint("cupy", "CuPy must be installed", lambda op, d: d.has("cupy"))
CUDNN = Constraint("cudnn", "the cuDNN 9 library must be installed", lambda op, d: d.has("cudnn"))
KERNELS = Constraint("kernels", "kernels must have been run on such a GPU", lambda op, d: d.has("kernels"))
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
LANES_DTYPE = Constraint("dtypes", "kernels compute in f32, bool and i32", _lanes)
PHASES = Constraint("phases", "the step's body splits into phases over rows and lanes", _phases)
RESIDENT = Constraint("resident", "a loop in one kernel keeps its weights in shared memory", _resident)
ROWS = Constraint("rows", "the op works row by row on the last axis", _rows)
WEIGHTS = Constraint("constant-weights", "weights are packed at compile time", _constant_weights)

ALWAYS = (GPU, CUPY, KERNELS)


# --- costs ----------------------------------------------------------------------------------------------------------


def cudnn_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """One launch sequence for the whole node; layers and directions overlap as a wavefront."""
    node = Rnn(op)
    steps = resolve(node.x.shape, dims)[0]
    wavefront = steps + node.attrs.num_layers - 1
    return machine.gpu.seconds(op.opdef.cost(op, dims), launches=4, steps=wavefront)


def rnn_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """A loop per layer and direction, one behind the other."""
    node = Rnn(op)
    steps = resolve(node.x.shape, dims)[0] * node.attrs.num_layers * len(node.attrs.reverses)
    return machine.gpu.seconds(op.opdef.cost(op, dims), steps=2.0 * steps)


def loop_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """One kernel, whose blocks wait for each other in every step."""
    (steps,) = resolve((Scan(op).attrs.steps,), dims)
    return machine.gpu.seconds(op.opdef.cost(op, dims), steps=steps)


def steps_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """A product and a kernel for each phase of a step."""
    (steps,) = resolve((Scan(op).attrs.steps,), dims)
    return machine.gpu.seconds(op.opdef.cost(op, dims), steps=2.0 * steps)


def op_cost(op: Op, dims: Dims, machine: Machine) -> float:
    return machine.gpu.seconds(op.opdef.cost(op, dims))


def alone_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """CuPy, op by op: several kernels, and arrays of their own."""
    return machine.gpu.seconds(op.opdef.cost(op, dims), launches=4)


def no_cost(op: Op, dims: Dims, machine: Machine) -> float:
    return 0.0


def implementations() -> tuple[Implementation, ...]:
    """cuDNN for rnn nodes; loops and kernels of our own for what has phases; CuPy for every other op."""
    return (
        Implementation("cupy.cudnn", "cupy", "gpu", frozenset({"rnn"}),
                       (GPU, CUPY, CUDNN, CUDNN_DTYPE, CUDNN_RESET, CUDNN_PAD, CUDNN_DROPOUT, CUDNN_PROJECTION,
                        CUDNN_CALLS),
                       cudnn_cost),
        Implementation("cupy.rnn", "cupy", "gpu", frozenset({"rnn"}), (*ALWAYS, LANES_DTYPE, WEIGHTS), rnn_cost),
        Implementation("cupy.scan", "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, LANES_DTYPE, PHASES), steps_cost),
        Implementation("cupy.loop", "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, LANES_DTYPE, PHASES, RESIDENT),
                       loop_cost),
        Implementation("cupy.rows", "cupy", "gpu", COMPUTE, (*ALWAYS, LANES_DTYPE, ROWS), op_cost),
        Implementation("cupy.view", "cupy", "gpu", MOVES, ALWAYS, no_cost),
        Implementation("cupy.op", "cupy", "gpu", ALONE, ALWAYS, alone_cost),
    )
