"""The SSA graph: Value, Op, Block, Graph.

Identity for things that have a place (these classes); equality for things that have none (types, attributes).
Operands change only through `Op.set_operands`, which keeps the use lists right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnngraph.errors import IRError
from rnngraph.ir.dims import is_symbol
from rnngraph.ir.types import Dim, TensorType

if TYPE_CHECKING:
    import networkx as nx

    from rnngraph.ir.opdef import Attrs, OpDef


@dataclass(eq=False, slots=True)
class Value:
    """A typed SSA value: a result of an op, or an argument of a block."""

    type: TensorType
    owner: Op | Block
    index: int
    hint: str = ""
    uses: dict[tuple[Op, int], None] = field(default_factory=dict, repr=False)

    @property
    def op(self) -> Op | None:
        """The op that computes this value; None for a block argument."""
        return self.owner if isinstance(self.owner, Op) else None

    @property
    def block(self) -> Block:
        """The block in which this value is defined."""
        if isinstance(self.owner, Block):
            return self.owner
        if self.owner.parent is None:
            raise IRError(f"value of detached op {self.owner.name!r} has no block")
        return self.owner.parent

    @property
    def shape(self) -> tuple[int | str, ...]:
        return self.type.shape

    def users(self) -> list[Op]:
        """The ops that use this value, each once, in order of first use."""
        return list(dict.fromkeys(op for op, _ in self.uses))

    def replace_by(self, new: Value) -> None:
        """Make every use of this value a use of ``new`` (same type)."""
        if new is self:
            return
        if new.type != self.type:
            raise IRError(f"cannot replace a value of type {self.type} by one of type {new.type}")
        if self.hint and not new.hint:
            new.hint = self.hint
        for op, i in list(self.uses):
            op.set_operand(i, new)

    def __repr__(self) -> str:
        return f"<%{self.hint or self.index}: {self.type}>"


@dataclass(eq=False, slots=True)
class Op:
    """One operation: an `OpDef`, operands, attributes, results and, for region ops, body blocks.

    ``layer`` names the model layer that the op came from (for remarks); ``impl`` the implementation that
    select-implementation chose, "" before it.
    """

    opdef: OpDef
    attrs: Attrs
    layer: str = ""
    impl: str = ""
    blocks: tuple[Block, ...] = ()
    parent: Block | None = field(default=None, repr=False)
    results: tuple[Value, ...] = ()
    _operands: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        return self.opdef.name

    @property
    def operands(self) -> tuple[Value, ...]:
        return self._operands

    @property
    def result(self) -> Value:
        """The only result; IRError if there is not exactly one."""
        if len(self.results) != 1:
            raise IRError(f"op {self.name!r} has {len(self.results)} results, not one")
        return self.results[0]

    def set_operands(self, operands: Iterable[Value]) -> None:
        """Replace all operands; the only way operands ever change."""
        for i, old in enumerate(self._operands):
            del old.uses[(self, i)]
        self._operands = tuple(operands)
        for i, new in enumerate(self._operands):
            new.uses[(self, i)] = None

    def set_operand(self, index: int, value: Value) -> None:
        operands = list(self._operands)
        operands[index] = value
        self.set_operands(operands)

    def erase(self) -> None:
        """Remove this op, and its bodies, from the graph; its results must be unused."""
        for r in self.results:
            if r.uses:
                users = ", ".join(u.name for u in r.users())
                raise IRError(f"cannot erase {self.name!r}: a result is still used by {users}")
        for block in self.blocks:
            for op in reversed(block.ops.copy()):
                op.erase()
        self.set_operands(())
        self.detach()

    def detach(self) -> None:
        if self.parent is not None:
            self.parent.ops.remove(self)
            self.parent = None

    def move_before(self, anchor: Op) -> None:
        """Take this op out of its block and put it in front of ``anchor``."""
        self.detach()
        if anchor.parent is None:
            raise IRError(f"cannot move before detached op {anchor.name!r}")
        anchor.parent.insert(anchor.parent.ops.index(anchor), self)

    def walk(self) -> Iterator[Op]:
        """This op and every op of its bodies, outermost first."""
        yield self
        for block in self.blocks:
            yield from block.walk()

    def is_inside(self, block: Block) -> bool:
        """Whether this op stands in ``block`` or in a body nested in it."""
        at: Block | None = self.parent
        while at is not None:
            if at is block:
                return True
            at = at.parent.parent if at.parent is not None else None
        return False

    def __repr__(self) -> str:
        return f"<op {self.name}{f' of {self.layer}' if self.layer else ''}>"


@dataclass(eq=False, slots=True)
class Block:
    """A list of ops that ends with a terminator (``yield`` or ``return``), with typed arguments."""

    args: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    parent: Op | None = None  # the op whose body this is; None for a graph's own block

    def add_arg(self, type: TensorType, hint: str = "") -> Value:
        value = Value(type, self, len(self.args), hint)
        self.args.append(value)
        return value

    def remove_arg(self, index: int) -> None:
        """Remove an unused argument and renumber the ones behind it."""
        if self.args[index].uses:
            raise IRError(f"cannot remove block argument {index}: it is still used")
        del self.args[index]
        for i, arg in enumerate(self.args):
            arg.index = i

    def insert(self, index: int, op: Op) -> None:
        if op.parent is not None:
            raise IRError(f"op {op.name!r} already stands in a block")
        self.ops.insert(index, op)
        op.parent = self

    def append(self, op: Op) -> None:
        self.insert(len(self.ops), op)

    @property
    def terminator(self) -> Op:
        if not self.ops or not self.ops[-1].opdef.terminator:
            raise IRError("block has no terminator; end it with yield (scan body) or return (graph)")
        return self.ops[-1]

    @property
    def body(self) -> list[Op]:
        """The ops without the terminator (a copy, safe to edit around)."""
        return self.ops[:-1] if self.ops and self.ops[-1].opdef.terminator else list(self.ops)

    def walk(self) -> Iterator[Op]:
        """Every op of this block and of nested bodies; safe against edits of the op just yielded."""
        for op in list(self.ops):
            yield from op.walk()

    def captures(self) -> list[Value]:
        """Values used in this block (or nested ones) that are defined outside of it, in first-use order."""
        inside: set[int] = {id(self)}
        found: dict[Value, None] = {}
        for op in self.walk():
            inside.update(id(b) for b in op.blocks)
            for value in op.operands:
                if id(value.block) not in inside:
                    found[value] = None
        return list(found)


@dataclass(eq=False, slots=True)
class Graph:
    """A named graph: inputs are the block's arguments, outputs the operands of its ``return``.

    ``longest`` says of inputs that hold row lengths which size the largest must be: calls check it. It is no part of
    the text form.
    """

    name: str = "main"
    block: Block = field(default_factory=Block)
    longest: dict[str, Dim] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Value]:
        return self.block.args

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(v.hint for v in self.block.args)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.block.terminator.operands

    @property
    def output_names(self) -> tuple[str, ...]:
        from rnngraph.ir.ops import ReturnAttrs

        attrs = self.block.terminator.attrs
        assert isinstance(attrs, ReturnAttrs)
        return attrs.names

    def add_input(self, type: TensorType, name: str) -> Value:
        """Append an input; names are unique, IRError otherwise."""
        if name in self.input_names:
            raise IRError(f"graph {self.name!r} already has an input named {name!r}")
        return self.block.add_arg(type, name)

    def walk(self) -> Iterator[Op]:
        yield from self.block.walk()

    def symbols(self) -> list[str]:
        """The symbols among the dims of the inputs, in order of appearance."""
        found: Sequence[str] = [d for v in self.inputs for d in v.shape if isinstance(d, str) and is_symbol(d)]
        return list(dict.fromkeys(found))

    def to_networkx(self) -> nx.MultiDiGraph:
        """The dataflow as a networkx graph; see `rnngraph.ir.networkx_view`."""
        from rnngraph.ir.networkx_view import to_networkx

        return to_networkx(self)

    def to_dot(self) -> str:
        """Graphviz text of the dataflow."""
        from rnngraph.ir.networkx_view import to_dot

        return to_dot(self)

    def to_text(self, *, resources: bool = True) -> str:
        """The text form; with ``resources`` it parses back on its own, without it large constants stay references."""
        from rnngraph.ir.text import to_text

        return to_text(self, resources=resources)

    def clone(self) -> Graph:
        """A deep copy (constants are shared, they are immutable)."""
        from rnngraph.ir.clone import clone_graph

        return clone_graph(self)

    def __str__(self) -> str:
        return self.to_text(resources=False)
