"""A pre-activation taken apart: sum of x @ W, sum of h @ R, biases. What does not fit is named by its constraint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rnngraph.ir import Value
from rnngraph.passes.recognize import constraints as rules
from rnngraph.passes.recognize.constraints import Refusal
from rnngraph.passes.recognize.polynomial import (
    ONE,
    Apply,
    Atom,
    Dot,
    Input,
    Monomial,
    Other,
    Polynomial,
    State,
    Vector,
    deep_atoms,
    is_clip,
)
from rnngraph.passes.recognize.step import Step


@dataclass(slots=True)
class Linear:
    """coefficient * dot sums over inputs and over the state, coefficient * vector sums, and a number."""

    inputs: list[tuple[float, Dot]] = field(default_factory=list)
    states: list[tuple[float, Dot]] = field(default_factory=list)
    vectors: list[tuple[float, Vector]] = field(default_factory=list)
    constant: float = 0.0


def linear(step: Step, poly: Polynomial, gate: str, h: int, units: int) -> Linear:
    """The linear form of a pre-activation of ``units`` columns; Refusal when it has other terms. ``h``: the carry."""
    out = Linear()
    widths = {a.cols if isinstance(a, Dot) else a.n for a in poly.atoms() if isinstance(a, Dot | Vector)}
    if widths - {units}:
        raise Refusal(rules.TERM, gate=gate, what="some of the columns")
    for monomial, c in poly.terms.items():
        atom = _only(monomial)
        base = _only(atom.base) if isinstance(atom, Dot) else None
        if monomial == ONE:
            out.constant = c
        elif isinstance(atom, Vector):
            out.vectors.append((c, atom))
        elif isinstance(atom, Dot) and isinstance(base, Input):
            _check_sequence(step, base.value, gate)
            out.inputs.append((c, atom))
        elif isinstance(atom, Dot) and isinstance(base, State) and base.index == h:
            out.states.append((c, atom))
        else:
            raise explain(step, poly, monomial, gate, h)
    return out


def reads_state(monomial: Monomial, h: int) -> bool:
    """Whether the term is a matmul of the state alone."""
    atom = _only(monomial)
    base = _only(atom.base) if isinstance(atom, Dot) else None
    return isinstance(base, State) and base.index == h


def _only(monomial: Monomial) -> Atom | None:
    if len(monomial) != 1:
        return None
    ((atom, power),) = monomial
    return atom if power == 1 else None


def _check_sequence(step: Step, value: Value, gate: str) -> None:
    state = step.scan.inits[0].type
    want = (step.scan.attrs.steps, state.shape[0])
    if value.type.rank != 3 or value.shape[:2] != want or not isinstance(value.shape[2], int) \
            or value.type.dtype != state.dtype:
        raise Refusal(rules.INPUT_SHAPE, gate=gate, type=value.type)


def explain(step: Step, poly: Polynomial, monomial: Monomial, gate: str, h: int) -> Refusal:
    """The refusal that names what is wrong with one term of a pre-activation."""
    deep = deep_atoms(atom for atom, _ in monomial)
    cell = [a for a in deep if isinstance(a, State) and a.index != h]
    dots = [atom for atom, _ in monomial if isinstance(atom, Dot)]
    if is_normalized(poly.deep_atoms()):
        return Refusal(rules.LAYER_NORM, place=f"gate {gate}")
    if cell:
        return Refusal(rules.PEEPHOLE, gate=gate)
    for dot in dots:
        return _explain_base(step, dot.base, gate)
    if any(isinstance(a, State) for a, _ in monomial):
        return Refusal(rules.ELEMENTWISE_STATE, gate=gate)
    if any(isinstance(a, Input) for a, _ in monomial):
        return Refusal(rules.BARE_INPUT, gate=gate)
    for other in (a for a, _ in monomial if isinstance(a, Other)):
        if is_clip(other):
            return Refusal(rules.GATE_CLIP, gate=gate)
        op = other.value.op
        if op is not None and op.name == "matmul" and step.varies(op.operands[1]):
            return Refusal(rules.STEP_WEIGHTS, gate=gate)
        if not step.varies(other.value):
            return Refusal(rules.ROW_BIAS, gate=gate, type=other.value.type)
    return Refusal(rules.TERM, gate=gate, what=describe(monomial))


def _explain_base(step: Step, base: Monomial, gate: str) -> Refusal:
    """Why a matmul's left operand is neither x nor h."""
    state = any(isinstance(a, State) for a, _ in base)
    sequence = any(isinstance(a, Input) for a, _ in base)
    masked = any(isinstance(a, Vector) or (isinstance(a, Other) and not step.varies(a.value)) for a, _ in base)
    if state and (masked or sequence):
        return Refusal(rules.RECURRENT_DROPOUT, gate=gate)
    if sequence and masked:
        return Refusal(rules.INPUT_DROPOUT, gate=gate)
    if any(isinstance(a, Other) and not step.varies(a.value) for a, _ in base):
        (row,) = [a.value.type for a, _ in base if isinstance(a, Other)][:1]
        return Refusal(rules.ROW_BIAS, gate=gate, type=row)
    return Refusal(rules.OPERAND, gate=gate, what=describe(base))


def is_normalized(atoms: Iterable[Atom]) -> bool:
    """Whether some atom is a reduction over features."""
    return any(isinstance(a, Other) and _from_reduction(a.value) for a in atoms)


def _from_reduction(value: Value) -> bool:
    """Reductions, also behind the broadcast that brings the mean back to the features."""
    op = value.op
    while op is not None and op.name in ("broadcast", "reshape", "sqrt", "div", "add", "mul", "sub", "neg"):
        sources = [v.op for v in op.operands if v.op is not None and v.op.name != "const"]
        op = sources[0] if sources else None
    return op is not None and "reduce" in op.opdef.tags


def describe(monomial: Monomial) -> str:
    """A term in words, for remarks."""
    names = sorted({describe_atom(a) for a, _ in monomial})
    return " * ".join(names) or "a number"


def describe_atom(atom: Atom) -> str:
    match atom:
        case State():
            return "a state"
        case Input():
            return "x"
        case Vector():
            return "a vector"
        case Apply():
            return f"a {atom.function}"
        case Dot():
            return "a matmul"
    op = atom.value.op
    return f"a {op.name}" if op is not None else f"a value {atom.value.type}"
