"""while_loop: a loop that each row of the batch leaves when its condition no longer holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rnngraph.ir import Dim
from rnngraph.nn.context import active
from rnngraph.nn.row_loop import Made, batch_of, done_rows, row_loop
from rnngraph.nn.tensor import Tensor, composed, like, tensors_in


def while_loop(cond: Callable[[Any], Tensor], body: Callable[[Any], Any], state: Any, max_steps: Dim,
               *, name: str = "while_loop") -> tuple[Any, Tensor]:
    """Run ``body`` on each row of ``state`` while ``cond`` holds for the row: the final state, and the steps run.

    cond       state -> bool [batch] or [batch, 1]: which rows go on; it is asked before every step, the first too
    body       state -> the new state, of the same structure, shapes and dtypes
    state      a tensor [batch, ...], or tensors in nested tuples, lists and dicts, all with the batch in front
    max_steps  no row runs more steps: a number >= 1, or a symbol such as an input's time

    A row that is done keeps its state; when all are done the loop ends. The steps run are i32[batch]. Weights are those
    of the layer or cell that calls. After `tf.while_loop` and `jax.lax.while_loop`, but by row. Raises TraceError or
    ShapeError for a condition or body that breaks this.

    Example (halve until below one):
        >>> import numpy as np, rnngraph as rg
        >>> x = rg.Input(("batch", 1))
        >>> last, steps = rg.while_loop(lambda v: v[:, 0] >= 1.0, lambda v: v * 0.5, x, max_steps=10)
        >>> y, n = rg.compile(rg.nn.Model(x, [last, steps]))(np.array([[6.0], [0.3], [1.0]], np.float32))
        >>> y.ravel(), n
        (array([0.75, 0.3 , 0.5 ], dtype=float32), array([3, 0, 1], dtype=int32))
    """
    def run(state: Any) -> tuple[Any, Tensor]:
        with active().scope(name):
            initial = tensors_in(state)
            batch = batch_of(initial, "the state")

            def step(carries: Sequence[Tensor], _: Tensor) -> Made:
                new = body(like(state, carries))
                return Made(tensors_in(new), done_rows(cond(new), batch, negate=True), [])

            done = done_rows(cond(state), batch, negate=True)
            finals, _, steps = row_loop(initial, done, step, max_steps, "zero")
            return like(state, finals), steps

    result: tuple[Any, Tensor] = composed(run, state)
    return result
