"""Graphs of one recurrent layer, written in the many ways in which people write the same cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rnngraph.ir import F32, I32, Builder, Graph, TensorType, Value, build_graph, ops

UNITS, FEATURES = 4, 5
GATES = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}


@dataclass(frozen=True)
class Variant:
    """How a cell is written.

    order      the gates' order in fused weights        bias     none | one | two | number (in the graph, on f or z)
    bias_form  fused | gate: added before or after the split
    layout     split | joined | concat | slices: a matmul per gate, one per operand, one on [x, h], one per half of x
    sigmoid    op | exp | tanh                          update   which of the equal forms of the state equation
    flip       GRU: z multiplies the candidate          swap     operands of commutative ops in the other order
    hoisted    x @ W stands outside the scan            proj     LSTM: size of the projected h, 0 for none
    """

    mode: str = "lstm"
    order: str = ""
    bias: str = "one"
    bias_form: str = "fused"
    layout: str = "joined"
    sigmoid: str = "op"
    update: int = 0
    flip: bool = False
    swap: bool = False
    hoisted: bool = False
    reset_after: bool = True
    reverse: bool = False
    lengths: bool = False
    pad: str = "zero"
    layer: str = "cell"
    proj: int = 0


class Cell:
    """Builds one step of a variant; weights are random constants in the builder's block."""

    def __init__(self, v: Variant, seed: int = 0) -> None:
        self.v = v
        self.order = v.order or GATES[v.mode]
        self.rng = np.random.default_rng(seed)

    def const(self, b: Builder, *shape: int) -> Value:
        return b.const(self.rng.standard_normal(shape).astype(np.float32))

    def add(self, b: Builder, p: Value, q: Value) -> Value:
        return b.add(q, p) if self.v.swap else b.add(p, q)

    def mul(self, b: Builder, p: Value, q: Value) -> Value:
        return b.mul(q, p) if self.v.swap else b.mul(p, q)

    def sigmoid(self, b: Builder, a: Value) -> Value:
        if self.v.sigmoid == "exp":
            return b.div(1.0, self.add(b, b.unify(1.0, a)[0], b.op(ops.EXP, b.op(ops.NEG, a))))
        if self.v.sigmoid == "tanh":
            return b.add(b.mul(b.tanh(b.mul(a, 0.5)), 0.5), 0.5)
        return b.sigmoid(a)

    def project(self, b: Builder, x: Value, gates: str) -> dict[str, Value]:
        """x @ W for each gate, before biases."""
        n, width = len(gates), x.shape[-1]
        assert isinstance(width, int)
        if self.v.layout == "split":
            return {g: b.matmul(x, self.const(b, width, UNITS)) for g in gates}
        if self.v.layout == "slices":
            k = width // 2
            left = b.matmul(b.slice(x, -1, 0, k), self.const(b, k, n * UNITS))
            right = b.matmul(b.slice(x, -1, k, width - k), self.const(b, width - k, n * UNITS))
            return dict(zip(gates, b.split(self.add(b, left, right), n), strict=True))
        return dict(zip(gates, b.split(b.matmul(x, self.const(b, width, n * UNITS)), n), strict=True))

    def biased(self, b: Builder, pre: Mapping[str, Value]) -> dict[str, Value]:
        if self.v.bias == "none":
            return dict(pre)
        if self.v.bias == "number":
            return {g: b.add(p, 1.0) if g in "fz" else p for g, p in pre.items()}
        if self.v.bias_form == "gate":
            return {g: self.add(b, p, b.broadcast(self.const(b, UNITS), p.shape)) for g, p in pre.items()}
        joined = b.concat(list(pre.values()), -1)
        bias = b.broadcast(self.const(b, len(pre) * UNITS), joined.shape)
        return dict(zip(pre, b.split(self.add(b, joined, bias), len(pre)), strict=True))

    def input_side(self, b: Builder, x: Value) -> dict[str, Value]:
        return self.biased(b, self.project(b, x, self.order))

    def state_side(self, b: Builder, h: Value, gates: str) -> dict[str, Value]:
        pre = self.project(b, h, gates)
        return self.biased(b, pre) if self.v.bias == "two" else pre

    def step(self, b: Builder, gx: Mapping[str, Value], x: Value, state: dict[str, Value]) -> dict[str, Value]:
        if self.v.mode == "gru":
            return self.gru(b, gx, state["h"])
        if self.v.layout == "concat" and not self.v.hoisted:
            a = self.biased(b, self.project(b, b.concat([x, state["h"]], 1), self.order))
        else:
            gh = self.state_side(b, state["h"], self.order)
            a = {g: self.add(b, gx[g], gh[g]) for g in self.order}
        if self.v.mode == "rnn_tanh":
            return {"h": b.tanh(a["h"])}
        if self.v.mode == "rnn_relu":
            return {"h": b.elementwise(ops.MAX, a["h"], 0.0) if self.v.swap else b.op(ops.RELU, a["h"])}
        kept = self.mul(b, self.sigmoid(b, a["f"]), state["c"])
        written = self.mul(b, self.sigmoid(b, a["i"]), b.tanh(a["g"]))
        c = self.add(b, kept, written)
        h = self.mul(b, self.sigmoid(b, a["o"]), b.tanh(c))
        return {"h": b.matmul(h, self.const(b, UNITS, self.v.proj)) if self.v.proj else h, "c": c}

    def gru(self, b: Builder, gx: Mapping[str, Value], h: Value) -> dict[str, Value]:
        gh = self.state_side(b, h, self.order if self.v.reset_after else "rz")
        r, z = (self.sigmoid(b, self.add(b, gx[g], gh[g])) for g in "rz")
        if self.v.reset_after:
            inner = self.mul(b, r, gh["n"])
        else:
            inner = self.state_side(b, self.mul(b, r, h), "n")["n"]
        n = b.tanh(self.add(b, gx["n"], inner))
        if self.v.flip:
            n, h = h, n
        forms = (lambda: b.add(b.mul(b.sub(1.0, z), n), self.mul(b, z, h)),
                 lambda: b.add(n, self.mul(b, z, b.sub(h, n))),
                 lambda: b.add(b.mul(z, b.sub(h, n)), n),
                 lambda: b.add(h, self.mul(b, b.sub(1.0, z), b.sub(n, h))))
        return {"h": forms[self.v.update % 4]()}


def cell_graph(v: Variant, seed: int = 0) -> Graph:
    """Inputs x [T,B,FEATURES], h and c [B,UNITS], lengths; outputs y, h_n, c_n."""
    def body(b: Builder, values: dict[str, Value]) -> dict[str, Value]:
        cell = Cell(v, seed)
        states = {n: s for n, s in values.items() if n in ("h", "c")}
        with b.named(v.layer):
            xs = cell.input_side(b, values["x"]) if v.hoisted else {"x": values["x"]}

            def step(s: Builder, state: dict[str, Value],
                     x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
                joined = v.layout == "concat" and v.mode != "gru"
                gx = x if v.hoisted else {} if joined else cell.input_side(s, x["x"])
                new = cell.step(s, gx, x.get("x", state["h"]), state)
                return new, {"y": new["h"]}

            last, ys = b.scan(states, xs, step, lengths=values.get("lengths"), reverse=v.reverse, pad=v.pad)
        return {"y": ys["y"], **{f"{n}_n": s for n, s in last.items()}}

    inputs = {"x": TensorType(F32, ("T", "B", FEATURES)), "h": TensorType(F32, ("B", v.proj or UNITS))}
    if v.mode == "lstm":
        inputs["c"] = TensorType(F32, ("B", UNITS))
    if v.lengths:
        inputs["lengths"] = TensorType(I32, ("B",))
    return build_graph(inputs, body)
