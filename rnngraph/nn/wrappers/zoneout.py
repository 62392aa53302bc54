"""ZoneoutCell: some elements of the output and the states keep the values of the step before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_rate
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper, keep_mask, states_by_name

INFERENCE = ("new", "expectation")


class ZoneoutCell(CellWrapper):
    """In training, elements keep the value of the step before with a probability (Krueger et al. 2016).

    zoneout_outputs  the rate for the output; the output before the first step is zero (MXNet). The cell then has a
                     further state "prev_output"
    zoneout_states   the rate for every state, or rates by state name, such as {"h": 0.1, "c": 0.2}; Haste's LSTM
                     zones out h alone: {"h": 0.1}
    inference        what happens outside of training: "new" keeps nothing (MXNet), "expectation" takes
                     rate * before + (1 - rate) * new, as the paper and Haste do

    Masks are drawn anew in every step, for each element. TraceError for a cell that has no single steps.

    Example:
        >>> from rnngraph.nn import RNN, Input, LSTMCell, ZoneoutCell, trace
        >>> cell = ZoneoutCell(LSTMCell(4), zoneout_outputs=0.5)
        >>> cell.states.names
        ('h', 'c', 'prev_output')
    """

    def __init__(self, cell: Cell, zoneout_outputs: float = 0.0, zoneout_states: float | Mapping[str, float] = 0.0,
                 inference: str = "new") -> None:
        super().__init__(cell)
        if not cell.steppable:
            raise TraceError(f"{self.label}: zoneout needs the single steps of its cell, which {cell.label} has not; "
                             "wrap the cells inside")
        if inference not in INFERENCE:
            raise TraceError(f"{self.label}: inference must be one of {', '.join(INFERENCE)}, got {inference!r}")
        names = cell.states.names
        given = zoneout_states if isinstance(zoneout_states, Mapping) else dict.fromkeys(names, zoneout_states)
        if unknown := [n for n in given if n not in names]:
            raise TraceError(f"{self.label}: zoneout_states: the cell has the states {', '.join(names)}, got {unknown}")
        self.rates = {n: check_rate(self.label, f"zoneout_states of {n}", given.get(n, 0.0)) for n in names}
        self.output_rate = check_rate(self.label, "zoneout_outputs", zoneout_outputs)
        self.inference = inference

    @property
    def state_size(self) -> Any:
        if self.output_rate == 0.0:
            return self.cell.state_size
        states = self.cell.states
        return {**dict(zip(states.names, states.shapes, strict=True)), "prev_output": self.cell.output_shape}

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        names = self.cell.states.names
        before = states_by_name(self.states, state)
        y, packed = self.inner(x, self.cell.states.pack([before[n] for n in names]))
        after = states_by_name(self.cell.states, packed)
        new = {n: self._zoned(f"state.{n}", self.rates[n], before[n], after[n]) for n in names}
        if self.output_rate:
            if y.type != before["prev_output"].type:
                raise ShapeError(f"the output of {self.cell.label} is {y.type}, its output_size says "
                                 f"{before['prev_output'].type}; correct output_size")
            y = new["prev_output"] = self._zoned("output", self.output_rate, before["prev_output"], y)
        return y, self.states.pack([new[n] for n in self.states.names])

    def _zoned(self, kind: str, rate: float, before: Tensor, new: Tensor) -> Tensor:
        mask = keep_mask(self.scope, new, kind, rate, how="step")
        if mask is not None:
            return ops.where(mask > 0.0, new, before)
        if self.inference == "expectation" and rate and not active().options.training:
            return rate * before + (1.0 - rate) * new
        return new
