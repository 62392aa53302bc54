"""The CPU backend's candidates for selection, and how a segment becomes a kernel."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from rnngraph.backends.registry import BuildContext, Constraint, Device, Implementation, Kernel, Machine
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, Dims, Graph, Op, Rnn, Scan, Value, resolve
from rnngraph.ir.pool_ops import PoolAttrs
from rnngraph.ir.table import OPS
from rnngraph.phases.lanes import LANES, Unsupported
from rnngraph.phases.nests import ELEMENTWISE, LOOKUPS, NESTS, misfit, nest_of
from rnngraph.phases.stages import JOINS, VIEWS, rows_stage, scan_stage
from rnngraph.phases.static import constant_weights, is_static
from rnngraph.runtime.segments import Segment

COMPUTE = frozenset(name for name, d in OPS.items() if "interpreted" not in d.tags
                    and (name in ("matmul", "cast") or d.tags & {"elementwise", "reduce"}))


NATIVE = COMPUTE | VIEWS | JOINS | NESTS | {"scan", "rnn", "return"}


def _dtypes(op: Op, _: Device) -> bool | str:
    loop = op.name in ("scan", "rnn")  # what its body computes on is checked with the body
    for v in (*op.operands, *op.results):
        if v.type.dtype not in LANES and not (loop and v.type.dtype.kind == "int"):
            return f"%{v.hint or v.index} is {v.type}"
    if loop:
        return True
    return _stays(op)


def _stays(op: Op) -> bool | str:
    return next((reason for v in op.results if v.type.dtype.kind == "int" and (reason := _elsewhere(v))), True)


def _loops(op: Op, _: Device) -> bool | str:
    return misfit(op) or _stays(op)


def _any_dtype(op: Op, _: Device) -> bool | str:
    for v in (*op.operands, *op.results):
        if v.type.dtype is BF16:
            return f"%{v.hint or v.index} is {v.type}"
    return _stays(op)


def _elsewhere(value: Value) -> str:
    """Why integers are left to the reference: native code makes those alone that only native code reads."""
    todo, seen = [value], {value}
    while todo:
        v = todo.pop()
        for user, i in v.uses:
            if user.parent is not value.block or (user.name in ("scan", "rnn") and not _is_lengths(user, i)):
                continue
            if user.name not in NATIVE:
                return f"its integers go to {user.name}"
            fresh = [r for r in user.results if r.type.dtype.kind == "int" and r not in seen]
            seen.update(fresh)
            todo.extend(fresh)
    return ""


def _is_lengths(loop: Op, i: int) -> bool:
    lengths = Scan(loop).lengths if loop.name == "scan" else Rnn(loop).lengths
    return lengths is not None and loop.operands[i] is lengths


def _phases(op: Op, _: Device) -> bool | str:
    try:
        scan_stage(op)
    except Unsupported as e:
        return str(e)
    return True


def _rows(op: Op, _: Device) -> bool | str:
    try:
        rows_stage([op])
    except Unsupported as e:
        return str(e)
    return True


def _view(op: Op, _: Device) -> bool | str:
    if op.name == "shift_rows" and not all(_reads_rows(user) for user in op.result.users()):
        return "only a matmul of lanes, or arithmetic, reads rows beside its own"
    return True


def _reads_rows(user: Op) -> bool:
    """Whether a user of shifted rows computes on them in a native loop, or joins them for a matmul that does."""
    if user.name == "concat":
        return all(reader.name == "matmul" and reader.operands[0] is user.result and _is_native(reader)
                   for reader in user.result.users())
    return user.name in COMPUTE and _is_native(user)


def _is_native(op: Op) -> bool:
    """A matmul by weights that only a call knows is not."""
    return op.name != "matmul" or is_static(op.operands[1])


def _native_seconds(op: Op, dims: Dims, machine: Machine) -> float:
    steps = 0.0
    if op.name == "scan":
        steps = resolve((Scan(op).attrs.steps,), dims)[0]
    elif op.name == "rnn":
        steps = resolve(op.operands[0].shape, dims)[0] * Rnn(op).attrs.num_layers
    return machine.cpu.seconds(op.opdef.cost(op, dims), steps=steps)


def _halved_seconds(op: Op, dims: Dims, machine: Machine) -> float:
    """Half the bytes of weights, and a little less than the products' time."""
    return HALVED * _native_seconds(op, dims, machine)


def _nest_seconds(op: Op, dims: Dims, machine: Machine) -> float:
    """Loops over single elements: about a cycle for each, for 16 multiplications of a product two, and a sort that goes
    over all for each that it finds. More than a stage would take, where one can do it."""
    nest = nest_of(op)
    count = prod(resolve(nest.shape, dims))
    values = [*op.results, *op.operands]
    sizes = {(k, a): resolve(values[k].shape, dims)[a] for k, a in nest.inner}
    if op.name == "top_k":
        each = 8.0 * prod(n for (k, _), n in sizes.items() if k in (0, 2))
    elif isinstance(op.attrs, PoolAttrs):
        each = 2.0 * prod(op.attrs.window) * (1.0 if op.attrs.indices else VECTOR_SHARE)
    elif op.name == "matmul":
        each = prod(n for (k, _), n in sizes.items() if k in (0, 1)) / 16.0
    elif op.name in LOOKUPS | ELEMENTWISE:
        runs = op.name in LOOKUPS and bool(nest.shape) and nest.maps[2][-1] is None  # of elements behind one index
        each = float(len(values)) if op.name in ELEMENTWISE else VECTOR_SHARE if runs else 1.0
    else:
        each = 2.0 * prod(n for (k, _), n in sizes.items() if k == len(op.results))
        each *= 8.0 if op.name == "softmax" else 1.0
    return 2.0 * _native_seconds(op, dims, machine) + count * each * ELEMENT_SECONDS


def _no_seconds(op: Op, dims: Dims, machine: Machine) -> float:
    return 0.0


ELEMENT_SECONDS = 0.6e-9
VECTOR_SHARE = 0.2  # of an element's time, where elements are taken by vectors
HALVED = 0.8  # of the time of an op whose weights are bf16: what is gained between none and half of it
DTYPES = Constraint("dtypes", "native loops compute in f32, bool and i32", _dtypes)

PHASES = Constraint("phases", "the step's body splits into phases over rows and lanes", _phases)
ROWS = Constraint("rows", "the op works row by row on the last axis", _rows)

IMPLEMENTATIONS = (
    Implementation("llvm.rnn", "llvm", "cpu", frozenset({"rnn"}),
                   (DTYPES,
                    Constraint("constant-weights", "weights are packed at compile time",
                               lambda op, _: constant_weights(op))),
                   _native_seconds),
    Implementation("llvm.scan", "llvm", "cpu", frozenset({"scan"}),
                   (DTYPES, PHASES), _native_seconds),
    Implementation("llvm.scan.bf16", "llvm", "cpu", frozenset({"scan"}), (DTYPES, PHASES), _halved_seconds,
                   precision="bf16"),
    Implementation("llvm.rows", "llvm", "cpu", COMPUTE, (DTYPES, ROWS), _native_seconds),
    Implementation("llvm.rows.bf16", "llvm", "cpu", frozenset({"matmul"}), (DTYPES, ROWS), _halved_seconds,
                   precision="bf16"),
    Implementation("llvm.view", "llvm", "cpu", (VIEWS | JOINS) - {"const"},
                   (Constraint("dtypes", "native memory holds all but bf16", _any_dtype),
                    Constraint("strides", "the result is a view of memory, or a copy", _view)), _no_seconds),
    Implementation("llvm.nest", "llvm", "cpu", NESTS,
                   (Constraint("loops", "the op is a nest of loops over single elements", _loops),), _nest_seconds),
)


class LlvmBackend:
    """Native code for the CPU through LLVM: one code generator for every cell."""

    name = "llvm"

    def implementations(self) -> tuple[Implementation, ...]:
        return IMPLEMENTATIONS

    def build(self, graph: Graph, segment: Segment, context: BuildContext) -> Kernel:
        """Compile one segment; CompileError when the pipeline has not scheduled it."""
        from rnngraph.backends.llvm.cpu import host_target
        from rnngraph.backends.llvm.kernel import NativeKernel, default_threads

        schedule = getattr(context.artifacts.get("schedule"), "by_op", {}).get(segment.ops[0])
        memory = getattr(context.artifacts.get("memory"), "by_op", {}).get(segment.ops[0])
        if schedule is None or memory is None:
            raise CompileError("llvm: the segment has no schedule; a pipeline for the cpu ends with "
                               "select-implementation,schedule-phases,plan-memory")
        threads = context.options.get("threads") or default_threads()
        return NativeKernel(schedule, memory, segment.inputs, segment.outputs, host_target(), threads)


@lru_cache(maxsize=1)
def backend() -> LlvmBackend:
    """The backend, made once."""
    return LlvmBackend()


