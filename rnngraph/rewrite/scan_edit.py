"""Edits of a scan in place: add and remove carries, sequences and outputs, and remove what is not needed.

The op stays the same object, so that its other results keep their users. Every function leaves a graph that verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rnngraph.errors import IRError
from rnngraph.ir import Block, Builder, Op, Scan, Value
from rnngraph.ir.ops import AxisAttrs, TransposeAttrs, YieldAttrs
from rnngraph.rewrite.pattern import is_dead

MAX_COMPARED = 32  # pairs of values behind two carries that may be one


def fresh_name(base: str, taken: Iterable[str]) -> str:
    """``base``, or ``base_1``, ``base_2``, ... : the first that is not taken."""
    used, name, n = set(taken), base, 1
    while name in used:
        name, n = f"{base}_{n}", n + 1
    return name


# --- adding ---------------------------------------------------------------------------------------


def add_x(op: Op, name: str, sequence: Value) -> Value:
    """Feed one more sequence (leading dim = steps, defined before the scan); returns its body argument."""
    s = Scan(op)
    name = fresh_name(name, s.attrs.xs)
    if not sequence.shape or sequence.shape[0] != s.attrs.steps:
        raise IRError(f"scan: sequence {name} must have leading dim {s.attrs.steps}, got {sequence.type}")
    at = len(s.attrs.carries) + len(s.attrs.xs)
    op.set_operands((*op.operands[:at], sequence, *op.operands[at:]))
    op.attrs = replace(s.attrs, xs=(*s.attrs.xs, name))
    return s.body.add_arg(sequence.type.with_shape(sequence.shape[1:]), name)


def add_y(op: Op, name: str, value: Value) -> Value:
    """Emit ``value`` (visible in the body) as one more output sequence; returns that result of the scan."""
    s = Scan(op)
    name = fresh_name(name, s.attrs.ys)
    end = s.body.terminator
    end.set_operands((*end.operands, value))
    op.attrs = replace(s.attrs, ys=(*s.attrs.ys, name))
    result = Value(value.type.with_shape((s.attrs.steps, *value.shape)), op, len(op.results), name)
    op.results = (*op.results, result)
    return result


def add_carry(op: Op, name: str, init: Value) -> tuple[Value, Value]:
    """One more state that starts as ``init``; returns its argument in the body and its final value.

    It is carried unchanged until `set_next` says what a step makes of it.
    """
    s = Scan(op)
    name = fresh_name(name, s.attrs.carries)
    n = len(s.attrs.carries)
    op.set_operands((*op.operands[:n], init, *op.operands[n:]))
    arg = Value(init.type, s.body, n, name)
    final = Value(init.type, op, n, name)
    end = s.body.terminator
    end.set_operands((*end.operands[:n], arg, *end.operands[n:]))
    end.attrs = YieldAttrs(n + 1)
    op.attrs = replace(s.attrs, carries=(*s.attrs.carries, name))
    _set_args(s.body, [*s.body.args[:n], arg, *s.body.args[n:]])
    _set_results(op, [*op.results[:n], final, *op.results[n:]])
    return arg, final


def set_next(op: Op, name: str, value: Value) -> None:
    """Make ``value`` what carry ``name`` is after a step."""
    s = Scan(op)
    s.body.terminator.set_operand(s.attrs.carries.index(name), value)


# --- removing -------------------------------------------------------------------------------------


def keep(op: Op, carries: Sequence[int], xs: Sequence[int], ys: Sequence[int]) -> None:
    """Keep only the carries, sequences and outputs with these indices; dead ops of the body go too.

    Raises IRError when a dropped result or argument is still used.
    """
    s = Scan(op)
    a, n = s.attrs, len(s.attrs.carries)
    inits, sequences, lengths = s.inits, s.xs, s.lengths
    next_carries, emitted, finals, outputs = s.next_carries, s.emitted, s.finals, s.ys
    results = [*(finals[i] for i in carries), *(outputs[i] for i in ys)]
    if any(r.uses for r in op.results if r not in results):
        raise IRError(f"{op!r}: cannot drop an output that is used")
    end = s.body.terminator
    end.set_operands([*(next_carries[i] for i in carries), *(emitted[i] for i in ys)])
    end.attrs = YieldAttrs(len(carries))
    sweep(s.body)
    args = [*(s.body.args[i] for i in carries), *(s.body.args[n + i] for i in xs)]
    for arg in s.body.args:
        if arg.uses and arg not in args:
            raise IRError(f"{op!r}: cannot drop the argument {arg!r}, the body uses it")
    _set_args(s.body, args)
    op.set_operands([*(inits[i] for i in carries), *(sequences[i] for i in xs),
                     *([lengths] if lengths is not None else [])])
    op.attrs = replace(a, carries=tuple(a.carries[i] for i in carries), xs=tuple(a.xs[i] for i in xs),
                       ys=tuple(a.ys[i] for i in ys))
    _set_results(op, results)


def sweep(block: Block) -> int:
    """Erase the dead ops of a block (not of nested ones); returns how many. Linear in the block."""
    gone: set[Op] = set()
    for op in reversed(block.body):
        if is_dead(op):
            for body in op.blocks:
                for inner in reversed(body.ops.copy()):
                    inner.erase()
            op.set_operands(())
            op.parent = None
            gone.add(op)
    if gone:
        block.ops[:] = [op for op in block.ops if op not in gone]
    return len(gone)


def prune(op: Op) -> bool:
    """Drop outputs that nobody uses, carries that no used output needs, and sequences that no op reads."""
    s = Scan(op)
    live = _live_carries(s)
    carries = [i for i in range(len(s.attrs.carries)) if i in live]
    ys = [i for i, y in enumerate(s.ys) if y.uses]
    before = (op.attrs, len(s.body.ops))
    keep(op, carries, range(len(s.attrs.xs)), ys)
    s = Scan(op)
    xs = [i for i, arg in enumerate(s.x_args) if arg.uses]
    keep(op, range(len(s.attrs.carries)), xs, range(len(s.attrs.ys)))
    return (op.attrs, len(s.body.ops)) != before


def _live_carries(s: Scan) -> set[int]:
    """Carries that a used result, or the end of the loop, depends on."""
    index = {arg: i for i, arg in enumerate(s.carry_args)}
    next_carries = s.next_carries
    live = {i for i, final in enumerate(s.finals) if final.uses or i == s.until}
    stack = [next_carries[i] for i in sorted(live)]
    stack += [e for e, y in zip(s.emitted, s.ys, strict=True) if y.uses]
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in index:
            live.add(index[value])
            stack.append(next_carries[index[value]])
        elif value.op is not None and value.op.is_inside(s.body):
            stack.extend(v for inner in value.op.walk() for v in inner.operands)
    return live


def _set_args(body: Block, args: list[Value]) -> None:
    body.args = args
    for i, arg in enumerate(args):
        arg.index = i


def _set_results(op: Op, results: list[Value]) -> None:
    op.results = tuple(results)
    for i, result in enumerate(results):
        result.index = i


# --- simplifying ----------------------------------------------------------------------------------


def simplify(op: Op) -> bool:
    """Replace what need not be a carry, a sequence or an output of its own, then `prune`; returns whether it changed.

    One sequence given twice; carries that start and step alike, each by itself or by the other; a carry that no step
    changes; one value emitted twice; an output that is a value from outside, or a sequence, again.
    """
    s = Scan(op)
    changed = _merge(s.x_args, s.xs)
    for arg, init, new, final in zip(s.carry_args, s.inits, s.next_carries, s.finals, strict=True):
        if new is arg:
            changed |= _forward(arg, init) | _forward(final, init)
    pairs = list(zip(s.inits, s.next_carries, strict=True))
    changed |= _merge(s.carry_args, pairs)
    changed |= _merge(s.finals, pairs)
    changed |= _merge_alike(s)
    changed |= _merge(s.ys, s.emitted)
    if s.lengths is None and s.until is None:
        changed |= _forward_outputs(s)
    return prune(op) or changed


def _forward_outputs(s: Scan) -> bool:
    changed, sequences = False, dict(zip(s.x_args, s.xs, strict=True))
    for y, value in zip(s.ys, s.emitted, strict=True):
        if not y.uses:
            continue
        if value in sequences:
            changed |= _forward(y, sequences[value])
        elif value.block is not s.body:
            b = Builder.at(s.op)
            changed |= _forward(y, b.broadcast(value, y.shape, tuple(range(1, y.type.rank))))
    return changed


def _merge_alike(s: Scan) -> bool:
    """Carries that start as one value, and of which a step computes the same where they are the same."""
    changed = False
    for j, arg in enumerate(s.carry_args):
        for i, first in enumerate(s.carry_args[:j]):
            if not arg.uses or s.inits[i] is not s.inits[j] or j == s.until:
                continue
            if _are_alike(s.next_carries[i], s.next_carries[j], {first, arg}):
                changed |= _forward(arg, first) | _forward(s.finals[j], s.finals[i])
    return changed


def _are_alike(a: Value, b: Value, same: set[Value]) -> bool:
    """Whether two values are computed alike from values that are the same; only the last ops are looked at."""
    todo = [(a, b)]
    for _ in range(MAX_COMPARED):
        if not todo:
            return True
        x, y = todo.pop()
        if x is y or {x, y} == same:
            continue
        p, q = x.op, y.op
        if p is None or q is None or p.blocks or (p.opdef, p.attrs, x.index) != (q.opdef, q.attrs, y.index) \
                or len(p.operands) != len(q.operands):
            return False
        todo += zip(p.operands, q.operands, strict=True)
    return False


def _merge(values: Sequence[Value], keys: Sequence[object]) -> bool:
    """Where two keys are equal, the later value is replaced by the first."""
    first: dict[object, Value] = {}
    changed = False
    for value, key in zip(values, keys, strict=True):
        changed |= _forward(value, first.setdefault(key, value))
    return changed


def _forward(old: Value, new: Value) -> bool:
    if old is new or not old.uses:
        return False
    old.replace_by(new)
    return True


def unreverse(op: Op) -> bool:
    """scan(reverse(x), ...) whose outputs are all reversed again -> the scan of x that runs the other way.

    Transposes may stand between them. Only without lengths: with them, reversing moves a row's padding to its front,
    which no scan does. Nor where rows end by a condition.
    """
    s = Scan(op)
    users = [user for y in s.ys for user in y.users()]
    if s.lengths is not None or s.until is not None or not (users or s.xs):
        return False
    reversals = [_reversal(x.op) for x in s.xs]
    if None in reversals or not all(map(_is_reversed, users)):
        return False
    n, b = len(s.attrs.carries), Builder.at(op)
    for i, (x, reversal) in enumerate(zip(s.xs, reversals, strict=True)):
        if x.op is None or reversal is None:
            continue
        source, attrs = reversal.operands[0], x.op.attrs
        op.set_operand(n + i, b.transpose(source, attrs.perm) if isinstance(attrs, TransposeAttrs) else source)
        if not x.uses:
            x.op.erase()
    op.attrs = replace(s.attrs, reverse=not s.attrs.reverse)
    for user in users:
        for back in list(user.result.users()) if isinstance(user.attrs, TransposeAttrs) else [user]:
            back.result.replace_by(back.operands[0])
            back.erase()
    return True


def _reversal(op: Op | None) -> Op | None:
    """The op that reverses the time of a sequence, whose transposition ``op`` may be."""
    if op is not None and isinstance(op.attrs, TransposeAttrs):
        inner = op.operands[0].op
        return inner if _reverses(inner, op.attrs.perm[0]) else None
    return op if _reverses(op, 0) else None


def _is_reversed(user: Op) -> bool:
    """Whether a user of a sequence reverses it, or transposes it for such users alone."""
    if isinstance(user.attrs, TransposeAttrs):
        back = user.result.users()
        return bool(back) and all(_reverses(u, user.attrs.perm.index(0)) for u in back)
    return _reverses(user, 0)


def _reverses(op: Op | None, axis: int) -> bool:
    return op is not None and isinstance(op.attrs, AxisAttrs) and op.name == "reverse" and op.attrs.axis == axis
