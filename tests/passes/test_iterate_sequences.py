"""iterate-sequences: rows that a step reads at its own place become a sequence."""

from __future__ import annotations

import pytest

from tests.testing import assert_keeps_numbers, assert_rewrites

COUNTED = """graph @g(%x: f32[T,B,2], %h0: f32[B,2]) {
  %i = iota {size = T, dtype = i64} : i64[T]
  %h, %y = scan carry(h = %h0) over(i = %i) {steps = T} {
  ^(%hh: f32[B,2], %ii: i64[]):
    %r = take %x, %ii {axis = 0} : f32[B,2]
    %s = add %r, %hh : f32[B,2]
    %n = tanh %s : f32[B,2]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,2], f32[T,B,2] <layer = rnn>
  return y = %y
}"""


def test_the_number_of_the_step() -> None:
    assert_rewrites(
        COUNTED, "iterate-sequences",
        """graph @g(%x: f32[T,B,2], %h0: f32[B,2]) {
          %i = iota {size = T, dtype = i64} : i64[T]
          %h, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
          ^(%hh: f32[B,2], %xx: f32[B,2]):
            %s = add %xx, %hh : f32[B,2]
            %n = tanh %s : f32[B,2]
            yield carry(h = %n) emit(y = %n)
          } : f32[B,2], f32[T,B,2] <layer = rnn>
          return y = %y
        }""",
        remarks=["applied: iterate-sequences: rnn: a step reads its own place of %x: now a sequence of the scan"])


def counting(start: int, change: str, size: str, axis: int, reverse: bool) -> str:
    """A state that counts, read in two dtypes; every step reads one place of an axis of x."""
    shape = f"{size},B,2" if axis == 0 else f"B,{size},2"
    return f"""graph @g(%x: f32[{shape}], %z: f32[T,B,2], %h0: f32[B,2]) {{
      %k0 = const splat({start}) : i32[]
      %k, %h, %y = scan carry(k = %k0, h = %h0) over(z = %z) {{steps = T{", reverse = true" if reverse else ""}}} {{
      ^(%kk: i32[], %hh: f32[B,2], %zz: f32[B,2]):
        %one = const splat(1) : i32[]
        %m = {change} %kk, %one : i32[]
        %at = reshape %kk {{shape = [1]}} : i32[1]
        %r1 = take %x, %at {{axis = {axis}}} : f32[{"1,B,2" if axis == 0 else "B,1,2"}]
        %r = reshape %r1 {{shape = [B, 2]}} : f32[B,2]
        %s = add %r, %hh : f32[B,2]
        %u = add %s, %zz : f32[B,2]
        %n = tanh %u : f32[B,2]
        yield carry(k = %m, h = %n) emit(y = %n)
      }} : i32[], f32[B,2], f32[T,B,2] <layer = rnn>
      return y = %y
    }}"""


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("start", "change", "size"), [(0, "add", "T"), (2, "add", "T+2"), (1, "add", "T+4")])
def test_states_that_count(start: int, change: str, size: str, axis: int, reverse: bool) -> None:
    after = assert_keeps_numbers(counting(start, change, size, axis, reverse), "iterate-sequences", rtol=0, atol=0)
    assert "take" not in str(after)
    assert "i32" not in str(after).partition("scan")[2], "the counter is gone"


@pytest.mark.parametrize(("start", "change", "size", "why"), [
    (1, "add", "T", "its T steps read from place 1 on of f32[T,B,2], and nothing shows that these are within it"),
    (0, "sub", "T", "its T steps read from place 0 on of f32[T,B,2], and nothing shows that these are within it")])
def test_what_may_be_out_of_range_stays(start: int, change: str, size: str, why: str) -> None:
    assert_rewrites(counting(start, change, size, 0, False), "iterate-sequences", None,
                    remarks=[f"missed: iterate-sequences: rnn: {why}"])


def test_an_index_from_data_stays() -> None:
    text = COUNTED.replace("%h0: f32[B,2])", "%h0: f32[B,2], %at: i64[T])").replace(
        "%i = iota {size = T, dtype = i64} : i64[T]", "").replace("over(i = %i)", "over(i = %at)")
    assert_rewrites(text, "iterate-sequences", None, remarks=[])


def test_a_reversed_sequence_read_backwards_is_the_sequence() -> None:
    """As loops of a Bidirectional's second direction are written; the scan runs backwards then."""
    text = COUNTED.replace("%i = iota", "%b = reverse %x {axis = 0} : f32[T,B,2]\n  %i = iota").replace(
        "take %x", "take %b").replace("return y = %y", "%z = reverse %y {axis = 0} : f32[T,B,2]\n  return y = %z")
    after = assert_keeps_numbers(text, "iterate-sequences", rtol=0, atol=0)
    assert "over(x = %x) {steps = T, reverse = true}" in str(after)
    assert "= reverse" not in str(after)
    again = assert_keeps_numbers(text, "canonicalize,iterate-sequences,dce", rtol=0, atol=0)
    assert "= reverse" not in str(again)


def writing(how: str, size: str = "T", reverse: bool = False) -> str:
    """A state in which step t writes row ``at``."""
    return f"""graph @g(%x: f32[T,B,2], %z: f32[{size},B,2]) {{
      %i = iota {{size = T, dtype = i64}} : i64[T]
      %ys = scan carry(y = %z) over(x = %x, i = %i) {{steps = T{", reverse = true" if reverse else ""}}} {{
      ^(%yy: f32[{size},B,2], %xx: f32[B,2], %ii: i64[]):
        %n = tanh %xx : f32[B,2]
        {how}
        yield carry(y = %next) emit()
      }} : f32[{size},B,2] <layer = rnn>
      return y = %ys
    }}"""


ND = """%at = reshape PLACE {shape = [1, 1]} : i64[1,1]  %row = reshape %n {shape = [1, B, 2]} : f32[1,B,2]
        %next = scatter_nd %yy, %at, %row {reduction = "none"} : """


@pytest.mark.parametrize("reverse", [False, True])
def test_a_state_written_row_by_row_is_an_output(reverse: bool) -> None:
    later = "%one = const splat(2) : i64[]  %k = add %ii, %one : i64[]  "
    last = "%t = size {dim = T, dtype = i64} : i64[]  %j = sub %t, %ii : i64[]  %o = const splat(1) : i64[]  " \
           "%k = sub %j, %o : i64[]  "
    for size, how in (("T", ND.replace("PLACE", "%ii")), ("T+5", later + ND.replace("PLACE", "%k")),
                      ("T", last + ND.replace("PLACE", "%k"))):
        text = writing(how + f"f32[{size},B,2]", size, reverse)
        after = assert_keeps_numbers(text, "iterate-sequences", rtol=0, atol=0)
        assert "scatter" not in str(after)
        assert "carry()" in str(after)


def test_a_state_written_otherwise_stays() -> None:
    beyond = "%one = const splat(2) : i64[]  %k = add %ii, %one : i64[]  " + ND.replace("PLACE", "%k")
    same_row = "%k = const splat(0) : i64[]  " + ND.replace("PLACE", "%k")
    added = ND.replace("PLACE", "%ii").replace('"none"', '"add"')
    for how in (beyond, same_row, added):
        assert_rewrites(writing(how + "f32[T,B,2]"), "iterate-sequences", None, remarks=[])
