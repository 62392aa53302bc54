"""cse: equal ops become one, across bodies, never against dominance."""

from __future__ import annotations

from rnngraph.ir import parse
from tests.testing import assert_rewrites


def test_equal_ops_merge_and_commutative_operands_may_swap() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,4], %z: f32[B,4]) {
          %a = add %x, %z : f32[B,4] <layer = one>
          %b = add %z, %x : f32[B,4] <layer = two>
          %c = sub %a, %b : f32[B,4]
          return y = %c
        }""", "cse",
        """graph @g(%x: f32[B,4], %z: f32[B,4]) {
          %a = add %x, %z : f32[B,4] <layer = one>
          %c = sub %a, %a : f32[B,4]
          return y = %c
        }""", remarks=["applied: cse: 1 repeated op merged"])


def test_operand_order_and_attributes_count() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,4], %z: f32[B,4]) {
          %a = sub %x, %z : f32[B,4]
          %b = sub %z, %x : f32[B,4]
          %p = slice %a {axis = 1, start = 0, size = 2} : f32[B,2]
          %q = slice %a {axis = 1, start = 2, size = 2} : f32[B,2]
          return b = %b, p = %p, q = %q
        }""", "cse", None, remarks=[])


def test_constants_compare_by_bits() -> None:
    assert_rewrites(
        """graph @g() {
          %a = const splat(0.0) : f32[2]
          %b = const [0.0, 0.0] : f32[2]
          %c = const splat(-0.0) : f32[2]
          %d = const splat(nan) : f32[2]
          %e = const splat(nan) : f32[2]
          return a = %a, b = %b, c = %c, d = %d, e = %e
        }""", "cse",
        """graph @g() {
          %a = const splat(0.0) : f32[2]
          %c = const splat(-0.0) : f32[2]
          %d = const splat(nan) : f32[2]
          return a = %a, b = %a, c = %c, d = %d, e = %d
        }""")


def test_a_body_reuses_what_stands_before_its_scan_but_not_the_reverse() -> None:
    assert_rewrites(
        """graph @g(%h0: f32[B,4], %w: f32[B,4], %x: f32[T,B,4]) {
          %n = neg %w : f32[B,4]
          %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%h: f32[B,4], %xt: f32[B,4]):
            %m = neg %w : f32[B,4]
            %e = exp %w : f32[B,4]
            %s = add %m, %e : f32[B,4]
            %t = add %s, %h : f32[B,4]
            yield carry(h = %t) emit(y = %t)
          } : f32[B,4], f32[T,B,4]
          %e2 = exp %w : f32[B,4]
          return n = %n, y = %y, e = %e2
        }""".replace("(%h: f32", "(%hh: f32").replace("%s, %h ", "%s, %hh "), "cse",
        """graph @g(%h0: f32[B,4], %w: f32[B,4], %x: f32[T,B,4]) {
          %n = neg %w : f32[B,4]
          %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,4], %xt: f32[B,4]):
            %e = exp %w : f32[B,4]
            %s = add %n, %e : f32[B,4]
            %t = add %s, %hh : f32[B,4]
            yield carry(h = %t) emit(y = %t)
          } : f32[B,4], f32[T,B,4]
          %e2 = exp %w : f32[B,4]
          return n = %n, y = %y, e = %e2
        }""")


def test_masks_of_one_seed_are_one_mask() -> None:
    mask = "random_mask {seed = %d, rate = 0.5, shape = [B, 4], dtype = f32} : f32[B,4]"
    graph = assert_rewrites(
        f"""graph @g(%x: f32[B,4]) {{
          %a = {mask % 7}
          %b = {mask % 7}
          %c = {mask % 8}
          return a = %a, b = %b, c = %c
        }}""", "cse",
        f"""graph @g(%x: f32[B,4]) {{
          %a = {mask % 7}
          %c = {mask % 8}
          return a = %a, b = %a, c = %c
        }}""")
    assert parse(graph.to_text()).output_names == ("a", "b", "c")
