"""Which cell a step is: LSTM, GRU (both reset variants) or plain RNN, decided on its polynomials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnngraph.ir import Scan, Value
from rnngraph.ir.ops import BROADCAST, RESHAPE, SELECT
from rnngraph.passes.recognize import constraints as rules
from rnngraph.passes.recognize.constraints import Refusal
from rnngraph.passes.recognize.linear import Linear, is_normalized, linear, reads_state
from rnngraph.passes.recognize.polynomial import ONE, Apply, Atom, Dot, Monomial, Other, Polynomial, State, is_clip
from rnngraph.passes.recognize.step import Step

ZERO = Polynomial({})
UNIT = Polynomial.constant(1.0)
STATE_EQUATIONS = {
    "lstm h": "o * tanh(c), with c the new cell state",
    "lstm c": "f * c + i * g, with g = tanh(..)",
    "gru h": "(1-z) * n + z * h with n = tanh(..), nor tanh(..) or relu(..) alone",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A pre-activation: ``inputs`` holds what goes to W and bW, ``recurrent`` what goes to R and bR."""

    name: str
    inputs: Linear
    recurrent: Linear


@dataclass(frozen=True, slots=True)
class Cell:
    """What a scan computes, gates in cuDNN's order; ``h`` and ``c`` are indices of carries.

    units       columns of a gate
    projection  the matmul that makes h of o * tanh(c), None when h is that itself
    """

    mode: str
    gates: tuple[Gate, ...]
    units: int
    h: int = 0
    c: int | None = None
    reset_after: bool = True
    projection: Dot | None = None


def recognize(scan: Scan) -> Cell:
    """The cell that ``scan`` runs; Refusal with the first constraint that fails."""
    names = scan.attrs.carries
    if (mask := _mask(scan)) is not None:
        raise Refusal(rules.MASK, mask=mask.hint or "mask")
    if scan.attrs.until:
        raise Refusal(rules.UNTIL, carry=scan.attrs.until)
    if len(names) not in (1, 2):
        raise Refusal(rules.STATES, count=len(names), names=", ".join(names) or "none")
    for name, init in zip(names, scan.inits, strict=True):
        t = init.type
        first = scan.inits[0].type
        if t.rank != 2 or not isinstance(t.shape[1], int) or not t.dtype.is_float \
                or (t.dtype, t.shape[0]) != (first.dtype, first.shape[0]):
            raise Refusal(rules.STATE_SHAPE, name=name, type=t)
    step = Step(scan)
    cell = _lstm(step) if len(names) == 2 else _one_state(step)
    _check_emitted(step, cell)
    return cell


def _mask(scan: Scan) -> Value | None:
    """The sequence of flags that says at which steps the states stay as they are."""
    for old, new in zip(scan.carry_args, scan.next_carries, strict=True):
        if new.op is None or new.op.opdef is not SELECT or new.op.operands[2] is not old:
            continue
        rows = new.op.operands[0]
        while rows.op is not None and rows.op.opdef in (BROADCAST, RESHAPE):
            (rows,) = rows.op.operands
        if rows in scan.x_args:
            return rows
    return None


def _check_emitted(step: Step, cell: Cell) -> None:
    scan = step.scan
    new = [step.read(v) for v in scan.next_carries]
    for name, value, result in zip(scan.attrs.ys, scan.emitted, scan.ys, strict=True):
        if not result.uses:
            continue
        emitted = step.read(value)
        if cell.c is not None and emitted == new[cell.c]:
            raise Refusal(rules.EMITS_CELL, name=name)
        if emitted != new[cell.h]:
            raise Refusal(rules.EMITS, name=name, h=cell.h)


# --- LSTM ----------------------------------------------------------------------------------------------------------


def _lstm(step: Step) -> Cell:
    new = [step.read(v) for v in step.scan.next_carries]
    h, c = _roles(step, new)
    shown, projection = _unprojected(step, new[h], new[c], _whole(step, c).n)
    out, rest = shown.collect(Apply("tanh", new[c]))
    if not out or rest:
        raise _output_refusal(step, new, h, c)
    o = _gate(out, "o")
    keep, rest = new[c].collect(_whole(step, c))
    if not keep or not rest:
        raise _state_refusal(step, new[c], c, "lstm c")
    write, g = _candidate(step, rest, "g", _state_refusal(step, new[c], c, "lstm c"))
    pre = {"i": _gate(write, "i"), "f": _gate(keep, "f"), "g": g, "o": o}
    _check_distinct(pre)
    units = _whole(step, c).n
    gates = tuple(_split(step, p, n, h, units) for n, p in pre.items())
    return Cell("lstm", gates, units, h, c, projection=projection)


def _unprojected(step: Step, new_h: Polynomial, new_c: Polynomial, units: int) -> tuple[Polynomial, Dot | None]:
    """``(m, its matmul)`` where new_h = m @ W with m reading the new c in all its columns; else (new_h, None)."""
    parts = {m: atom for m in new_h.terms for atom, _ in m if isinstance(atom, Dot) and _reads(atom.base, new_c)}
    if not parts:
        return new_h, None
    whole = next(iter(parts.values()))
    plain = {m: Dot(ONE, dot.lo, dot.weight, dot.row, dot.rows, dot.col, dot.cols) for m, dot in parts.items()}
    if len(plain) < len(new_h.terms) or any(m != frozenset([(parts[m], 1)]) for m in plain):
        raise Refusal(rules.PROJECTION, what="one term of h besides others (a bias, a residual)")
    if len(set(plain.values())) > 1 or (whole.lo, whole.rows) != (0, units):
        raise Refusal(rules.PROJECTION, what="several matmuls, or one of a part of the columns")
    return Polynomial({parts[m].base: c for m, c in new_h.terms.items()}), whole


def _reads(base: Monomial, new_c: Polynomial) -> bool:
    return any(isinstance(a, Apply) and a.argument == new_c for a, _ in base)


def _roles(step: Step, new: list[Polynomial]) -> tuple[int, int]:
    """Which carry is h and which c: h reads a function of the new c, and c keeps a part of itself."""
    for h, c in ((0, 1), (1, 0)):
        if any(isinstance(a, Apply) and a.argument == new[c] for a in _outer(new[h])):
            return h, c
    for h, c in ((0, 1), (1, 0)):
        if new[c].collect(_whole(step, c))[0] and not new[h].collect(_whole(step, h))[0]:
            return h, c
    return 0, 1


def _outer(poly: Polynomial) -> Iterator[Atom]:
    """The outermost atoms, and those that the outermost matmuls read."""
    for atom in poly.atoms():
        yield atom
        if isinstance(atom, Dot):
            yield from (a for a, _ in atom.base)


def _output_refusal(step: Step, new: list[Polynomial], h: int, c: int) -> Refusal:
    for atom in _outer(new[h]):
        if isinstance(atom, Apply) and atom.function not in ("tanh", "sigmoid") and atom.argument == new[c]:
            return Refusal(rules.ACTIVATION, place="the output", got=atom.function, want="tanh")
    if isinstance(new[c].single, Other):
        return _state_refusal(step, new[c], c, "lstm c")
    return _state_refusal(step, new[h], h, "lstm h")


# --- GRU and RNN -----------------------------------------------------------------------------------------------------


def _one_state(step: Step) -> Cell:
    (new,) = [step.read(v) for v in step.scan.next_carries]
    single = new.single
    if isinstance(single, Apply):
        if single.function not in ("tanh", "relu"):
            raise Refusal(rules.ACTIVATION, place="the state h", got=single.function, want="tanh or relu")
        units = _whole(step, 0).n
        return Cell(f"rnn_{single.function}", (_split(step, single.argument, "h", 0, units),), units)
    update, rest = new.collect(_whole(step, 0))
    if not update or not rest:
        raise _state_refusal(step, new, 0, "gru h")
    z = _gate(update, "z")
    write, n = _candidate(step, rest, "n", _state_refusal(step, new, 0, "gru h"))
    if write != UNIT - update:
        raise _state_refusal(step, new, 0, "gru h")
    return _gru(step, z, n)


def _gru(step: Step, z: Polynomial, n: Polynomial) -> Cell:
    for atom in n.deep_atoms():
        if not isinstance(atom, Apply) or atom.function not in ("sigmoid", "tanh"):
            continue
        for after, (product, rest) in ((True, n.collect(atom)), (False, _collect_base(n, atom))):
            found = _reset(product, rest, atom)
            if found is None:
                continue
            r, gated, plain = found
            _check_distinct({"r": r, "z": z})
            units = _whole(step, 0).n
            gates = [_split(step, r, "r", 0, units), _split(step, z, "z", 0, units)]
            recurrent = linear(step, gated, "n", 0, units)
            if recurrent.inputs:
                raise Refusal(rules.TERM, gate="n", what="the reset gate times a matmul of x")
            gates.append(Gate("n", linear(step, plain, "n", 0, units), recurrent))
            return Cell("gru", tuple(gates), units, reset_after=after)
    linear(step, n, "n", 0, _whole(step, 0).n)  # when n has terms that no cell has, they are the better reason
    raise Refusal(rules.RESET)


def _collect_base(poly: Polynomial, atom: Atom) -> tuple[Polynomial, Polynomial]:
    """``(q, rest)`` where terms (atom * b) @ W of poly became b @ W of q."""
    inside: dict[Monomial, float] = {}
    rest = dict(poly.terms)
    for m, c in poly.terms.items():
        dot = next((a for a, _ in m), None) if len(m) == 1 else None
        if isinstance(dot, Dot) and (atom, 1) in dot.base:
            plain = Dot(dot.base - {(atom, 1)}, dot.lo, dot.weight, dot.row, dot.rows, dot.col, dot.cols)
            inside[frozenset([(plain, 1)])] = c
            del rest[m]
    return Polynomial(inside), Polynomial(rest)


def _reset(product: Polynomial, rest: Polynomial, atom: Apply) -> tuple[Polynomial, Polynomial, Polynomial] | None:
    """Reads ``atom * product + rest`` as ``r * gated + plain`` with no h in plain: (pre-activation of r, gated, plain).

    r is the atom s, or 1 - s = sigmoid(-a), or (1 +- t) / 2 = sigmoid(+-2a) for t = tanh(a).
    """
    if not any(reads_state(m, 0) for m in product.terms):
        return None
    sign = 2.0 if atom.function == "tanh" else 1.0
    for ratio, scale in ((1.0, 2.0), (-1.0, -2.0)) if atom.function == "tanh" else ((0.0, 1.0), (-1.0, -1.0)):
        plain = rest - product.scaled(ratio)
        if not any(reads_state(m, 0) for m in plain.terms):
            return atom.argument.scaled(sign if scale > 0 else -sign), product.scaled(scale), plain
    return None


# --- parts ---------------------------------------------------------------------------------------------------------


def _whole(step: Step, index: int) -> State:
    units = step.scan.inits[index].shape[1]
    assert isinstance(units, int)
    return State(index, 0, units)


def _split(step: Step, poly: Polynomial, name: str, h: int, units: int) -> Gate:
    """All of a gate's biases go to the input side."""
    form = linear(step, poly, name, h, units)
    return Gate(name, Linear(form.inputs, [], form.vectors, form.constant), Linear([], form.states))


def _as_gate(poly: Polynomial) -> Polynomial | None:
    """The pre-activation p with poly = sigmoid(p): s, 1 - s, (1 +- tanh) / 2; else None."""
    atoms = [a for a in poly.atoms() if isinstance(a, Apply)]
    if len(atoms) == 1:
        atom, me = atoms[0], Polynomial.of(atoms[0])
        if atom.function == "sigmoid":
            forms = ((me, 1.0), (UNIT - me, -1.0))
        elif atom.function == "tanh":
            half = Polynomial.constant(0.5)
            forms = ((me.scaled(0.5) + half, 2.0), (half - me.scaled(0.5), -2.0))
        else:
            return None
        for form, factor in forms:
            if poly == form:
                return atom.argument.scaled(factor)
    return None


def _gate(poly: Polynomial, name: str) -> Polynomial:
    """The pre-activation of a gate; Refusal when its activation is not a sigmoid."""
    pre = _as_gate(poly)
    if pre is not None:
        return pre
    if is_normalized(poly.deep_atoms()):
        raise Refusal(rules.LAYER_NORM, place=f"gate {name}")
    raise Refusal(rules.GATE_ACTIVATION, gate=name, got=_activation(poly))


def _activation(poly: Polynomial) -> str:
    atoms = list(dict.fromkeys(poly.atoms()))
    if any(is_clip(a) for a in atoms):
        return "hard_sigmoid-like (clip)"
    single = poly.single
    return single.function if isinstance(single, Apply) else "not a plain function of its pre-activation"


def _candidate(step: Step, poly: Polynomial, name: str, otherwise: Refusal) -> tuple[Polynomial, Polynomial]:
    """poly = gate * tanh(p): (gate, p). Of several tanh the one whose factor is a gate is the candidate."""
    tanhs = [a for a in dict.fromkeys(poly.atoms()) if isinstance(a, Apply) and a.function == "tanh"]
    whole = [(a, q) for a in tanhs for q, rest in (poly.collect(a),) if not rest]
    for atom, factor in whole:
        if _as_gate(factor) is not None:
            return factor, atom.argument
    if whole:
        return whole[0][1], whole[0][0].argument
    others = [a for a in dict.fromkeys(poly.atoms()) if isinstance(a, Apply) and a.function != "sigmoid"]
    sigmoids = [a for a in dict.fromkeys(poly.atoms()) if isinstance(a, Apply) and a.function == "sigmoid"]
    if others and not poly.collect(others[0])[1]:
        raise Refusal(rules.ACTIVATION, place=f"candidate {name}", got=others[0].function, want="tanh")
    if len(sigmoids) == 2:
        raise Refusal(rules.ACTIVATION, place=f"candidate {name}", got="sigmoid", want="tanh")
    raise otherwise


def _state_refusal(step: Step, poly: Polynomial, index: int, equation: str) -> Refusal:
    """Why a new state does not follow its equation."""
    name = step.scan.attrs.carries[index]
    single = poly.single
    if single is not None and is_clip(single):
        return Refusal(rules.CLIP, name=name)
    if is_normalized(poly.deep_atoms()):
        return Refusal(rules.LAYER_NORM, place=f"state {name}")
    return Refusal(rules.UPDATE, name=name, want=STATE_EQUATIONS[equation])


def _check_distinct(gates: dict[str, Polynomial]) -> None:
    names = list(gates)
    for k, first in enumerate(names):
        for second in names[k + 1 :]:
            if gates[first] in (gates[second], -gates[second]):
                raise Refusal(rules.TIED, first=first, second=second)
