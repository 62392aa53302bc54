"""The body of a Scan or Loop as the body of an IR scan under construction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.walker import tensor_of
from rnngraph.ir import SCAN, Block, Dim, ScanAttrs, make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.loop import ScanSteps
from rnngraph.nn.tensor import Tensor, Traced, wrap


class Body:
    """A scan under construction: its block's arguments as tensors."""

    def __init__(self, steps: Dim, states: Sequence[Tensor], sequences: Sequence[Tensor]) -> None:
        self.count = steps
        self.initial = [s.value() for s in states]
        self.over = [s.value() for s in sequences]
        self.block = Block()
        carries = [self.block.add_arg(v.type, f"s{i}") for i, v in enumerate(self.initial)]
        steps_of = [self.block.add_arg(v.type.with_shape(v.shape[1:]), f"x{i}") for i, v in enumerate(self.over)]
        self.steps = ScanSteps(steps, body=self.block)
        self._carries, self._xs = carries, steps_of
        self.states: list[Tensor] = []
        self.sequences: list[Tensor] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ops within belong to a step; after an exception none of them is left."""
        trace = active()
        try:
            with trace.body(self.block), trace.over(self.steps):
                self.states = [wrap(v) for v in self._carries]
                self.sequences = [wrap(v) for v in self._xs]
                yield
        except BaseException:
            self.drop()
            raise

    def close(self, node: Node, new: Sequence[Tensor], ys: Sequence[Tensor], *, reverse: bool = False,
              until: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Insert the scan: the final states and the outputs of all steps. ``until``: the state that ends it."""
        trace = active()
        for i, (before, after) in enumerate(zip(self.initial, new, strict=True)):
            if before.type != after.type:
                self.drop()
                raise FormChanged(f"{node}: state {i} enters a step as {before.type} and leaves it as {after.type}")
        values = [*(t._value if isinstance(t, Traced) else t.value() for t in (*new, *ys))]
        self.block.append(make_op(ir_ops.YIELD, values, ir_ops.YieldAttrs(len(new)), layer=trace.layer))
        over = [*self.over, *self.steps.sequences]
        attrs = ScanAttrs(tuple(f"s{i}" for i in range(len(new))), tuple(f"x{i}" for i in range(len(over))),
                          tuple(f"y{i}" for i in range(len(ys))), self.count, reverse,
                          until="" if until is None else f"s{until}")
        op = trace.builder.insert(make_op(SCAN, (*self.initial, *over), attrs, (self.block,), trace.layer))
        out: list[Tensor] = [wrap(v) for v in op.results]
        return out[: len(new)], out[len(new) :]

    def drop(self) -> None:
        """Forget what was traced."""
        for op in reversed(self.block.ops.copy()):
            op.erase()


class FormChanged(ImportModelError):
    """A state of a loop does not keep its shape, dtype or kind."""


def tensors_of(node: Node, items: Sequence[Item]) -> list[Tensor]:
    """The items as tensors; ImportModelError where one is absent."""
    found = [tensor_of(i) for i in items]
    if None in [None if t is None else 0 for t in found]:
        raise ImportModelError(f"{node}: expected tensors, one of them is absent")
    return [t for t in found if t is not None]
