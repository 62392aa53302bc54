"""Polynomials over symbols, with integer coefficients and the factors p//n, max(..) and min(..), in one form.

A polynomial is a dict from monomials to coefficients; the factors of a monomial are texts, canonical themselves. So
equal polynomials are equal dicts, and `dim_of` and `terms_of` lead from one to its text and back. `rnngraph.ir.dims` is
the face of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import gcd
from typing import Final, TypeAlias

from rnngraph.errors import ShapeError
from rnngraph.ir.tokens import MAX_TEXT, SYMBOL, Tokens

Dim: TypeAlias = int | str
Monomial: TypeAlias = tuple[str, ...]  # the texts of its factors, sorted; () is the constant
Terms: TypeAlias = dict[Monomial, int]  # coefficients, none of them 0

MAX_TERMS: Final = 64  # bounds on what an expression may be, whoever wrote it
MAX_DEGREE: Final = 12
MAX_NESTING: Final = 16
MAX_CHOICES: Final = 3  # max(..) and min(..) in a sum that are looked into for its sign
MAX_ARGUMENTS: Final = 16
MAX_COEFFICIENT: Final = 2**60

# --- terms and texts ---------------------------------------------------------------------------------------------


def terms_of(dim: Dim) -> Terms:
    """The polynomial that ``dim`` is. Do not change it: it is cached."""
    return ({(): dim} if dim else {}) if isinstance(dim, int) else terms_of_text(dim)


@lru_cache(maxsize=4096)
def terms_of_text(text: str) -> Terms:
    return {(text,): 1} if SYMBOL.fullmatch(text) else _Parser(text).whole()


@lru_cache(maxsize=4096)
def parsed(text: str) -> Dim:
    return text if SYMBOL.fullmatch(text) else dim_of(_Parser(text).whole())


@lru_cache(maxsize=4096)
def is_canonical_text(text: str) -> bool:
    try:
        return parsed(text) == text
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


def plus(*parts: Terms) -> Terms:
    out: Terms = {}
    for terms in parts:
        for m, c in terms.items():
            out[m] = out.get(m, 0) + c
    return _checked(_halves({m: c for m, c in out.items() if c}))


def scaled(terms: Terms, by: int) -> Terms:
    return _halves({m: c * by for m, c in terms.items()}) if by else {}


def times(a: Terms, b: Terms) -> Terms:
    out: Terms = {}
    for m, c in a.items():
        for n, d in b.items():
            key = tuple(sorted(m + n))
            out[key] = out.get(key, 0) + c * d
    return _checked(_halves({m: c for m, c in out.items() if c}))


def _constant(terms: Terms) -> int | None:
    """The number that a polynomial is, or None."""
    return terms.get((), 0) if not terms.keys() - {()} else None


def divided(a: Terms, b: Terms) -> Terms:
    n = _constant(b)
    if n is None:
        return _exactly(a, b)
    if n < 1:
        raise ShapeError(f"a size is divided by a number above 0, got {dim_of(a)} // {n}")
    whole = {m: c // n for m, c in a.items() if c // n}
    rest = {m: c % n for m, c in a.items() if c % n}
    return plus(whole, _quotient(rest, n)) if rest.keys() - {()} else whole


def _quotient(rest: Terms, n: int) -> Terms:
    """rest // n for coefficients within 0..n-1, one of them not the constant's."""
    common = gcd(n, *(c for m, c in rest.items() if m))
    if common > 1:  # floor((k a + c) / (k n)) = floor((a + floor(c/k)) / n)
        return divided({m: v for m, c in rest.items() if (v := c // common)}, {(): n // common})
    ordered = _ordered(rest)
    if 2 * ordered[0][1] > n:  # floor(r / n) = -floor((n - 1 - r) / n)
        flipped = {m: -c for m, c in rest.items()}
        flipped[()] = flipped.get((), 0) + n - 1
        return scaled(divided({m: c for m, c in flipped.items() if c}, {(): n}), -1)
    inner = ordered[0][0]
    if len(rest) - (() in rest) == 1 and len(inner) == 1 and ordered[0][1] == 1 and (found := fraction(inner[0])):
        numerator, m = found  # floor((floor(p / m) + c) / n) = floor((p + c m) / (m n))
        return divided(plus(numerator, {(): rest.get((), 0) * m} if () in rest else {}), {(): m * n})
    text = str(dim_of(rest))
    return {(f"{text}//{n}" if _is_factor(rest) else f"({text})//{n}",): 1}


def _is_factor(terms: Terms) -> bool:
    """Whether a polynomial's text needs no brackets before //."""
    ((m, c),) = terms.items() if len(terms) == 1 else (((), 0),)
    return c == 1 and len(m) == 1 and "//" not in _outside(m[0])


def fraction(factor: str) -> tuple[Terms, int] | None:
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
            found = fraction(factor) if factor.endswith("//2") else None
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
        out, rest = plus(out, step), plus(rest, scaled(times(step, b), -1))
    raise ShapeError(f"cannot divide the size {dim_of(a)} by {dim_of(b)}: it is not known to be a multiple")


# --- the largest and the smallest --------------------------------------------------------------------------------


def extreme(kind: str, given: list[Terms]) -> Terms:
    """``max`` or ``min`` of one or more polynomials: none that another always exceeds, common constants taken out."""
    if not given:
        raise ShapeError(f"{kind} of sizes takes at least one")
    flat = {str(dim_of(t)): t for g in given for t in _arguments(kind, g)}
    if len(flat) > MAX_ARGUMENTS:
        raise ShapeError(f"{kind} of sizes takes at most {MAX_ARGUMENTS}, got {len(flat)}")
    kept: list[str] = []
    for text, terms in sorted(flat.items()):
        others = [flat[o] for o in (*kept, *(o for o in sorted(flat) if o > text))]
        if not any(_covers(kind, other, terms) for other in others):
            kept.append(text)
    least = min(flat[text].get((), 0) for text in kept)
    parts = sorted(str(dim_of(plus(flat[text], {(): -least}))) for text in kept)
    if len(parts) == 1:
        return flat[kept[0]]
    return plus({(f"{kind}({','.join(parts)})",): 1}, {(): least} if least else {})


def _covers(kind: str, other: Terms, terms: Terms) -> bool:
    """Whether ``other`` makes ``terms`` needless."""
    more = plus(other, scaled(terms, -1))
    return nonnegative(more if kind == "max" else scaled(more, -1))


def _arguments(kind: str, terms: Terms) -> list[Terms]:
    """The arguments of max(..)+c, each with c; else the polynomial itself."""
    found = [m for m in terms if m]
    if len(found) != 1 or len(found[0]) != 1 or terms[found[0]] != 1 or not found[0][0].startswith(f"{kind}("):
        return [terms]
    name, arguments = call_of(found[0][0]) or ("", [])
    return [plus(a, {(): terms.get((), 0)}) for a in arguments] if name else [terms]


@lru_cache(maxsize=4096)
def call_of(factor: str) -> tuple[str, list[Terms]] | None:
    """The name and the arguments where a factor is max(..) or min(..)."""
    if not factor.endswith(")") or factor[:4] not in ("max(", "min("):
        return None
    parts, depth, at = [], 0, 4
    for i, c in enumerate(factor):
        depth += (c == "(") - (c == ")")
        if (c == "," and depth == 1) or i == len(factor) - 1:
            parts.append(terms_of(parsed(factor[at:i])))
            at = i + 1
    return factor[:3], parts


def nonnegative(terms: Terms) -> bool:
    return all(c > 0 and all(map(_nonnegative_factor, m)) for m, c in terms.items()) or _nonnegative_choices(terms)


def _nonnegative_choices(terms: Terms) -> bool:
    """The same with the first ``c*max(..)`` or ``c*min(..)`` in the sum replaced by what it may choose."""
    if sum(len(m) == 1 and call_of(m[0]) is not None for m in terms) > MAX_CHOICES:
        return False
    for m, c in terms.items():
        call = call_of(m[0]) if len(m) == 1 else None
        if call is None:
            continue
        rest = {n: k for n, k in terms.items() if n != m}
        chosen = (nonnegative(plus(rest, scaled(t, c))) for t in call[1])
        # it is at least as large as with each of a max's arguments, and as small as with one of a min's
        return any(chosen) if (call[0] == "max") == (c > 0) else all(chosen)
    return False


def _nonnegative_factor(factor: str) -> bool:
    if (found := fraction(factor)) is not None:
        return nonnegative(found[0])
    if (call := call_of(factor)) is not None:
        return (any if call[0] == "max" else all)(map(nonnegative, call[1]))
    return True


# --- reading -----------------------------------------------------------------------------------------------------


class _Parser(Tokens):
    """Recursive descent over + - * // % max min, brackets and unary minus, with Python's precedence."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

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
            out = plus(out, scaled(self.term(), sign))
        self.depth -= 1
        return out

    def term(self) -> Terms:
        out = self.factor()
        while self.peek() in ("*", "//", "%"):
            operator, right = self.next(), self.factor()
            if operator == "*":
                out = times(out, right)
            else:
                quotient = divided(out, right)
                out = quotient if operator == "//" else plus(out, scaled(times(quotient, right), -1))
        return out

    def factor(self) -> Terms:
        signs = 0
        while self.peek() == "-":
            self.next()
            signs += 1
        return scaled(self.positive(), -1) if signs % 2 else self.positive()

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
        return extreme(kind, given)
