"""hoist-input-projection: x_t @ W leaves the scan."""

from __future__ import annotations

from tests.testing import assert_keeps_numbers, assert_rewrites

RNN = """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w: f32[2,3], %r: f32[3,3], %bias: f32[3]) {
  %h = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%hh: f32[B,3], %xt: f32[B,2]):
    %a = matmul %xt, %w : f32[B,3] <layer = rnn>
    %b = broadcast %bias {shape = [B, 3], axes = [1]} : f32[B,3]
    %c = add %a, %b : f32[B,3] <layer = rnn>
    %d = matmul %hh, %r : f32[B,3]
    %e = add %c, %d : f32[B,3]
    yield carry(h = %e) emit()
  } : f32[B,3] <layer = rnn>
  return h = %h
}"""


def test_the_projection_and_its_bias_leave() -> None:
    assert_rewrites(
        RNN, "hoist-input-projection",
        """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w: f32[2,3], %r: f32[3,3], %bias: f32[3]) {
          %a = matmul %x, %w : f32[T,B,3] <layer = rnn>
          %b = broadcast %bias {shape = [T, B, 3], axes = [2]} : f32[T,B,3] <layer = rnn>
          %c = add %a, %b : f32[T,B,3] <layer = rnn>
          %h = scan carry(h = %h0) over(c = %c) {steps = T} {
          ^(%hh: f32[B,3], %ct: f32[B,3]):
            %d = matmul %hh, %r : f32[B,3]
            %e = add %ct, %d : f32[B,3]
            yield carry(h = %e) emit()
          } : f32[B,3] <layer = rnn>
          return h = %h
        }""", remarks=["applied: hoist-input-projection: rnn: the projection of %xt by f32[2,3] left the scan: "
                       "one matmul over all T steps"])
    for dims in ({"T": 4, "B": 3}, {"T": 0, "B": 2}, {"T": 1, "B": 1}):
        assert_keeps_numbers(RNN, "hoist-input-projection", rtol=1e-12, atol=1e-12, dims=dims)


def test_a_slice_of_the_features_is_projected_and_the_sequence_stays_where_it_is_read() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,4], %w: f32[2,3]) {
          %y, %z = scan carry() over(x = %x) {steps = T, reverse = true} {
          ^(%xt: f32[B,4]):
            %s = slice %xt {axis = 1, start = 2, size = 2} : f32[B,2]
            %a = matmul %s, %w : f32[B,3]
            %n = neg %xt : f32[B,4]
            yield carry() emit(y = %a, z = %n)
          } : f32[T,B,3], f32[T,B,4]
          return y = %y, z = %z
        }""", "hoist-input-projection",
        """graph @g(%x: f32[T,B,4], %w: f32[2,3]) {
          %s = slice %x {axis = 2, start = 2, size = 2, step = 1} : f32[T,B,2]
          %a = matmul %s, %w : f32[T,B,3]
          %y, %z = scan carry() over(x = %x, a = %a) {steps = T, reverse = true} {
          ^(%xt: f32[B,4], %at: f32[B,3]):
            %n = neg %xt : f32[B,4]
            yield carry() emit(y = %at, z = %n)
          } : f32[T,B,3], f32[T,B,4]
          return y = %y, z = %z
        }""")


def test_biases_of_slices_stay_where_they_would_make_more_sequences() -> None:
    graph = assert_keeps_numbers(
        """graph @g(%x: f32[T,B,2], %w: f32[2,4], %p: f32[2], %q: f32[2]) {
          %y = scan carry() over(x = %x) {steps = T} {
          ^(%xt: f32[B,2]):
            %m = matmul %xt, %w : f32[B,4]
            %s = slice %m {axis = 1, start = 0, size = 2} : f32[B,2]
            %t = slice %m {axis = 1, start = 2, size = 2} : f32[B,2]
            %pb = broadcast %p {shape = [B, 2], axes = [1]} : f32[B,2]
            %qb = broadcast %q {shape = [B, 2], axes = [1]} : f32[B,2]
            %a = add %s, %pb : f32[B,2]
            %b = add %t, %qb : f32[B,2]
            %c = mul %a, %b : f32[B,2]
            yield carry() emit(y = %c)
          } : f32[T,B,2]
          return y = %y
        }""", "hoist-input-projection", rtol=1e-12, atol=1e-12)
    assert [op.name for op in graph.block.ops] == ["matmul", "scan", "return"]


def test_with_lengths() -> None:
    assert_keeps_numbers(
        """graph @g(%x: f32[T,B,2], %lengths: i32[B], %h0: f32[B,3], %w: f32[2,3]) {
          %h, %y = scan carry(h = %h0) over(x = %x) lengths(%lengths) {steps = T, pad = repeat} {
          ^(%hh: f32[B,3], %xt: f32[B,2]):
            %a = matmul %xt, %w : f32[B,3]
            %e = add %a, %hh : f32[B,3]
            yield carry(h = %e) emit(y = %e)
          } : f32[B,3], f32[T,B,3]
          return h = %h, y = %y
        }""", "hoist-input-projection", rtol=1e-12, atol=1e-12)


def test_a_mask_in_each_step_is_a_miss_and_recurrent_matmuls_are_quiet() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,2], %m: f32[B,2], %h0: f32[B,3], %w: f32[2,3], %r: f32[3,3]) {
          %h = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,3], %xt: f32[B,2]):
            %masked = mul %xt, %m : f32[B,2]
            %a = matmul %masked, %w : f32[B,3] <layer = lstm>
            %d = matmul %hh, %r : f32[B,3] <layer = lstm>
            %e = add %a, %d : f32[B,3]
            yield carry(h = %e) emit()
          } : f32[B,3] <layer = lstm>
          return h = %h
        }""", "hoist-input-projection", None,
        remarks=["missed: hoist-input-projection: lstm: the matmul of %masked stays in the scan: "
                 "what it multiplies is computed in each step (by mul), not a sequence itself"])


def test_weights_of_the_step_are_a_miss() -> None:
    assert_rewrites(
        """graph @g(%x: f32[T,B,2], %v: f32[T,2,3]) {
          %y = scan carry() over(x = %x, v = %v) {steps = T} {
          ^(%xt: f32[B,2], %vt: f32[2,3]):
            %a = matmul %xt, %vt : f32[B,3]
            yield carry() emit(y = %a)
          } : f32[T,B,3]
          return y = %y
        }""", "hoist-input-projection", None,
        remarks=["missed: hoist-input-projection: the matmul of %xt stays in the scan: "
                 "each step computes its weights %vt"])


def test_too_few_steps_are_a_miss() -> None:
    short = RNN.replace("[T,", "[3,").replace("steps = T", "steps = 3")
    assert_rewrites(short, "hoist-input-projection{min-steps=4}", None,
                    remarks=["missed: hoist-input-projection: rnn: the projections stay in the scan: "
                             "3 steps < min-steps = 4"])
