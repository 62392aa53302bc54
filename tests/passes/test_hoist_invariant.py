"""hoist-invariant: what no step changes is computed in front of the scan."""

from __future__ import annotations

from tests.testing import assert_keeps_numbers, assert_rewrites

NESTED = """graph @g(%x: f32[T,S,B], %w: f32[B]) {
  %y = scan carry() over(x = %x) {steps = T} {
  ^(%xt: f32[S,B]):
    %z = scan carry() over(x = %xt) {steps = S} {
    ^(%xs: f32[B]):
      %n = neg %w : f32[B]
      %e = exp %n : f32[B]
      %r = mul %xs, %e : f32[B]
      yield carry() emit(z = %r)
    } : f32[S,B] <layer = inner>
    yield carry() emit(y = %z)
  } : f32[T,S,B] <layer = outer>
  return y = %y
}"""


def test_invariant_ops_and_constants_move() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,2], %w: f32[2,4], %h0: f32[B,4]) {
          %h = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %xt: f32[B,2]):
            %two = const splat(2.0) : f32[2,4]
            %w2 = mul %w, %two : f32[2,4]
            %a = matmul %xt, %w2 : f32[B,4]
            %b = add %a, %hh : f32[B,4]
            yield carry(h = %b) emit()
          } : f32[B,4] <layer = rnn>
          return h = %h
        }""", "hoist-invariant",
        """graph @g(%x: f32[T,B,2], %w: f32[2,4], %h0: f32[B,4]) {
          %two = const splat(2.0) : f32[2,4]
          %w2 = mul %w, %two : f32[2,4]
          %h = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %xt: f32[B,2]):
            %a = matmul %xt, %w2 : f32[B,4]
            %b = add %a, %hh : f32[B,4]
            yield carry(h = %b) emit()
          } : f32[B,4] <layer = rnn>
          return h = %h
        }""", remarks=["applied: hoist-invariant: rnn: 2 ops moved in front of the scan (const, mul)"])


def test_from_the_inner_scan_to_the_top() -> None:
    assert_rewrites(
        NESTED, "hoist-invariant",
        """graph @g(%x: f32[T,S,B], %w: f32[B]) {
          %n = neg %w : f32[B]
          %e = exp %n : f32[B]
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[S,B]):
            %z = scan carry() over(x = %xt) {steps = S} {
            ^(%xs: f32[B]):
              %r = mul %xs, %e : f32[B]
              yield carry() emit(z = %r)
            } : f32[S,B] <layer = inner>
            yield carry() emit(y = %z)
          } : f32[T,S,B] <layer = outer>
          return y = %y
        }""", remarks=["applied: hoist-invariant: inner: 2 ops moved in front of the scan (neg, exp)",
                       "applied: hoist-invariant: outer: 2 ops moved in front of the scan (neg, exp)"])
    assert_keeps_numbers(NESTED, "hoist-invariant", rtol=0, atol=0)


def test_a_broadcast_alone_stays() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %w: f32[4]) {
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B,4]):
            %b = broadcast %w {shape = [B, 4], axes = [1]} : f32[B,4]
            %a = add %xt, %b : f32[B,4]
            yield carry() emit(y = %a)
          } : f32[T,B,4]
          return y = %y
        }""", "hoist-invariant", None, remarks=[])


def test_a_broadcast_goes_with_its_reader_and_is_copied_for_those_that_stay() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %m: f32[B,4], %w: f32[4]) {
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B,4]):
            %b = broadcast %w {shape = [B, 4], axes = [1]} : f32[B,4]
            %s = mul %m, %b : f32[B,4]
            %a = add %xt, %b : f32[B,4]
            %c = mul %a, %s : f32[B,4]
            yield carry() emit(y = %c)
          } : f32[T,B,4]
          return y = %y
        }""", "hoist-invariant",
        """graph @g(%x: f32[T,B,4], %m: f32[B,4], %w: f32[4]) {
          %b = broadcast %w {shape = [B, 4], axes = [1]} : f32[B,4]
          %s = mul %m, %b : f32[B,4]
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B,4]):
            %b2 = broadcast %w {shape = [B, 4], axes = [1]} : f32[B,4]
            %a = add %xt, %b2 : f32[B,4]
            %c = mul %a, %s : f32[B,4]
            yield carry() emit(y = %c)
          } : f32[T,B,4]
          return y = %y
        }""", remarks=["applied: hoist-invariant: 1 op moved in front of the scan (mul)"])
