"""The reference backend: numpy, op by op. It runs every op, slowly; the other backends are compared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rnngraph.backends.registry import BuildContext, Implementation, Machine
from rnngraph.ir import OPS, SCAN, Array, Dims, Graph, Interpreter, Op, Scan, resolve
from rnngraph.runtime.segments import Segment, constant_of


def cost(op: Op, dims: Dims, machine: Machine) -> float:
    """The arithmetic, and Python's overhead for each op and for each op of every scan step."""
    return machine.python.seconds(op.opdef.cost(op, dims), launches=_calls(op, dims))


def _calls(op: Op, dims: Dims) -> float:
    if op.opdef is SCAN:
        scan = Scan(op)
        (steps,) = resolve((scan.attrs.steps,), dims)
        return 1.0 + steps * sum(_calls(inner, dims) for inner in scan.body.body)
    if op.name == "rnn":
        steps = resolve(op.operands[0].shape, dims)[0]
        return 1.0 + steps * 20.0 * (len(op.operands) // 4)  # about 20 ops per step, four weights per scan
    return 1.0


class ReferenceKernel:
    """Runs the ops through the interpreter. Stateless: every call has an interpreter of its own."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.constants = {v: c.value.array for v in segment.constants if (c := constant_of(v)) is not None}

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        interpreter = Interpreter(dims)
        interpreter.env.update(self.constants)
        interpreter.env.update(zip(self.segment.inputs, inputs, strict=True))
        with np.errstate(all="ignore"):  # NaN and inf are values here, not accidents
            for op in self.segment.ops:
                interpreter.run_op(op)
        return _own([interpreter.env[v] for v in self.segment.outputs], (*inputs, *self.constants.values()))

    def artifacts(self) -> Mapping[str, str]:
        return {}


def _own(results: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """The results as arrays that share memory with nothing: an evaluation may give views of its inputs, or inputs."""
    taken = {id(a) for a in others}
    out = []
    for a in results:
        fresh = isinstance(a, np.ndarray) and a.base is None and a.flags.writeable and id(a) not in taken
        taken.add(id(a))
        out.append(a if fresh else np.array(a))
    return out


class ReferenceBackend:
    """See the module."""

    name = "reference"

    def implementations(self) -> tuple[Implementation, ...]:
        every = frozenset(n for n, d in OPS.items() if not d.terminator and n != "const")
        return (Implementation("reference.op", "reference", "cpu", every, (), cost),)

    def build(self, graph: Graph, segment: Segment, context: BuildContext) -> ReferenceKernel:
        return ReferenceKernel(segment)


def backend() -> ReferenceBackend:
    """The factory that the table of backends names."""
    return ReferenceBackend()
