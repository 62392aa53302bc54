"""If: a known condition takes one branch, another selects from both. Scan and Loop: `frontends.onnx.scans`, `loops`."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.depends import is_data
from rnngraph.frontends.onnx import loops, scans
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item, handler
from rnngraph.frontends.onnx.walker import tensor_of, walker
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("If", raw=True)
def if_(node: Node, condition: Item) -> tuple[Item, ...]:
    """The branch that a known condition chooses; where it is computed data, both, of which the outputs are selected."""
    chosen = _known_condition(node, condition)
    branches = [node.graph(n) for n in ("then_branch", "else_branch")]
    if chosen is not None:
        return tuple(walker().body(branches[0 if chosen else 1], []))
    flag = tensor_of(condition)
    assert flag is not None
    yes, no = (walker().body(b, []) for b in branches)
    if len(yes) != len(no):
        raise ImportModelError(f"{node}: its branches have {len(yes)} and {len(no)} outputs")
    return tuple(_selected(node, ops.reshape(flag, ()), a, b) for a, b in zip(yes, no, strict=True))


def _known_condition(node: Node, condition: Item) -> bool | None:
    if isinstance(condition, Tensor) and is_data(condition):
        return None
    known = walker().known(node, condition)
    if known is None or known.symbolic or known.array.size != 1:
        raise ImportModelError(f"{node}: expected one bool as its condition")
    return bool(known.array.reshape(-1)[0])


def _selected(node: Node, flag: Tensor, a: Item, b: Item) -> Tensor:
    yes, no = tensor_of(a), tensor_of(b)
    if yes is None or no is None or yes.type != no.type:
        shown = " and ".join("none" if t is None else str(t.type) for t in (yes, no))
        raise ImportModelError(f"{node}: its condition is known only when the model runs, so its branches must give "
                               f"outputs of one shape; got {shown}")
    return ops.where(flag, yes, no)


@handler("Scan", raw=True)
def scan(node: Node, *inputs: Item) -> tuple[Item, ...]:
    if node.version < 9:
        return scans.scan_8(node, inputs)
    return scans.scan_9(node, inputs)


@handler("Loop", raw=True)
def loop(node: Node, count: Item, condition: Item, *carried: Item) -> tuple[Item, ...]:
    return loops.loop(node, count, condition, carried)
