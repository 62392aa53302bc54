"""Computed sizes: the canonical text says what the expression says, and equal polynomials have one text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from rnngraph.errors import InputError, ShapeError
from rnngraph.ir import dims
from rnngraph.ir.dims import Dim
from rnngraph.ir.types import F32, TensorType, numel, resolve

SYMBOLS = ("batch", "t", "max")  # a symbol may have a function's name
sizes = st.fixed_dictionaries({s: st.integers(0, 30) for s in SYMBOLS})
leaves = st.sampled_from(SYMBOLS) | st.integers(0, 9).map(str)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, inner)
    divided = st.tuples(inner, st.sampled_from(["//", "%"]), st.integers(1, 6))
    return (pairs.map(lambda p: f"({p[0]})+{p[1]}") | pairs.map(lambda p: f"{p[0]}-({p[1]})")
            | pairs.map(lambda p: f"({p[0]})*({p[1]})") | divided.map(lambda d: f"({d[0]}){d[1]}{d[2]}")
            | pairs.map(lambda p: f"max({p[0]},{p[1]})") | pairs.map(lambda p: f"min({p[0]}, {p[1]})")
            | inner.map(lambda t: f"-({t})"))


def _polynomials(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, inner)
    return (pairs.map(lambda p: f"({p[0]})+{p[1]}") | pairs.map(lambda p: f"{p[0]}-({p[1]})")
            | pairs.map(lambda p: f"({p[0]})*({p[1]})"))


expressions = st.recursive(leaves, _grow, max_leaves=8)
polynomials = st.recursive(leaves, _polynomials, max_leaves=6)


def by_python(text: str, known: dict[str, int]) -> int:
    """The value that Python gives the text; ``max`` before a bracket is the function."""
    names = {f"s_{s}": n for s, n in known.items()}
    text = re.sub(r"\b(batch|t|max)\b(?!\()", r"s_\1", text)
    return int(eval(text, {"max": max, "min": min}, names))  # the test's own text, as an oracle


@contextmanager
def unless_too_large() -> Iterator[None]:
    """Examples that are larger than a size may be do not count; any other error does."""
    try:
        yield
    except ShapeError as e:
        if "at most" not in str(e):
            raise
        reject()


@given(expressions, sizes)
@settings(max_examples=300, deadline=None)
def test_canonical_form_keeps_the_value(text: str, known: dict[str, int]) -> None:
    with unless_too_large():
        canonical = dims.parse(text)
    assert dims.evaluate(canonical, known) == by_python(text, known)
    assert dims.parse(canonical) == canonical
    assert dims.is_canonical(canonical)
    assert str(canonical).count(" ") == 0


@given(polynomials, polynomials)
@settings(max_examples=200, deadline=None)
def test_polynomials_are_equal_when_their_values_are(a: str, b: str) -> None:
    """A polynomial of degree below 7 that is 0 on a grid of 7 values per symbol is 0."""
    with unless_too_large():
        x, y = dims.parse(a), dims.parse(b)
    grid = [{"batch": i, "t": j, "max": k} for i in range(7) for j in range(7) for k in range(7)]
    same = all(dims.evaluate(x, g) == dims.evaluate(y, g) for g in grid)
    assert (x == y) == same
    assert dims.sub(x, y) == 0 or not same


@given(expressions, expressions, st.integers(1, 7), sizes)
@settings(max_examples=150, deadline=None)
def test_arithmetic_on_dims_is_that_of_their_values(a: str, b: str, n: int, known: dict[str, int]) -> None:
    with unless_too_large():
        x, y = dims.parse(a), dims.parse(b)
        found = {"add": dims.add(x, y), "sub": dims.sub(x, y), "mul": dims.mul(x, y), "floordiv": dims.floordiv(x, n),
                 "ceildiv": dims.ceildiv(x, n), "mod": dims.mod(x, n), "max": dims.maximum(x, y),
                 "min": dims.minimum(x, y)}
    p, q = dims.evaluate(x, known), dims.evaluate(y, known)
    want = {"add": p + q, "sub": p - q, "mul": p * q, "floordiv": p // n, "ceildiv": -(-p // n), "mod": p % n,
            "max": max(p, q), "min": min(p, q)}
    assert {k: dims.evaluate(d, known) for k, d in found.items()} == want
    assert found["add"] == dims.add(y, x)
    assert found["mul"] == dims.mul(y, x)


@given(expressions, st.lists(st.sampled_from(["t", "batch", "t+1", "2*batch", "t//3", "5"]), min_size=3, max_size=3),
       sizes)
@settings(max_examples=100, deadline=None)
def test_substitution_is_composition(text: str, new: list[str], known: dict[str, int]) -> None:
    mapping = {s: dims.parse(d) for s, d in zip(SYMBOLS, new, strict=True)}
    with unless_too_large():
        canonical = dims.parse(text)
        got = dims.substitute(canonical, mapping)
    inner = {s: dims.evaluate(d, known) for s, d in mapping.items()}
    assert dims.evaluate(got, known) == dims.evaluate(canonical, inner)
    assert dims.symbols_of(got) <= set(SYMBOLS)


@pytest.mark.parametrize(("text", "canonical"), [
    ("(4*t+8)//4", "t+2"), ("t*2 + 1", "2*t+1"), ("T*B", "B*T"), ("(t-3)//2+1", "(t+1)//2-1"), ("3*4", 12),
    ("((t+1)//2+1)//2", "(t+3)//4"), ("t-t//2", "(t+1)//2"), ("t//2+(t+1)//2", "t"), ("-(-t//2)", "(t+1)//2"),
    ("-(-t//4)", "(t+3)//4"), ("t+(-t)%4", "4*((t+3)//4)"), ("t%4+4*(t//4)", "t"), ("max(0,t)", "t"),
    ("max(0,t-3)", "max(3,t)-3"), ("min(t,t+s)", "t"), ("max(max(a,b),c)", "max(a,b,c)"), ("2*(t//3)", "2*(t//3)"),
    ("(t+s)*(t-s)", "-s*s+t*t"), ("(2*t*s)//(t)", "2*s"), ("0*t", 0), ("max", "max"),
])
def test_one_spelling(text: str, canonical: Dim) -> None:
    assert dims.parse(text) == canonical


@pytest.mark.parametrize(("text", "message"), [
    ("", "an identifier or an expression"), ("t+", "an identifier or"), ("t t", "an identifier or"),
    ("t**2", "an identifier or"), ("t/2", "an identifier or"), ("t//0", "divided by a number above 0"),
    ("t//-2", "divided by a number above 0"), ("t//s", "not known to be a multiple"),
    ("__import__('os')", "identifier"),
    ("max()", "an identifier or"), ("(" * 40 + "t" + ")" * 40, "nested at most 16"), ("t+" * 400 + "t", "at most 512"),
    ("9" * 30, "2\\*\\*60"), ("*".join(["(a+b+c+d+e+f)"] * 6), "at most 64 terms"), ("*".join(["t"] * 13), "degree 12"),
    ("*".join(["999999999"] * 9), "2\\*\\*60"), (f"max({','.join('abcdefghijklmnopqr')})", "at most 16, got 18"),
])
def test_hostile_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        dims.parse(text)


def test_division_by_a_polynomial_is_exact_or_refused() -> None:
    assert dims.floordiv(dims.parse("(t+1)*(2*s-t)"), dims.parse("t+1")) == "2*s-t"
    with pytest.raises(ShapeError, match="cannot divide the size t by t\\+1"):
        dims.floordiv("t", "t+1")


def test_types_evaluate_their_dims() -> None:
    shape = ("B", "2*T+1", 4)
    assert str(TensorType(F32, shape)) == "f32[B,2*T+1,4]"
    assert resolve(shape, {"B": 2, "T": 3}) == (2, 7, 4)
    assert resolve(shape, {"B": 2, "2*T+1": 9}) == (2, 9, 4)  # known sizes of expressions count
    assert numel(shape, {"B": 2, "T": 3}) == 56
    with pytest.raises(InputError, match=r"the size T-4 is -1 where T = 3; give longer inputs"):
        resolve(("T-4",), {"T": 3})
    with pytest.raises(InputError, match=r"the size T\*T is 100000000000000000000 where .*; a size is at most 2\*\*48"):
        resolve(("T*T",), {"T": 10**10})
    with pytest.raises(ShapeError, match="symbol 'S' in the size S\\+1 is bound by no input"):
        resolve(("S+1",), {"T": 3})


def test_signs_that_show() -> None:
    assert dims.is_nonnegative("t//2+max(3,s)")
    assert not dims.is_nonnegative("t-1")
    assert dims.is_nonnegative(dims.sub("t+3", "t"))
    assert dims.is_nonnegative(dims.sub("max(1,t)", 1)), "a max is as large as each of its arguments"
    assert dims.is_nonnegative(dims.sub("t", "min(1,t)")), "a min is as small as each of its own"
    assert not dims.is_nonnegative(dims.sub("t", "max(1,t)"))
    assert not dims.is_nonnegative(dims.sub("min(3,t)", 2))
