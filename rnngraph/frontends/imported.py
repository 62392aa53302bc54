"""ImportedModel: a model that was made elsewhere, as a layer that knows its inputs and the names of its outputs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from rnngraph.errors import ImportModelError, RnngraphError
from rnngraph.ir import Array, Dim, Graph, dims
from rnngraph.nn import Input, Layer
from rnngraph.nn.context import Options, Trace, activate
from rnngraph.nn.model import LayerGroup
from rnngraph.nn.tensor import Tensor, Traced

M = TypeVar("M", bound="ImportedModel")
R = TypeVar("R")


class Undecided(RnngraphError):
    """A walk over a foreign graph cannot go on before something is known; not an error of the model."""


class NeedsValue(Undecided):
    """The graph's structure depends on the values of these inputs: they must be known before it can be traced."""

    def __init__(self, names: Iterable[str], why: str) -> None:
        self.names = tuple(names)
        super().__init__(f"the value of input {', '.join(map(repr, self.names))} must be known: {why}")


class NeedsSize(Undecided):
    """The graph's structure depends on the sizes that these symbols stand for."""

    def __init__(self, symbols: Iterable[str], why: str) -> None:
        self.symbols = tuple(symbols)
        super().__init__(f"the size {', '.join(map(repr, self.symbols))} must be known: {why}")


class NeedsEqual(Undecided):
    """Two sizes, one of them a symbol alone, must be the same: the model holds only for inputs where they are."""

    def __init__(self, symbol: str, size: Dim, why: str) -> None:
        self.symbol = symbol
        self.size = size
        super().__init__(f"the sizes {symbol!r} and {size!r} must be equal: {why}")


def expect_equal(a: Dim, b: Dim, message: str) -> None:
    """`NeedsEqual` where two sizes may be equal, `NeedsSize` where that cannot be said for all sizes at once,
    ImportModelError where they are not equal."""
    if a == b:
        return
    for symbol, size in ((b, a), (a, b)):
        if dims.is_symbol(symbol) and str(symbol) not in dims.symbols_of(size):
            raise NeedsEqual(str(symbol), size, message)
    if isinstance(dims.sub(a, b), str):  # two sizes that are a number apart never meet
        raise NeedsSize(sorted(dims.symbols_of(a) | dims.symbols_of(b)), message)
    raise ImportModelError(message)


@dataclass(frozen=True, slots=True)
class Names:
    """Foreign names of inputs and outputs by their names in the graph, where the two differ."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


class ImportedModel(Layer, ABC):
    """Base of the models of frontends.

    A subclass computes in ``call(*tensors)``, given what `inputs` lists, and returns a tensor or a tuple of them, in
    the order of `output_names`. Where the structure depends on the value of an input or on a size, it raises
    `NeedsValue` or `NeedsSize`; `specialized` then makes the model in which they are known.

    inputs       what the model takes, without the inputs whose values are known; their names are the graph's
    names        the names of inputs and outputs in the file, where they differ from those in the graph
    """

    def __init__(self, inputs: Sequence[Input], output_names: Sequence[str], *, names: Names | None = None,
                 name: str | None = None) -> None:
        super().__init__(name)
        self.inputs = list(inputs)
        self.output_names = tuple(output_names)
        self.names = names or Names()
        self.packed_outputs: frozenset[str] = frozenset()  # those that come packed where inputs do

    def scope_name(self) -> str:
        """The name that a model around it gave; alone, ops carry the names of the foreign nodes only."""
        return self.name or ""

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """The outputs; there are no weights to make first, and there may be no inputs."""
        return self.call(*inputs, **kwargs)

    @abstractmethod
    def call(self, *inputs: Tensor) -> Any:
        """The outputs, emitted into the active trace."""

    def arrays(self, example_inputs: Any) -> Any:
        """Example inputs, as the caller gives them: arrays by place or by name."""
        return example_inputs

    def no_rows(self, what: str) -> str:
        """Why a call cannot give ``lengths`` or a ``mask``, and what can be done."""
        own = [f"{self.names.inputs.get(x.name, x.name)!r} ({x.type})" for x in self.inputs
               if x.dtype.kind != "float" and x.rank == (1 if what == "lengths" else 2)]
        inputs = f"give {' or '.join(own)} with the others" if own else \
            "this one has none, so that every row runs all its steps: cut the padding and call rows of one length " \
            "together, or export the model with such an input"
        return f"{what}= is for layers of rnngraph.nn; a model from elsewhere takes them as inputs of its own: {inputs}"

    def origins(self) -> Mapping[str, str]:
        """The op of each foreign node (LSTM, Loop, ...), by the name that the graph's ops carry as their layer."""
        return {}

    @abstractmethod
    def specialized(self, values: Mapping[str, Array], sizes: Mapping[str, Dim]) -> Self:
        """The same model with the values of some inputs, by their names in the graph, and some sizes known."""

    def settled(self) -> Self:
        """The same model with symbols that must be equal made one.

        Files often name the batch of each input by itself. A call in which such sizes differ is an InputError.
        """
        return settling(self, _walked) if any(dims.symbols_of(d) for x in self.inputs for d in x.shape) else self


def settling(model: M, use: Callable[[M], R]) -> R:
    """``use(model)``, where that traces the model; once more for each symbol that turns out to be equal to a size."""
    while True:  # each symbol falls away once at most
        try:
            return use(model)
        except NeedsEqual as e:
            model = model.specialized({}, {e.symbol: e.size})


def _walked(model: M) -> M:
    with activate(Trace(Graph("sizes"), Options())) as trace, suppress(NeedsValue, NeedsSize):  # asked for in time
        model.run(*(Traced(trace, trace.graph.add_input(x.type, x.name)) for x in model.inputs))
    return model


def foreign_names(model: object) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The names in the file of a model's inputs and of its outputs, by those in the graph, where they differ."""
    if isinstance(model, ImportedModel):
        return model.names.inputs, model.names.outputs
    return model.foreign if isinstance(model, LayerGroup) else ({}, {})


def identifiers(names: Iterable[str], prefix: str = "v") -> dict[str, str]:
    """For each foreign name a distinct one that a graph may use: letters, digits, "_", "-" and ".".

    >>> identifiers(["x", "input:0", "input/0", ""])
    {'x': 'x', 'input:0': 'input_0', 'input/0': 'input_0_1', '': 'v'}
    """
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)
        if not base or base[0] in ".-":
            base = prefix + base
        number, chosen = 0, base
        while chosen in taken:
            number += 1
            chosen = f"{base}_{number}"
        taken.add(chosen)
        found[name] = chosen
    return found
