"""Replaces copies of a step by one scan, and what reads them by what reads the scan's outputs."""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.ir import Builder, Op, Shape, Value, dims
from rnngraph.ir.clone import clone_op
from rnngraph.ir.ops import ConcatAttrs
from rnngraph.passes.recognize.pairs import sort_block
from rnngraph.passes.unrolled.first_copy import FirstCopy
from rnngraph.passes.unrolled.template import Node, Template
from rnngraph.rewrite.scan_edit import fresh_name, sweep

NAMES = ("h", "c")


@dataclass(frozen=True, slots=True)
class Element:
    """A value of the graph that copy ``frame`` computes: ``node`` there, reshaped to ``shape``."""

    node: Node
    frame: int
    shape: Shape


class Rolled:
    """One scan for the copies of ``template``; with ``first`` also for the simplified copy in front of them."""

    def __init__(self, template: Template, first: FirstCopy | None, layer: str) -> None:
        self.template = template
        self.first = first
        self.count = template.count + (first is not None)
        self.block = template.region.block
        self.b = Builder(self.block, layer=layer)
        backwards = [n for n in template.leaves if n.stride < 0]
        self.reverse = 2 * len(backwards) > len(template.leaves)
        self.replaced = {v.op for node in template.steps for v in node.values} | (first.ops if first else set())
        self.states = {node.following: node for node in template.states}
        self.before = self._first_values() if first is not None else {}
        self.elements = self._external()
        self.ys: dict[Node, Value] = {}
        self.finals: dict[Node, Value] = {}

    def build(self) -> Op:
        emitted = list(dict.fromkeys(e.node for e in self.elements.values() if not self._is_final(e)))
        end = self.block.ops.pop()  # appending is quicker than inserting in front of it
        scan = self._scan(emitted)
        for concat in self._concats():
            self._join(concat)
        for value, element in self.elements.items():
            outside = [(user, i) for user, i in value.uses if user not in self.replaced]
            if outside:
                new = self._element(element)
                for user, i in outside:
                    user.set_operand(i, new)
        self.block.ops.append(end)
        sort_block(self.block)
        sweep(self.block)
        return scan

    # --- the scan ------------------------------------------------------------------------------------------------

    def _scan(self, emitted: list[Node]) -> Op:
        t = self.template
        carries: dict[str, Node] = {}
        for i, node in enumerate(t.states):
            carries[fresh_name(NAMES[min(i, 1)], carries)] = node
        leaves = {f"x{i}" if i else "x": node for i, node in enumerate(t.leaves)}
        outputs = {f"y{i}" if i else "y": node for i, node in enumerate(emitted)}

        def body(inner: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value],
                                                                                   dict[str, Value]]:
            image = {node.last: c[name] for name, node in carries.items()}
            for name, node in leaves.items():
                image[node.last] = inner.reshape(x[name], node.last.shape)
            needed = {node.last.op for node in t.nodes.values() if node.kind == "op"}
            for op in sorted((op for op in needed if op is not None), key=t.region.place.__getitem__):
                inner.insert(clone_op(op, image))
            return ({name: image[node.following[-1]] for name, node in carries.items()},
                    {name: image[node.last] for name, node in outputs.items()})

        inits = {name: self._start(node) for name, node in carries.items()}
        xs = {name: self._sequence(node) for name, node in leaves.items()}
        finals, ys = self.b.scan(inits, xs, body, steps=self.count, reverse=self.reverse)
        self.finals = {t.nodes[node.following]: finals[name] for name, node in carries.items()}
        self.ys = {node: ys[name] for name, node in outputs.items()}
        scan = next(iter(finals.values())).op
        assert scan is not None
        return scan

    def _start(self, node: Node) -> Value:
        return self.b.zeros(node.last.type) if self.first is not None else node.values[0]

    def _sequence(self, node: Node) -> Value:
        """[count, ...], in the order of time."""
        if node.kind == "stack":
            values = (*((self.first.leaves[node],) if self.first is not None else ()), *node.values)
            steps = [self.b.reshape(v, (1, *v.shape)) for v in values]
            return self.b.concat(steps[::-1] if self.reverse else steps, 0)
        assert node.source is not None
        start = node.start - (node.stride if self.first is not None else 0)
        low = start if node.stride > 0 else start + node.stride * (self.count - 1)
        part = self.b.slice(node.source, node.axis, low, self.count, abs(node.stride))
        axes = range(part.type.rank)
        part = self.b.transpose(part, (node.axis, *(a for a in axes if a != node.axis)))
        return self.b.reverse(part, 0) if (node.stride < 0) != self.reverse else part

    # --- what reads it -------------------------------------------------------------------------------------------

    def _external(self) -> dict[Value, Element]:
        """The values of the copies that other ops read."""
        found: dict[Value, Element] = {}
        for node in self.template.nodes.values():
            if node not in self.template.steps:
                continue
            before = (self.before[node],) if node in self.before else ()
            frame = self.count - len(node.values) - len(before)
            for v in (*before, *node.values):
                if any(user not in self.replaced for user in v.users()):
                    found[v] = Element(node, frame, v.shape)
                frame += 1
        return found

    def _first_values(self) -> dict[Node, Value]:
        """What the simplified first copy has for nodes of the step: its new states, and what is computed of them."""
        assert self.first is not None
        nodes, place = self.template.nodes, self.template.region.place
        found = {nodes[n.following]: n.values[0] for n in self.template.states}
        known = found | self.first.leaves | {n: n.last for n in nodes.values() if n.kind == "same"}
        for node in sorted((n for n in self.template.steps if n not in found), key=lambda n: place.get(n.last.op, 0)
                           if n.last.op is not None else 0):
            like = node.last.op
            if like is None or not all(n in known for n in node.operands):
                continue
            operands = [known[n] for n in node.operands]
            for user in next((v.users() for v, n in zip(operands, node.operands, strict=True) if n in found), []):
                if self.template.region.is_alike(user, like) and list(user.operands) == operands:
                    found[node] = known[node] = user.results[node.last.index]
                    self.replaced.add(user)
                    break
        return found

    def _is_final(self, element: Element) -> bool:
        return element.node.values in self.states and element.frame == self.count - 1

    def _element(self, element: Element) -> Value:
        if element.node not in self.ys:
            return self.finals[element.node]
        at = self.count - 1 - element.frame if self.reverse else element.frame
        return self.b.reshape(self.b.slice(self.ys[element.node], 0, at, 1), element.shape)

    def _concats(self) -> list[Op]:
        found: dict[Op, None] = {}
        for value in self.elements:
            for user in value.users():
                readers = user.result.users() if user.name == "reshape" else [user]
                found.update(dict.fromkeys(r for r in readers if r.name == "concat" and r not in self.replaced))
        return [op for op in found if op.parent is self.block]

    def _read(self, value: Value) -> Element | None:
        if value in self.elements:
            return self.elements[value]
        op = value.op
        if op is None or op.name != "reshape" or op.operands[0] not in self.elements:
            return None
        inner = self.elements[op.operands[0]]
        return Element(inner.node, inner.frame, value.shape)

    def _join(self, concat: Op) -> None:
        """Neighbouring elements among the operands of a concat become one part of the output sequence."""
        assert isinstance(concat.attrs, ConcatAttrs)
        runs: list[list[tuple[Value, Element | None]]] = []
        for value in concat.operands:
            element = self._read(value)
            if runs and _continues(runs[-1], element):
                runs[-1].append((value, element))
            else:
                runs.append([(value, element)])
        if all(len(run) == 1 for run in runs):
            return
        parts: list[Value] = []
        for run in runs:
            elements = [e for _, e in run if e is not None]
            parts.append(self._run(elements, concat.attrs.axis) if len(run) > 1 else run[0][0])
        concat.result.replace_by(self.b.concat(parts, concat.attrs.axis))

    def _run(self, elements: list[Element], axis: int) -> Value:
        first, n, shape = elements[0], len(elements), elements[0].shape
        low = min(elements[0].frame, elements[-1].frame)
        at = self.count - low - n if self.reverse else low
        part = self.b.slice(self.ys[first.node], 0, at, n)
        if (elements[1].frame < first.frame) != self.reverse:
            part = self.b.reverse(part, 0)
        part = self.b.reshape(part, (n, *shape))
        part = self.b.transpose(part, (*range(1, axis + 1), 0, *range(axis + 1, len(shape) + 1)))
        return self.b.reshape(part, (*shape[:axis], dims.mul(n, shape[axis]), *shape[axis + 1 :]))


def _continues(run: list[tuple[Value, Element | None]], element: Element | None) -> bool:
    last = run[-1][1]
    if last is None or element is None or element.node is not last.node or element.shape != last.shape:
        return False
    step = element.frame - last.frame
    if len(run) == 1:
        return step in (1, -1)
    before = run[-2][1]
    return before is not None and step == last.frame - before.frame
