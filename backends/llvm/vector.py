"""Thin helpers over llvmlite.ir: W-wide vectors, splat constants, loops in final SSA form, masked memory.

No optimisation pass runs after emission, so what is written here is what the code generator sees.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llvmlite import ir

from rnngraph.backends.llvm.cpu import CpuTarget

IRValue: TypeAlias = Any  # llvmlite has no types; a value, a type and a function of its IR
IRType: TypeAlias = Any
Function: TypeAlias = Any

F32, F64 = ir.FloatType(), ir.DoubleType()
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
PTR, VOID = ir.PointerType(), ir.VoidType()


def round_f32(value: float) -> float:
    """The float32 nearest to ``value`` (inf beyond the range): LLVM rejects float constants that are not exact."""
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


def _float_text(value: float, element: IRType) -> str:
    return "0x" + struct.pack(">d", value if element == F64 else round_f32(value)).hex().upper()


class Splat(ir.Constant):  # type: ignore[misc]
    """A vector constant with one value in all lanes, printed as ``splat (float 0x...)``, not lane by lane."""

    def __init__(self, element: IRType, width: int, value: float) -> None:
        self.type = ir.VectorType(element, width)
        self.constant = value
        if element in (F32, F64):
            text = _float_text(value, element)
            zero = set(text[2:]) == {"0"}
        else:
            text, zero = (str(bool(value)).lower() if element == I1 else str(int(value))), value == 0
        self._text = "zeroinitializer" if zero else f"splat ({element} {text})"

    def _get_reference(self) -> str:
        return self._text


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """An IRBuilder that refuses to write behind a terminator (LLVM would complain only later, far from here)."""

    def _insert(self, instr: IRValue) -> None:
        block = self.block
        assert not block.is_terminated or self._anchor < len(block.instructions), \
            f"instruction after the terminator of block {block.name} in {block.parent.name}"
        super()._insert(instr)


@dataclass(slots=True)
class Loop:
    """A loop being emitted. ``index`` counts; ``carried`` are its phis: inside, the values of this iteration,
    after the loop, the final ones. Set ``next`` inside the body, one value per carried one."""

    index: IRValue
    carried: list[IRValue]
    next: list[IRValue] = field(default_factory=list)


class Emit:
    """A module being written for a target. ``W`` is the number of f32 lanes of its vectors."""

    def __init__(self, target: CpuTarget, name: str = "rnngraph") -> None:
        self.target = target
        self.W = target.width
        self.math_inline = "always"  # or "never": how exp, tanh ... join their callers (many of them: compile time)
        self.module = ir.Module(name)
        self.module.triple = target.triple
        self.f32v, self.i32v, self.i1v = (ir.VectorType(t, self.W) for t in (F32, I32, I1))
        self.f64v, self.i64v = ir.VectorType(F64, self.W), ir.VectorType(I64, self.W)
        self._constants: dict[tuple[str, str], Splat] = {}
        self._ints: dict[tuple[str, int], IRValue] = {}
        self._empty: IRValue = None
        self._first = ir.Constant(self.i32v, [0] * self.W)  # the shuffle that repeats lane 0
        self.iota = ir.Constant(self.i32v, list(range(self.W)))

    def text(self) -> str:
        """The module as LLVM IR."""
        return str(self.module)

    # --- functions ---------------------------------------------------------------------------------------------

    def function(self, name: str, result: IRType, params: Sequence[IRType], *, inline: str = "",
                 internal: bool = False) -> tuple[Function, Builder]:
        """A new function and a builder at its entry. ``inline``: "always", "never" or "" (LLVM decides)."""
        fn = ir.Function(self.module, ir.FunctionType(result, params), name)
        fn.attributes.add("nounwind")
        if inline:
            fn.attributes.add({"always": "alwaysinline", "never": "noinline"}[inline])
        if internal:
            fn.linkage = "internal"
        return fn, Builder(fn.append_basic_block("entry"))

    def once(self, name: str, result: IRType, params: Sequence[IRType],
             body: Callable[[Builder, Sequence[IRValue]], IRValue], inline: str = "always") -> Function:
        """The internal function ``name``, written by ``body`` when it is asked for the first time."""
        known = self.module.globals.get(name)
        if known is not None:
            return known
        fn, b = self.function(name, result, params, inline=inline, internal=True)
        b.ret(body(b, fn.args))
        return fn

    def declare(self, name: str, result: IRType, params: Sequence[IRType]) -> Function:
        """An external function or intrinsic, declared once."""
        known = self.module.globals.get(name)
        return known if known is not None else ir.Function(self.module, ir.FunctionType(result, params), name)

    def intrinsic(self, b: Builder, name: str, args: Sequence[IRValue], fastmath: Sequence[str] = ()) -> IRValue:
        """Call ``llvm.<name>.<type of the first argument>`` whose result has that type (reductions: its element)."""
        kind = args[0].type
        result = kind.element if name.startswith("vector.reduce") else kind
        fn = self.declare(f"llvm.{name}.{mangle(kind)}", result, [a.type for a in args])
        return b.call(fn, args, fastmath=fastmath)

    # --- constants ---------------------------------------------------------------------------------------------

    def const(self, value: float, element: IRType = F32) -> IRValue:
        """All lanes ``value``; floats are rounded to the element type."""
        key = (str(element), repr(value))
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = Splat(element, self.W, value)
        return found

    def num(self, value: int, kind: IRType = I64) -> IRValue:
        """A scalar integer constant."""
        key = (str(kind), value)
        found = self._ints.get(key)
        if found is None:
            found = self._ints[key] = ir.Constant(kind, value)
        return found

    def value(self, x: Any) -> IRValue:
        """``x`` itself, or the i64 constant of a Python int."""
        return self.num(x) if isinstance(x, int) else x

    def least(self, b: Builder, x: IRValue, y: IRValue) -> IRValue:
        """The smaller of two i64."""
        return b.select(b.icmp_signed("<", x, y), x, y)

    # --- vectors -----------------------------------------------------------------------------------------------

    def splat(self, b: Builder, scalar: IRValue) -> IRValue:
        """The scalar in every lane."""
        vector = ir.VectorType(scalar.type, self.W)
        one = b.insert_element(ir.Constant(vector, ir.Undefined), scalar, self.num(0, I32))
        return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), self._first)

    def fma(self, b: Builder, x: IRValue, y: IRValue, z: IRValue) -> IRValue:
        """x*y + z, rounded once where the CPU can (llvm.fma would be a libm call per lane where it cannot)."""
        return self.intrinsic(b, "fma" if self.target.has_fma else "fmuladd", (x, y, z))

    def bits(self, b: Builder, x: IRValue) -> IRValue:
        """The bits of an f32 vector as i32 lanes."""
        return b.bitcast(x, self.i32v)

    def floats(self, b: Builder, x: IRValue) -> IRValue:
        """i32 lanes read as f32."""
        return b.bitcast(x, self.f32v)

    def tail_mask(self, b: Builder, start: IRValue, n: Any) -> IRValue:
        """Lane l is on when start + l < n (i64 start and n, start <= n)."""
        left = b.trunc(b.sub(self.value(n), self.value(start)), I32)
        return b.icmp_signed("<", self.iota, self.splat(b, left))

    def reduce_sum(self, b: Builder, x: IRValue) -> IRValue:
        """The sum of the lanes, as a tree (reassoc on this call only: without it the sum is a serial chain)."""
        zero = ir.Constant(x.type.element, -0.0)
        fn = self.declare(f"llvm.vector.reduce.fadd.{mangle(x.type)}", x.type.element, [x.type.element, x.type])
        return b.call(fn, [zero, x], fastmath=("reassoc",))

    def reduce_max(self, b: Builder, x: IRValue) -> IRValue:
        """The largest lane; NaN if any lane is NaN."""
        return self.intrinsic(b, "vector.reduce.fmaximum", (x,))

    def reduce_min(self, b: Builder, x: IRValue) -> IRValue:
        """The smallest lane; NaN if any lane is NaN."""
        return self.intrinsic(b, "vector.reduce.fminimum", (x,))

    # --- memory ------------------------------------------------------------------------------------------------

    def at(self, b: Builder, base: IRValue, index: Any, element: IRType = F32) -> IRValue:
        """The address of element ``index`` (i64 or int)."""
        if isinstance(index, int) and index == 0:
            return base
        return b.gep(base, [self.value(index)], source_etype=element)

    def at_bytes(self, b: Builder, base: IRValue, offset: Any) -> IRValue:
        """The address ``offset`` bytes further."""
        return self.at(b, base, offset, I8)

    def load(self, b: Builder, address: IRValue, kind: IRType = None, *, mask: IRValue = None, align: int = 4,
             invariant: bool = False) -> IRValue:
        """A vector of f32 (or ``kind``) from ``address``; lanes that ``mask`` turns off read as zero, untouched."""
        kind = kind or self.f32v
        if mask is not None:
            fn = self.declare(f"llvm.masked.load.{mangle(kind)}.p0", kind, [PTR, I32, mask.type, kind])
            zero = Splat(kind.element, kind.count, 0)
            return b.call(fn, [address, self.num(align, I32), mask, zero])
        out = b.load(address, typ=kind, align=align)
        if invariant:
            if self._empty is None:
                self._empty = self.module.add_metadata([])
            out.set_metadata("invariant.load", self._empty)
        return out

    def store(self, b: Builder, x: IRValue, address: IRValue, *, mask: IRValue = None, align: int = 4) -> None:
        """Write a vector or scalar; lanes that ``mask`` turns off stay as they are."""
        if mask is None:
            b.store(x, address, align=align)
            return
        fn = self.declare(f"llvm.masked.store.{mangle(x.type)}.p0", VOID, [x.type, PTR, I32, mask.type])
        b.call(fn, [x, address, self.num(align, I32), mask])

    def store_first(self, b: Builder, x: IRValue, address: IRValue, count: int) -> None:
        """Write the first ``count`` lanes of a vector of f32, in pieces of 1, 2, 4 ... lanes. A masked store takes tens
        of cycles on some CPUs (AMD before Zen 4)."""
        if count == self.W:
            self.store(b, x, address)
            return
        at = 0
        while at < count:
            size = 1 << (count - at).bit_length() - 1
            part = b.extract_element(x, self.num(at, I32)) if size == 1 else b.shuffle_vector(
                x, ir.Constant(x.type, ir.Undefined), ir.Constant(ir.VectorType(I32, size), list(range(at, at + size))))
            self.store(b, part, self.at(b, address, at))
            at += size

    # --- control -----------------------------------------------------------------------------------------------

    @contextmanager
    def for_range(self, b: Builder, begin: Any, end: Any, step: Any = 1, carried: Sequence[IRValue] = (),
                  name: str = "for") -> Iterator[Loop]:
        """``for index in range(begin, end, step)`` over i64 (step > 0), with values carried from turn to turn."""
        begin, end, step = self.value(begin), self.value(end), self.value(step)
        before = b.block
        header, body, after = (b.append_basic_block(f"{name}.{part}") for part in ("head", "body", "end"))
        b.branch(header)
        b.position_at_end(header)
        index = b.phi(I64)
        index.add_incoming(begin, before)
        phis = [b.phi(v.type) for v in carried]
        for phi, first in zip(phis, carried, strict=True):
            phi.add_incoming(first, before)
        b.cbranch(b.icmp_signed("<", index, end), body, after)
        b.position_at_end(body)
        loop = Loop(index, phis)
        yield loop
        index.add_incoming(b.add(index, step), b.block)
        for phi, value in zip(phis, loop.next, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(header)
        b.position_at_end(after)

    @contextmanager
    def if_then(self, b: Builder, condition: IRValue, name: str = "if") -> Iterator[None]:
        """What is emitted inside runs only when the i1 ``condition`` holds."""
        then, after = b.append_basic_block(f"{name}.then"), b.append_basic_block(f"{name}.end")
        b.cbranch(condition, then, after)
        b.position_at_end(then)
        yield
        b.branch(after)
        b.position_at_end(after)


def mangle(kind: IRType) -> str:
    """A type as intrinsic names spell it: v8f32, f64, i32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{mangle(kind.element)}"
    return {str(F32): "f32", str(F64): "f64", str(PTR): "p0"}.get(str(kind), str(kind))
