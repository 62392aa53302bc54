"""What kernels with products of our own cost: barriers, arithmetic, and the weights that every step reads.

    resident   weights once from memory, then from the blocks' shared memories
    rounded    as resident, in bf16 on tensor cores
    streamed   weights in every step: from the cache where they fit it and another step has brought them, else from
               memory
    rows       as a stage of a chain, which costs a barrier where a kernel of its own would cost a launch

For more than `ROWS` rows a step reads them again. Sequences and states are read and written once.
"""

from __future__ import annotations

from math import prod

from rnngraph.backends.cupy.codegen.products import ROWS
from rnngraph.backends.cupy.cudnn.candidates import RATE
from rnngraph.backends.registry import Machine
from rnngraph.ir import Cost, Dims, Op, Scan, resolve
from rnngraph.ir.opdef import traffic, value_bytes

REACHED = 0.5  # of the GPU's flops by products of our own; cuBLAS has all


def resident_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Of the kernel that keeps its weights in shared memory."""
    weights, steps, passes = _weights(op, dims), _steps(op, dims), _passes(op, dims)
    return _fixed(op, dims, machine) + weights / machine.gpu.bytes + max(
        steps * passes * weights / machine.gpu.shared, _arithmetic(op, dims, machine))


def rounded_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Of the kernel that keeps its weights as bf16 and multiplies on tensor cores."""
    weights, steps, passes = _weights(op, dims) / 2, _steps(op, dims), _passes(op, dims)
    return _fixed(op, dims, machine) + weights / machine.gpu.bytes + max(
        steps * passes * weights / machine.gpu.shared, _arithmetic(op, dims, machine) / RATE["bf16"])


def streamed_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Of the kernel that reads its weights in every step."""
    weights, reads = _weights(op, dims), _steps(op, dims) * _passes(op, dims)
    rate = machine.gpu.cached if weights <= machine.gpu.cache else machine.gpu.bytes
    return _fixed(op, dims, machine) + max(weights / machine.gpu.bytes + max(reads - 1, 0) * weights / rate,
                                           _arithmetic(op, dims, machine))


def narrowed(cost: Cost, precision: str) -> Cost:
    """What work costs, in f32's terms, whose products are in ``precision``."""
    return Cost(cost.flops / RATE[precision], cost.bytes / (2 if precision == "bf16" else 1))


def rows_cost(op: Op, dims: Dims, machine: Machine) -> float:
    """Of an op over rows in a chain: what is no product runs at half the bandwidth, for blocks are few."""
    gpu, weights, passes = machine.gpu, 0.0, 1
    if op.name == "matmul":
        weights = value_bytes(op.operands[1], dims)
        passes = -(-prod(resolve(op.result.shape[:-1], dims)) // ROWS)
    rate = gpu.cached if weights <= gpu.cache else gpu.bytes
    return gpu.step + 2 * (traffic(op, dims) - weights) / gpu.bytes + max(
        weights / gpu.bytes + (passes - 1) * weights / rate, _arithmetic(op, dims, machine))


def _fixed(op: Op, dims: Dims, machine: Machine) -> float:
    """A launch, a barrier in each step, sequences and states."""
    return machine.gpu.launch + _steps(op, dims) * machine.gpu.step + traffic(op, dims) / machine.gpu.bytes


def _arithmetic(op: Op, dims: Dims, machine: Machine) -> float:
    return op.opdef.cost(op, dims).flops / (REACHED * machine.gpu.flops)


def _steps(op: Op, dims: Dims) -> int:
    return resolve((Scan(op).attrs.steps,), dims)[0]


def _weights(op: Op, dims: Dims) -> float:
    """Bytes of what the products of a step multiply by."""
    found = {m.operands[1]: None for m in Scan(op).body.body if m.name == "matmul"}
    return sum(value_bytes(v, dims) for v in found)


def _passes(op: Op, dims: Dims) -> int:
    """How often a step reads the weights."""
    products = [m for m in Scan(op).body.body if m.name == "matmul"]
    rows = max((prod(resolve(m.results[0].shape[:-1], dims)) for m in products), default=1)
    return -(-rows // ROWS)


__all__ = ["narrowed", "resident_cost", "rounded_cost", "rows_cost", "streamed_cost"]
