"""The GPU's candidates, their constraints as data, and their costs; read also where there is no GPU."""

from __future__ import annotations

from functools import partial

from rnngraph.backends.cupy.codegen.chain import LOOP_STREAMED, ROWS_STREAMED, unchained
from rnngraph.backends.cupy.codegen.persistent import PRODUCTS, arranged, loop_bytes, misfit
from rnngraph.backends.cupy.codegen.streamed import Streamed
from rnngraph.backends.cupy.costs import narrowed, resident_cost, rounded_cost, rows_cost, streamed_cost
from rnngraph.backends.cupy.cudnn.candidates import cudnn_implementations
from rnngraph.backends.cupy.interpreted import HAS_KERNELS, HOST, HOST_LOOP, INTERPRETED, host_cost, interpreted_cost
from rnngraph.backends.cupy.requirements import ALWAYS, TENSOR_CORES, WEIGHTS, asked
from rnngraph.backends.registry import Constraint, Device, Implementation, Machine
from rnngraph.ir import OPS, Dims, Op, Rnn, Scan, resolve
from rnngraph.phases.lanes import LANES, Unsupported
from rnngraph.phases.stages import JOINS, VIEWS, rows_stage, scan_stage

COMPUTE = frozenset(name for name, d in OPS.items() if "interpreted" not in d.tags
                    and (name in ("matmul", "cast") or d.tags & {"elementwise", "reduce"}))
MOVES = (VIEWS | JOINS) - {"const", "windows"}
ALONE = frozenset(n for n, d in OPS.items() if not d.terminator and n not in ("const", "scan", "rnn"))


# --- kernels of our own ---------------------------------------------------------------------------------------------


def _lanes(op: Op, device: Device) -> bool | str:
    loop = op.name in ("scan", "rnn")  # what its body computes on is checked with the body
    for v in (*op.operands, *op.results):
        if v.type.dtype not in LANES and not (loop and v.type.dtype.kind == "int"):
            return f"%{v.hint or v.index} is {v.type}"
    return True


def _phases(op: Op, device: Device) -> bool | str:
    if not device.present:
        return True  # that there is no GPU says enough, and phases take time
    try:
        scan_stage(op)
    except Unsupported as e:
        return str(e)
    return True


def _resident(op: Op, device: Device, impl: str = "cupy.loop") -> bool | str:
    if not device.present:
        return True
    try:
        stage = scan_stage(op)
    except Unsupported:
        return True  # that is the other constraint's to say
    if reason := misfit(stage):
        return reason
    sms, shared = device.limits["sms"], device.limits["shared"]
    if arranged(stage, impl, sms, shared):
        return True
    needed = loop_bytes(stage, PRODUCTS[impl](stage, sms))
    return f"a block of {sms} would need {needed >> 10} KiB, it has {shared >> 10}"


def _rows(op: Op, device: Device) -> bool | str:
    if not device.present:
        return True
    try:
        rows_stage([op])
    except Unsupported as e:
        return str(e)
    return True


def _chained(op: Op, device: Device) -> bool | str:
    """Whether the op can be a stage of a chain."""
    if not device.present:
        return True
    try:
        stage = rows_stage([op])
    except Unsupported:
        return True  # that is the other constraint's to say
    if reason := unchained(stage):
        return reason
    sms, shared = device.limits["sms"], device.limits["shared"]
    needed = loop_bytes(stage, Streamed(stage, Streamed.grids(stage, sms)[0]))
    return needed <= shared or f"they take {needed >> 10} KiB, a block has {shared >> 10}"


def _moved(op: Op, device: Device) -> bool | str:
    """Shifted rows are no view of memory by themselves: what reads them must do so as part of a kernel."""
    if op.name != "shift_rows" or not device.present:
        return True
    todo = [op]
    while todo:
        for user in todo.pop().result.users():
            if user.name in ("concat", "shift_rows"):
                todo.append(user)
            elif user.name not in COMPUTE or _lanes(user, device) is not True or _rows(user, device) is not True:
                return f"{user.name} reads them, which is no kernel over rows"
    return True


LANES_DTYPE = Constraint("dtypes", "kernels compute in f32, bool and i32", _lanes)
PHASES = Constraint("phases", "the step's body splits into phases over rows and lanes", _phases)
RESIDENT = Constraint("resident", "a loop in one kernel keeps its weights in registers and shared memory",
                      _resident)
STREAMED = Constraint("streamed", "a loop in one kernel has its left sides in shared memory",
                      lambda op, d: _resident(op, d, LOOP_STREAMED))
CHAINED = Constraint("chained", "left sides of few rows stand in shared memory", _chained)
RESIDENT_BF16 = Constraint("resident", "a loop in one kernel keeps its weights in registers and shared memory",
                           lambda op, d: _resident(op, d, "cupy.loop.bf16"))
ROWS = Constraint("rows", "the op works row by row on the last axis", _rows)
MOVED = Constraint("moved", "the result is a view of memory, or read as one", _moved)


# --- costs ----------------------------------------------------------------------------------------------------------


def rnn_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """A loop per layer and direction, one behind the other."""
    node = Rnn(op)
    steps = resolve(node.x.shape, dims)[0] * node.attrs.num_layers * len(node.attrs.reverses)
    return machine.gpu.seconds(op.opdef.cost(op, dims), steps=2.0 * steps)


def any_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Of an rnn node whose loops no kernel may take: they are chosen when it is expanded."""
    return 2.0 * rnn_cost(op, dims, machine)


def steps_cost(op: Op, dims: Dims, machine: Machine, precision: str = "f32") -> float:
    """A product and a kernel for each phase of a step; for bf16 one that rounds the left side as well."""
    (steps,) = resolve((Scan(op).attrs.steps,), dims)
    kernels = 3.0 if precision == "bf16" else 2.0
    return machine.gpu.seconds(narrowed(op.opdef.cost(op, dims), precision), steps=kernels * steps)


def op_cost(op: Op, dims: Dims, machine: Machine, precision: str = "f32") -> float:
    launches = 2.0 if precision == "bf16" else 1.0
    return machine.gpu.seconds(narrowed(op.opdef.cost(op, dims), precision), launches=launches)


def no_cost(op: Op, dims: Dims, machine: Machine) -> float:
    return 0.0


def _narrow(precision: str) -> tuple[Implementation, ...]:
    """Kernels of our own whose products are by cuBLAS in a precision that must be asked for."""
    always = (*ALWAYS, asked(precision), TENSOR_CORES, LANES_DTYPE)
    return (
        Implementation(f"cupy.scan.{precision}", "cupy", "gpu", frozenset({"scan"}), (*always, PHASES),
                       partial(steps_cost, precision=precision), tried=True),
        Implementation(f"cupy.rows.{precision}", "cupy", "gpu", frozenset({"matmul"}), (*always, ROWS),
                       partial(op_cost, precision=precision)),
    )


def implementations() -> tuple[Implementation, ...]:
    """cuDNN for rnn nodes; loops and kernels of our own for what has phases; every other op on the host."""
    return (
        *cudnn_implementations(),
        Implementation("cupy.rnn.ops", "cupy", "gpu", frozenset({"rnn"}), ALWAYS, any_cost, last=True),
        Implementation("cupy.rnn", "cupy", "gpu", frozenset({"rnn"}), (*ALWAYS, LANES_DTYPE, WEIGHTS), rnn_cost,
                       tried=True),
        Implementation("cupy.scan", "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, LANES_DTYPE, PHASES), steps_cost,
                       tried=True),
        Implementation("cupy.loop", "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, LANES_DTYPE, PHASES, RESIDENT),
                       resident_cost, tried=True),
        Implementation(LOOP_STREAMED, "cupy", "gpu", frozenset({"scan"}),
                       (*ALWAYS, LANES_DTYPE, PHASES, STREAMED), streamed_cost, tried=True),
        Implementation("cupy.loop.bf16", "cupy", "gpu", frozenset({"scan"}),
                       (*ALWAYS, asked("bf16"), TENSOR_CORES, LANES_DTYPE, PHASES, RESIDENT_BF16), rounded_cost,
                       tried=True),
        Implementation(HOST_LOOP, "cupy", "gpu", frozenset({"scan"}), ALWAYS, host_cost, tried=True, last=True),
        Implementation("cupy.rows", "cupy", "gpu", COMPUTE, (*ALWAYS, LANES_DTYPE, ROWS), op_cost),
        *(made for precision in ("tf32", "bf16") for made in _narrow(precision)),
        Implementation(ROWS_STREAMED, "cupy", "gpu", COMPUTE, (*ALWAYS, LANES_DTYPE, ROWS, CHAINED), rows_cost),
        Implementation("cupy.view", "cupy", "gpu", MOVES, (*ALWAYS, MOVED), no_cost),
        Implementation("cupy.op", "cupy", "gpu", ALONE, (*ALWAYS, HAS_KERNELS), interpreted_cost, last=True),
        Implementation(INTERPRETED, "cupy", "gpu", frozenset({"scan"}), (*ALWAYS, HAS_KERNELS), interpreted_cost,
                       tried=True, last=True),
        Implementation(HOST, "cupy", "gpu", ALONE, ALWAYS, host_cost, last=True),
    )
