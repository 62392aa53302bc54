"""The launch of a chain of stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import start_field, struct_dtype
from rnngraph.backends.cupy.codegen.chain import CHAIN, Chain
from rnngraph.backends.cupy.codegen.persistent import THREADS
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.loop_run import LoopRun
from rnngraph.backends.cupy.machine import Module
from rnngraph.backends.cupy.stage_run import StageRun
from rnngraph.backends.cupy.values import Values, held, host
from rnngraph.ir import Array, Value
from rnngraph.ir.ops import ConstAttrs
from rnngraph.phases.hazards import CarryMode
from rnngraph.phases.stages import Carry, Stage


class ChainLink(LoopRun):
    """The memory of one stage of a chain. ``before`` are copies that the launch needs."""

    def __init__(self, stage: Stage, module: Module, values: Values, products: Products) -> None:
        self.products = products
        StageRun.__init__(self, stage, module, values)

    def struct(self) -> np.dtype[np.void]:
        return struct_dtype(self.stage, starts=True)

    def bind_carry(self, carry: Carry) -> None:
        """The start is read where it lies, the end is the buffer of the last step."""
        start = self.values.get(carry.init)
        even = self.own((self.rows, carry.n), start.dtype.type)
        odd = even if carry.mode is CarryMode.IN_PLACE else self.own((self.rows, carry.n), start.dtype.type)
        self.memory(f"{carry.name}_0", even)
        self.memory(f"{carry.name}_1", odd)
        if self.stage.until:  # rows that are done before the first step are not written in it
            self.before.append(self.copying(even, start))
            start = even
        elif not start.flags.c_contiguous and is_fixed(carry.init):
            start = self.device.xp.asarray(held(host(self.device, start)))
        elif not start.flags.c_contiguous:
            copy = self.own(start.shape, start.dtype.type)
            self.before.append(self.copying(copy, start))
            start = copy
        self.memory(start_field(carry.name), start)
        if carry.final is not None:
            self.values.found[carry.final] = (even, odd)[self.steps % 2].reshape(start.shape)


class ChainRun:
    """A launch of the stages from ``first`` on, as far as `take` has come."""

    def __init__(self, chain: Chain, module: Module, values: Values, first: int) -> None:
        self.chain = chain
        self.module = module
        self.first = self.last = first
        self.args = [np.zeros((), struct_dtype(s, starts=True)) for s in chain.stages]
        self.links: list[ChainLink] = []
        self.written: list[Array] = []
        self.arrivals = values.device.xp.zeros(2, np.int32)
        self.pointer = np.int64(values.device.address(self.arrivals))

    def take(self, link: ChainLink) -> None:
        """The next stage belongs to the launch."""
        self.args[self.last] = link.args
        self.last += 1
        self.links.append(link)
        self.written += [link.values.get(v) for v in link.stage.writes()]

    def writes(self, arrays: Sequence[Array]) -> bool:
        """Whether the launch writes one of these."""
        return any(np.may_share_memory(a, b) for a in arrays for b in self.written)

    def run(self) -> None:
        self.module.launch(CHAIN, (self.chain.blocks, 1, 1), (THREADS, 1, 1),
                           [*self.args, np.int32(self.first), np.int32(self.last), self.pointer], self.chain.bytes,
                           cooperative=True)


def is_fixed(v: Value) -> bool:
    """Whether a value is the same in every call: it is made of constants."""
    todo = [v]
    while todo:
        op = todo.pop().op
        if op is None or (not op.operands and not isinstance(op.attrs, ConstAttrs)):
            return False
        todo.extend(op.operands)
    return True


__all__ = ["ChainLink", "ChainRun", "is_fixed"]
