"""Dims: integers, symbols, and sizes computed from symbols, such as ``2*time+1`` or ``(time+1)//2``.

A computed size is a text: a polynomial with integer coefficients over symbols, ``p//n``, ``max(p,q)``, ``min(p,q)``.
Every function here returns the canonical text, in which the usual identities are worked out: sums and products are
multiplied out and sorted, divisions take out what divides, ``p%n`` is ``p-n*(p//n)``. So equal sizes have equal texts
wherever ring arithmetic and these rules show that they are equal. Symbols stand for sizes, which are 0 or more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod
from typing import TypeAlias

from rnngraph.errors import ShapeError
from rnngraph.ir.polynomial import Dim as Dim
from rnngraph.ir.polynomial import (
    Terms,
    call_of,
    dim_of,
    divided,
    extreme,
    fraction,
    is_canonical_text,
    nonnegative,
    parsed,
    plus,
    scaled,
    terms_of_text,
    times,
)
from rnngraph.ir.polynomial import terms_of as terms_of
from rnngraph.ir.tokens import SYMBOL

# --- what the IR uses --------------------------------------------------------------------------------------------


def is_symbol(dim: Dim) -> bool:
    """Whether ``dim`` is a symbol alone."""
    return isinstance(dim, str) and SYMBOL.fullmatch(dim) is not None


def parse(text: Dim) -> Dim:
    """The canonical form of an expression; ShapeError when it is none, or is too large.

    >>> parse("(4*time + 8)//4")
    'time+2'
    >>> parse("time%4"), parse("3*4")
    ('time-4*(time//4)', 12)
    """
    return text if isinstance(text, int) else parsed(text)


def is_canonical(dim: Dim) -> bool:
    """Whether ``dim`` is an integer, a symbol, or an expression in its only spelling."""
    return isinstance(dim, int) or SYMBOL.fullmatch(dim) is not None or is_canonical_text(dim)


def add(*dims: Dim) -> Dim:
    """The sum."""
    return dim_of(plus(*map(terms_of, dims)))


def sub(a: Dim, b: Dim) -> Dim:
    """The difference."""
    return dim_of(plus(terms_of(a), scaled(terms_of(b), -1)))


def mul(*dims: Dim) -> Dim:
    """The product.

    >>> mul("batch", add("time", 1)), mul()
    ('batch*time+batch', 1)
    """
    out: Terms = {(): 1}
    for d in dims:
        out = times(out, terms_of(d))
    return dim_of(out)


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b, rounded down. ``b`` is an integer above 0, or divides ``a``; else ShapeError.

    >>> floordiv("time", 2), floordiv(mul("batch", "time", 8), mul("batch", 4))
    ('time//2', '2*time')
    """
    return dim_of(divided(terms_of(a), terms_of(b)))


def ceildiv(a: Dim, b: int) -> Dim:
    """a // b, rounded up."""
    return floordiv(add(a, b - 1), b)


def mod(a: Dim, b: Dim) -> Dim:
    """a - b * (a // b)."""
    return sub(a, mul(b, floordiv(a, b)))


def maximum(*dims: Dim) -> Dim:
    """The largest.

    >>> maximum(0, "time"), maximum(sub("time", 3), 0)
    ('time', 'max(3,time)-3')
    """
    return dim_of(extreme("max", [terms_of(d) for d in dims]))


def minimum(*dims: Dim) -> Dim:
    """The smallest."""
    return dim_of(extreme("min", [terms_of(d) for d in dims]))


def evaluate(dim: Dim, dims: Mapping[str, int]) -> int:
    """The size that ``dim`` stands for under the sizes ``dims`` of symbols; it may be negative.

    ShapeError when ``dims`` lacks a symbol.
    """
    if isinstance(dim, int):
        return dim
    try:
        return dims[dim] if dim in dims else _compiled(dim)(dims)
    except KeyError as e:
        raise ShapeError(f"symbol {e.args[0]!r} in the size {dim} is bound by no input") from None


def symbols_of(dim: Dim) -> frozenset[str]:
    """The symbols in ``dim``."""
    return frozenset() if isinstance(dim, int) else _symbols(dim)


def substitute(dim: Dim, mapping: Mapping[str, Dim]) -> Dim:
    """``dim`` with symbols replaced by other dims.

    >>> substitute("(time+1)//2", {"time": "2*frames"})
    'frames'
    """
    if isinstance(dim, int) or not symbols_of(dim) & mapping.keys():
        return dim
    return dim_of(_substituted(terms_of(dim), mapping))


def is_nonnegative(dim: Dim) -> bool:
    """Whether ``dim`` is 0 or more whatever its symbols stand for, as far as its form shows."""
    return nonnegative(terms_of(dim))


def factor_of(text: str) -> tuple[str, tuple[Dim, ...]]:
    """What a factor of a term is: "//", "max" or "min" with its operands, or "" for a symbol.

    >>> factor_of("(time+1)//2"), factor_of("time")
    (('//', ('time+1', 2)), ('', ()))
    """
    if (found := fraction(text)) is not None:
        return "//", (dim_of(found[0]), found[1])
    if (call := call_of(text)) is not None:
        return call[0], tuple(dim_of(t) for t in call[1])
    return "", ()


# --- what a text stands for --------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _symbols(text: str) -> frozenset[str]:
    return frozenset(m.group() for m in re.finditer(r"[A-Za-z_][A-Za-z0-9_]*(?!\w|\()", text))


Evaluator: TypeAlias = Callable[[Mapping[str, int]], int]


@lru_cache(maxsize=4096)
def _compiled(text: str) -> Evaluator:
    """A function of the symbols' sizes. Composed of closures: no code is made from text."""
    terms = [(c, [_factor(f) for f in m]) for m, c in terms_of_text(text).items()]
    return lambda dims: sum(c * prod(f(dims) for f in factors) for c, factors in terms)


def _factor(text: str) -> Evaluator:
    if (found := fraction(text)) is not None:
        inner, n = _compiled(str(dim_of(found[0]))), found[1]
        return lambda dims: inner(dims) // n
    if (call := call_of(text)) is not None:
        which, arguments = (max if call[0] == "max" else min), [_argument(t) for t in call[1]]
        return lambda dims: which(a(dims) for a in arguments)
    return lambda dims: dims[text]


def _argument(terms: Terms) -> Evaluator:
    dim = dim_of(terms)
    return (lambda _: dim) if isinstance(dim, int) else _compiled(dim)


def _substituted(terms: Terms, mapping: Mapping[str, Dim]) -> Terms:
    total: Terms = {}
    for m, c in terms.items():
        part: Terms = {(): c}
        for factor in m:
            part = times(part, _replaced(factor, mapping))
        total = plus(total, part)
    return total


def _replaced(factor: str, mapping: Mapping[str, Dim]) -> Terms:
    if (found := fraction(factor)) is not None:
        return divided(_substituted(found[0], mapping), {(): found[1]})
    if (call := call_of(factor)) is not None:
        return extreme(call[0], [_substituted(t, mapping) for t in call[1]])
    return terms_of(mapping.get(factor, factor))
