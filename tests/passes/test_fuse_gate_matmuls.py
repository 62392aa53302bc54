"""fuse-gate-matmuls: matmuls of one value become one."""

from __future__ import annotations

from tests.testing import assert_keeps_numbers, assert_rewrites

GATES = """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w1: f32[3,3], %w2: f32[3,3]) {
  %h = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%hh: f32[B,3], %xt: f32[B,2]):
    %a = matmul %hh, %w1 : f32[B,3] <layer = "enc/gru">
    %b = matmul %hh, %w2 : f32[B,3] <layer = "enc/gru">
    %c = mul %a, %b : f32[B,3]
    yield carry(h = %c) emit()
  } : f32[B,3]
  return h = %h
}"""


def test_in_a_body_the_concat_stands_in_front_of_the_scan() -> None:
    assert_rewrites(
        GATES, "fuse-gate-matmuls",
        """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w1: f32[3,3], %w2: f32[3,3]) {
          %w = concat %w1, %w2 {axis = 1} : f32[3,6] <layer = "enc/gru">
          %h = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,3], %xt: f32[B,2]):
            %m = matmul %hh, %w : f32[B,6] <layer = "enc/gru">
            %a = slice %m {axis = 1, start = 0, size = 3, step = 1} : f32[B,3] <layer = "enc/gru">
            %b = slice %m {axis = 1, start = 3, size = 3, step = 1} : f32[B,3] <layer = "enc/gru">
            %c = mul %a, %b : f32[B,3]
            yield carry(h = %c) emit()
          } : f32[B,3]
          return h = %h
        }""", remarks=["applied: fuse-gate-matmuls: enc/gru: 2 matmuls of %hh became one by f32[3,6]"])
    assert_keeps_numbers(GATES, "fuse-gate-matmuls", rtol=1e-12, atol=1e-12)


def test_constants_of_a_body_leave_it_and_sizes_may_differ() -> None:
    assert_rewrites(
        """graph @g(%h0: f32[B,2]) {
          %h, %y = scan carry(h = %h0) over() {steps = 3} {
          ^(%hh: f32[B,2]):
            %w1 = const splat(1.0) : f32[2,2]
            %a = matmul %hh, %w1 : f32[B,2]
            %w2 = const splat(2.0) : f32[2,1]
            %b = matmul %hh, %w2 : f32[B,1]
            yield carry(h = %a) emit(y = %b)
          } : f32[B,2], f32[3,B,1]
          return h = %h, y = %y
        }""", "fuse-gate-matmuls",
        """graph @g(%h0: f32[B,2]) {
          %w1 = const splat(1.0) : f32[2,2]
          %w2 = const splat(2.0) : f32[2,1]
          %w = concat %w1, %w2 {axis = 1} : f32[2,3]
          %h, %y = scan carry(h = %h0) over() {steps = 3} {
          ^(%hh: f32[B,2]):
            %m = matmul %hh, %w : f32[B,3]
            %a = slice %m {axis = 1, start = 0, size = 2, step = 1} : f32[B,2]
            %b = slice %m {axis = 1, start = 2, size = 1, step = 1} : f32[B,1]
            yield carry(h = %a) emit(y = %b)
          } : f32[B,2], f32[3,B,1]
          return h = %h, y = %y
        }""")


def test_at_the_top_constants_move_up_and_layers_keep_their_common_path() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,2]) {
          %w1 = const splat(1.0) : f32[2,2]
          %a = matmul %x, %w1 : f32[B,2] <layer = "bi/forward">
          %w2 = const splat(2.0) : f32[2,2]
          %n = neg %w2 : f32[2,2]
          %b = matmul %x, %n : f32[B,2] <layer = "bi/backward">
          return a = %a, b = %b
        }""", "fuse-gate-matmuls",
        """graph @g(%x: f32[B,2]) {
          %w1 = const splat(1.0) : f32[2,2]
          %w2 = const splat(2.0) : f32[2,2]
          %n = neg %w2 : f32[2,2]
          %w = concat %w1, %n {axis = 1} : f32[2,4] <layer = bi>
          %m = matmul %x, %w : f32[B,4] <layer = bi>
          %a = slice %m {axis = 1, start = 0, size = 2, step = 1} : f32[B,2] <layer = "bi/forward">
          %b = slice %m {axis = 1, start = 2, size = 2, step = 1} : f32[B,2] <layer = "bi/backward">
          return a = %a, b = %b
        }""", remarks=["applied: fuse-gate-matmuls: bi: 2 matmuls of %x became one by f32[2,4]"])


def test_singles_other_operands_and_batched_weights_stay_quietly() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,2,2], %z: f32[B,2,2], %k: f32[B,2,2]) {
          %w = const splat(1.0) : f32[2,2]
          %a = matmul %x, %w : f32[B,2,2]
          %b = matmul %z, %w : f32[B,2,2]
          %c = matmul %x, %k : f32[B,2,2]
          %d = matmul %x, %z : f32[B,2,2]
          return a = %a, b = %b, c = %c, d = %d
        }""", "fuse-gate-matmuls", None, remarks=[])


def test_weights_computed_in_the_step_are_a_miss() -> None:
    assert_rewrites(
        """graph @g(%v: f32[T,3,3], %h0: f32[B,3], %w1: f32[3,3]) {
          %h = scan carry(h = %h0) over(v = %v) {steps = T} {
          ^(%hh: f32[B,3], %vt: f32[3,3]):
            %n = neg %vt : f32[3,3]
            %a = matmul %hh, %w1 : f32[B,3] <layer = gru>
            %b = matmul %hh, %n : f32[B,3] <layer = gru>
            %c = mul %a, %b : f32[B,3]
            yield carry(h = %c) emit()
          } : f32[B,3]
          return h = %h
        }""", "fuse-gate-matmuls", None,
        remarks=["missed: fuse-gate-matmuls: gru: the weights %n of matmuls of %hh are computed inside the step: "
                 "they cannot stand side by side beforehand"])


def test_weights_that_are_inputs_are_a_miss_at_the_top() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,2], %w1: f32[2,2], %w2: f32[2,2]) {
          %a = matmul %x, %w1 : f32[B,2]
          %b = matmul %x, %w2 : f32[B,2]
          return a = %a, b = %b
        }""", "fuse-gate-matmuls", None,
        remarks=["missed: fuse-gate-matmuls: the weights %w1, %w2 of matmuls of %x are not constants: "
                 "they cannot stand side by side beforehand"])
