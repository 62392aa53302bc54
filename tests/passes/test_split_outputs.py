"""raise-rnn: outputs that a step computes from its new h are computed behind the node."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.ir import F32, I32, Builder, Graph, TensorType, Value, build_graph, ops
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.testing import assert_same_numbers


def graph(lengths: bool, reverse: bool, pad: str, reads: str) -> Graph:
    def build(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        rng = np.random.default_rng(0)
        w, u, head = (b.const(rng.uniform(-1, 1, s).astype(np.float32)) for s in ((3, 4), (4, 4), (4, 3)))
        bias = b.const(rng.uniform(-1, 1, 3).astype(np.float32))

        def body(inner: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value],
                                                                                   dict[str, Value]]:
            new = inner.tanh(inner.add(inner.matmul(x["x"], w), inner.matmul(c["h"], u)))
            y = inner.add(inner.matmul(new, head), inner.broadcast(bias, ("B", 3)))
            y = inner.op(ops.SOFTMAX, y, attrs=ops.AxisAttrs(1))
            other = {"x": x["x"], "state": inner.slice(c["h"], 1, 0, 3), "row": v["z"]}[reads]
            y = inner.mul(y, other)
            y = inner.mul(y, inner.broadcast(inner.reduce(ops.REDUCE_MAX, y, (1,)), ("B", 3), (0,)))
            return {"h": new}, {"y": inner.reshape(y, ("B", 1, 3)), "h": new}

        finals, ys = b.scan({"h": v["h"]}, {"x": v["x"]}, body, lengths=v.get("lengths"), reverse=reverse, pad=pad)
        return {**finals, "ys": ys["y"], "hs": ys["h"]}

    types = {"x": TensorType(F32, ("T", "B", 3)), "h": TensorType(F32, ("B", 4)), "z": TensorType(F32, ("B", 3))}
    return build_graph(types | ({"lengths": TensorType(I32, ("B",))} if lengths else {}), build)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("reads", ["x", "row"])
def test_outputs(lengths: bool, reverse: bool, pad: str, reads: str) -> None:
    before = graph(lengths, reverse, pad, reads)
    after, context = before.clone(), PassContext()
    run("raise-rnn", after, context)
    assert_same_numbers(before, after, rtol=1e-9, atol=1e-10)
    assert [op.name for op in after.walk() if op.name in ("rnn", "scan")] == ["rnn", *(["scan"] if lengths else [])]
    assert any("computed behind the scan" in str(r) for r in context.remarks)


def test_outputs_that_read_the_old_state_stay() -> None:
    before = graph(False, False, "zero", "state")
    context = PassContext()
    run("raise-rnn", before, context)
    assert [op.name for op in before.walk() if op.name in ("rnn", "scan")] == ["scan"]
    assert "output sequence y is not the new state h" in str(context.remarks[0])
