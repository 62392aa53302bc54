"""Values, uses, erasing, moving; the builder; networkx and DOT."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from rnngraph.errors import InputError, IRError, ShapeError
from rnngraph.ir import (
    F32,
    F64,
    I32,
    Builder,
    Graph,
    Literal,
    TensorType,
    bind_dims,
    build_graph,
    evaluate,
    ops,
    parse,
    verify,
)
from rnngraph.ir.builder import broadcast_shapes, make_op

TEXT = """graph @g(%x: f32[T,B,4], %k: f32[B,4]) {
  %y = scan carry() over(x = %x) {steps = T} {
  ^(%xt: f32[B,4]):
    %a = add %xt, %k : f32[B,4] <layer = "enc \\"1\\"">
    yield carry() emit(y = %a)
  } : f32[T,B,4]
  %n = neg %y : f32[T,B,4]
  return n = %n
}"""


def test_uses_follow_operands() -> None:
    graph = parse(TEXT)
    scan, neg = graph.block.ops[:2]
    assert scan.result.users() == [neg]
    assert scan.blocks[0].captures() == [graph.inputs[1]]
    neg.set_operands([graph.inputs[0]])
    assert not scan.result.uses
    assert graph.inputs[0].users() == [scan, neg]


def test_erase_refuses_used_results_and_takes_bodies_along() -> None:
    graph = parse(TEXT)
    scan, neg = graph.block.ops[:2]
    with pytest.raises(IRError, match="cannot erase 'scan': a result is still used by neg"):
        scan.erase()
    neg.result.replace_by(graph.inputs[0])
    neg.erase()
    scan.erase()
    assert not graph.inputs[1].uses
    assert graph.to_text() == "graph @g(%x: f32[T,B,4], %k: f32[B,4]) {\n  return n = %x\n}\n"


def test_replace_by_keeps_types() -> None:
    graph = parse(TEXT)
    with pytest.raises(IRError, match=r"cannot replace a value of type f32\[T,B,4\] by one of type f32\[B,4\]"):
        graph.inputs[0].replace_by(graph.inputs[1])


def test_arguments_and_inputs() -> None:
    graph = parse(TEXT)
    with pytest.raises(IRError, match="cannot remove block argument 0: it is still used"):
        graph.block.remove_arg(0)
    with pytest.raises(IRError, match="already has an input named 'k'"):
        graph.add_input(TensorType(F32, ()), "k")
    assert graph.symbols() == ["T", "B"]
    assert graph.input_names == ("x", "k")
    assert graph.output_names == ("n",)


def test_types_check_their_dims() -> None:
    assert str(TensorType(F32, ("T", 4))) == "f32[T,4]"
    for bad, message in ((-1, r"a dim is in 0\.\.2\*\*48"), (2**48 + 1, "a larger number"), ("a b", "an identifier"),
                         ("T+0", "is spelled T"), (True, "an int, a symbol's name")):
        with pytest.raises(ShapeError, match=message):
            TensorType(F32, (bad,))


def test_literals_compare_by_bits() -> None:
    zero, minus = Literal(np.array([0.0], np.float32)), Literal(np.array([-0.0], np.float32))
    assert zero != minus
    assert zero == Literal(np.zeros(1, np.float32))
    assert zero != Literal(np.zeros(1, np.float64))
    assert Literal(np.array([np.nan, np.nan], np.float32)).splat is not None
    assert Literal(np.array([1, 2], np.float32)).splat is None
    assert Literal(np.zeros((0, 3), np.float32)).splat is None
    with pytest.raises(ValueError, match="read-only"):
        zero.array[0] = 1


def test_builder_broadcasts_explicitly() -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, ("B", 1, 4)), "x")
    w = graph.add_input(TensorType(F32, (3, 4)), "w")
    b = Builder(graph.block)
    y = b.mul(b.add(x, w), 2.0)
    assert y.shape == ("B", 3, 4)
    b.ret({"y": y})
    verify(graph)
    a, c = np.ones((2, 1, 4), np.float32), np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(evaluate(graph, {"x": a, "w": c})["y"], (a + c) * 2)


def test_builder_errors_name_the_layer() -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, ("B", 4)), "x")
    b = Builder(graph.block, layer="dense")
    with pytest.raises(ShapeError, match="layer 'dense': matmul: inner dims differ"):
        b.matmul(x, x)
    with pytest.raises(ShapeError, match=r"^matmul: inner dims differ"):
        make_op(ops.MATMUL, (x, x))
    with pytest.raises(ShapeError, match="attributes must be AxisAttrs, got Attrs"):
        make_op(ops.REVERSE, (x,))
    with pytest.raises(ShapeError, match="cannot cut dim 4"):
        b.split(x, 3)
    with pytest.raises(ShapeError, match=r"scan without sequences needs steps="):
        b.scan({}, {}, lambda s, c, x: ({}, {}))
    with pytest.raises(ShapeError, match=r"a step must return the carries \['h'\], got \['k'\]"):
        b.scan({"h": x}, {}, lambda s, c, x: ({"k": c["h"]}, {}), steps=3)
    with pytest.raises(ShapeError, match=r"shapes \[B,4\] and \[3,5\] do not broadcast"):
        broadcast_shapes([("B", 4), (3, 5)])


def test_build_graph() -> None:
    graph = build_graph({"x": TensorType(F64, ("B",))}, lambda b, v: {"y": b.tanh(v["x"])}, name="one")
    assert graph.to_text() == "graph @one(%x: f64[B]) {\n  %0 = tanh %x : f64[B]\n  return y = %0\n}\n"


def test_evaluate_says_what_does_not_fit() -> None:
    graph = parse(TEXT)
    x, k = np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.float32)
    assert evaluate(graph, {"x": x, "k": k})["n"].shape == (2, 3, 4)
    assert evaluate(graph, {"x": x, "k": k}, float64=True)["n"].dtype == np.float64
    with pytest.raises(InputError, match=r"missing input\(s\) \['k'\]"):
        evaluate(graph, {"x": x})
    with pytest.raises(InputError, match=r"unknown input\(s\) \['z'\]"):
        evaluate(graph, {"x": x, "k": k, "z": k})
    with pytest.raises(InputError, match=r"input 'x': expected f32\[T,B,4\] \(rank 3\), got shape \(3, 4\)"):
        evaluate(graph, {"x": k, "k": k})
    with pytest.raises(InputError, match=r"input 'k': .*axis 1 is 5, not 4"):
        evaluate(graph, {"x": x, "k": np.zeros((3, 5))})
    with pytest.raises(InputError, match="input 'k': dim 'B' is 2 here but 3 in 'x'"):
        evaluate(graph, {"x": x, "k": np.zeros((2, 4))})
    types = {"x": TensorType(I32, ("A", "A"))}
    assert bind_dims(types, {"x": np.zeros((2, 2), np.int32)}) == {"A": 2}


def test_networkx_view() -> None:
    dataflow = parse(TEXT).to_networkx()
    labels = nx.get_node_attributes(dataflow, "label")
    node = {v: k for k, v in labels.items()}
    assert nx.is_directed_acyclic_graph(dataflow)
    assert [labels[n] for n in dataflow.predecessors(node["add"])] == ["%xt", "%k"]
    assert node["scan"] in dataflow.successors(node["%k"])  # a capture counts for the order of the scan
    assert dataflow.nodes[node["add"]]["scope"] == node["scan"]
    assert dataflow.nodes[node["add"]]["layer"] == 'enc "1"'
    assert dataflow.nodes[node["scan"]]["type"] == "f32[T,B,4]"
    assert nx.dag_longest_path_length(dataflow) >= 3


def test_dot_quotes_and_nests() -> None:
    dot = parse(TEXT).to_dot()
    assert dot.startswith('digraph "g" {')
    assert dot.count("subgraph cluster_") == 1
    assert '\\"1\\"' in dot
    assert dot.count("->") == sum(len(op.operands) for op in parse(TEXT).walk())
    assert dot.count("{") == dot.count("}")
