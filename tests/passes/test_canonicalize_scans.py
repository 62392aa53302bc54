"""canonicalize: scans lose what need not be a carry, a sequence or an output of its own."""

from __future__ import annotations

from rnngraph.ir import parse
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.testing import assert_keeps_numbers, assert_rewrites

ADDS = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
  %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%hh: f32[B,4], %xt: f32[B,4]):
    %a = add %hh, %xt : f32[B,4]
    yield carry(h = %a) emit(y = %a)
  } : f32[B,4], f32[T,B,4]
  return h = %h, y = %y
}"""


def test_the_same_sequence_carry_and_output_twice() -> None:
    before = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
      %h, %k, %y, %z = scan carry(h = %h0, k = %h0) over(x = %x, x2 = %x) {steps = T} {
      ^(%hh: f32[B,4], %kk: f32[B,4], %xt: f32[B,4], %xu: f32[B,4]):
        %a = add %hh, %xt : f32[B,4]
        %m = max %kk, %xu : f32[B,4]
        yield carry(h = %a, k = %a) emit(y = %a, z = %a)
      } : f32[B,4], f32[B,4], f32[T,B,4], f32[T,B,4]
      return h = %k, y = %z
    }"""
    assert_rewrites(before, "canonicalize", ADDS)


def test_a_carry_that_no_step_changes_becomes_a_capture() -> None:
    before = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
      %h, %k, %y = scan carry(h = %h0, k = %h0) over(x = %x) {steps = T} {
      ^(%hh: f32[B,4], %kk: f32[B,4], %xt: f32[B,4]):
        %a = add %hh, %kk : f32[B,4]
        %b = mul %a, %xt : f32[B,4]
        yield carry(h = %b, k = %kk) emit(y = %b)
      } : f32[B,4], f32[B,4], f32[T,B,4]
      return h = %h, k = %k, y = %y
    }"""
    assert_rewrites(before, "canonicalize", """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
      %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
      ^(%hh: f32[B,4], %xt: f32[B,4]):
        %a = add %hh, %h0 : f32[B,4]
        %b = mul %a, %xt : f32[B,4]
        yield carry(h = %b) emit(y = %b)
      } : f32[B,4], f32[T,B,4]
      return h = %h, k = %h0, y = %y
    }""")
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0, dims={"T": 0, "B": 2})


def test_outputs_that_pass_through() -> None:
    before = """graph @g(%x: f32[T,B,4], %k: f32[B,4]) {
      %y, %z, %u = scan carry() over(x = %x) {steps = T} {
      ^(%xt: f32[B,4]):
        %n = neg %xt : f32[B,4]
        yield carry() emit(y = %xt, z = %k, u = %n)
      } : f32[T,B,4], f32[T,B,4], f32[T,B,4]
      return y = %y, z = %z, u = %u
    }"""
    assert_rewrites(before, "canonicalize", """graph @g(%x: f32[T,B,4], %k: f32[B,4]) {
      %z = broadcast %k {shape = [T, B, 4], axes = [1, 2]} : f32[T,B,4]
      %u = scan carry() over(x = %x) {steps = T} {
      ^(%xt: f32[B,4]):
        %n = neg %xt : f32[B,4]
        yield carry() emit(u = %n)
      } : f32[T,B,4]
      return y = %x, z = %z, u = %u
    }""")


def test_with_lengths_outputs_do_not_pass_through() -> None:
    assert_rewrites("""graph @g(%x: f32[T,B,4], %k: f32[B,4], %lengths: i32[B]) {
      %y, %z = scan carry() over(x = %x) lengths(%lengths) {steps = T} {
      ^(%xt: f32[B,4]):
        yield carry() emit(y = %xt, z = %k)
      } : f32[T,B,4], f32[T,B,4]
      return y = %y, z = %z
    }""", "canonicalize", None)


def test_a_joined_matmul_of_input_and_state_comes_apart() -> None:
    before = """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w: f32[5,3]) {
      %h = scan carry(h = %h0) over(x = %x) {steps = T} {
      ^(%hh: f32[B,3], %xt: f32[B,2]):
        %c = concat %xt, %hh {axis = 1} : f32[B,5]
        %m = matmul %c, %w : f32[B,3]
        yield carry(h = %m) emit()
      } : f32[B,3]
      return h = %h
    }"""
    assert_rewrites(before, "canonicalize", """graph @g(%x: f32[T,B,2], %h0: f32[B,3], %w: f32[5,3]) {
      %h = scan carry(h = %h0) over(x = %x) {steps = T} {
      ^(%hh: f32[B,3], %xt: f32[B,2]):
        %w1 = slice %w {axis = 0, start = 0, size = 2} : f32[2,3]
        %a = matmul %xt, %w1 : f32[B,3]
        %w2 = slice %w {axis = 0, start = 2, size = 3} : f32[3,3]
        %b = matmul %hh, %w2 : f32[B,3]
        %m = add %a, %b : f32[B,3]
        yield carry(h = %m) emit()
      } : f32[B,3]
      return h = %h
    }""")
    assert_keeps_numbers(before, "canonicalize", rtol=1e-12, atol=1e-12)


REVERSED = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
  %r = reverse %x {axis = 0} : f32[T,B,4]
  %h, %z = scan carry(h = %h0) over(x = %r) {steps = T} {
  ^(%hh: f32[B,4], %xt: f32[B,4]):
    %a = add %hh, %xt : f32[B,4]
    yield carry(h = %a) emit(y = %a)
  } : f32[B,4], f32[T,B,4] <layer = back>
  %y = reverse %z {axis = 0} : f32[T,B,4]
  return h = %h, y = %y
}"""


def test_reversed_sequences_make_a_scan_that_runs_backwards() -> None:
    after = ADDS.replace("{steps = T}", "{steps = T, reverse = true}").replace("f32[T,B,4]\n  return",
                                                                              "f32[T,B,4] <layer = back>\n  return")
    assert_rewrites(REVERSED, "canonicalize", after, remarks=[
        "applied: canonicalize: back: reversed sequences replaced by a scan that runs backwards"])
    assert_keeps_numbers(REVERSED, "canonicalize", rtol=0, atol=0)


def test_batch_major_reversals_reach_the_scan_too() -> None:
    before = """graph @g(%x: f32[B,T,4]) {
      %r = reverse %x {axis = 1} : f32[B,T,4]
      %t = transpose %r {perm = [1, 0, 2]} : f32[T,B,4]
      %z = scan carry() over(x = %t) {steps = T} {
      ^(%xt: f32[B,4]):
        %a = neg %xt : f32[B,4]
        yield carry() emit(y = %a)
      } : f32[T,B,4]
      %b = transpose %z {perm = [1, 0, 2]} : f32[B,T,4]
      %y = reverse %b {axis = 1} : f32[B,T,4]
      return y = %y
    }"""
    graph = assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)
    assert [op.name for op in graph.block.ops] == ["transpose", "scan", "transpose", "return"]


def test_reversals_stay_where_one_output_is_read_as_it_is_or_lengths_are_given() -> None:
    assert_rewrites(REVERSED.replace("return h = %h,", "return h = %h, z = %z,"), "canonicalize", None, remarks=[])
    lengths = REVERSED.replace("%h0: f32[B,4])", "%h0: f32[B,4], %n: i32[B])").replace(
        "over(x = %r)", "over(x = %r) lengths(%n)")
    assert_rewrites(lengths, "canonicalize", None, remarks=[])


def test_reversals_in_nested_scans_settle() -> None:
    graph = parse("""graph @g(%x: f32[T,S,B]) {
      %r = reverse %x {axis = 1} : f32[T,S,B]
      %y = scan carry() over(x = %r) {steps = T} {
      ^(%xt: f32[S,B]):
        %z = scan carry() over(x = %xt) {steps = S} {
        ^(%xs: f32[B]):
          %a = neg %xs : f32[B]
          yield carry() emit(z = %a)
        } : f32[S,B]
        yield carry() emit(y = %z)
      } : f32[T,S,B]
      return y = %y
    }""")
    run("canonicalize", graph, PassContext())
