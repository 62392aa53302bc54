"""fold-embedding and inline-single-step: text in, text out."""

from __future__ import annotations

from tests.testing import assert_keeps_numbers, assert_rewrites

EMBEDDING = """
graph @g(%i: i32[B,T]) {
  %e = const [1.0, 2.0, 3.0, 4.0] : f32[2,2]
  %w = const [1.0, 0.0, 0.0, 1.0, 1.0, 1.0] : f32[2,3]
  %b = const [0.5, 0.25, 0.125] : f32[3]
  %x = gather %e, %i : f32[B,T,2]
  %t = transpose %x {perm = [1, 0, 2]} : f32[T,B,2]
  %m = matmul %t, %w : f32[T,B,3] <layer = dense>
  %v = broadcast %b {shape = [T, B, 3], axes = [2]} : f32[T,B,3]
  %y = add %m, %v : f32[T,B,3]
  return y = %y
}
"""


def test_projection_and_bias_go_into_the_table() -> None:
    graph = assert_keeps_numbers(EMBEDDING, "fold-embedding,fold-constants,dce", rtol=0, atol=1e-12)
    kinds = [op.name for op in graph.block.ops]
    assert kinds == ["const", "gather", "transpose", "return"], graph


def test_a_take_of_rows_is_a_lookup() -> None:
    take = EMBEDDING.replace("gather %e, %i", "take %e, %i {axis = 0}")
    graph = assert_keeps_numbers(take, "propagate-layout,fold-embedding,fold-constants,dce", rtol=0, atol=1e-12)
    assert [op.name for op in graph.block.ops if op.name != "const"] == ["take", "transpose", "return"], graph


def test_a_large_table_stays() -> None:
    assert_rewrites(EMBEDDING, "fold-embedding{max-elements=5}", None, remarks=[
        "missed: fold-embedding: dense: the projected table would have 6 elements, more than max-elements = 5"])


def test_weights_that_are_inputs_stay() -> None:
    assert_rewrites("""
graph @g(%i: i32[B], %w: f32[2,3]) {
  %e = const [1.0, 2.0, 3.0, 4.0] : f32[2,2]
  %x = gather %e, %i : f32[B,2]
  %m = matmul %x, %w : f32[B,3]
  return y = %m
}
""", "fold-embedding", None, remarks=[])


STEP = """
graph @g(%x: f32[1,B,2], %h: f32[B,2]) {
  %last, %ys = scan carry(h = %h) over(x = %x) {steps = 1} {
  ^(%c: f32[B,2], %s: f32[B,2]):
    %n = add %c, %s : f32[B,2]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,2], f32[1,B,2] <layer = rnn>
  return h = %last, y = %ys
}
"""


def test_one_step_is_its_body() -> None:
    assert_rewrites(STEP, "inline-single-step", """
graph @g(%x: f32[1,B,2], %h: f32[B,2]) {
  %s = reshape %x {shape = [B, 2]} : f32[B,2] <layer = rnn>
  %n = add %h, %s : f32[B,2]
  %y = reshape %n {shape = [1, B, 2]} : f32[1,B,2] <layer = rnn>
  return h = %n, y = %y
}
""", remarks=["applied: inline-single-step: rnn: the scan of one step is its body"])


def test_two_steps_stay_a_loop() -> None:
    two = STEP.replace("steps = 1", "steps = 2").replace("f32[1,B,2]", "f32[2,B,2]")
    assert_rewrites(two, "inline-single-step", None, remarks=[])


def test_a_step_with_lengths_stays() -> None:
    masked = STEP.replace("%h: f32[B,2])", "%h: f32[B,2], %n: i32[B])").replace(
        "over(x = %x)", "over(x = %x) lengths(%n)").replace("%n = add %c, %s", "%k = add %c, %s").replace(
        "h = %n) emit(y = %n)", "h = %k) emit(y = %k)")
    assert_rewrites(masked, "inline-single-step", None, remarks=[
        "missed: inline-single-step: rnn: a single step with lengths may be empty for some rows"])
