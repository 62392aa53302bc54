"""fold-constants: constants are computed by the reference, broadcasts stay virtual."""

from __future__ import annotations

from tests.testing import assert_rewrites


def test_ops_of_constants_become_constants() -> None:
    assert_rewrites(
        """graph @g(%x: f32[B,2]) {
          %a = const [1.0, 2.0] : f32[1,2]
          %b = const [3.0, 4.0] : f32[1,2]
          %w = concat %a, %b {axis = 0} : f32[2,2]
          %t = transpose %w {perm = [1, 0]} : f32[2,2]
          %y = matmul %x, %t : f32[B,2]
          return y = %y
        }""", "fold-constants",
        """graph @g(%x: f32[B,2]) {
          %t = const [1.0, 3.0, 2.0, 4.0] : f32[2,2]
          %y = matmul %x, %t : f32[B,2]
          return y = %y
        }""", remarks=["applied: fold-constants: 2 ops evaluated at compile time"])


def test_values_and_dtypes_are_the_references() -> None:
    assert_rewrites(
        """graph @g() {
          %n = const [nan, inf, -1.0] : f32[3]
          %s = sqrt %n : f32[3]
          %i = const [7, -7] : i32[2]
          %c = cast %i {dtype = f16} : f16[2]
          %b = lt %i, %i : bool[2]
          return s = %s, c = %c, b = %b
        }""", "fold-constants",
        """graph @g() {
          %s = const [nan, inf, nan] : f32[3]
          %c = const [7.0, -7.0] : f16[2]
          %f = const splat(false) : bool[]
          %b = broadcast %f {shape = [2], axes = []} : bool[2]
          return s = %s, c = %c, b = %b
        }""")


def test_a_broadcast_stays_but_its_readers_fold() -> None:
    assert_rewrites(
        """graph @g(%x: f32[2,3]) {
          %h = const splat(0.5) : f32[]
          %b = broadcast %h {shape = [3], axes = []} : f32[3]
          %w = const [2.0, 4.0, 6.0] : f32[3]
          %p = mul %w, %b : f32[3]
          %r = broadcast %p {shape = [2, 3], axes = [1]} : f32[2,3]
          %y = add %x, %r : f32[2,3]
          return y = %y
        }""", "fold-constants",
        """graph @g(%x: f32[2,3]) {
          %p = const [1.0, 2.0, 3.0] : f32[3]
          %r = broadcast %p {shape = [2, 3], axes = [1]} : f32[2,3]
          %y = add %x, %r : f32[2,3]
          return y = %y
        }""")


def test_inside_a_body() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B]) {
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B]):
            %a = const splat(2.0) : f32[]
            %b = neg %a : f32[]
            %c = broadcast %b {shape = [B], axes = []} : f32[B]
            %d = mul %xt, %c : f32[B]
            yield carry() emit(y = %d)
          } : f32[T,B]
          return y = %y
        }""", "fold-constants",
        """graph @g(%x: f32[T,B]) {
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B]):
            %b = const splat(-2.0) : f32[]
            %c = broadcast %b {shape = [B], axes = []} : f32[B]
            %d = mul %xt, %c : f32[B]
            yield carry() emit(y = %d)
          } : f32[T,B]
          return y = %y
        }""")


def test_large_results_stay() -> None:
    text = """graph @g() {
      %a = const [1.0, 2.0] : f32[2]
      %b = concat %a, %a {axis = 0} : f32[4]
      return b = %b
    }"""
    assert_rewrites(text, "fold-constants{max-elements=3}", None, remarks=[])


def test_an_op_that_would_fail_is_left_to_fail_at_run_time() -> None:
    assert_rewrites(
        """graph @g() {
          %t = const [1.0, 2.0] : f32[2]
          %i = const [5] : i32[1]
          %y = gather %t, %i : f32[1] <layer = embedding>
          return y = %y
        }""", "fold-constants", None,
        remarks=["missed: fold-constants: embedding: gather is not evaluated at compile time: "
                 "gather: indices must be in 0..1, got 5..5"])
