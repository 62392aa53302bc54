"""Integers of a loop as start + step * i, and the number of steps that a condition on them lets run."""

from __future__ import annotations

import pytest

from rnngraph.ir import Dim, Scan, parse
from rnngraph.ir.induction import Affine, Below, affine, below, of_scan

SCAN = """graph @g(%x: f32[T,B], %lens: i32[B]) {{
  %i = iota {{size = T, dtype = i64}} : i64[T]
  %k0 = const splat(2) : i32[]
  %k, %y = scan carry(k = %k0) over(i = %i) {{steps = T{reverse}}} {{
  ^(%kk: i32[], %ii: i64[]):
    %three = const splat(3) : i32[]
    %n = add %kk, %three : i32[]
    %c = cast %ii {{dtype = i32}} : i32[]
    %z = mul %c, %three : i32[]
    %w = sub %n, %z : i32[]
    %size = size {{dim = T, dtype = i32}} : i32[]
    %ends = lt %n, %size : bool[]
    yield carry(k = %n) emit(w = %w)
  }} : i32[], i32[T]
  return y = %y
}}"""


def scan(reverse: bool) -> Scan:
    graph = parse(SCAN.format(reverse=", reverse = true" if reverse else ""))
    return Scan(next(op for op in graph.walk() if op.name == "scan"))


@pytest.mark.parametrize("reverse", [False, True])
def test_counters_and_what_is_computed_from_them(reverse: bool) -> None:
    found = scan(reverse)
    known = of_scan(found)
    by_name = {v.hint: a for v, a in known.items()}
    assert by_name["ii"] == Affine(0, 1)
    assert by_name["kk"] == (Affine("3*T-1", -3) if reverse else Affine(2, 3))
    values = {op.result.hint: affine(op.result, known) for op in found.body.body if op.results}
    assert values["w"] == (Affine("3*T+2", -6) if reverse else Affine(5, 0))
    (told,) = below(next(op.result for op in found.body.body if op.name == "lt"), known) or []
    assert told == (Below("3*T+2", -3, "T") if reverse else Below(5, 3, "T"))


@pytest.mark.parametrize(("condition", "steps"), [
    (Below(0, 1, "T"), "T"), (Below(1, 1, "T"), "max(1,T)-1"), (Below(5, 3, 11), 2), (Below(5, 3, 12), 3),
    (Below(7, 1, 3), 0)])
def test_how_long_a_condition_holds(condition: Below, steps: Dim) -> None:
    assert condition.steps() == steps
    if isinstance(steps, int) and isinstance(condition.end, int) and isinstance(condition.start, int):
        i = 0
        while condition.start + condition.step * i < condition.end:
            i += 1
        assert i == steps


def test_a_condition_that_always_holds_or_of_which_nothing_shows_it() -> None:
    assert Below(3, 0, 5).always
    assert Below(3, -1, 5).always
    assert not Below(5, -1, 5).always
    assert not Below(3, 1, 5).always
    assert Below(0, -1, "T").steps() is None


def test_a_state_that_is_not_counted_is_none() -> None:
    graph = parse("""graph @g(%x: i32[T]) {
      %k0 = const splat(0) : i32[]
      %k, %y = scan carry(k = %k0) over(x = %x) {steps = T} {
      ^(%kk: i32[], %xx: i32[]):
        %n = add %kk, %xx : i32[]
        yield carry(k = %n) emit(n = %n)
      } : i32[], i32[T]
      return y = %y
    }""")
    assert of_scan(Scan(next(op for op in graph.walk() if op.name == "scan"))) == {}


def test_values_made_of_each_other_are_read_once() -> None:
    """Sums of a sum with itself: read again for each use, the last would take 2**60 steps."""
    sums = "".join(f"%a{i + 1} = add %a{i}, %a{i} : i64[] %c{i + 1} = and %c{i}, %c{i} : bool[] " for i in range(60))
    graph = parse(f"""graph @g(%x: f32[T]) {{
      %a0 = size {{dim = T, dtype = i64}} : i64[]
      %c0 = lt %a0, %a0 : bool[]
      {sums}
      return a = %a60, c = %c60
    }}""")
    a, c = graph.outputs
    assert affine(a, {}) in (None, Affine(f"{2**60}*T"))
    assert below(c, {}) == [Below("T", 0, "T")]


def test_a_state_that_no_step_changes_is_known() -> None:
    graph = parse("""graph @g(%x: f32[T]) {
      %k0 = size {dim = T, dtype = i32} : i32[]
      %k, %y = scan carry(k = %k0) over(x = %x) {steps = T} {
      ^(%kk: i32[], %xx: f32[]):
        yield carry(k = %kk) emit(n = %xx)
      } : i32[], f32[T]
      return y = %y
    }""")
    found = Scan(next(op for op in graph.walk() if op.name == "scan"))
    assert of_scan(found) == {found.carry_args[0]: Affine("T")}


def test_integers_compared_as_floats() -> None:
    """As tf2onnx compares them for old opsets; a float that was none is no integer."""
    graph = parse("""graph @g(%x: f32[T]) {
      %n = size {dim = T, dtype = i32} : i32[]
      %f = cast %n {dtype = f32} : f32[]
      %half = const splat(0.5) : f32[]
      %two = const splat(2) : f32[]
      %r = cast %half {dtype = i32} : i32[]
      %a = lt %two, %f : bool[]
      %b = lt %half, %f : bool[]
      return a = %a, b = %b, r = %r
    }""")
    a, b, r = graph.outputs
    assert below(a, {}) == [Below(2, 0, "T")]
    assert below(b, {}) is None
    assert affine(r, {}) is None


def test_of_two_conditions_the_one_that_says_more_is_kept() -> None:
    graph = parse("""graph @g(%x: f32[T]) {
      %zero = const splat(0) : i32[]
      %one = const splat(1) : i32[]
      %n = size {dim = T, dtype = i32} : i32[]
      %m = size {dim = "max(1,T)", dtype = i32} : i32[]
      %a = lt %zero, %n : bool[]
      %b = lt %zero, %m : bool[]
      %both = and %a, %b : bool[]
      return c = %both
    }""")
    assert below(graph.outputs[0], {}) == [Below(0, 0, "T")]
