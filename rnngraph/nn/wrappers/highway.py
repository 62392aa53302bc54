"""HighwayCell: gates mix the input and the output."""

from __future__ import annotations

from typing import Any

from rnngraph.errors import ShapeError
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.initializers import Constant
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper


class HighwayCell(CellWrapper):
    """output = x * carry + y * transform, carry = sigmoid(x W + b) (Srivastava et al. 2015; tf.contrib HighwayWrapper).

    couple_carry_transform_gates  transform = 1 - carry (default); otherwise a gate with weights of its own, whose bias
                                  starts at -carry_bias_init
    carry_bias_init               where the carry gate's bias starts

    Weights: carry_w [I, I], carry_b [I], transform_w, transform_b, then cell/... ShapeError when the input
    and the output differ in size.
    """

    inner_name = "cell"

    def __init__(self, cell: Cell, couple_carry_transform_gates: bool = True, carry_bias_init: float = 1.0) -> None:
        super().__init__(cell)
        self.couple_carry_transform_gates = couple_carry_transform_gates
        self.carry_bias_init = float(carry_bias_init)

    def build(self, input_size: Any) -> None:
        if not isinstance(input_size, int):
            raise ShapeError(f"{self.label}: expected a cell on [batch, features], got {self.cell.label} on inputs "
                             f"of {input_size}")
        n = input_size
        self.carry_w = self.add_weight("carry_w", (n, n))
        self.carry_b = self.add_weight("carry_b", (n,), Constant(self.carry_bias_init))
        if not self.couple_carry_transform_gates:
            self.transform_w = self.add_weight("transform_w", (n, n))
            self.transform_b = self.add_weight("transform_b", (n,), Constant(-self.carry_bias_init))
        super().build(input_size)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        if x.type != y.type:
            raise ShapeError(f"the input and the output of a highway cell must have one type, got {x.type} and "
                             f"{y.type}")
        carry = ops.sigmoid(x @ self.carry_w + self.carry_b)
        if self.couple_carry_transform_gates:
            return x * carry + y * (1.0 - carry)
        return x * carry + y * ops.sigmoid(x @ self.transform_w + self.transform_b)
