"""The last resorts of the GPU: ops one by one as CuPy computes them, loops step by step, and ops on the host.

CuPy's arrays answer for numpy's functions, so the reference's evaluation of most ops runs on the device as it stands.
`ON_HOST` are the ops of which it does not: they call what CuPy has not, or make arrays of the host that do not mix with
the device's. An op among them is computed on the host; its operands and results are copied.
"""

from __future__ import annotations

from collections.abc import Iterator

from rnngraph.backends.cupy.machine import Device as Opened
from rnngraph.backends.registry import Constraint, Device, Machine
from rnngraph.ir import BF16, Array, Cost, Dims, Interpreter, Op, Scan, numel, resolve

ON_HOST = frozenset({"erf", "pool", "scatter_elements", "scatter_nd", "top_k"})
INTERPRETED, HOST, HOST_LOOP = "cupy.interpreted", "cupy.host", "cupy.steps"  # implementations
KERNELS = 4  # that CuPy launches for an op, about
WAIT = 1e-4  # seconds: the device stands still until the host has seen its numbers and answered


class DeviceInterpreter(Interpreter):
    """Evaluates on arrays of a device: what an op makes on the host is brought there."""

    def __init__(self, device: Opened, dims: Dims) -> None:
        super().__init__(dims)
        self.device = device
        self.known: dict[Op, list[Array]] = {}  # results of ops without operands

    def run_op(self, op: Op) -> None:
        if op in self.known:
            self.env.update(zip(op.results, self.known[op], strict=True))
            return
        super().run_op(op)
        if self.device.place is not None:
            for v in op.results:
                if not isinstance(self.env[v], self.device.xp.ndarray):
                    self.env[v] = self.device.xp.asarray(self.env[v])
        if not op.operands:
            self.known[op] = [self.env[v] for v in op.results]


def all_ops(op: Op) -> Iterator[Op]:
    """An op and those in its blocks."""
    yield op
    for block in op.blocks:
        for inner in block.ops:
            yield from all_ops(inner)


def _has_kernels(op: Op, device: Device) -> bool | str:
    for inner in all_ops(op):
        if inner.name in ON_HOST:
            return f"{inner.name} is computed by what CuPy does not have"
        if any(v.type.dtype is BF16 for v in (*inner.operands, *inner.results)):
            return "CuPy has no bf16"
    return True


HAS_KERNELS = Constraint("cupy-functions", "CuPy has the functions that evaluate the op", _has_kernels)


def interpreted_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Some kernels for each op, in every step."""
    return machine.gpu.seconds(op.opdef.cost(op, dims), launches=float(KERNELS * _count(op, dims)))


def host_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """numpy on the host, a loop op by op and step by step, the way there and back, and a wait for all work before."""
    values = (*op.operands, *op.results)
    moved = sum(numel(v.shape, dims) * v.type.dtype.itemsize for v in values)
    return (WAIT + machine.python.seconds(op.opdef.cost(op, dims), launches=float(_count(op, dims)))
            + machine.link.seconds(Cost(0.0, moved), launches=len(values)))


def _count(op: Op, dims: Dims) -> int:
    """How many ops run."""
    if op.name != "scan":
        return 1
    return resolve((Scan(op).attrs.steps,), dims)[0] * sum(_count(inner, dims) for inner in Scan(op).body.body)


__all__ = ["HAS_KERNELS", "HOST", "HOST_LOOP", "INTERPRETED", "ON_HOST", "DeviceInterpreter", "host_cost",
           "interpreted_cost"]
