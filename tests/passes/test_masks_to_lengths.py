"""masks-to-lengths: rows that a step leaves alone from their length on are the lengths of the scan."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.ir import Array, evaluate, parse
from rnngraph.passes import run
from tests.testing import assert_rewrites


def loop(condition: str, *, negated: bool = False, output: str = "zero", reverse: bool = False, h0: str = "zero",
         kept: str = "%hh") -> str:
    """A state under a mask; ``condition`` compares %t, the step in all rows, with %n, the rows' lengths."""
    new, old = ("%s, %new" if negated else "%new, %s").split(", ")
    state = f"select %rows, {new}, {old}".replace("%s", kept)
    out = f"select %rows, {new}, {old}".replace("%s", "%zeros")
    start = "const splat(0.0)" if h0 == "zero" else "const splat(0.5)"
    return f"""graph @g(%x: f32[T,B,2], %n: i32[B]) {{
      %z = {start} : f32[]
      %h0 = broadcast %z {{shape = [B, 2], axes = []}} : f32[B,2]
      %i = iota {{size = T, dtype = i32}} : i32[T]
      %h, %y = scan carry(h = %h0) over(x = %x, i = %i) {{steps = T{", reverse = true" if reverse else ""}}} {{
      ^(%hh: f32[B,2], %xx: f32[B,2], %ii: i32[]):
        %zero = const splat(0.0) : f32[]
        %zeros = broadcast %zero {{shape = [B, 2], axes = []}} : f32[B,2]
        %t = broadcast %ii {{shape = [B], axes = []}} : i32[B]
        %c = {condition} : bool[B]
        %rows = broadcast %c {{shape = [B, 2], axes = [0]}} : bool[B,2]
        %s = add %xx, %hh : f32[B,2]
        %new = tanh %s : f32[B,2]
        %next = {state} : f32[B,2]
        %out = {out} : f32[B,2]
        yield carry(h = %next) emit(y = {"%out" if output == "zero" else "%next"})
      }} : f32[B,2], f32[T,B,2] <layer = rnn>
      return y = %y, h = %h
    }}"""


def test_the_scan_has_lengths() -> None:
    assert_rewrites(
        loop("lt %t, %n"), "masks-to-lengths",
        """graph @g(%x: f32[T,B,2], %n: i32[B]) {
          %z = const splat(0.0) : f32[]
          %h0 = broadcast %z {shape = [B, 2], axes = []} : f32[B,2]
          %i = iota {size = T, dtype = i32} : i32[T]
          %none = const splat(0) : i32[] <layer = rnn>
          %least = broadcast %none {shape = [B], axes = []} : i32[B] <layer = rnn>
          %low = max %n, %least : i32[B] <layer = rnn>
          %size = size {dim = T, dtype = i32} : i32[] <layer = rnn>
          %most = broadcast %size {shape = [B], axes = []} : i32[B] <layer = rnn>
          %lengths = min %low, %most : i32[B] <layer = rnn>
          %h, %y = scan carry(h = %h0) over(x = %x) lengths(%lengths) {steps = T} {
          ^(%hh: f32[B,2], %xx: f32[B,2]):
            %s = add %xx, %hh : f32[B,2]
            %new = tanh %s : f32[B,2]
            yield carry(h = %new) emit(y = %new)
          } : f32[B,2], f32[T,B,2] <layer = rnn>
          return y = %y, h = %h
        }""", remarks=[
            "applied: masks-to-lengths: rnn: its mask compares the step with %n: now the lengths of the scan"])


CONDITIONS = [("lt %t, %n", False), ("gt %n, %t", False), ("ge %t, %n", True), ("le %n, %t", True),
              ("le %t, %n", False), ("ge %n, %t", False), ("lt %n, %t", True), ("gt %t, %n", True)]


@pytest.mark.parametrize("output", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("condition", "negated"), CONDITIONS)
def test_all_comparisons(condition: str, negated: bool, reverse: bool, output: str) -> None:
    """Of rows that end before the first step, within, and beyond the last one."""
    before = parse(loop(condition, negated=negated, output=output, reverse=reverse))
    after = before.clone()
    run("masks-to-lengths", after)
    assert "lengths(" in str(after)
    inputs: dict[str, Array] = {"x": np.random.default_rng(0).standard_normal((5, 8, 2)),
                                "n": np.arange(-1, 7, dtype=np.int32)}
    wanted, found = (evaluate(g, inputs, float64=True) for g in (before, after))
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=0, atol=0)


@pytest.mark.parametrize("text", [
    loop("lt %t, %n", kept="%xx"),  # rows that are done take what comes in, they do not stay
    loop("eq %t, %n"),  # one step alone
    loop("lt %t, %n", output="repeat", h0="half"),  # before the first step, such outputs are not zero
])
def test_other_masks_stay(text: str) -> None:
    assert_rewrites(text, "masks-to-lengths", None, remarks=[])


def test_outputs_times_the_condition() -> None:
    """As tf2onnx writes tf.where with zeros."""
    text = loop("lt %t, %n").replace("%out = select %rows, %new, %zeros : f32[B,2]",
                                     "%flags = cast %c {dtype = f32} : f32[B]\n"
                                     "%wide = broadcast %flags {shape = [B, 2], axes = [0]} : f32[B,2]\n"
                                     "%out = mul %new, %wide : f32[B,2]")
    assert "mul %new" in text
    before, after = parse(text), parse(text)
    run("masks-to-lengths,dce", after)
    scan = next(op for op in after.walk() if op.name == "scan")
    assert "lengths(" in after.to_text()
    assert [op.name for op in scan.blocks[0].body] == ["add", "tanh"]
    x, n = np.random.default_rng(0).standard_normal((5, 4, 2)).astype(np.float32), np.array([5, 0, 2, 9], np.int32)
    for expected, got in zip(evaluate(before, {"x": x, "n": n}).values(), evaluate(after, {"x": x, "n": n}).values(),
                             strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=0)
