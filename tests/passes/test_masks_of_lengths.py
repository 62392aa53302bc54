"""raise-rnn: a mask t < lengths, made in front of the scan, becomes the scan's lengths."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.ir import F32, I32, Builder, Graph, TensorType, Value, build_graph, evaluate, ops
from rnngraph.ir.size_ops import IOTA, IotaAttrs
from rnngraph.passes import run
from rnngraph.rewrite import PassContext


def graph(where: str, gives: str, start: str = "zeros") -> Graph:
    def build(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        rng = np.random.default_rng(0)
        w, u = (b.const(rng.uniform(-1, 1, s).astype(np.float32)) for s in ((3, 4), (4, 4)))
        xs, carries = {"x": v["x"]}, {"h": b.full(0.0, ("B", 4)) if start == "zeros" else v["h"]}
        iota = b.op(IOTA, attrs=IotaAttrs("T", I32))
        shape, axis = (("T", "B"), 0) if where == "mask" else (("B", "T"), 1)
        mask = b.op(ops.LT, b.broadcast(iota, shape, (axis,)), b.broadcast(v["lengths"], shape, (1 - axis,)))
        xs["m"] = mask if axis == 0 else b.transpose(mask, (1, 0))

        def body(inner: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value],
                                                                                   dict[str, Value]]:
            wide = inner.broadcast(x["m"], ("B", 4), (0,))
            new = inner.tanh(inner.add(inner.matmul(x["x"], w), inner.matmul(c["h"], u)))
            h = inner.op(ops.SELECT, wide, new, c["h"])
            y = {"state": h, "zeros": inner.op(ops.SELECT, wide, new, inner.full(0.0, ("B", 4))),
                 "unmasked": new}[gives]
            return {"h": h}, {"y": y}

        finals, ys = b.scan(carries, xs, body)
        return {"h": finals["h"], "y": ys["y"]}

    return build_graph({"x": TensorType(F32, ("T", "B", 3)), "lengths": TensorType(I32, ("B",)),
                        "h": TensorType(F32, ("B", 4))}, build)


def same(before: Graph, after: Graph) -> None:
    rng = np.random.default_rng(1)
    inputs = {"x": rng.standard_normal((5, 6, 3)).astype(np.float32),
              "h": rng.standard_normal((6, 4)).astype(np.float32), "lengths": np.array([5, 0, 3, 9, -2, 1], np.int32)}
    want, got = (evaluate(g, inputs, float64=True) for g in (before, after))
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("gives", ["state", "zeros"])
@pytest.mark.parametrize("where", ["mask", "transposed mask"])
def test_lengths(where: str, gives: str) -> None:
    before = graph(where, gives)
    after, context = before.clone(), PassContext()
    run("raise-rnn", after, context)
    same(before, after)
    assert [op.name for op in after.walk() if op.name in ("rnn", "scan")] == ["rnn"]
    assert "lengths = true" in after.to_text()
    assert "the scan has lengths instead" in str(context.remarks[0])


@pytest.mark.parametrize(("gives", "start"), [("unmasked", "zeros"), ("state", "given")])
def test_other_outputs_stay(gives: str, start: str) -> None:
    """What lengths cannot say: outputs that go on past the end, and a first state repeated."""
    before = graph("mask", gives, start)
    after = before.clone()
    run("raise-rnn", after)
    assert after.to_text() == before.to_text()
