"""Where rows end: the lengths of a call, and how many rows a step of a scan still has to run.

Step t runs the rows up to the last one that is longer than t. Rows sorted by falling length, as packed sequences have
them, so cost exactly their own steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnngraph.ir import Array
from rnngraph.ir.scan import check_lengths


class Ends:
    """The lengths of one call in native memory; one for each pair of a lengths input and a number of steps.

    lengths  i64[rows]; the rows of an image share the length of their batch entry
    live     i64[steps]: at step t the rows [0, live[t]) are run; those behind have ended, or not begun when time runs
             backwards
    """

    def __init__(self, rows: int, steps: int, layer: str = "") -> None:
        self.lengths: Array = np.zeros(max(rows, 1), np.int64)
        self.live: Array = np.zeros(max(steps, 1), np.int64)
        self.rows, self.steps = rows, steps
        self.layer = layer
        self.unchecked = False  # the graph computes them: nobody has seen yet that they lie in 0..steps

    def set(self, given: Array) -> None:
        """InputError, before anything runs, when lengths that the graph computes do not fit."""
        if self.unchecked:
            check_lengths(given, self.steps, self.layer)
        each = np.repeat(given, self.rows // max(len(given), 1))
        self.lengths[: self.rows] = each
        self.live[: self.steps] = live_rows(each, self.steps)

    @property
    def row_steps(self) -> int:
        """How many steps of single rows the last call ran."""
        return int(self.live[: self.steps].sum())


def live_rows(lengths: Array | Sequence[int], steps: int) -> Array:
    """For every step, the number of the last row that is longer, plus one: i64[steps]."""
    last = np.zeros(steps + 1, np.int64)
    np.maximum.at(last, lengths, np.arange(1, len(lengths) + 1))
    return np.maximum.accumulate(last[::-1])[::-1][1:]
