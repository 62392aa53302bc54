"""Control flow: _foreach, a graph that runs over the first axis of its data."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.frontends.mxnet.walker import same, walker
from rnngraph.nn.scan import scan
from rnngraph.nn.tensor import Tensor

MAX_OUTPUTS = 2**16


def _names(node: Node) -> tuple[str, ...]:
    count = min(node.attrs.integer("num_outputs"), MAX_OUTPUTS)
    return ("output",) if count == 1 else tuple(f"output{i}" for i in range(count))


@handler("_foreach", outputs=_names)
def foreach(node: Node, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The inputs are data, states, and what stays the same; the locations say which variable of the graph each is."""
    if len(node.graphs) != 1:
        raise ImportModelError(f"{node}: expected one graph, got {len(node.graphs)}")
    graph = node.graphs[0]
    names = [v.name for v in graph.variables]
    data, states, fixed = (node.attrs.ints(n, ()) for n in ("in_data_locs", "in_state_locs", "remain_locs"))
    places = (*data, *states, *fixed)
    if len(places) != len(inputs) or sorted(places) != list(range(len(names))) or not data:
        raise ImportModelError(f"{node}: locations {data}, {states} and {fixed} do not fit {len(inputs)} inputs and "
                               f"{len(names)} variables")
    count = node.attrs.integer("num_out_data")
    if not 0 <= count <= len(graph.heads) or len(graph.heads) - count != len(states):
        raise ImportModelError(f"{node}: {len(graph.heads)} outputs of the graph are not {count} outputs and "
                               f"{len(states)} states")
    rest = dict(zip((names[i] for i in fixed), inputs[len(data) + len(states) :], strict=True))
    own = walker()

    def step(carry: list[Tensor], x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        given = dict(zip((names[i] for i in (*data, *states)), (*x, *carry), strict=True))
        outputs = own.body(graph, {**rest, **given})
        if own.unsupported:
            raise ImportModelError(f"{node}: in its graph {'; '.join(own.unsupported[:20])} not supported")
        for new, old in zip(outputs[count:], carry, strict=True):
            same(node, new.shape, old.shape)
        return outputs[count:], outputs[:count]

    finals, ys = scan(step, list(inputs[len(data) : len(data) + len(states)]), list(inputs[: len(data)]))
    return (*ys, *finals)
