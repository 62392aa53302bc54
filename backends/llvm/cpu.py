"""Which CPU the code is made for: triple, tuning name, features, and the vector width that follows from them.

Importing this file does not import llvmlite: a program that never compiles for the CPU does not pay for it.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass

from rnngraph.errors import CompileError

# LLVM aborts the process on an unknown x86 cpu name, so names are checked against this list before it sees them.
X86_CPUS = frozenset("""
    x86-64 x86-64-v2 x86-64-v3 x86-64-v4 nocona core2 penryn nehalem westmere sandybridge ivybridge haswell broadwell
    skylake skylake-avx512 cascadelake cooperlake cannonlake icelake-client icelake-server rocketlake tigerlake
    sapphirerapids emeraldrapids graniterapids graniterapids-d diamondrapids alderlake raptorlake meteorlake
    arrowlake arrowlake-s lunarlake pantherlake gracemont sierraforest grandridge clearwaterforest
    bonnell silvermont goldmont goldmont-plus tremont knl knm
    k8 k8-sse3 amdfam10 barcelona btver1 btver2 bdver1 bdver2 bdver3 bdver4 znver1 znver2 znver3 znver4 znver5
""".split())
ARM_CPUS = frozenset("""
    generic cortex-a53 cortex-a55 cortex-a57 cortex-a72 cortex-a73 cortex-a75 cortex-a76 cortex-a78 cortex-a510
    cortex-a520 cortex-a710 cortex-a720 cortex-x1 cortex-x2 cortex-x3 cortex-x4
    neoverse-n1 neoverse-n2 neoverse-n3 neoverse-v1 neoverse-v2 neoverse-v3 neoverse-512tvb
    ampere1 ampere1a ampere1b a64fx thunderx2t99 tsv110 carmel falkor kryo saphira
    apple-a12 apple-a13 apple-a14 apple-a15 apple-a16 apple-a17 apple-m1 apple-m2 apple-m3 apple-m4
""".split())
_CPUS = {"x86_64": X86_CPUS, "aarch64": ARM_CPUS, "arm64": ARM_CPUS}
_BASELINE = {"x86_64": "x86-64", "aarch64": "generic", "arm64": "generic"}

# Each word is one feature as LLVM spells it. Unknown features only warn, but a typo must not pass silently.
X86_FEATURES = frozenset("""
    64bit adx aes amx-avx512 amx-bf16 amx-complex amx-fp16 amx-fp8 amx-int8 amx-movrs amx-tf32 amx-tile avx avx10.1
    avx10.2 avx2 avx512bf16 avx512bitalg avx512bw avx512cd avx512dq avx512f avx512fp16 avx512ifma avx512vbmi
    avx512vbmi2 avx512vl avx512vnni avx512vp2intersect avx512vpopcntdq avxifma avxneconvert avxvnni avxvnniint16
    avxvnniint8 bmi bmi2 ccmp cf cldemote clflushopt clwb clzero cmov cmpccxadd crc32 cx16 cx8 egpr enqcmd f16c fma
    fma4 fsgsbase fxsr gfni hreset invpcid kl lwp lzcnt mmx movbe movdir64b movdiri movrs mwaitx ndd nf pclmul pconfig
    pku popcnt ppx prefetchi prfchw ptwrite push2pop2 raoint rdpid rdpru rdrnd rdseed rtm sahf serialize sgx sha
    sha512 shstk sm3 sm4 sse sse2 sse3 sse4.1 sse4.2 sse4a ssse3 tbm tsxldtrk uintr usermsr vaes vpclmulqdq waitpkg
    wbnoinvd widekl x87 xop xsave xsavec xsaveopt xsaves zu
""".split())
_FEATURE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_WIDE = re.compile(r"avx512|amx|avx10|egpr|ndd|nf$|ccmp|cf$|ppx|push2pop2|zu$")  # what level avx2 must not use

LEVELS = ("native", "avx512", "avx2", "generic")
_AVX2 = "avx avx2 bmi bmi2 cmov cx16 cx8 f16c fma fxsr lzcnt movbe popcnt sse sse2 sse3 sse4.1 sse4.2 ssse3"
_AVX512 = _AVX2 + " avx512bw avx512cd avx512dq avx512f avx512vl"


def _arch(triple: str) -> str:
    return triple.split("-", 1)[0]


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A CPU to make code for. ``width`` is the f32 lanes of one vector; ``registers`` the vector registers.

    ``features`` is canonical: ``+name`` / ``-name``, sorted by name, separated by commas. Names are checked here,
    because LLVM aborts the process on an unknown one. `target` and `host_target` make the usual ones;
    ``dataclasses.replace(t, width=16)`` gives a width that LLVM then splits over the registers there are.
    """

    triple: str
    cpu: str
    features: str
    width: int
    registers: int
    has_fma: bool

    def __post_init__(self) -> None:
        known = _CPUS.get(_arch(self.triple))
        if known is not None and self.cpu not in known:
            raise CompileError(f"cpu: unknown name {self.cpu!r} for {self.triple}; known: {', '.join(sorted(known))}")
        if self.features != canonical_features(self.features, self.triple):
            raise CompileError(f"cpu: features are not canonical, use canonical_features(): {self.features!r}")
        if self.width not in (1, 2, 4, 8, 16):
            raise CompileError(f"cpu: vector width must be 1, 2, 4, 8 or 16 lanes, got {self.width}")

    @property
    def enabled(self) -> frozenset[str]:
        """The names of the features that are on."""
        return frozenset(f[1:] for f in self.features.split(",") if f.startswith("+"))

    @property
    def is_x86(self) -> bool:
        return _arch(self.triple) == "x86_64"

    @property
    def has_round(self) -> bool:
        """Whether floor is one instruction (else it would be a libm call per lane)."""
        return not self.is_x86 or "sse4.1" in self.enabled


def canonical_features(features: str, triple: str) -> str:
    """``"-b,+a"`` -> ``"+a,-b"``: checked, sorted by name; the last mention of a name wins."""
    found: dict[str, str] = {}
    for item in filter(None, (f.strip() for f in features.split(","))):
        name = item[1:]
        good = name in X86_FEATURES if _arch(triple) == "x86_64" else _FEATURE_NAME.fullmatch(name) is not None
        if item[0] not in "+-" or not good:
            raise CompileError(f"cpu: unknown feature {item!r} for {triple}; write +name or -name")
        found[name] = item[0]
    return ",".join(found[name] + name for name in sorted(found))


def make_target(triple: str, cpu: str, features: str) -> CpuTarget:
    """The target for these, its width and registers taken from the features that are on."""
    features = canonical_features(features, triple)
    on = {f[1:] for f in features.split(",") if f.startswith("+")}
    if _arch(triple) != "x86_64":
        return CpuTarget(triple, cpu, features, 4, 32, _arch(triple) in ("aarch64", "arm64"))
    if "avx512f" in on:
        return CpuTarget(triple, cpu, features, 16, 32, True)
    if {"avx2", "fma"} <= on:
        return CpuTarget(triple, cpu, features, 8, 16, True)
    return CpuTarget(triple, cpu, features, 4, 16, "fma" in on)


@functools.cache
def native_target() -> CpuTarget:
    """All that this machine's CPU can do, whatever the environment says."""
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    arch = _arch(triple)
    name = llvm.get_host_cpu_name()
    known = _CPUS.get(arch)
    if known is not None and name not in known:
        name = _BASELINE[arch]  # the name only tunes; the features decide what is emitted
    features = {k: v for k, v in llvm.get_host_cpu_features().items() if arch != "x86_64" or k in X86_FEATURES}
    return make_target(triple, name, ",".join(("+" if on else "-") + k for k, on in features.items()))


@functools.cache
def target(level: str) -> CpuTarget:
    """The target at a level: "native", "avx512", "avx2" or "generic" (x86-64 baseline SSE2, no FMA; elsewhere W=4).

    A level below the machine's leaves features out; one above it can be compiled for, not run (`runs_here`).
    """
    if level not in LEVELS:
        raise CompileError(f"cpu: unknown level {level!r}; expected one of {', '.join(LEVELS)}")
    native = native_target()
    if level == "native":
        return native
    arch = _arch(native.triple)
    if arch != "x86_64":
        if level != "generic":
            raise CompileError(f"cpu: level {level!r} exists on x86-64 only, this machine is {native.triple}")
        return make_target(native.triple, _BASELINE.get(arch, native.cpu), "")
    if level == "generic":
        return make_target(native.triple, "x86-64", "+cmov,+cx8,+fxsr,+mmx,+sse,+sse2")
    needs = {"avx2": _AVX2, "avx512": _AVX512}[level].split()
    if native.width == {"avx2": 8, "avx512": 16}[level] and native.enabled.issuperset(needs):
        return native
    if level == "avx2" and native.width == 16:
        off = ",".join("-" + f[1:] if _WIDE.match(f[1:]) else f for f in native.features.split(","))
        return make_target(native.triple, "haswell", off)
    cpu = {"avx2": "haswell", "avx512": "skylake-avx512"}[level]
    return make_target(native.triple, cpu, ",".join("+" + f for f in needs))


def runs_here(cpu: CpuTarget) -> bool:
    """Whether this machine can execute code made for ``cpu``."""
    native = native_target()
    return cpu.triple == native.triple and cpu.enabled <= native.enabled | {"x87"}


def host_target() -> CpuTarget:
    """The target to use here: the native one, or the level that the environment variable RNNGRAPH_CPU names."""
    level = os.environ.get("RNNGRAPH_CPU") or "native"
    chosen = target(level)
    if not runs_here(chosen):
        raise CompileError(f"RNNGRAPH_CPU={level}: this machine ({native_target().cpu}) cannot run that code; "
                           f"unset it or use avx2 or generic")
    return chosen
