"""Dims: integers, symbols, and sizes computed from symbols, such as ``2*time+1`` or ``(time+1)//2``.

A computed size is a text: a polynomial with integer coefficients over symbols, ``p//n``, ``max(p,q)``, ``min(p,q)``.
Every function here returns the canonical text, in which the usual identities are worked out: sums and products are
multiplied out and sorted, divisions take out what divides, ``p%n`` is ``p-n*(p//n)``. So equal sizes have equal texts
wherever ring arithmetic and these rules show that they are equal. Symbols stand for sizes, which are 0 or more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from math import gcd, prod
from typing import Final, TypeAlias

from rnngraph.errors import ShapeError

Dim: TypeAlias = int | str
Monomial: TypeAlias = tuple[str, ...]  # the texts of its factors, sorted; () is the constant
Terms: TypeAlias = dict[Monomial, int]  # coefficients, none of them 0

SYMBOL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_TEXT: Final = 512  # bounds on what an expression may be, whoever wrote it
MAX_TERMS: Final = 64
MAX_DEGREE: Final = 12
MAX_NESTING: Final = 16
MAX_COEFFICIENT: Final = 2**60

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
    return text if isinstance(text, int) else _parsed(text)


def is_canonical(dim: Dim) -> bool:
    """Whether ``dim`` is an integer, a symbol, or an expression in its only spelling."""
    return isinstance(dim, int) or SYMBOL.fullmatch(dim) is not None or _is_canonical(dim)


def add(*dims: Dim) -> Dim:
    """The sum."""
    return dim_of(_sum(*map(terms_of, dims)))


def sub(a: Dim, b: Dim) -> Dim:
    """The difference."""
    return dim_of(_sum(terms_of(a), _scaled(terms_of(b), -1)))


def mul(*dims: Dim) -> Dim:
    """The product.

    >>> mul("batch", add("time", 1)), mul()
    ('batch*time+batch', 1)
    """
    out: Terms = {(): 1}
    for d in dims:
        out = _product(out, terms_of(d))
    return dim_of(out)


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b, rounded down. ``b`` is an integer above 0, or divides ``a``; else ShapeError.

    >>> floordiv("time", 2), floordiv(mul("batch", "time", 8), mul("batch", 4))
    ('time//2', '2*time')
    """
    return dim_of(_divided(terms_of(a), terms_of(b)))


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
    return dim_of(_extreme("max", [terms_of(d) for d in dims]))


def minimum(*dims: Dim) -> Dim:
    """The smallest."""
    return dim_of(_extreme("min", [terms_of(d) for d in dims]))


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
    return _nonnegative(terms_of(dim))


def factor_of(text: str) -> tuple[str, tuple[Dim, ...]]:
    """What a factor of a term is: "//", "max" or "min" with its operands, or "" for a symbol.

    >>> factor_of("(time+1)//2"), factor_of("time")
    (('//', ('time+1', 2)), ('', ()))
    """
    if (found := _fraction(text)) is not None:
        return "//", (dim_of(found[0]), found[1])
    if (call := _call(text)) is not None:
        return call[0], tuple(dim_of(t) for t in call[1])
    return "", ()


# --- terms and texts ---------------------------------------------------------------------------------------------


def terms_of(dim: Dim) -> Terms:
    """The polynomial that ``dim`` is. Do not change it: it is cached."""
    return ({(): dim} if dim else {}) if isinstance(dim, int) else _terms(dim)


@lru_cache(maxsize=4096)
def _terms(text: str) -> Terms:
    return {(text,): 1} if SYMBOL.fullmatch(text) else _Parser(text).whole()


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Dim:
    return text if SYMBOL.fullmatch(text) else dim_of(_Parser(text).whole())


@lru_cache(maxsize=4096)
def _is_canonical(text: str) -> bool:
    try:
        return _parsed(text) == text
    except ShapeError:
        return False


def dim_of(terms: Terms) -> Dim:
    """The canonical text of a polynomial, or the integer that it is."""
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    text = "".join(_term_text(m, c, first=i == 0) for i, (m, c) in enumerate(_ordered(terms)))
    if len(text) > MAX_TEXT:
        raise ShapeError(f"a size is at most {MAX_TEXT} characters long, got {text[:40]}...")
    return text


def _ordered(terms: Terms) -> list[tuple[Monomial, int]]:
    """By falling degree, then by name; the constant stands last."""
    return sorted(terms.items(), key=lambda t: (-len(t[0]), t[0]))


def _term_text(factors: Monomial, coefficient: int, *, first: bool) -> str:
    sign = "-" if coefficient < 0 else "" if first else "+"
    size = abs(coefficient)
    alone = len(factors) == 1 and coefficient == 1
    parts = [f if alone or "//" not in _outside(f) else f"({f})" for f in factors]
    if size != 1 or not parts:
        parts.insert(0, str(size))
    return sign + "*".join(parts)


def _outside(factor: str) -> str:
    """A factor without what stands in brackets."""
    out, depth = [], 0
    for c in factor:
        depth -= c == ")"
        if not depth:
            out.append(c)
        depth += c == "("
    return "".join(out)


def _checked(terms: Terms) -> Terms:
    if len(terms) > MAX_TERMS or any(len(m) > MAX_DEGREE for m in terms):
        raise ShapeError(f"a size has at most {MAX_TERMS} terms of degree {MAX_DEGREE}")
    if any(abs(c) > MAX_COEFFICIENT for c in terms.values()):
        raise ShapeError("a number in a size is at most 2**60")
    return terms


# --- arithmetic --------------------------------------------------------------------------------------------------


def _sum(*parts: Terms) -> Terms:
    out: Terms = {}
    for terms in parts:
        for m, c in terms.items():
            out[m] = out.get(m, 0) + c
    return _checked(_halves({m: c for m, c in out.items() if c}))


def _scaled(terms: Terms, by: int) -> Terms:
    return _halves({m: c * by for m, c in terms.items()}) if by else {}


def _product(a: Terms, b: Terms) -> Terms:
    out: Terms = {}
    for m, c in a.items():
        for n, d in b.items():
            key = tuple(sorted(m + n))
            out[key] = out.get(key, 0) + c * d
    return _checked(_halves({m: c for m, c in out.items() if c}))


def _constant(terms: Terms) -> int | None:
    """The number that a polynomial is, or None."""
    return terms.get((), 0) if not terms.keys() - {()} else None


def _divided(a: Terms, b: Terms) -> Terms:
    n = _constant(b)
    if n is None:
        return _exactly(a, b)
    if n < 1:
        raise ShapeError(f"a size is divided by a number above 0, got {dim_of(a)} // {n}")
    whole = {m: c // n for m, c in a.items() if c // n}
    rest = {m: c % n for m, c in a.items() if c % n}
    return _sum(whole, _quotient(rest, n)) if rest.keys() - {()} else whole


def _quotient(rest: Terms, n: int) -> Terms:
    """rest // n for coefficients within 0..n-1, one of them not the constant's."""
    common = gcd(n, *(c for m, c in rest.items() if m))
    if common > 1:  # floor((k a + c) / (k n)) = floor((a + floor(c/k)) / n)
        return _divided({m: v for m, c in rest.items() if (v := c // common)}, {(): n // common})
    ordered = _ordered(rest)
    if 2 * ordered[0][1] > n:  # floor(r / n) = -floor((n - 1 - r) / n)
        flipped = {m: -c for m, c in rest.items()}
        flipped[()] = flipped.get((), 0) + n - 1
        return _scaled(_divided({m: c for m, c in flipped.items() if c}, {(): n}), -1)
    inner = ordered[0][0]
    if len(rest) - (() in rest) == 1 and len(inner) == 1 and ordered[0][1] == 1 and (found := _fraction(inner[0])):
        numerator, m = found  # floor((floor(p / m) + c) / n) = floor((p + c m) / (m n))
        return _divided(_sum(numerator, {(): rest.get((), 0) * m} if () in rest else {}), {(): m * n})
    text = str(dim_of(rest))
    return {(f"{text}//{n}" if _is_factor(rest) else f"({text})//{n}",): 1}


def _is_factor(terms: Terms) -> bool:
    """Whether a polynomial's text needs no brackets before //."""
    ((m, c),) = terms.items() if len(terms) == 1 else (((), 0),)
    return c == 1 and len(m) == 1 and "//" not in _outside(m[0])


def _fraction(factor: str) -> tuple[Terms, int] | None:
    """p and n where the factor is p//n."""
    if "//" not in _outside(factor):
        return None
    text, _, n = factor.rpartition("//")
    return terms_of(text), int(n)


def _halves(terms: Terms) -> Terms:
    """p//2 and (p+1)//2 add up to p: of the two, keep one, with a coefficient above 0."""
    for _ in range(MAX_TERMS):
        found = next(_pairs(terms), None)
        if found is None:
            break
        m, rest, plain, partner = found
        c = terms[m] if terms[m] < 0 else min(terms[m], terms[partner])  # c p//2 = c p - c (p+1)//2
        terms = dict(terms)
        for key, k in ((m, -c), (partner, -c), *((tuple(sorted(rest + x)), c * v) for x, v in plain.items())):
            terms[key] = terms.get(key, 0) + k
        terms = {key: k for key, k in terms.items() if k}
    return terms


def _pairs(terms: Terms) -> Iterator[tuple[Monomial, Monomial, Terms, Monomial]]:
    """Terms with a half that may go: the term, its other factors, p, and the term with the other half."""
    for m, c in _ordered(terms):
        for i, factor in enumerate(m):
            found = _fraction(factor) if factor.endswith("//2") else None
            if found is None or m.count(factor) > 1:
                continue
            plain = {x: v for x, v in found[0].items() if x}
            (other,) = _half(plain, 1 - found[0].get((), 0))
            rest = m[:i] + m[i + 1:]
            partner = tuple(sorted((*rest, *other)))
            if c < 0 or terms.get(partner, 0) > 0:
                yield m, rest, plain, partner


def _half(plain: Terms, odd: int) -> Terms:
    """(p + odd) // 2 as a term of its own."""
    terms = {**plain, (): odd} if odd else plain
    text = str(dim_of(terms))
    return {(f"{text}//2" if _is_factor(terms) else f"({text})//2",): 1}


def _exactly(a: Terms, b: Terms) -> Terms:
    """a / b by long division; ShapeError when something is left."""
    lead, factor = _ordered(b)[0]
    rest, out = a, Terms()
    for _ in range(MAX_TERMS):
        if not rest:
            return out
        m, c = _ordered(rest)[0]
        left = list(m)
        if c % factor or any(left.count(f) < lead.count(f) for f in lead):
            break
        for f in lead:
            left.remove(f)
        step: Terms = {tuple(left): c // factor}
        out, rest = _sum(out, step), _sum(rest, _scaled(_product(step, b), -1))
    raise ShapeError(f"cannot divide the size {dim_of(a)} by {dim_of(b)}: it is not known to be a multiple")


# --- the largest and the smallest --------------------------------------------------------------------------------


def _extreme(kind: str, given: list[Terms]) -> Terms:
    """``max`` or ``min`` of one or more polynomials: none that another always exceeds, common constants taken out."""
    if not given:
        raise ShapeError(f"{kind} of sizes takes at least one")
    flat = {str(dim_of(t)): t for g in given for t in _arguments(kind, g)}
    kept: list[str] = []
    for text, terms in sorted(flat.items()):
        others = [flat[o] for o in (*kept, *(o for o in sorted(flat) if o > text))]
        if not any(_covers(kind, other, terms) for other in others):
            kept.append(text)
    least = min(flat[text].get((), 0) for text in kept)
    parts = sorted(str(dim_of(_sum(flat[text], {(): -least}))) for text in kept)
    if len(parts) == 1:
        return flat[kept[0]]
    return _sum({(f"{kind}({','.join(parts)})",): 1}, {(): least} if least else {})


def _covers(kind: str, other: Terms, terms: Terms) -> bool:
    """Whether ``other`` makes ``terms`` needless."""
    more = _sum(other, _scaled(terms, -1))
    return _nonnegative(more if kind == "max" else _scaled(more, -1))


def _arguments(kind: str, terms: Terms) -> list[Terms]:
    """The arguments of max(..)+c, each with c; else the polynomial itself."""
    found = [m for m in terms if m]
    if len(found) != 1 or len(found[0]) != 1 or terms[found[0]] != 1 or not found[0][0].startswith(f"{kind}("):
        return [terms]
    name, arguments = _call(found[0][0]) or ("", [])
    return [_sum(a, {(): terms.get((), 0)}) for a in arguments] if name else [terms]


@lru_cache(maxsize=4096)
def _call(factor: str) -> tuple[str, list[Terms]] | None:
    """The name and the arguments where a factor is max(..) or min(..)."""
    if not factor.endswith(")") or factor[:4] not in ("max(", "min("):
        return None
    parts, depth, at = [], 0, 4
    for i, c in enumerate(factor):
        depth += (c == "(") - (c == ")")
        if (c == "," and depth == 1) or i == len(factor) - 1:
            parts.append(terms_of(parse(factor[at:i])))
            at = i + 1
    return factor[:3], parts


def _nonnegative(terms: Terms) -> bool:
    return all(c > 0 and all(map(_nonnegative_factor, m)) for m, c in terms.items())


def _nonnegative_factor(factor: str) -> bool:
    if (found := _fraction(factor)) is not None:
        return _nonnegative(found[0])
    if (call := _call(factor)) is not None:
        return (any if call[0] == "max" else all)(map(_nonnegative, call[1]))
    return True


# --- what a text stands for --------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _symbols(text: str) -> frozenset[str]:
    return frozenset(m.group() for m in re.finditer(r"[A-Za-z_][A-Za-z0-9_]*(?!\w|\()", text))


Evaluator: TypeAlias = Callable[[Mapping[str, int]], int]


@lru_cache(maxsize=4096)
def _compiled(text: str) -> Evaluator:
    """A function of the symbols' sizes. Composed of closures: no code is made from text."""
    terms = [(c, [_factor(f) for f in m]) for m, c in _terms(text).items()]
    return lambda dims: sum(c * prod(f(dims) for f in factors) for c, factors in terms)


def _factor(text: str) -> Evaluator:
    if (found := _fraction(text)) is not None:
        inner, n = _compiled(str(dim_of(found[0]))), found[1]
        return lambda dims: inner(dims) // n
    if (call := _call(text)) is not None:
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
            part = _product(part, _replaced(factor, mapping))
        total = _sum(total, part)
    return total


def _replaced(factor: str, mapping: Mapping[str, Dim]) -> Terms:
    if (found := _fraction(factor)) is not None:
        return _divided(_substituted(found[0], mapping), {(): found[1]})
    if (call := _call(factor)) is not None:
        return _extreme(call[0], [_substituted(t, mapping) for t in call[1]])
    return terms_of(mapping.get(factor, factor))


# --- reading -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z0-9_]*)|(//|[-+*%(),]))")


class _Parser:
    """Recursive descent over + - * // % max min, brackets and unary minus, with Python's precedence."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise ShapeError(f"a size is at most {MAX_TEXT} characters long, got {text[:40]}...")
        self.text = text
        self.tokens = list(self.split())
        self.at = 0
        self.depth = 0

    def split(self) -> Iterator[str]:
        at, text = 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error()
            yield match.group().strip()
            at = match.end()

    def error(self) -> ShapeError:
        return ShapeError("a symbolic dim is an identifier or an expression of identifiers such as 2*time+1, "
                          f"got {self.text!r}")

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise self.error()

    def whole(self) -> Terms:
        out = self.sum()
        if self.peek():
            raise self.error()
        return out

    def sum(self) -> Terms:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise ShapeError(f"a size is nested at most {MAX_NESTING} deep, got {self.text[:40]!r}")
        out = self.term()
        while self.peek() in ("+", "-"):
            sign = 1 if self.next() == "+" else -1
            out = _sum(out, _scaled(self.term(), sign))
        self.depth -= 1
        return out

    def term(self) -> Terms:
        out = self.factor()
        while self.peek() in ("*", "//", "%"):
            operator, right = self.next(), self.factor()
            if operator == "*":
                out = _product(out, right)
            else:
                quotient = _divided(out, right)
                out = quotient if operator == "//" else _sum(out, _scaled(_product(quotient, right), -1))
        return out

    def factor(self) -> Terms:
        signs = 0
        while self.peek() == "-":
            self.next()
            signs += 1
        return _scaled(self.positive(), -1) if signs % 2 else self.positive()

    def positive(self) -> Terms:
        token = self.next()
        if token.isdigit():
            return _checked({(): int(token)} if int(token) else {})
        if token == "(":
            out = self.sum()
            self.expect(")")
            return out
        if not SYMBOL.fullmatch(token):
            raise self.error()
        if token in ("max", "min") and self.peek() == "(":
            return self.call(token)
        return {(token,): 1}

    def call(self, kind: str) -> Terms:
        self.expect("(")
        given = [self.sum()]
        while self.peek() == ",":
            self.next()
            given.append(self.sum())
        self.expect(")")
        return _extreme(kind, given)
