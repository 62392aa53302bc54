"""The normal form of a step: polynomials over atoms, so that any way to write the same algebra reads the same.

`z*h + (1-z)*n`, `n + z*(h-n)` and `h + (1-z)*(n-h)` are one polynomial. Atoms are what arithmetic cannot take apart:
columns of a state, of the input, of a vector, one matmul term, a function of a polynomial.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rnngraph.ir import Value

MAX_TERMS = 64  # beyond it a product stays unexpanded: no cell we look for is that large, and expansion is exponential


@dataclass(frozen=True, slots=True)
class State:
    """Columns ``lo : lo+n`` of a carry, as the step receives it."""

    index: int
    lo: int
    n: int


@dataclass(frozen=True, slots=True)
class Input:
    """Columns of this step's slice of a sequence that stands outside the scan."""

    value: Value
    lo: int
    n: int


@dataclass(frozen=True, slots=True)
class Vector:
    """Columns of a vector that is the same for every step and every row of the batch."""

    value: Value
    lo: int
    n: int


@dataclass(frozen=True, slots=True)
class Other:
    """Columns of a value that arithmetic does not explain."""

    value: Value
    lo: int
    n: int


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise function, by op name, of a polynomial."""

    function: str
    argument: Polynomial


@dataclass(frozen=True, slots=True)
class Dot:
    """``base[:, lo : lo+rows] @ weight[row : row+rows, col : col+cols]``; ``base`` is a product of atoms."""

    base: Monomial
    lo: int
    weight: Value
    row: int
    rows: int
    col: int
    cols: int


Atom: TypeAlias = State | Input | Vector | Other | Apply | Dot
Monomial: TypeAlias = frozenset[tuple[Atom, int]]  # atoms with their powers
ONE: Monomial = frozenset()


class Polynomial:
    """An immutable sum of coefficient * product of atoms; equal and hashed by content, iterated in order of entry."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, float]) -> None:
        self.terms = {m: c for m, c in terms.items() if c != 0.0}
        self._hash = hash(frozenset(self.terms.items()))

    @classmethod
    def constant(cls, value: float) -> Polynomial:
        return cls({ONE: value})

    @classmethod
    def of(cls, atom: Atom) -> Polynomial:
        return cls({frozenset([(atom, 1)]): 1.0})

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = terms.get(m, 0.0) + c
        return Polynomial(terms)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other.scaled(-1.0)

    def __neg__(self) -> Polynomial:
        return self.scaled(-1.0)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, float] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                key = times(m, n)
                terms[key] = terms.get(key, 0.0) + c * d
        return Polynomial(terms)

    def scaled(self, factor: float) -> Polynomial:
        return Polynomial({m: c * factor for m, c in self.terms.items()})

    def collect(self, atom: Atom) -> tuple[Polynomial, Polynomial]:
        """``(q, rest)`` with self = q * atom + rest; powers above one stay in rest."""
        key = (atom, 1)
        inside = {m - {key}: c for m, c in self.terms.items() if key in m}
        return Polynomial(inside), Polynomial({m: c for m, c in self.terms.items() if key not in m})

    @property
    def number(self) -> float | None:
        """The value of a constant polynomial, else None."""
        return self.terms.get(ONE, 0.0) if not self.terms.keys() - {ONE} else None

    @property
    def single(self) -> Atom | None:
        """The atom that this polynomial is (coefficient and power 1), else None."""
        for m, c in self.terms.items():
            if len(self.terms) == 1 and c == 1.0 and len(m) == 1:
                ((atom, power),) = m
                return atom if power == 1 else None
        return None

    def atoms(self) -> Iterator[Atom]:
        """The atoms of every term, outermost only, each once per term."""
        for m in self.terms:
            yield from (atom for atom, _ in m)

    def deep_atoms(self) -> list[Atom]:
        """Every atom once, also those inside functions and bases of matmuls; outermost first."""
        return deep_atoms(self.atoms())

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash


def times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return frozenset(powers.items())


def is_clip(atom: Atom) -> bool:
    """Whether this is what a clip (min, max) gives, which arithmetic cannot take apart."""
    return isinstance(atom, Other) and atom.value.op is not None and atom.value.op.name in ("min", "max")


def deep_atoms(atoms: Iterable[Atom]) -> list[Atom]:
    """``atoms`` and every atom inside them, each once (shared parts make a walk without memory exponential)."""
    found = dict.fromkeys(atoms)
    stack = list(found)
    while stack:
        atom = stack.pop()
        inner: Iterable[Atom] = ()
        if isinstance(atom, Apply):
            inner = atom.argument.atoms()
        elif isinstance(atom, Dot):
            inner = (a for a, _ in atom.base)
        for a in inner:
            if a not in found:
                found[a] = None
                stack.append(a)
    return list(found)
