"""Text to object to callable; objects linked together; what goes wrong is said."""

from __future__ import annotations

import ctypes
import gc
import threading

import pytest

from rnngraph.backends.llvm import cpu, jit
from rnngraph.backends.llvm.vector import I64, Emit
from rnngraph.errors import CompileError

NATIVE = cpu.native_target()
ADD = "define i64 @add(i64 %a, i64 %b) {\n  %s = add i64 %a, %b\n  ret i64 %s\n}\n"
TWICE = ("declare i64 @add(i64, i64)\n"
         "define i64 @twice(i64 %a) {\n  %s = call i64 @add(i64 %a, i64 %a)\n  ret i64 %s\n}\n")


def call(library: jit.Library, symbol: str, *args: int) -> int:
    kinds = [ctypes.c_int64] * len(args)
    result: int = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(library.address(symbol))(*args)
    return result


def test_objects_are_linked_together() -> None:
    library = jit.Library([jit.compile_object(TWICE, NATIVE), jit.compile_object(ADD, NATIVE)], ["twice", "add"])
    assert call(library, "twice", 21) == 42
    assert call(library, "add", 1, 2) == 3
    with pytest.raises(CompileError, match="'nothing' is not exported; exported: twice, add"):
        library.address("nothing")


def test_equal_symbols_live_in_different_libraries() -> None:
    libraries = [jit.Library([jit.compile_object(f"define i64 @f() {{\n ret i64 {i}\n}}", NATIVE)], ["f"])
                 for i in range(5)]
    del libraries[2]
    gc.collect()
    assert [call(library, "f") for library in libraries] == [0, 1, 3, 4]


def test_libm_is_there() -> None:
    text = ("declare double @cbrt(double)\ndefine i64 @f() {\n %r = call double @cbrt(double 27.0)\n"
            " %i = fptosi double %r to i64\n ret i64 %i\n}")
    assert call(jit.Library([jit.compile_object(text, NATIVE)], ["f"]), "f") == 3


def test_always_inline_functions_disappear() -> None:
    text = ADD.replace("define", "define internal").replace(") {", ") alwaysinline {") + TWICE.split("\n", 1)[1]
    assembly = jit.emit_assembly(text, NATIVE)
    assert "twice:" in assembly
    assert "call" not in assembly
    assert "add:" not in assembly


def test_bad_input_is_a_compile_error() -> None:
    with pytest.raises(CompileError, match="emitted IR is not valid"):
        jit.compile_object("define i64 @f() { ret i32 0 }", NATIVE)
    with pytest.raises(CompileError, match="do not link"):
        jit.Library([jit.compile_object(TWICE, NATIVE)], ["twice"])  # add is missing
    with pytest.raises(CompileError, match="do not link"):
        jit.Library([jit.compile_object(ADD, NATIVE)], ["sub"])
    with pytest.raises(CompileError, match="do not link"):
        jit.Library([b"not an object"], ["f"])


def test_threads_compile_and_link_at_once() -> None:
    results: list[int] = []

    def work(i: int) -> None:
        for j in range(5):
            text = f"define i64 @f() {{\n ret i64 {10 * i + j}\n}}"
            results.append(call(jit.Library([jit.compile_object(text, NATIVE)], ["f"]), "f"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(10 * i + j for i in range(8) for j in range(5))


def test_objects_for_other_machines() -> None:
    arm = cpu.make_target("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon")
    data = jit.compile_object(ADD, arm)
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == 183  # EM_AARCH64


def test_loops_carry_values_and_stop_at_the_end() -> None:
    e = Emit(NATIVE)
    fn, b = e.function("f", I64, [I64, I64])
    begin, end = fn.args
    with e.for_range(b, begin, end, 3, [e.num(0)]) as loop:
        loop.next = [b.add(loop.carried[0], loop.index)]
    count = e.num(0)
    with e.for_range(b, 0, end, 1, [count]) as inner:
        with e.if_then(b, b.icmp_signed("<", inner.index, begin)):
            pass
        inner.next = [b.add(inner.carried[0], e.num(1))]
    b.ret(b.add(b.mul(inner.carried[0], e.num(1000)), loop.carried[0]))
    library = jit.Library([jit.compile_object(e.text(), NATIVE)], ["f"])
    for first, last in ((0, 10), (2, 2), (5, 3), (4, 14)):
        assert call(library, "f", first, last) == sum(range(first, last, 3)) + 1000 * len(range(last))


def test_nothing_is_written_behind_a_terminator() -> None:
    e = Emit(NATIVE)
    _, b = e.function("f", I64, [])
    b.ret(e.num(0))
    with pytest.raises(AssertionError, match="instruction after the terminator of block entry in f"):
        b.add(e.num(1), e.num(2))
