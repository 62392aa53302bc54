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


def blend(second: str, axes: str = "0") -> str:
    return f"""graph @g(%x: f32[T,3,3], %m: bool[T,3], %h0: f32[3,3]) {{
      %h = scan carry(h = %h0) over(x = %x, m = %m) {{steps = T}} {{
      ^(%hh: f32[3,3], %xt: f32[3,3], %mt: bool[3]):
        %no = not %mt : bool[3]
        %f = cast {second} {{dtype = f32}} : f32[3]
        %g = cast %no {{dtype = f32}} : f32[3]
        %fs = broadcast %f {{shape = [3, 3], axes = [0]}} : f32[3,3]
        %gs = broadcast %g {{shape = [3, 3], axes = [{axes}]}} : f32[3,3]
        %a = mul %fs, %xt : f32[3,3]
        %b = mul %hh, %gs : f32[3,3]
        %n = add %a, %b : f32[3,3]
        yield carry(h = %n) emit()
      }} : f32[3,3]
      return h = %h
    }}"""


def test_flags_that_blend_two_values_select_one() -> None:
    before = blend("%mt")
    assert_rewrites(before, "canonicalize,dce", """graph @g(%x: f32[T,3,3], %m: bool[T,3], %h0: f32[3,3]) {
      %h = scan carry(h = %h0) over(x = %x, m = %m) {steps = T} {
      ^(%hh: f32[3,3], %xt: f32[3,3], %mt: bool[3]):
        %c = broadcast %mt {shape = [3, 3], axes = [0]} : bool[3,3]
        %n = select %c, %xt, %hh : f32[3,3]
        yield carry(h = %n) emit()
      } : f32[3,3]
      return h = %h
    }""")
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)


def test_flags_that_are_not_of_one_condition_stay() -> None:
    for text in (blend("%no"), blend("%mt", axes="1")):
        graph = parse(text)
        run("canonicalize", graph)
        assert "= select" not in graph.to_text()
        assert_keeps_numbers(text, "canonicalize", rtol=0, atol=0)


TWINS = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
  %h, %k, %y = scan carry(h = %h0, k = %h0) over(x = %x) {steps = T} {
  ^(%hh: f32[B,4], %kk: f32[B,4], %xt: f32[B,4]):
    %a = tanh %hh : f32[B,4]
    %b = add %a, %xt : f32[B,4]
    %c = tanh OTHER : f32[B,4]
    %d = add %c, %xt : f32[B,4]
    %s = add %hh, %kk : f32[B,4]
    yield carry(h = %b, k = %d) emit(y = %s)
  } : f32[B,4], f32[B,4], f32[T,B,4]
  return h = %h, k = %k, y = %y
}"""


def test_carries_that_each_step_makes_alike_are_one() -> None:
    before = TWINS.replace("OTHER", "%kk")
    assert_rewrites(before, "canonicalize,cse", """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
      %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
      ^(%hh: f32[B,4], %xt: f32[B,4]):
        %a = tanh %hh : f32[B,4]
        %b = add %a, %xt : f32[B,4]
        %s = add %hh, %hh : f32[B,4]
        yield carry(h = %b) emit(y = %s)
      } : f32[B,4], f32[T,B,4]
      return h = %h, k = %h, y = %y
    }""")
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)


def test_carries_that_start_or_step_otherwise_stay_two() -> None:
    other_start = TWINS.replace("OTHER", "%kk").replace("%h0: f32[B,4])", "%h0: f32[B,4], %k0: f32[B,4])").replace(
        "k = %h0", "k = %k0")
    other_step = TWINS.replace("tanh OTHER", "neg %kk")
    for text in (other_start, other_step):
        graph = parse(text)
        run("canonicalize", graph)
        assert len(next(op for op in graph.walk() if op.name == "scan").results) == 3
        assert_keeps_numbers(text, "canonicalize", rtol=0, atol=0)


def backwards(axis: int, out: int) -> str:
    return f"""graph @g(%x: f32[B,T,4], %h0: f32[B,4]) {{
      %r = reverse %x {{axis = {axis}}} : f32[B,T,4]
      %s = transpose %r {{perm = [1, 0, 2]}} : f32[T,B,4]
      %h, %y = scan carry(h = %h0) over(x = %s) {{steps = T}} {{
      ^(%hh: f32[B,4], %xt: f32[B,4]):
        %a = add %hh, %xt : f32[B,4]
        yield carry(h = %a) emit(y = %a)
      }} : f32[B,4], f32[T,B,4]
      %z = transpose %y {{perm = [1, 0, 2]}} : f32[B,T,4]
      %u = reverse %z {{axis = {out}}} : f32[B,T,4]
      return h = %h, y = %u
    }}"""


def test_reversals_beyond_transposes_are_the_scan_s() -> None:
    before = backwards(1, 1)
    assert_rewrites(before, "canonicalize", """graph @g(%x: f32[B,T,4], %h0: f32[B,4]) {
      %s = transpose %x {perm = [1, 0, 2]} : f32[T,B,4]
      %h, %y = scan carry(h = %h0) over(x = %s) {steps = T, reverse = true} {
      ^(%hh: f32[B,4], %xt: f32[B,4]):
        %a = add %hh, %xt : f32[B,4]
        yield carry(h = %a) emit(y = %a)
      } : f32[B,4], f32[T,B,4]
      %z = transpose %y {perm = [1, 0, 2]} : f32[B,T,4]
      return h = %h, y = %z
    }""")
    assert_keeps_numbers(before, "canonicalize", rtol=0, atol=0)


def test_reversals_of_other_axes_stay() -> None:
    for axis, out in ((0, 1), (1, 0), (0, 0)):
        graph = parse(backwards(axis, out))
        run("canonicalize", graph)
        assert graph.to_text().count("= reverse ") == 2
        assert "reverse = true" not in graph.to_text()
        assert_keeps_numbers(backwards(axis, out), "canonicalize", rtol=0, atol=0)
