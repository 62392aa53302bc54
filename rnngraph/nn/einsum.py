"""einsum: Einstein's summation, composed of transposes, reshapes, products and matmuls; part of `rnngraph.nn.ops`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rnngraph.errors import TraceError
from rnngraph.ir import Builder, Value, dims
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.indexing import places
from rnngraph.nn.tensor import Tensor, composable, wrap


@composable
def einsum(equation: str, *xs: Tensor) -> Tensor:
    """The sum of products that ``equation`` says, as in numpy: "bij,bjk->bik", "...i,i", "ii->i".

    Letters name axes; "..." stands for axes in front that broadcast. Without "->" the result has the letters that stand
    once, in the order of the alphabet. Axes of size 1 broadcast. Raises TraceError for equations that do not fit.

    >>> from rnngraph.nn import Input, ops
    >>> q, k = Input(("batch", "time", 8), name="q"), Input(("batch", "words", 8), name="k")
    >>> ops.einsum("btc,bwc->btw", q, k).shape
    ('batch', 'time', 'words')
    """
    inputs, output = _parse(equation, [x.rank for x in xs])
    b = active().builder
    terms = [_diagonal(b, Term(x.value(), labels)) for x, labels in zip(xs, inputs, strict=True)]
    out = terms[0]
    for i, term in enumerate(terms[1:], 1):
        kept = set(output).union(*(t.labels for t in terms[i + 1 :]))
        out = _product(b, *_fitted(b, out, term), kept)
    out = _summed(b, out, set(output))
    if missing := [c for c in output if c not in out.labels]:
        raise TraceError(f"einsum: {_shown(missing)} of the result stands in no operand of {equation!r}")
    return wrap(b.transpose(out.value, [out.labels.index(c) for c in output]))


@dataclass(frozen=True, slots=True)
class Term:
    """A value and the label of each of its axes; the axes of "..." have the labels "0", "1", ... from behind."""

    value: Value
    labels: tuple[str, ...]

    def size(self, label: str) -> int | str:
        return self.value.shape[self.labels.index(label)]


def _parse(equation: str, ranks: list[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks) or not ranks:
        raise TraceError(f"einsum: {equation!r} is about {len(parts)} operand(s), got {len(ranks)}")
    inputs = [_labels(equation, part, rank) for part, rank in zip(parts, ranks, strict=True)]
    dots = max((sum(c.isdigit() for c in labels) for labels in inputs), default=0)
    ellipsis = tuple(str(i) for i in reversed(range(dots)))
    if arrow:
        front, dot, behind = right.partition("...")
        output = (*front, *(ellipsis if dot else ()), *behind)
        if len(set(output)) != len(output) or not all(c.isalpha() or c in ellipsis for c in output):
            raise TraceError(f"einsum: the result of {equation!r} must name each axis once, by letters")
        return inputs, output
    count = Counter(c for labels in inputs for c in labels)
    return inputs, (*ellipsis, *sorted(c for c, n in count.items() if n == 1 and not c.isdigit()))


def _labels(equation: str, part: str, rank: int) -> tuple[str, ...]:
    front, dot, behind = part.partition("...")
    if not all(c.isalpha() for c in front + behind):
        raise TraceError(f"einsum: expected letters and at most one '...' in {part!r} of {equation!r}")
    rest = rank - len(front) - len(behind)
    if rest < 0 or (rest and not dot):
        raise TraceError(f"einsum: {part!r} of {equation!r} does not fit an operand of rank {rank}")
    return (*front, *(str(i) for i in reversed(range(rest))), *behind)


def _shown(labels: list[str]) -> str:
    return ", ".join("'...'" if c.isdigit() else repr(c) for c in labels)


def _diagonal(b: Builder, term: Term) -> Term:
    """Axes of one label become one: where their places differ there is nothing, and one of them is summed up."""
    value, labels = term.value, list(term.labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = [i for i, c in enumerate(labels) if c == label][:2]
            size = value.shape[first]
            if value.shape[second] != size:
                raise TraceError(f"einsum: {label!r} stands for axes of {size} and {value.shape[second]}")
            at = places(size)
            same = b.op(ir_ops.EQ, b.broadcast(at, value.shape, (first,)), b.broadcast(at, value.shape, (second,)))
            value = b.reduce(ir_ops.REDUCE_SUM, b.op(ir_ops.SELECT, same, value, b.zeros(value.type)), [second])
            del labels[second]
    return Term(value, tuple(labels))


def _summed(b: Builder, term: Term, kept: set[str]) -> Term:
    axes = [i for i, c in enumerate(term.labels) if c not in kept]
    if not axes:
        return term
    return Term(b.reduce(ir_ops.REDUCE_SUM, term.value, axes), tuple(c for c in term.labels if c in kept))


def _fitted(b: Builder, x: Term, y: Term) -> tuple[Term, Term]:
    """Both without the axes of size 1 that are longer in the other."""
    for label in set(x.labels) & set(y.labels):
        if x.size(label) != y.size(label) and 1 not in (x.size(label), y.size(label)):
            raise TraceError(f"einsum: {_shown([label])} stands for axes of {x.size(label)} and {y.size(label)}")
    return _longer(b, x, y), _longer(b, y, x)


def _longer(b: Builder, x: Term, other: Term) -> Term:
    keep = [i for i, c in enumerate(x.labels)
            if not (x.value.shape[i] == 1 and c in other.labels and other.size(c) != 1)]
    return Term(b.reshape(x.value, tuple(x.value.shape[i] for i in keep)), tuple(x.labels[i] for i in keep))


def _product(b: Builder, x: Term, y: Term, kept: set[str]) -> Term:
    """The product summed over what ``kept`` lacks: a matmul where something common is summed up."""
    x, y = _summed(b, x, kept | set(y.labels)), _summed(b, y, kept | set(x.labels))
    common = [c for c in x.labels if c in y.labels]
    inner = [c for c in common if c not in kept]
    batch = [c for c in common if c in kept]
    rows = [c for c in x.labels if c not in common]
    columns = [c for c in y.labels if c not in common]
    if not inner or not x.value.type.dtype.is_float:
        labels = (*batch, *rows, *columns, *inner)
        out = b.op(ir_ops.MUL, _spread(b, x, y, labels), _spread(b, y, x, labels))
        return _summed(b, Term(out, labels), kept)
    left = _grouped(b, x, [batch, rows, inner])
    right = _grouped(b, y, [batch, inner, columns])
    if not batch:
        left, right = (b.reshape(v, v.shape[1:]) for v in (left, right))
    shape = tuple((x if c in x.labels else y).size(c) for c in (*batch, *rows, *columns))
    return Term(b.reshape(b.matmul(left, right), shape), (*batch, *rows, *columns))


def _grouped(b: Builder, x: Term, groups: list[list[str]]) -> Value:
    """x with one axis for each group of labels."""
    order = b.transpose(x.value, [x.labels.index(c) for group in groups for c in group])
    return b.reshape(order, tuple(dims.mul(*(x.size(c) for c in group)) for group in groups))


def _spread(b: Builder, x: Term, other: Term, labels: tuple[str, ...]) -> Value:
    """x repeated along the labels that only the other has."""
    own = [c for c in labels if c in x.labels]
    order = b.transpose(x.value, [x.labels.index(c) for c in own])
    shape = tuple((x if c in x.labels else other).size(c) for c in labels)
    return b.broadcast(order, shape, tuple(labels.index(c) for c in own))


__all__ = ["einsum"]
