"""The sums that gates are made of: one matmul per gate and operand, and the bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import Weight

Term: TypeAlias = tuple[Tensor, Weight] | tuple[Tensor, Weight, slice]


def gate_sums(gates: str, terms: Sequence[Term], bias: Weight | None = None,
              offsets: Mapping[str, float] | None = None) -> list[Tensor]:
    """For each gate (a letter of ``gates``) the sum over ``terms`` of tensor @ the gate's columns of the weight (of the
    rows in the third place), plus the gate's part of ``bias``, plus its constant among ``offsets`` (a forget bias)."""
    biases: list[Tensor | None] = [None] * len(gates) if bias is None else list(bias.gates(gates))
    out = []
    for g, gate in enumerate(gates):
        first, *rest = (_product(term, gates, g) for term in terms)
        constant: Tensor | float | None = biases[g]
        if offsets and gate in offsets:
            constant = offsets[gate] if constant is None else constant + offsets[gate]
        total = first if constant is None else first + constant
        for product in rest:
            total = total + product
        out.append(total)
    return out


def _product(term: Term, gates: str, g: int) -> Tensor:
    tensor, weight, *rows = term
    units = int(weight.shape[-1]) // len(gates)
    columns = slice(g * units, (g + 1) * units)
    return tensor @ weight.part(f"{weight.name}_{gates[g]}", rows[0] if rows else slice(None), columns)


def clipped(x: Tensor, bound: float | None) -> Tensor:
    """x held within -bound..bound, or x where there is no bound."""
    return x if bound is None else ops.clip(x, -bound, bound)
