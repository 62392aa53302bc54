"""canonicalize: slices, concatenations, broadcasts, reversals, and transposes that sink."""

from __future__ import annotations

import pytest

from tests.testing import assert_keeps_numbers, assert_rewrites

HEAD = "graph @g(%x: f32[T,B,4], %z: f32[T,B,4], %w: f32[4,4], %u: f32[4,9], %v: f32[4]) {{ {} return y = %y }}"
T = "{perm = [1, 0, 2]} : f32[B,T,4]"


@pytest.mark.parametrize(("text", "after"), [
    pytest.param(
        "%a = slice %x {axis = 2, start = 1, size = 3} : f32[T,B,3]"
        "  %y = slice %a {axis = 2, start = -1, size = 1} : f32[T,B,1]",
        "%y = slice %x {axis = 2, start = 3, size = 1} : f32[T,B,1]", id="slice of slice"),
    pytest.param(
        "%a = slice %x {axis = 2, start = 0, size = 2, step = 2} : f32[T,B,2]"
        "  %y = slice %a {axis = 2, start = 1, size = 1} : f32[T,B,1]",
        "%y = slice %x {axis = 2, start = 2, size = 1} : f32[T,B,1]", id="slice of stepped slice"),
    pytest.param(
        "%a = concat %x, %z {axis = 2} : f32[T,B,8]  %y = slice %a {axis = 2, start = 5, size = 3} : f32[T,B,3]",
        "%y = slice %z {axis = 2, start = 1, size = 3} : f32[T,B,3]", id="slice of concat: one piece"),
    pytest.param(
        "%a = concat %x, %z {axis = 2} : f32[T,B,8]  %y = slice %a {axis = 2, start = 3, size = 2} : f32[T,B,2]",
        "%a = slice %x {axis = 2, start = 3, size = 1} : f32[T,B,1]"
        "  %b = slice %z {axis = 2, start = 0, size = 1} : f32[T,B,1]"
        "  %y = concat %a, %b {axis = 2} : f32[T,B,2]", id="slice of concat: two pieces"),
    pytest.param(
        "%a = concat %x, %z {axis = 2} : f32[T,B,8]  %y = slice %a {axis = 0, start = 0, size = 1} : f32[1,B,8]",
        "%a = slice %x {axis = 0, start = 0, size = 1} : f32[1,B,4]"
        "  %b = slice %z {axis = 0, start = 0, size = 1} : f32[1,B,4]"
        "  %y = concat %a, %b {axis = 2} : f32[1,B,8]", id="slice of concat: another axis"),
    pytest.param(
        "%a = broadcast %v {shape = [3, 4], axes = [1]} : f32[3,4]"
        "  %b = slice %a {axis = 0, start = 1, size = 2} : f32[2,4]"
        "  %y = slice %b {axis = 1, start = 0, size = 2} : f32[2,2]",
        "%a = slice %v {axis = 0, start = 0, size = 2} : f32[2]"
        "  %y = broadcast %a {shape = [2, 2], axes = [1]} : f32[2,2]", id="slice of broadcast"),
    pytest.param(
        "%a = concat %x, %z {axis = 2} : f32[T,B,8]  %y = concat %a, %x {axis = 2} : f32[T,B,12]",
        "%y = concat %x, %z, %x {axis = 2} : f32[T,B,12]", id="concat of concat"),
    pytest.param(
        "%a = slice %x {axis = 2, start = 0, size = 1} : f32[T,B,1]"
        "  %b = slice %x {axis = 2, start = 1, size = 2} : f32[T,B,2]"
        "  %y = concat %z, %a, %b {axis = 2} : f32[T,B,7]",
        "%a = slice %x {axis = 2, start = 0, size = 3} : f32[T,B,3]"
        "  %y = concat %z, %a {axis = 2} : f32[T,B,7]", id="concat of neighbours"),
    pytest.param(
        "%a = broadcast %v {shape = [B, 4], axes = [1]} : f32[B,4]"
        "  %y = broadcast %a {shape = [T, B, 4], axes = [1, 2]} : f32[T,B,4]",
        "%y = broadcast %v {shape = [T, B, 4], axes = [2]} : f32[T,B,4]", id="broadcast of broadcast"),
    pytest.param(
        "%s = slice %w {axis = 0, start = 0, size = 1} : f32[1,4]  %a = reshape %s {shape = [4]} : f32[4]"
        "  %y = broadcast %a {shape = [1, 4], axes = [1]} : f32[1,4]",
        "%y = slice %w {axis = 0, start = 0, size = 1} : f32[1,4]", id="broadcast of reshape"),
    pytest.param(
        "%a = reshape %x {shape = [T, B, 1, 4]} : f32[T,B,1,4]"
        "  %b = transpose %a {perm = [0, 2, 1, 3]} : f32[T,1,B,4]  %c = reshape %b {shape = [T, B, 4]} : f32[T,B,4]"
        "  %y = tanh %c : f32[T,B,4]", "%y = tanh %x : f32[T,B,4]", id="transpose of ones between reshapes"),
    pytest.param(
        "%m = reduce_mean %x {axes = [2]} : f32[T,B]  %a = reshape %m {shape = [T, B, 1]} : f32[T,B,1]"
        "  %k = const splat(0.5) : f32[]  %e = broadcast %k {shape = [T, B, 1], axes = []} : f32[T,B,1]"
        "  %b = add %a, %e : f32[T,B,1]  %c = sqrt %b : f32[T,B,1]  %y = reshape %c {shape = [T, B]} : f32[T,B]",
        "%m = reduce_mean %x {axes = [2]} : f32[T,B]  %k = const splat(0.5) : f32[]"
        "  %e = broadcast %k {shape = [T, B], axes = []} : f32[T,B]"
        "  %b = add %m, %e : f32[T,B]  %y = sqrt %b : f32[T,B]", id="reshapes of a keepdims reduction"),
    pytest.param(
        "%a = reshape %x {shape = [1, T, B, 1, 4]} : f32[1,T,B,1,4]"
        "  %e = broadcast %v {shape = [1, T, B, 1, 4], axes = [4]} : f32[1,T,B,1,4]"
        "  %b = add %a, %e : f32[1,T,B,1,4]  %y = reshape %b {shape = [T, B, 4]} : f32[T,B,4]",
        "%e = broadcast %v {shape = [T, B, 4], axes = [2]} : f32[T,B,4]  %y = add %x, %e : f32[T,B,4]",
        id="reshapes around a bias"),
    pytest.param(
        "%a = reshape %x {shape = [T, B, 1, 4]} : f32[T,B,1,4]"
        "  %t = transpose %a {perm = [3, 2, 1, 0]} : f32[4,1,B,T]  %n = tanh %t : f32[4,1,B,T]"
        "  %r = reshape %n {shape = [1, 4, B, T]} : f32[1,4,B,T]"
        "  %y = transpose %r {perm = [3, 0, 2, 1]} : f32[T,1,B,4]",
        "%n = tanh %x : f32[T,B,4]  %r = reshape %n {shape = [T, B, 4, 1]} : f32[T,B,4,1]"
        "  %y = transpose %r {perm = [0, 3, 1, 2]} : f32[T,1,B,4]",
        id="a transpose between reshapes of ones"),
    pytest.param(
        "%a = broadcast %v {shape = [B, 4], axes = [1]} : f32[B,4]  %y = reverse %a {axis = 0} : f32[B,4]",
        "%y = broadcast %v {shape = [B, 4], axes = [1]} : f32[B,4]", id="reverse of what repeats"),
    pytest.param(
        "%a = broadcast %v {shape = [B, T, 4], axes = [2]} : f32[B,T,4]"
        "  %y = transpose %a {perm = [1, 0, 2]} : f32[T,B,4]",
        "%y = broadcast %v {shape = [T, B, 4], axes = [2]} : f32[T,B,4]", id="transpose of broadcast"),
    pytest.param(
        f"%a = transpose %x {T}  %b = transpose %z {T}"
        "  %c = broadcast %v {shape = [B, T, 4], axes = [2]} : f32[B,T,4]"
        "  %d = add %a, %b : f32[B,T,4]  %y = mul %d, %c : f32[B,T,4]",
        "%d = add %x, %z : f32[T,B,4]  %c = broadcast %v {shape = [T, B, 4], axes = [2]} : f32[T,B,4]"
        f"  %m = mul %d, %c : f32[T,B,4]  %y = transpose %m {T}", id="elementwise of transposes"),
    pytest.param(
        f"%a = transpose %x {T}  %y = matmul %a, %w : f32[B,T,4]",
        f"%m = matmul %x, %w : f32[T,B,4]  %y = transpose %m {T}", id="matmul of transpose"),
    pytest.param(
        f"%a = transpose %x {T}  %m = matmul %a, %u : f32[B,T,9]  %n = tanh %m : f32[B,T,9]"
        "  %y = transpose %n {perm = [1, 0, 2]} : f32[T,B,9]",
        "%m = matmul %x, %u : f32[T,B,9]  %y = tanh %m : f32[T,B,9]", id="transposes that meet behind a wide matmul"),
    pytest.param(
        f"%a = transpose %x {T}  %b = transpose %z {T}  %c = concat %a, %b {{axis = 2}} : f32[B,T,8]"
        "  %y = slice %c {axis = 2, start = 1, size = 7} : f32[B,T,7]",
        "%s = slice %x {axis = 2, start = 1, size = 3} : f32[T,B,3]  %c = concat %s, %z {axis = 2} : f32[T,B,7]"
        "  %y = transpose %c {perm = [1, 0, 2]} : f32[B,T,7]", id="concat and slice of transposes"),
    pytest.param(
        f"%a = transpose %x {T}  %y = reduce_sum %a {{axes = [1]}} : f32[B,4]",
        "%y = reduce_sum %x {axes = [0]} : f32[B,4]", id="reduce of transpose"),
    pytest.param(
        f"%a = transpose %x {T}  %y = softmax %a {{axis = 1}} : f32[B,T,4]",
        f"%s = softmax %x {{axis = 0}} : f32[T,B,4]  %y = transpose %s {T}", id="softmax of transpose"),
    pytest.param(
        f"%a = reverse %x {{axis = 0}} : f32[T,B,4]  %y = transpose %a {T}",
        f"%t = transpose %x {T}  %y = reverse %t {{axis = 1}} : f32[B,T,4]", id="transpose of reverse"),
])
def test_becomes(text: str, after: str) -> None:
    before = HEAD.format(text)
    assert_rewrites(before, "canonicalize", HEAD.format(after))
    assert_keeps_numbers(before, "canonicalize", rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", [
    pytest.param("%a = reshape %x {shape = [B, T, 4]} : f32[B,T,4]  %y = tanh %a : f32[B,T,4]", id="a real reshape"),
    pytest.param("%a = slice %x {axis = 2, start = 0, size = 3} : f32[T,B,3]"
                 "  %y = slice %a {axis = 1, start = 0, size = 1} : f32[T,1,3]", id="slices of different axes"),
    pytest.param("%a = slice %x {axis = 2, start = 2, size = 2} : f32[T,B,2]"
                 "  %b = slice %x {axis = 2, start = 0, size = 2} : f32[T,B,2]"
                 "  %y = concat %a, %b {axis = 2} : f32[T,B,4]", id="neighbours in the wrong order"),
    pytest.param(f"%a = transpose %x {T}  %y = matmul %a, %u : f32[B,T,9]", id="a matmul that makes rows longer"),
    pytest.param("%y = transpose %x {perm = [2, 1, 0]} : f32[4,B,T]", id="one transpose"),
    pytest.param(f"%a = transpose %x {T}  %b = reshape %z {{shape = [B, T, 4]}} : f32[B,T,4]"
                 "  %y = add %a, %b : f32[B,T,4]", id="only one operand is transposed"),
])
def test_stays(text: str) -> None:
    assert_rewrites(HEAD.format(text), "canonicalize", None, remarks=[])


def test_transposes_around_time_major_scans_cancel() -> None:
    """layer -> batch-major -> dense -> time-major -> layer: the inner pair goes."""
    scan = """scan carry(h = %h0) over(x = {}) {{steps = T}} {{
      ^(%h{}: f32[B,4], %x{}: f32[B,4]):
        %s{} = add %h{}, %x{} : f32[B,4]
        yield carry(h = %s{}) emit(y = %s{})
      }} : f32[B,4], f32[T,B,4]"""
    one, two, three = (scan.format(x, *[n] * 7) for x, n in (("%xt", 1), ("%yt", 2), ("%d", 2)))
    head = "graph @g(%x: f32[B,T,4], %h0: f32[B,4], %w: f32[4,4]) { %xt = transpose %x {perm = [1, 0, 2]} : f32[T,B,4] "
    tail = f"  %out = transpose %z {T}  return y = %out }}"
    before = (f"{head} %f1, %y = {one}  %yb = transpose %y {T}  %d = matmul %yb, %w : f32[B,T,4]"
              f"  %e = tanh %d : f32[B,T,4]  %yt = transpose %e {{perm = [1, 0, 2]}} : f32[T,B,4]"
              f"  %f2, %z = {two} {tail}")
    after = (f"{head} %f1, %y = {one}  %m = matmul %y, %w : f32[T,B,4]  %d = tanh %m : f32[T,B,4]"
             f"  %f2, %z = {three} {tail}")
    assert_keeps_numbers(before, "canonicalize", rtol=1e-12, atol=1e-12)
    # both keep the unused final states of their scans out
    assert_rewrites(before, "canonicalize", assert_rewrites(after, "canonicalize", None))


def test_no_transpose_moves_into_a_body() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %m: f32[4,B]) {
          %mt = transpose %m {perm = [1, 0]} : f32[B,4]
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B,4]):
            %n = neg %mt : f32[B,4]
            %a = mul %n, %xt : f32[B,4]
            yield carry() emit(y = %a)
          } : f32[T,B,4]
          return y = %y
        }""", "canonicalize", None)
