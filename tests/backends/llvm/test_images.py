"""Loops over images, made by lower-conv and run by the native backend alone: every way to share the work, in bounds."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.backends.llvm import plan
from rnngraph.ir import F32, I32, Builder, Graph, TensorType, Value, build_graph, parse
from rnngraph.ir.grid_ops import CONV, ConvAttrs
from rnngraph.passes import run
from rnngraph.phases.lanes import Unsupported
from rnngraph.phases.stages import build_schedule
from rnngraph.phases.text import schedule_text
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import PLANNERS, TOLERANCE, check, native, scheduled
from tests.backends.llvm.test_bounds import needs_mprotect, run_sweep, sweep_sizes
from tests.testing import random_inputs

CLEAN = "fuse-gate-matmuls,hoist-invariant,hoist-input-projection,lower-conv,fold-constants,cse,dce"


def image_graph(kind: str, sizes: tuple[int, ...], size: int, channels: int, filters: int,
                lengths: bool = False) -> Graph:
    """A convolutional loop after lower-conv: "lstm" (one phase), or "gru" (the second convolves what the first one
    computed); odd kernels and even ones, with the odd zero in front."""
    rng, n = np.random.default_rng(0), len(sizes)
    attrs = ConvAttrs((1,) * n, (size // 2,) * n, (size - 1 - size // 2,) * n, (1,) * n)

    def kernel(b: Builder, rows: int) -> Value:
        return b.const((rng.standard_normal((*[size] * n, rows, filters)) * 0.2).astype(np.float32))

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        gates = 4 if kind == "lstm" else 3
        wx, wh = ([kernel(b, rows) for _ in range(gates)] for rows in (channels, filters))

        def conv(b: Builder, x: Value, w: Value) -> Value:
            return b.op(CONV, x, w, attrs=attrs)

        def lstm(b: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            i, f, g, o = (b.add(conv(b, x["x"], p), conv(b, c["h"], q)) for p, q in zip(wx, wh, strict=True))
            new = b.add(b.mul(b.sigmoid(f), c["c"]), b.mul(b.sigmoid(i), b.tanh(g)))
            h = b.mul(b.sigmoid(o), b.tanh(new))
            return {"h": h, "c": new}, {"y": h}

        def gru(b: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            h = c["h"]
            z, r = (b.sigmoid(b.add(conv(b, x["x"], wx[k]), conv(b, h, wh[k]))) for k in range(2))
            new = b.tanh(b.add(conv(b, x["x"], wx[2]), conv(b, b.mul(r, h), wh[2])))
            h = b.add(b.mul(z, h), b.mul(b.sub(1.0, z), new))
            return {"h": h}, {"y": h}

        carries = {name: v[f"{name}0"] for name in (("h", "c") if kind == "lstm" else ("h",))}
        finals, ys = b.scan(carries, {"x": v["x"]}, lstm if kind == "lstm" else gru, lengths=v.get("lengths"))
        return {"y": ys["y"], "h": finals["h"]}

    image = TensorType(F32, ("batch", *sizes, filters))
    inputs = {"x": TensorType(F32, ("time", "batch", *sizes, channels)), "h0": image}
    inputs |= {"c0": image} if kind == "lstm" else {}
    if lengths:
        inputs["lengths"] = TensorType(I32, ("batch",))
    graph = build_graph(inputs, body)
    run(CLEAN, graph)
    return graph


SIZES = [{"batch": b, "time": t} for b, t in ((1, 1), (3, 4), (17, 2), (2, 0), (0, 2), (3, 4))]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kind", "sizes", "size"), [("lstm", (3, 4), 3), ("gru", (5,), 2), ("gru", (2, 3, 2), 3)])
def test_against_the_reference(kind: str, sizes: tuple[int, ...], size: int, target: str) -> None:
    check(native(image_graph(kind, sizes, size, 3, 9), TARGETS[target]), SIZES, tolerance=TOLERANCE)


@pytest.mark.parametrize("mode", ["rows", "lanes"])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_shared_work_gives_the_same_bits(kind: str, threads: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = image_graph(kind, (3, 4), 3, 2, 33, lengths=True)
    alone = native(graph)
    monkeypatch.setattr(plan, "Planner", PLANNERS[mode])
    shared = native(graph, threads=threads)
    for dims in SIZES:
        inputs = random_inputs(graph, dims)
        want = alone(inputs)
        for _ in range(2):
            for name, got in shared(inputs).items():
                np.testing.assert_array_equal(got, want[name])


def test_the_schedule() -> None:
    _, schedule = scheduled(image_graph("gru", (3, 4), 3, 2, 8))
    taps = "8@-6+8@-5+8@-4+8@-1+8+8@+1+8@+4+8@+5+8@+6"
    assert schedule_text(schedule) == f"""\
stage matmul: rows time*batch*4*5
  phase 0 [24]: matmul 2@-6+2@-5+2@-4+2@-1+2+2@+1+2@+4+2@+5+2@+6 -> 1x24 | store y0
stage scan: rows batch*4*5, time steps
  carries c0[8] double
  phase 0 [8] after a barrier: 1 row scalars | matmul {taps} -> 1x8 | 5 elementwise | store tmp0
  phase 1 [8] after a barrier: 1 row scalars | matmul {taps} -> 1x8 | matmul {taps} -> 1x8 | \
9 elementwise | store c0 y0"""


def bounds(kind: str, sizes: tuple[int, ...], size: int, filters: int, target: str, mode: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if mode:
            patch.setattr(plan, "Planner", PLANNERS[mode])
        graph = image_graph(kind, sizes, size, 3, filters, lengths=filters % 2 == 1)
        sweep_sizes(native(graph, TARGETS[target], 2 if mode else 1))


@needs_mprotect
def test_bounds() -> None:
    run_sweep("from tests.backends.llvm.test_images import bounds\n"
              "bounds('lstm', (3, 4), 3, 9, list(TARGETS)[-1], None)\n"
              "bounds('gru', (5,), 4, 17, 'generic', 'rows')\nbounds('gru', (2, 3, 2), 2, 8, 'generic', 'lanes')\n"
              "bounds('lstm', (1, 1), 5, 5, 'generic', None)")


# --- shift_rows without the promise ---------------------------------------------------------------------------------

SHIFTED = """graph @main(%x: f32[T,B,5], %h0: f32[B,5]) {
  %w = const splat(0.5) : f32[5,5]
  %hT, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%h: f32[B,5], %u: f32[B,5]):
    %s = shift_rows %h {by = -1, image = 0} : f32[B,5]
    %p = matmul %s, %w : f32[B,5]
    %d = shift_rows %h {by = 2, image = 0} : f32[B,5]
    %q = sub %p, %d : f32[B,5]
    %r = add %q, %u : f32[B,5]
    %n = tanh %r : f32[B,5]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,5], f32[T,B,5]
  return y = %y
}"""


@pytest.mark.parametrize("mode", ["rows", "lanes"])
def test_rows_of_a_batch_that_depend_on_each_other(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No promise: threads may share lanes, never rows."""
    monkeypatch.setattr(plan, "Planner", PLANNERS[mode])
    check(native(SHIFTED, threads=2), [{"T": 4, "B": b} for b in (1, 2, 7, 40)])


def test_what_shifted_rows_cannot_do() -> None:
    moved = parse("graph @g(%x: f32[B,5]) { %s = shift_rows %x {by = 1} : f32[B,5]  return s = %s }")
    with pytest.raises(Unsupported, match="shifted rows that no loop reads"):
        build_schedule(moved.block.body, moved.outputs)
    sequence = SHIFTED.replace("shift_rows %h {by = 2, image = 0}", "shift_rows %u {by = 2, image = 0}")
    with pytest.raises(Unsupported, match="rows of a sequence are read beyond those of their step"):
        scheduled(sequence)
