"""canonicalize: arithmetic, casts, reductions; the other patterns have files of their own."""

from __future__ import annotations

import pytest

from tests.testing import assert_keeps_numbers, assert_rewrites

ONE_LINE = "graph @g(%x: f32[B,4], %z: f32[B,4], %c: bool[B,4]) {{ {} return y = %y }}"


def constant(number: object, name: str = "k", dtype: str = "f32") -> str:
    return (f"%{name}0 = const splat({number}) : {dtype}[]  "
            f"%{name} = broadcast %{name}0 {{shape = [B, 4], axes = []}} : {dtype}[B,4] ")


@pytest.mark.parametrize("text", [
    constant(0.0) + "%y = add %x, %k : f32[B,4]",
    constant(0.0) + "%y = add %k, %x : f32[B,4]",
    constant(0.0) + "%y = sub %x, %k : f32[B,4]",
    constant(1.0) + "%y = mul %k, %x : f32[B,4]",
    constant(1.0) + "%y = div %x, %k : f32[B,4]",
    constant(1.0) + "%y = pow %x, %k : f32[B,4]",
    "%a = neg %x : f32[B,4]  %y = neg %a : f32[B,4]",
    "%y = max %x, %x : f32[B,4]",
    "%y = min %x, %x : f32[B,4]",
    "%y = select %c, %x, %x : f32[B,4]",
    constant("true", dtype="bool") + "%y = select %k, %x, %z : f32[B,4]",
    constant("false", dtype="bool") + "%y = select %k, %z, %x : f32[B,4]",
    "%y = cast %x {dtype = f32} : f32[B,4]",
    "%a = cast %x {dtype = f64} : f64[B,4]  %y = cast %a {dtype = f32} : f32[B,4]",
    "%y = reshape %x {shape = [B, 4]} : f32[B,4]",
    "%y = transpose %x {perm = [0, 1]} : f32[B,4]",
    "%a = transpose %x {perm = [1, 0]} : f32[4,B]  %y = transpose %a {perm = [1, 0]} : f32[B,4]",
    "%y = broadcast %x {shape = [B, 4], axes = [0, 1]} : f32[B,4]",
    "%a = reverse %x {axis = 0} : f32[B,4]  %y = reverse %a {axis = 0} : f32[B,4]",
    "%y = slice %x {axis = 0, start = 0, size = B} : f32[B,4]",
    "%y = slice %x {axis = 1, start = -4, size = 4} : f32[B,4]",
    "%y = concat %x {axis = 0} : f32[B,4]",
    "%a = slice %x {axis = 1, start = 0, size = 1} : f32[B,1]  %b = slice %x {axis = 1, start = 1, size = 3} : f32[B,3]"
    "  %y = concat %a, %b {axis = 1} : f32[B,4]",
])
def test_is_x_itself(text: str) -> None:
    before = ONE_LINE.format(text)
    assert_rewrites(before, "canonicalize", ONE_LINE.format("").replace("= %y", "= %x"))
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)


@pytest.mark.parametrize(("text", "after"), [
    ("%a = neg %z : f32[B,4]  %y = add %x, %a : f32[B,4]", "%y = sub %x, %z : f32[B,4]"),
    ("%a = neg %x : f32[B,4]  %y = add %a, %z : f32[B,4]", "%y = sub %z, %x : f32[B,4]"),
    ("%a = neg %z : f32[B,4]  %y = sub %x, %a : f32[B,4]", "%y = add %x, %z : f32[B,4]"),
    (constant(2.0) + "%y = pow %x, %k : f32[B,4]", "%y = mul %x, %x : f32[B,4]"),
    (constant(3.0) + "%y = mul %k, %x : f32[B,4]", constant(3.0) + "%y = mul %x, %k : f32[B,4]"),
    ("%n = not %c : bool[B,4]  %y = select %n, %x, %z : f32[B,4]", "%y = select %c, %z, %x : f32[B,4]"),
    ("%a = cast %x {dtype = f64} : f64[B,4]  %y = cast %a {dtype = f16} : f16[B,4]",
     "%y = cast %x {dtype = f16} : f16[B,4]"),
    (constant(2.0, "p") + constant(3.0, "q") + "%y = sub %p, %q : f32[B,4]",
     "%p0 = const splat(2.0) : f32[]  %q0 = const splat(3.0) : f32[]  %s = sub %p0, %q0 : f32[]"
     "  %y = broadcast %s {shape = [B, 4], axes = []} : f32[B,4]"),
    ("%a = reshape %x {shape = [4, B]} : f32[4,B]  %y = reshape %a {shape = [B, 2, 2]} : f32[B,2,2]",
     "%y = reshape %x {shape = [B, 2, 2]} : f32[B,2,2]"),
    ("%a = reshape %x {shape = [B, 1, 4]} : f32[B,1,4]  %y = reduce_mean %a {axes = [1]} : f32[B,4]",
     ""),
    (constant(0.0) + "%f = cast %c {dtype = f32} : f32[B,4]  %y = mul %f, %k : f32[B,4]",
     "%k = const splat(0.0) : f32[]  %y = broadcast %k {shape = [B, 4], axes = []} : f32[B,4]"),
])
def test_becomes(text: str, after: str) -> None:
    before = ONE_LINE.format(text)
    expected = ONE_LINE.format(after) if after else ONE_LINE.format("").replace("= %y", "= %x")
    assert_rewrites(before, "canonicalize", expected)
    assert_keeps_numbers(before, "canonicalize", rtol=1e-12, atol=1e-12)


HELD = ("%r = round %x : f32[B,4]  {} %m = max %r, %low : f32[B,4]  %h = min %m, %high : f32[B,4]"
        "  %q = cast %h {{dtype = u8}} : u8[B,4]  %y = cast %q {{dtype = f32}} : f32[B,4]")


def test_whole_numbers_that_an_integer_holds() -> None:
    before = ONE_LINE.format(HELD.format(constant(0.0, "low") + constant(255.0, "high")))
    after = before.replace("%q = cast %h {dtype = u8} : u8[B,4]  %y = cast %q {dtype = f32} : f32[B,4]", "").replace(
        "= %y", "= %h")
    assert_rewrites(before, "canonicalize", after)
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)


@pytest.mark.parametrize("text", [
    HELD.format(constant(0.0, "low") + constant(256.0, "high")),
    HELD.format(constant(-1.0, "low") + constant(255.0, "high")),
    HELD.format(constant(0.0, "low") + constant(255.0, "high")).replace("= round %x", "= tanh %x"),
    constant(0.0) + "%y = sub %k, %x : f32[B,4]",
    constant(1.0) + "%y = div %k, %x : f32[B,4]",
    constant(0.0) + "%y = mul %x, %k : f32[B,4]",  # 0 * nan is nan
    "%y = sub %x, %x : f32[B,4]",
    "%n = not %c : bool[B,4]  %f = cast %c {dtype = f32} : f32[B,4]  %g = cast %n {dtype = f32} : f32[B,4]"
    "  %a = mul %x, %f : f32[B,4]  %b = mul %z, %g : f32[B,4]  %y = add %a, %b : f32[B,4]",  # as well
    "%a = cast %x {dtype = f16} : f16[B,4]  %y = cast %a {dtype = f32} : f32[B,4]",  # rounds
    "%a = cast %x {dtype = bf16} : bf16[B,4]  %y = cast %a {dtype = f32} : f32[B,4]",
    "%a = reverse %x {axis = 0} : f32[B,4]  %y = reverse %a {axis = 1} : f32[B,4]",
    "%y = select %c, %x, %z : f32[B,4]",
])
def test_stays(text: str) -> None:
    assert_rewrites(ONE_LINE.format(text), "canonicalize", None, remarks=[])
