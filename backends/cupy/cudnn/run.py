"""An rnn node as calls of cuDNN for given sizes: its memory, what is copied before and after, and the networks.

One network runs the whole node. Where the node drops numbers between its layers each layer is a network of its own, and
between them stand the node's masks, which are functions of its seeds: cuDNN would draw others. A node that only runs
backwards, which cuDNN has no network for, is one over x reversed, row by row. A row of no steps runs one step, as cuDNN
fails where no row has any; what it leaves is replaced by zeros and the states that the row began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from rnngraph.backends.cupy.cudnn.abi import Algorithm
from rnngraph.backends.cupy.cudnn.bits import Bf16
from rnngraph.backends.cupy.cudnn.setting import BITS, Arrays, Recurrent, Setting
from rnngraph.backends.cupy.cudnn.variants import VARIANTS
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.backends.cupy.values import Values, host
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, Array, Interpreter, Op, Rnn, make_op, resolve
from rnngraph.ir.ops import RANDOM_MASK, RandomMaskAttrs
from rnngraph.ir.scan import check_lengths

Action = Callable[[], None]
Lengths = list[int] | None


class CudnnRun:
    """The calls of one node. ``on_host``: why a call needs the host, so that no recording on the device can repeat it;
    "" when it does not."""

    def __init__(self, op: Op, values: Values) -> None:
        self.op, self.node, self.values, self.device = op, Rnn(op), values, values.device
        self.attrs, self.variant = self.node.attrs, VARIANTS[op.impl]
        self.steps, self.batch, self.inputs = resolve(self.node.x.shape, values.dims)
        self.storage = self.variant.storage(self.node.x.type.dtype)
        self.reversed = self.attrs.direction == "reverse"
        self.on_host = ""
        if self.attrs.lengths:
            self.on_host = f"layer {op.layer!r}: cuDNN takes the lengths of rows from the host"
        self.back: Array | None = None  # for every step and row the step that stands there in reversed time
        self.bits: dict[tuple[int, ...], Bf16] = {}
        self.before: list[Action] = []
        self.work: list[Callable[[Lengths], None]] = []
        self.after: list[Action] = []
        self.states = [(self.node.h0, self.node.h_n)]
        if self.node.c0 is not None and self.node.c_n is not None:
            self.states.append((self.node.c0, self.node.c_n))
        if self.steps and self.batch:
            self.bind()
        else:  # nothing runs: the states stay
            values.make(self.node.y)
            self.before = [partial(self.put, values.make(end), values.get(start)) for start, end in self.states]

    # --- memory -----------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Make the networks, of one layer each where masks stand between layers."""
        a, directions = self.attrs, len(self.attrs.reverses)
        starts = [self.values.get(start) for start, _ in self.states]
        ends = [self.values.make(end) for _, end in self.states]
        each = 1 if a.dropout else a.num_layers
        setting = self.setting(each, self.inputs, batch_major=each == a.num_layers and self.in_batches())
        x = self.input(setting)
        for first in range(0, a.num_layers, each):
            last = first + each == a.num_layers
            y = self.output(setting) if last else self.own(setting.sequence(a.features * directions), setting)
            part = slice(first * directions, (first + each) * directions)
            states = [(self.start(s[part], setting), self.end(e[part], setting))
                      for s, e in zip(starts, ends, strict=True)]
            arrays = Arrays(x, y, *(array for pair in states for array in pair))
            self.work.append(self.network(setting, arrays, first).run)
            if not last:
                setting = self.setting(each, a.features * directions)
                x = self.own(y.shape, setting)
                self.work.append(self.masked(first, y, x))

    def setting(self, layers: int, inputs: int, *, batch_major: bool = False) -> Setting:
        direction = "forward" if self.reversed else self.attrs.direction
        attrs = replace(self.attrs, num_layers=layers, direction=direction, dropout=0.0, seeds=())
        return Setting(WeightSpace(attrs, inputs), self.storage, self.variant.takes.algorithm, self.steps, self.batch,
                       self.variant.precision == "tf32", batch_major)

    def network(self, setting: Setting, arrays: Arrays, first: int) -> Recurrent:
        """CompileError, with what to do, when cuDNN does not do it at these sizes."""
        try:
            return self.device.rnn(setting, arrays, self.packed(setting.space, first))
        except CompileError as e:
            impl = self.op.impl
            raise CompileError(f"layer {self.op.layer!r}: {impl} does not run {self.steps} steps of {self.batch} rows "
                               f"({e}); compile(without=[{impl!r}]) takes another implementation") from e

    def packed(self, space: WeightSpace, first: int) -> Array:
        weights = space.pack(self.node, first)
        if self.storage is not BF16:
            return weights
        narrow = np.empty(weights.shape, BITS)
        Bf16(np, weights.shape).narrow(weights, narrow)
        return narrow

    @property
    def converted(self) -> bool:
        """Whether cuDNN stores numbers otherwise than the values are held."""
        return self.storage is BF16

    def in_batches(self) -> bool:
        """Whether x lies in memory batch first, as its caller gave it: cuDNN's standard algorithm takes it so."""
        x = self.values.get(self.node.x)
        return (self.variant.takes.algorithm is Algorithm.STANDARD and not self.reversed and not self.converted
                and not x.flags.c_contiguous and x.transpose(1, 0, 2).flags.c_contiguous)

    def own(self, shape: tuple[int, ...], setting: Setting) -> Array:
        array: Array = self.device.xp.zeros(shape, setting.held)
        if self.converted and shape not in self.bits:
            self.bits[shape] = Bf16(self.device.xp, shape)
        return array

    def input(self, setting: Setting) -> Array:
        """x where it lies, or a copy."""
        x = self.values.get(self.node.x)
        if setting.batch_major:
            return x.transpose(1, 0, 2)
        if x.flags.c_contiguous and not self.reversed and not self.converted:
            return x
        own = self.own(setting.sequence(self.inputs), setting)
        self.before.append(lambda: self.put(own, self.in_time(x)))
        return own

    def output(self, setting: Setting) -> Array:
        """y as cuDNN writes it; the node's value is a view of it, or a copy."""
        own = self.own(setting.sequence(self.attrs.features * len(self.attrs.reverses)), setting)
        if self.converted or (self.reversed and self.attrs.lengths):
            y = self.values.make(self.node.y)
            self.after.append(lambda: self.put(y, self.in_time(own)))
        else:
            self.values.found[self.node.y] = own.transpose(1, 0, 2) if setting.batch_major else self.in_time(own)
        return own

    def in_time(self, array: Array) -> Array:
        """In the order of steps in which the node runs; of what stands in that order, the true one."""
        if not self.reversed:
            return array
        if self.back is None:
            return array[::-1]
        turned: Array = self.device.xp.take_along_axis(array, self.back, 0)
        return turned

    def start(self, state: Array, setting: Setting) -> Array:
        if state.flags.c_contiguous and not self.converted:
            return state
        own = self.own(state.shape, setting)
        self.before.append(partial(self.put, own, state))
        return own

    def end(self, state: Array, setting: Setting) -> Array:
        if not self.converted:
            return state
        own = self.own(state.shape, setting)
        self.after.append(partial(self.put, state, own))
        return own

    def masked(self, boundary: int, y: Array, x: Array) -> Callable[[Lengths], None]:
        """y times the node's mask behind a layer, as the next layer's x."""
        xp = self.device.xp
        dtype = self.node.x.type.dtype
        op = make_op(RANDOM_MASK, [], RandomMaskAttrs(self.attrs.seeds[boundary], self.attrs.dropout, y.shape, dtype))
        run = Interpreter(self.values.dims)
        run.run_op(op)
        mask = xp.asarray(run.env[op.result])
        wide = xp.zeros(y.shape, mask.dtype) if self.converted else x

        def work(lengths: Lengths) -> None:
            left = y
            if self.converted:
                self.put(wide, y)
                left = wide
            xp.multiply(left, self.in_time(mask), out=wide)
            if self.converted:
                self.put(x, wide)

        return work

    def put(self, target: Array, source: Array) -> None:
        """A copy, to or from the bits of bf16 where one side is held so."""
        if BITS not in (target.dtype, source.dtype):
            self.device.copy(target, source)
            return
        convert = self.bits[target.shape]
        (convert.narrow if target.dtype == BITS else convert.widen)(source, target)

    # --- a call -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        ends = self.lengths()
        for action in self.before:
            action()
        for work in self.work:
            work(None if ends is None else [max(1, n) for n in ends])
        for action in self.after:
            action()
        if ends is not None and 0 in ends and self.work:
            self.restore([row for row, n in enumerate(ends) if n == 0])

    def lengths(self) -> Lengths:
        """Those of this call; None when there are none, or every row has all steps."""
        if self.node.lengths is None:
            return None
        ends: list[int] = host(self.device, self.values.get(self.node.lengths)).tolist()
        check_lengths(np.asarray(ends, np.int64), self.steps, self.op.layer)
        if self.reversed:
            t, n = np.arange(self.steps)[:, None], np.asarray(ends, np.int64)
            self.back = self.device.xp.asarray(np.where(t < n, n - 1 - t, t)[..., None])
        return None if all(n == self.steps for n in ends) else ends

    def restore(self, empty: list[int]) -> None:
        """Rows of no steps: no outputs, and the states that they began with."""
        rows = self.device.xp.asarray(np.asarray(empty, np.int64))
        self.values.get(self.node.y)[:, rows] = 0
        for start, end in self.states:
            self.values.get(end)[:, rows] = self.values.get(start)[:, rows]


__all__ = ["CudnnRun"]
