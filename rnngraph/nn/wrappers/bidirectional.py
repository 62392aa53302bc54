"""Bidirectional: a recurrent layer run in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
from rnngraph.nn.canonical import RecurrentStack
from rnngraph.nn.cell import Cell
from rnngraph.nn.context import active
from rnngraph.nn.masks import hand_on
from rnngraph.nn.recurrent import RNN
from rnngraph.nn.states import States
from rnngraph.nn.tensor import Tensor, wrap

MERGE_MODES = ("concat", "sum", "mul", "ave", None)


class Bidirectional(RecurrentStack):
    """Run ``layer`` forwards and a copy of it, or ``backward_layer``, backwards, and merge the outputs.

    merge_mode: "concat" (default) of the features, "sum", "mul", "ave", or None for both outputs. The children
    are named ``<name>/forward`` and ``<name>/backward``. With return_state the forward states, then the
    backward ones, follow the output. A copy starts with weights of its own.

    Both directions run under one mask, given or the input's, and the output sequence has it too; see `RNN`. Under a
    mask an output sequence is zero at the steps left out, whatever zero_output_for_mask says, and a last output is the
    last one that was run (Keras); with lengths zero_output_for_mask counts.

    Raises TraceError when the layers differ in return_sequences, return_state or time_major, or run one way.
    """

    def __init__(self, layer: RNN, merge_mode: str | None = "concat", backward_layer: RNN | None = None,
                 name: str | None = None) -> None:
        super().__init__(name)
        if merge_mode not in MERGE_MODES:
            raise TraceError(f"layer {self.path!r}: merge_mode must be one of {MERGE_MODES}, got "
                             f"{merge_mode!r}")
        for given in (layer, *([] if backward_layer is None else [backward_layer])):
            if not isinstance(given, RNN):
                raise TraceError(f"layer {self.path!r}: expected a recurrent layer, got {given!r}")
        self.merge_mode = merge_mode
        self.forward = layer
        self.backward = layer.fresh_copy() if backward_layer is None else backward_layer
        if backward_layer is None:
            self.backward.go_backwards = not layer.go_backwards
        self._check_pair()

    def _check_pair(self) -> None:
        for option in ("return_sequences", "return_state", "time_major"):
            values = getattr(self.forward, option), getattr(self.backward, option)
            if values[0] != values[1]:
                raise TraceError(f"layer {self.path!r}: layer and backward_layer must agree in {option}, got "
                                 f"{values[0]} and {values[1]}")
        if self.forward.go_backwards == self.backward.go_backwards:
            raise TraceError(f"layer {self.path!r}: layer and backward_layer must run in opposite "
                             f"directions, got go_backwards={self.forward.go_backwards} in both")

    def children(self) -> Mapping[str, RNN]:
        return {"forward": self.forward, "backward": self.backward}

    def recurrent_cells(self) -> list[list[Cell]]:
        forward, backward = (child.recurrent_cells() for child in self.children().values())
        if len(forward) != 1 or len(backward) != 1:
            raise TraceError(f"layer {self.path!r}: stacked cells of two directions meet only at the top; their "
                             "weights are no stack of bidirectional layers")
        return [[forward[0][0], backward[0][0]]]

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Nothing to do: `call` has."""

    def call(self, x: Tensor, initial_state: Any = None, mask: Tensor | None = None,
             constants: Tensor | Sequence[Tensor] = ()) -> Any:
        first = None if initial_state is None else self._halves(initial_state)
        outputs: list[Tensor] = []
        states: list[Tensor] = []
        for i, (name, child) in enumerate(self.children().items()):
            with active().scope(name):
                y, finals = child.over_time(x, None if first is None else first[i], mask, constants, one_of_two=True)
            outputs.append(y)
            states.extend(finals)
        if self.forward.return_sequences and self.forward.go_backwards:
            # Keras: the forward child's sequence in its own order, the backward one turned to match it
            outputs = [wrap(active().builder.reverse(y.value(), self.forward.time_axis)) for y in outputs]
        merged = self._merge(*outputs)
        hand_on(self.forward, x, mask, *(merged if isinstance(merged, tuple) else (merged,)))
        if not self.forward.return_state:
            return merged
        return (*merged, *states) if isinstance(merged, tuple) else (merged, *states)

    def _halves(self, given: Any) -> tuple[Any, Any]:
        """The initial states of either direction, given as a pair of structures or all in order."""
        names = [States.of(child.cell).names for child in self.children().values()]
        if len(given) == 2 and not all(isinstance(g, Tensor) for g in given):
            return given[0], given[1]
        if len(given) != sum(map(len, names)):
            raise ShapeError(f"expected the forward and the backward initial states, {sum(map(len, names))} tensors, "
                             f"got {len(given)} tensors")
        return given[: len(names[0])], given[len(names[0]) :]

    def _merge(self, forward: Tensor, backward: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return ops.concat([forward, backward], axis=-1)
        if self.merge_mode == "mul":
            return forward * backward
        total = forward + backward
        return total * 0.5 if self.merge_mode == "ave" else total
