"""Text to IR: recursive descent, every op re-typed by its own rule. No eval: hostile text gives ParseError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnngraph.errors import IRError
from rnngraph.ir import ops
from rnngraph.ir.builder import make_op
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.opdef import Array, Attrs, OpDef
from rnngraph.ir.scan import SCAN, ScanAttrs
from rnngraph.ir.table import OPS
from rnngraph.ir.text.lexer import Token
from rnngraph.ir.text.reader import Reader

MAX_DEPTH = 64  # nested scans; deeper text is refused rather than overflowing the stack


def parse(text: str, resources: Mapping[str, Array] | None = None) -> Graph:
    """Read a graph. ``resources`` gives large constants that the text only refers to (the keys without @).

    Raises ParseError with line and column for bad syntax, unknown ops, types that do not fit, unknown values.
    """
    return _Parser(text, dict(resources or {})).graph()


class _Parser(Reader):
    """Graphs, blocks and ops; what stands inside an op's line is the reader's."""

    def __init__(self, text: str, resources: dict[str, Array]) -> None:
        super().__init__(text, resources)
        self.values: dict[str, Value] = {}
        self.depth = 0

    # --- graph ------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.read_resources()
        self.expect("graph")
        name = self.expect_kind("symbol", "the graph's @name").text[1:]
        graph = Graph(name)
        self.expect("(")
        self.items(")", lambda: self.argument(graph.block))
        self.expect("{")
        self.block_body(graph.block, None)
        while self.token.text == "resource":
            self.skip_resource()
        if self.token.kind != "end":
            raise self.token.error(f"expected end of text, got {self.token}")
        return graph

    def argument(self, block: Block) -> None:
        token = self.expect_kind("value", "an argument %name")
        self.expect(":")
        self.define(token, block.add_arg(self.type(), token.text[1:]))

    def define(self, token: Token, value: Value) -> None:
        if token.text in self.values:
            raise token.error(f"{token.text} is defined twice")
        name = token.text[1:]
        value.hint = "" if name.isdigit() else name
        self.values[token.text] = value

    def use(self) -> Value:
        token = self.expect_kind("value", "a value %name")
        try:
            return self.values[token.text]
        except KeyError:
            raise token.error(f"{token.text} is not defined before its use") from None

    def block_body(self, block: Block, scan: tuple[tuple[str, ...], tuple[str, ...]] | None) -> tuple[str, ...]:
        """Ops up to the closing brace; for a scan body returns the names it emits."""
        emitted: tuple[str, ...] = ()
        while not self.accept("}"):
            start = self.token
            if block.ops and block.ops[-1].opdef.terminator:
                raise start.error("an op stands after the block's terminator")
            if scan is None and self.accept("return"):
                names, values = self.named(None)
                self.insert(block, start, ops.RETURN, values, ops.ReturnAttrs(names))
            elif scan is not None and self.accept("yield"):
                emitted = self.yield_op(block, start, scan[0])
            else:
                self.op(block)
        if not block.ops or not block.ops[-1].opdef.terminator:
            raise self.tokens[self.at - 1].error(f"block must end with {'return' if scan is None else 'yield'}")
        return emitted

    def insert(self, block: Block, at: Token, opdef: OpDef, operands: list[Value], attrs: Attrs,
               blocks: tuple[Block, ...] = ()) -> Op:
        try:
            op = make_op(opdef, operands, attrs, blocks)
        except (IRError, AttributeError, TypeError, ValueError, IndexError) as e:
            raise at.error(str(e)) from e
        if opdef.terminator:
            self.meta(op)
        block.append(op)
        return op

    # --- ops ----------------------------------------------------------------------------------------------------

    def op(self, block: Block) -> None:
        names: list[Token] = []
        while self.token.kind == "value":
            names.append(self.next())
            if not self.accept(","):
                break
        if names:
            self.expect("=")
        at = self.expect_kind("word", "an op name")
        opdef = OPS.get(at.text)
        if opdef is None or opdef.terminator:
            raise at.error(f"unknown op {at.text!r}")
        if opdef is SCAN:
            op = self.scan(block, at)
        elif opdef is ops.CONST:
            op = self.insert(block, at, opdef, [], self.const())
        else:
            operands = []
            while self.token.kind == "value":
                operands.append(self.use())
                if not self.accept(","):
                    break
            op = self.insert(block, at, opdef, operands, self.attrs(opdef))
        if opdef is not ops.CONST:
            self.check_types(op)
        if len(names) != len(op.results):
            raise at.error(f"{op.name} has {len(op.results)} result(s), {len(names)} name(s) are given")
        for token, result in zip(names, op.results, strict=True):
            self.define(token, result)
        self.meta(op)

    def check_types(self, op: Op) -> None:
        if not op.results:
            self.accept(":")
            return
        self.expect(":")
        for i, result in enumerate(op.results):
            if i:
                self.expect(",")
            at = self.token
            if (t := self.type()) != result.type:
                raise at.error(f"result {i} of {op.name} is {result.type}, the text says {t}")

    def meta(self, op: Op) -> None:
        if not self.accept("<"):
            return
        for key, value in self.items(">", self.meta_item):
            if key == "layer":
                op.layer = value
            else:
                op.impl = value

    def meta_item(self) -> tuple[str, str]:
        key = self.expect_kind("word", "layer or impl")
        if key.text not in ("layer", "impl"):
            raise key.error(f"expected layer or impl, got {key}")
        self.expect("=")
        return key.text, self.word()

    def named(self, close: str | None) -> tuple[tuple[str, ...], list[Value]]:
        """``name = %value, ...`` up to ``close``, or to where the list ends."""
        pairs: list[tuple[str, Value]] = []

        def item() -> tuple[str, Value]:
            name = self.word()
            self.expect("=")
            return name, self.use()

        if close is not None:
            pairs = self.items(close, item)
        elif self.token.kind in ("word", "string"):
            pairs.append(item())
            while self.accept(","):
                pairs.append(item())
        return tuple(n for n, _ in pairs), [v for _, v in pairs]

    def scan(self, block: Block, at: Token) -> Op:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise at.error(f"scans are nested deeper than {MAX_DEPTH}")
        self.expect("carry")
        self.expect("(")
        carries, inits = self.named(")")
        self.expect("over")
        self.expect("(")
        xs, sequences = self.named(")")
        lengths: list[Value] = []
        if self.accept("lengths"):
            self.expect("(")
            lengths = [self.use()]
            self.expect(")")
        options = self.scan_options()
        self.expect("{")
        self.expect("^")
        self.expect("(")
        body = Block()
        self.items(")", lambda: self.argument(body))
        self.expect(":")
        ys = self.block_body(body, (carries, xs))
        attrs = ScanAttrs(carries, xs, ys, options["steps"], options.get("reverse", False), bool(lengths),
                          options.get("pad", "zero"), options.get("until", ""))
        self.depth -= 1
        return self.insert(block, at, SCAN, [*inits, *sequences, *lengths], attrs, (body,))

    def scan_options(self) -> dict[str, Any]:
        at = self.expect("{")
        kinds: dict[str, tuple[type, ...]] = {"steps": (int, str), "reverse": (bool,), "pad": (str,), "until": (str,)}
        out: dict[str, Any] = {}
        for token, value in self.items("}", self.item):
            if type(value) not in kinds.get(token.text, ()):
                raise token.error("scan takes steps (a dim), reverse (bool), pad (word), until (a carry); "
                                  f"got {token.text} = {value!r}")
            out[token.text] = value
        if "steps" not in out:
            raise at.error("scan needs steps = <number or symbol>")
        return out

    def yield_op(self, block: Block, at: Token, carries: tuple[str, ...]) -> tuple[str, ...]:
        self.expect("carry")
        self.expect("(")
        names, values = self.named(")")
        if names != carries:
            raise at.error(f"yield must name the carries {list(carries)} in order, got {list(names)}")
        self.expect("emit")
        self.expect("(")
        ys, emitted = self.named(")")
        self.insert(block, at, ops.YIELD, [*values, *emitted], ops.YieldAttrs(len(values)))
        return ys
