"""Targets: what each level allows, which names reach LLVM, and that asking costs no import."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from rnngraph.backends.llvm import cpu
from rnngraph.errors import CompileError

X86 = "x86_64-unknown-linux-gnu"
on_x86 = pytest.mark.skipif(not cpu.native_target().is_x86, reason="levels of x86-64")


@on_x86
def test_levels_restrict_features() -> None:
    avx512, avx2, generic = (cpu.target(level) for level in ("avx512", "avx2", "generic"))
    assert (avx512.width, avx512.registers, avx512.has_fma) == (16, 32, True)
    assert (avx2.width, avx2.registers, avx2.has_fma) == (8, 16, True)
    assert (generic.width, generic.registers, generic.has_fma, generic.has_round) == (4, 16, False, False)
    assert "avx512f" in avx512.enabled
    assert not any(f.startswith(("avx512", "amx", "avx10")) for f in avx2.enabled)
    assert not any(f.startswith(("avx", "fma", "sse3", "sse4")) for f in generic.enabled)
    assert cpu.runs_here(generic)


def test_native_is_the_machine() -> None:
    native = cpu.target("native")
    assert native == cpu.native_target()
    assert cpu.runs_here(native)
    assert cpu.canonical_features(native.features, native.triple) == native.features


@pytest.mark.parametrize(("features", "width", "registers", "fma"), [
    ("+sse2", 4, 16, False), ("+avx,+avx2", 4, 16, False), ("+avx2,+fma", 8, 16, True),
    ("+avx2,+avx512f,+fma", 16, 32, True), ("+avx2,-avx512f,+fma", 8, 16, True)])
def test_width_follows_features(features: str, width: int, registers: int, fma: bool) -> None:
    made = cpu.make_target(X86, "haswell", features)
    assert (made.width, made.registers, made.has_fma) == (width, registers, fma)


def test_other_architectures_have_four_lanes() -> None:
    arm = cpu.make_target("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon")
    assert (arm.width, arm.registers, arm.has_fma, arm.has_round) == (4, 32, True, True)
    assert not arm.is_x86


def test_features_are_canonical() -> None:
    assert cpu.canonical_features("+sse2, -avx,+fma,+avx", X86) == "+avx,+fma,+sse2"
    assert cpu.canonical_features("", X86) == ""
    with pytest.raises(CompileError, match=r"unknown feature '\+avx3'"):
        cpu.canonical_features("+avx3", X86)
    with pytest.raises(CompileError, match="unknown feature 'avx2'"):
        cpu.canonical_features("avx2", X86)


def test_unknown_names_never_reach_llvm() -> None:
    with pytest.raises(CompileError, match="unknown name 'pentium9'"):
        cpu.make_target(X86, "pentium9", "")
    with pytest.raises(CompileError, match="unknown level 'avx1024'"):
        cpu.target("avx1024")
    with pytest.raises(CompileError, match="not canonical"):
        cpu.CpuTarget(X86, "haswell", "+sse2,+avx", 4, 16, False)
    with pytest.raises(CompileError, match="1, 2, 4, 8 or 16 lanes, got 3"):
        dataclasses.replace(cpu.native_target(), width=3)


@on_x86
def test_environment_restricts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_CPU", "generic")
    assert cpu.host_target() == cpu.target("generic")
    monkeypatch.setenv("RNNGRAPH_CPU", "fast")
    with pytest.raises(CompileError, match="unknown level 'fast'"):
        cpu.host_target()
    monkeypatch.delenv("RNNGRAPH_CPU")
    assert cpu.host_target() == cpu.native_target()
    monkeypatch.setenv("RNNGRAPH_CPU", "avx512")
    if cpu.runs_here(cpu.target("avx512")):
        assert cpu.host_target() == cpu.target("avx512")
    else:
        with pytest.raises(CompileError, match=r"RNNGRAPH_CPU=avx512: this machine .* cannot run"):
            cpu.host_target()


def test_import_does_not_load_llvmlite() -> None:
    script = "import sys, rnngraph.backends.llvm.cpu; print([m for m in sys.modules if m.startswith('llvmlite')])"
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
                          capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_llvm_knows_every_listed_name() -> None:
    # LLVM ends the process on a name it does not know, so the check runs in one of its own.
    script = """
import llvmlite.binding as llvm
from rnngraph.backends.llvm import cpu
llvm.initialize_all_targets(); llvm.initialize_all_asmprinters()
for triple, names in (("x86_64-unknown-linux-gnu", cpu.X86_CPUS), ("aarch64-unknown-linux-gnu", cpu.ARM_CPUS)):
    for name in sorted(names):
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, features="", opt=0)
        machine.emit_object(llvm.parse_assembly("define void @f() { ret void }"))
for sign in "+-":
    features = ",".join(sign + f for f in sorted(cpu.X86_FEATURES - {"64bit"}))
    llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu="x86-64", features=features)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
