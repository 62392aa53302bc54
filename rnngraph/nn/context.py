"""Trace: the state of one tracing run. Layers and ops find it through `active`; it ends with the run."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import BOOL, I32, Array, Block, Builder, Dim, DType, Graph, Shape, TensorType, Value
from rnngraph.ir import ops as ir_ops


@dataclass(frozen=True, slots=True)
class Options:
    """How to trace; the arguments of `rnngraph.trace`.

    abstract  weights are graph inputs without values: for types only
    stateful  the states of layers with ``stateful=True`` come in, and all of them go out
    """

    lengths: bool = False
    initial_state: bool = False
    training: bool = False
    seed: int = 0
    abstract: bool = False
    mask: bool = False
    stateful: bool = False


@dataclass(eq=False, slots=True)
class Steps(ABC):
    """The loop over time that is being traced.

    count  the number of steps
    masks  what `Trace.step_mask` made for the loop, by layer path and number within a step
    uses   how many of them the current step has asked for, by layer path
    """

    count: Dim
    masks: dict[tuple[str, int], Value] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)

    @abstractmethod
    def of(self, sequence: Value, hint: str) -> Value:
        """This step's slice of ``sequence`` [steps, ...], a value from outside of the loop."""


@dataclass(eq=False, slots=True)
class Trace:
    """The graph that grows, the blocks that are open, and what may exist only once in it."""

    graph: Graph
    options: Options
    builders: list[Builder] = field(default_factory=list)  # the graph's first, the innermost body's last
    loops: list[Steps] = field(default_factory=list)  # those being traced, the innermost last
    path: str = ""  # of the layer being traced
    device: str = ""  # where it is placed, if it is
    kept: dict[str, Value] = field(default_factory=dict)  # the final states of stateful layers, by name
    lengths: Value | None = None
    lengths_steps: Dim = 0
    mask: Value | None = None  # the input of the option mask, [time, batch]
    mask_steps: Dim = 0
    constants: tuple[Any, ...] = ()  # tensors that the steps of the layer being traced may use
    constants_read: bool = False  # whether some step has
    time_masks: dict[Value, Value] = field(default_factory=dict)  # a tensor -> its mask bool[batch, time]
    mask_lengths: dict[Value, Value] = field(default_factory=dict)  # a mask -> the lengths that it says
    replaced: Mapping[int, Value] = field(default_factory=dict)  # what weights are for now, by id
    _constants: dict[tuple[int, str], Value] = field(default_factory=dict)
    _masks: dict[tuple[str, str], Value] = field(default_factory=dict)
    _sequences: dict[object, dict[tuple[str, str], Value]] = field(default_factory=dict)
    _uses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.builders.append(Builder(self.graph.block))

    @property
    def builder(self) -> Builder:
        return self.builders[-1]

    @property
    def top(self) -> Builder:
        """The graph's own builder: what it makes can be captured by every body that is open."""
        self.builders[0].layer = self.layer
        return self.builders[0]

    @property
    def layer(self) -> str:
        """What ops carry as their layer: its path and, where it is placed, the device (`rnngraph.ir.placement`)."""
        return f"{self.path}@{self.device}" if self.device else self.path

    @contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Ops within are placed on ``device``."""
        outer, self.device = self.device, device
        self.builder.layer = self.layer
        try:
            yield
        finally:
            self.device = outer
            self.builder.layer = self.layer

    def is_open(self, block: Block) -> bool:
        return any(b.block is block for b in self.builders)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Ops within carry the layer path ``<outer path>/name``; an empty name changes nothing."""
        outer = self.path
        self.path = "/".join(part for part in (outer, name) if part)
        self.builder.layer = self.layer
        try:
            yield
        finally:
            self.path = outer
            self.builder.layer = self.layer

    @contextmanager
    def body(self, block: Block) -> Iterator[None]:
        """Ops within go to the end of ``block``, the body of a loop in the current block."""
        self.builders.append(Builder(block, layer=self.layer))
        try:
            yield
        finally:
            self.builders.pop()
            self.builder.layer = self.layer

    @contextmanager
    def given(self, constants: Sequence[Any]) -> Iterator[None]:
        """Steps within may use ``constants``; TraceError when none does."""
        outer = self.constants, self.constants_read
        self.constants, self.constants_read = tuple(constants), False
        try:
            yield
            if constants and not self.constants_read:
                raise TraceError(f"layer {self.path!r}: got constants, but no cell's step takes them; write "
                                 "step(self, x, state, constants)")
        finally:
            self.constants, self.constants_read = outer

    @contextmanager
    def over(self, steps: Steps) -> Iterator[None]:
        """Ops within belong to a step of the loop ``steps``."""
        self.loops.append(steps)
        try:
            yield
        finally:
            self.loops.pop()

    @contextmanager
    def sequence(self, key: object = None) -> Iterator[None]:
        """One run of a recurrent layer over a sequence: within it every `sequence_mask` is drawn once.

        Runs that give one ``key`` are one sequence: the steps of a cell that is called by hand.
        """
        outer, self._masks = self._masks, {} if key is None else self._sequences.setdefault(key, {})
        try:
            yield
        finally:
            self._masks = outer

    def constant(self, key: tuple[int, str], type: TensorType, make: Callable[[], Array], hint: str) -> Value:
        """The const op of a weight, one per trace, in the graph's block so that loop bodies capture it."""
        if key not in self._constants:
            if self.options.abstract:
                self._constants[key] = self.graph.block.add_arg(type, hint)
            else:
                self._constants[key] = self.top.const(make(), type.dtype, hint)
        return self._constants[key]

    @contextmanager
    def weights_as(self, values: Mapping[int, Value]) -> Iterator[None]:
        """Weights within have other values, by their ``id``."""
        outer, self.replaced = self.replaced, {**self.replaced, **values}
        try:
            yield
        finally:
            self.replaced = outer

    def use(self, name: str) -> int:
        """How often ``name`` was asked for before: tells apart the calls of one layer."""
        self._uses[name] += 1
        return self._uses[name] - 1

    def random_mask(self, builder: Builder, shape: Shape, rate: float, dtype: DType) -> Value:
        """A dropout mask, with a seed of its own."""
        return builder.op(ir_ops.RANDOM_MASK, attrs=ir_ops.RandomMaskAttrs(self.mask_seed(), rate, shape, dtype),
                          hint="mask")

    def mask_seed(self) -> int:
        """The seed of a dropout mask: it follows from the trace's seed, the layer's path and the use's number."""
        number = self.use(f"{self.path}:mask")
        digest = hashlib.sha256(f"{self.options.seed}/{self.path}/{number}".encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1

    def sequence_mask(self, kind: str, shape: Shape, rate: float, dtype: DType) -> Value:
        """A mask of the graph's block, the same in every step of the current sequence."""
        key = (self.path, kind)
        if key not in self._masks:
            self._masks[key] = self.random_mask(self.top, shape, rate, dtype)
        return self._masks[key]

    def step_mask(self, shape: Shape, rate: float, dtype: DType) -> Value:
        """A mask that is drawn anew in every step; outside of a loop, one mask.

        The masks of all steps are one sequence made in front of the loop, so that every backend draws the same.
        """
        if not self.loops:
            return self.random_mask(self.builder, shape, rate, dtype)
        steps = self.loops[-1]
        key = (self.path, steps.uses[self.path])
        steps.uses[self.path] += 1
        if key not in steps.masks:
            steps.masks[key] = self.random_mask(self.top, (steps.count, *shape), rate, dtype)
        return steps.of(steps.masks[key], "mask")

    def lengths_for(self, steps: Dim, batch: Dim) -> Value | None:
        """The lengths of a recurrence over ``steps``: the first one decides which dim the input is about."""
        if not self.options.lengths:
            return None
        if self.lengths is None:
            self.lengths = self.graph.add_input(TensorType(I32, (batch,)), "lengths")
            self.lengths_steps = steps
        return self.lengths if steps == self.lengths_steps else None

    def mask_for(self, steps: Dim, batch: Dim, *, time_major: bool = False) -> Value | None:
        """The mask [time, batch] of a recurrence over ``steps``, as `lengths_for`; the first one's layout is the
        input's."""
        if not self.options.mask:
            return None
        if self.mask is None:
            shape = (steps, batch) if time_major else (batch, steps)
            given = self.graph.add_input(TensorType(BOOL, shape), "mask")
            self.mask = given if time_major else self.top.transpose(given, (1, 0))
            self.mask_steps = steps
        return self.mask if steps == self.mask_steps else None


def state_input(name: str) -> str:
    """The input that a state comes in by: ``lstm.h0`` for ``lstm.h``."""
    return f"{name}{'_' if name[-1].isdigit() else ''}0"


_ACTIVE: ContextVar[Trace | None] = ContextVar("rnngraph_trace", default=None)


def active() -> Trace:
    """The trace that runs now; TraceError outside of one."""
    trace = _ACTIVE.get()
    if trace is None:
        raise TraceError("no trace is running: weights, cells and rnngraph.nn.ops on them work only while a "
                         "model is traced; compose models from rnngraph.Input(...) and call rnngraph.trace")
    return trace


def tracing() -> bool:
    """Whether a trace is running."""
    return _ACTIVE.get() is not None


@contextmanager
def activate(trace: Trace) -> Iterator[Trace]:
    """Make ``trace`` the active one within the context."""
    token = _ACTIVE.set(trace)
    try:
        yield trace
    finally:
        _ACTIVE.reset(token)
