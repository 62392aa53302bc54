"""dce: unused ops, and unused parts of scans."""

from __future__ import annotations

from tests.testing import assert_rewrites


def test_chains_of_unused_ops_go() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,4]) {
          %a = neg %x : f32[B,4]
          %b = exp %a : f32[B,4]
          %c = tanh %x : f32[B,4]
          return y = %c
        }""", "dce",
        """graph @g(%x: f32[B,4]) {
          %c = tanh %x : f32[B,4]
          return y = %c
        }""", remarks=["applied: dce: 2 unused ops removed"])


def test_what_is_used_stays() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,4]) {
          %a = neg %x : f32[B,4]
          return y = %a
        }""", "dce", None, remarks=[])


def test_a_scan_loses_unused_outputs_carries_and_sequences() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %z: f32[T,B,4], %h0: f32[B,4]) {
          %z2 = neg %z : f32[T,B,4]
          %h, %n, %y, %u = scan carry(h = %h0, n = %h0) over(z = %z2, x = %x) {steps = T} {
          ^(%hh: f32[B,4], %nn: f32[B,4], %zt: f32[B,4], %xt: f32[B,4]):
            %a = add %hh, %xt : f32[B,4]
            %b = add %nn, %zt : f32[B,4]
            %c = mul %b, %hh : f32[B,4]
            yield carry(h = %a, n = %c) emit(y = %a, u = %b)
          } : f32[B,4], f32[B,4], f32[T,B,4], f32[T,B,4]
          return y = %y
        }""", "dce",
        """graph @g(%x: f32[T,B,4], %z: f32[T,B,4], %h0: f32[B,4]) {
          %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %xt: f32[B,4]):
            %a = add %hh, %xt : f32[B,4]
            yield carry(h = %a) emit(y = %a)
          } : f32[B,4], f32[T,B,4]
          return y = %y
        }""", remarks=["applied: dce: 3 unused ops removed"])


def test_a_carry_that_feeds_a_used_one_stays() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
          %h, %n = scan carry(h = %h0, n = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %nn: f32[B,4], %xt: f32[B,4]):
            %a = add %hh, %nn : f32[B,4]
            %b = mul %nn, %xt : f32[B,4]
            yield carry(h = %a, n = %b) emit()
          } : f32[B,4], f32[B,4]
          return h = %h
        }""", "dce", None, remarks=[])


def test_an_unused_scan_goes_with_its_body() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
          %h = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %xt: f32[B,4]):
            %a = add %hh, %xt : f32[B,4]
            yield carry(h = %a) emit()
          } : f32[B,4]
          return x = %x
        }""", "dce", "graph @g(%x: f32[T,B,4], %h0: f32[B,4]) { return x = %x }")
