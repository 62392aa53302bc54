"""The microkernels: a tile of R rows by N vectors of sums over k, in registers; one library per target.

    rg_mk_{R}_{N}(float* acc, i64 acc_stride, float* a, i64 lda, float* w, i64 K, i64 beta)
        acc[r*acc_stride + n*W + l] (+)= sum over k < K of a[r*lda + k] * w[(k*N + n)*W + l]
    rg_mk2_1_{N}(float* acc0, float* acc1, float* a, float* w0, float* w1, i64 K, i64 beta)
        the same for one row and two lane tiles at once: acc0 from w0, acc1 from w1 (twice the independent chains)
    rg_mk_bf16_{R}_{N}, rg_mk2_bf16_1_{N}
        the same with weights in bf16, of which vectors 2j and 2j + 1 of a k lie interleaved, lane by lane: one load
        gives both, the first by a shift, the second by a mask. Sums and ``a`` stay f32.

beta = 0 starts from zero, 1 continues the sums in acc. Strides count floats. ``a`` needs the alignment of a float,
``w`` and ``acc`` (and acc_stride) that of a vector. Every sum is one chain in k order: a row's bits depend neither
on R, nor on how k is cut into calls, nor on the pair form. The text is written directly: every process needs it to
find the object in the cache, and llvmlite.ir would take twenty times longer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from rnngraph.backends.llvm import cache
from rnngraph.backends.llvm.cpu import CpuTarget

F32, BF16 = "f32", "bf16"  # what weights are kept in
ELEMENTS = {F32: "float", BF16: "i16"}
MAX_PARTS = 4  # vectors of a row that accumulate together
MAX_ROWS = 8
FEW_ROWS = 4  # up to here there is a kernel for every number of rows
UNROLL = 4
MANY = 8  # a loop of more sums is unrolled half as far


def fits(rows: int, parts: int, target: CpuTarget) -> bool:
    """Whether the sums, the smaller side and one vector more stay in registers."""
    spare = 1 if target.has_fma else 5  # products, and the copies that two-operand instructions need
    return rows * parts + min(rows, parts) + spare <= target.registers


def row_variants(parts: int, target: CpuTarget) -> tuple[int, ...]:
    """The R for which rg_mk_R_{parts} exists, ascending: 1 to 4 where they fit, and the largest that fits."""
    possible = [r for r in range(1, MAX_ROWS + 1) if fits(r, parts, target)]
    return tuple(r for r in possible if r <= FEW_ROWS or r == possible[-1])


def pair_parts(target: CpuTarget) -> tuple[int, ...]:
    """The N for which rg_mk2_1_N exists."""
    return tuple(n for n in range(1, MAX_PARTS + 1) if fits(1, 2 * n, target))


def name(rows: int, parts: int, weights: str = F32) -> str:
    """The symbol for a tile of ``rows`` x ``parts`` vectors."""
    return f"rg_mk_{'' if weights == F32 else weights + '_'}{rows}_{parts}"


def pair_name(parts: int, weights: str = F32) -> str:
    """The symbol for one row and two lane tiles of ``parts`` vectors."""
    return f"rg_mk2_{'' if weights == F32 else weights + '_'}1_{parts}"


def symbols(target: CpuTarget, weights: str = F32) -> tuple[str, ...]:
    """All functions of the target's library."""
    tiles = [name(r, n, weights) for n in range(1, MAX_PARTS + 1) for r in row_variants(n, target)]
    return (*tiles, *(pair_name(n, weights) for n in pair_parts(target)))


def emit_microkernels(target: CpuTarget, weights: str = F32) -> str:
    """The library's IR text."""
    kernels = [tile_kernel(r, n, target, weights) for n in range(1, MAX_PARTS + 1) for r in row_variants(n, target)]
    kernels += [pair_kernel(n, target, weights) for n in pair_parts(target)]
    vector = f"<{target.width} x float>"
    fma = _fma(target)
    header = f'target triple = "{target.triple}"\n\ndeclare {vector} @{fma}({vector}, {vector}, {vector})\n'
    return "\n".join([header, *kernels])


@functools.cache
def library(target: CpuTarget, weights: str = F32) -> bytes:
    """The library as an object, to be linked beside the code that calls it; from the disk cache when it is there."""
    return cache.cached_object(emit_microkernels(target, weights), target)


def tile_kernel(rows: int, parts: int, target: CpuTarget, weights: str = F32) -> str:
    """The text of rg_mk_{rows}_{parts}."""
    head = (f"define void @{name(rows, parts, weights)}(ptr %acc, i64 %acc.stride, ptr %a, i64 %lda, ptr %w, i64 %K, "
            f"i64 %beta) nounwind {{\nentry:")
    setup = []
    for r in range(rows):
        setup += _row("a", "lda", r) + _row("acc", "acc.stride", r)
    cells = [(r, n) for r in range(rows) for n in range(parts)]
    addresses = {(r, n): (f"%acc.{r}", n) for r, n in cells}
    return head + "\n" + _body(rows, ["w"] * parts, parts, setup, addresses, target, weights)


def pair_kernel(parts: int, target: CpuTarget, weights: str = F32) -> str:
    """The text of rg_mk2_1_{parts}."""
    head = (f"define void @{pair_name(parts, weights)}(ptr %acc0, ptr %acc1, ptr %a, ptr %w0, ptr %w1, i64 %K, "
            f"i64 %beta) nounwind {{\nentry:")
    setup = ["%a.0 = getelementptr float, ptr %a, i64 0"]
    addresses = {(0, n): (f"%acc{n // parts}", n % parts) for n in range(2 * parts)}
    streams = [f"w{n // parts}" for n in range(2 * parts)]
    return head + "\n" + _body(1, streams, parts, setup, addresses, target, weights)


def _row(base: str, stride: str, r: int) -> list[str]:
    """%base.r = base + r * stride floats."""
    return [f"%{base}.off.{r} = mul i64 %{stride}, {r}",
            f"%{base}.{r} = getelementptr float, ptr %{base}, i64 %{base}.off.{r}"]


def _fma(target: CpuTarget) -> str:
    return f"llvm.{'fma' if target.has_fma else 'fmuladd'}.v{target.width}f32"


def _body(rows: int, streams: Sequence[str], parts: int, setup: list[str],
          addresses: dict[tuple[int, int], tuple[str, int]], target: CpuTarget, weights: str) -> str:
    """Everything behind the signature. ``streams[n]`` is the weight pointer that vector n of a row comes from,
    ``parts`` the vectors of one k in a stream, ``addresses`` where each sum lives: (pointer, vector)."""
    vector = f"<{target.width} x float>"
    cells = list(addresses)
    unroll = UNROLL if len(cells) <= MANY else UNROLL // 2
    sources = sorted(set(streams))

    def phis(now: str, *ways: tuple[str, str]) -> list[str]:
        """One phi per sum; a way is (prefix of the values, block), the empty prefix being zero."""
        return [f"%{now}.{r}.{n} = phi {vector} "
                + ", ".join(f"[ {f'%{p}.{r}.{n}' if p else 'zeroinitializer'}, %{block} ]" for p, block in ways)
                for r, n in cells]

    def pointers(now: str, *ways: tuple[str, str]) -> list[str]:
        return [f"%{s}.{now} = phi ptr " + ", ".join(f"[ %{s}{p}, %{block} ]" for p, block in ways) for s in sources]

    def steps(count: int, block: str) -> list[str]:
        """``count`` values of k: sums %block.* -> %block.{count}.*, then the pointers of the next turn."""
        out = []
        for u in range(count):
            now, new = (block if u == 0 else f"{block}.{u}"), f"{block}.{u + 1}"
            out += _step(rows, streams, parts, u, block, now, new, target, weights)
        lanes = count * parts * target.width
        element = ELEMENTS[weights]
        out += [f"%{s}.{block}.next = getelementptr {element}, ptr %{s}.{block}, i64 {lanes}" for s in sources]
        return [*out, f"%k.{block}.next = add i64 %k.{block}, {count}"]

    last = f"main.{unroll}"
    sections: list[tuple[str, list[str]]] = [
        ("", [*setup, "%fresh = icmp eq i64 %beta, 0", "br i1 %fresh, label %start, label %resume"]),
        ("resume", [*_each_sum(addresses, target, "%old.{r}.{n} = load {vector}, {place}"), "br label %start"]),
        ("start", [*phis("first", ("", "entry"), ("old", "resume")), f"%whole = and i64 %K, {-unroll}",
                   "%long = icmp sgt i64 %whole, 0", "br i1 %long, label %main, label %rest"]),
        ("main", ["%k.main = phi i64 [ 0, %start ], [ %k.main.next, %main ]",
                  *pointers("main", ("", "start"), (".main.next", "main")),
                  *phis("main", ("first", "start"), (last, "main")), *steps(unroll, "main"),
                  "%more = icmp slt i64 %k.main.next, %whole", "br i1 %more, label %main, label %rest"]),
        ("rest", ["%k.rest = phi i64 [ 0, %start ], [ %k.main.next, %main ]",
                  *pointers("rest", ("", "start"), (".main.next", "main")),
                  *phis("rest", ("first", "start"), (last, "main")),
                  "%left = icmp slt i64 %k.rest, %K", "br i1 %left, label %tail, label %done"]),
        ("tail", ["%k.tail = phi i64 [ %k.rest, %rest ], [ %k.tail.next, %tail ]",
                  *pointers("tail", (".rest", "rest"), (".tail.next", "tail")),
                  *phis("tail", ("rest", "rest"), ("tail.1", "tail")), *steps(1, "tail"),
                  "%again = icmp slt i64 %k.tail.next, %K", "br i1 %again, label %tail, label %done"]),
        ("done", [*phis("sum", ("rest", "rest"), ("tail.1", "tail")),
                  *_each_sum(addresses, target, "store {vector} %sum.{r}.{n}, {place}"), "ret void"]),
    ]
    return "".join((f"{label}:\n" if label else "") + "".join(f"  {line}\n" for line in lines)
                   for label, lines in sections) + "}\n"


def _each_sum(addresses: dict[tuple[int, int], tuple[str, int]], target: CpuTarget, access: str) -> list[str]:
    """The address of every sum, and the instruction that reads or writes it there."""
    vector, side = f"<{target.width} x float>", "to" if access.startswith("store") else "from"
    out = []
    for (r, n), (base, position) in addresses.items():
        place = f"ptr %{side}.{r}.{n}, align {target.width * 4}"
        out += [f"%{side}.{r}.{n} = getelementptr {vector}, ptr {base}, i64 {position}",
                access.format(vector=vector, r=r, n=n, place=place)]
    return out


def _step(rows: int, streams: Sequence[str], parts: int, u: int, block: str, now: str, new: str,
          target: CpuTarget, weights: str) -> list[str]:
    """One k. The smaller side is loaded first and kept, the other comes vector by vector: any other order spills."""
    vector, fma = f"<{target.width} x float>", _fma(target)
    tag = f"{block}.{u}"

    def weight(n: int) -> list[str]:
        lanes = (u * parts + n % parts) * target.width
        place = f"%wp.{tag}.{n} = getelementptr {ELEMENTS[weights]}, ptr %{streams[n]}.{block}, i64 {lanes}"
        if weights == F32:
            return [place, f"%w.{tag}.{n} = load {vector}, ptr %wp.{tag}.{n}, align {target.width * 4}"]
        if n % parts % 2:
            return []  # came with the one before it
        return [place, *_widened(f"{tag}.{n}", f"{tag}.{n + 1}" if n % parts + 1 < parts else "", target)]

    def left(r: int) -> list[str]:
        return [f"%kp.{tag}.{r} = add i64 %k.{block}, {u}",
                f"%ap.{tag}.{r} = getelementptr float, ptr %a.{r}, i64 %kp.{tag}.{r}",
                f"%as.{tag}.{r} = load float, ptr %ap.{tag}.{r}, align 4",
                f"%ai.{tag}.{r} = insertelement {vector} poison, float %as.{tag}.{r}, i32 0",
                f"%av.{tag}.{r} = shufflevector {vector} %ai.{tag}.{r}, {vector} poison, "
                f"<{target.width} x i32> zeroinitializer"]

    def multiply(r: int, n: int) -> str:
        return (f"%{new}.{r}.{n} = call {vector} @{fma}({vector} %av.{tag}.{r}, {vector} %w.{tag}.{n}, "
                f"{vector} %{now}.{r}.{n})")

    width = range(len(streams))
    out: list[str] = []
    if rows >= len(streams):
        for n in width:
            out += weight(n)
        for r in range(rows):
            out += [*left(r), *(multiply(r, n) for n in width)]
    else:
        for r in range(rows):
            out += left(r)
        for n in width:
            out += [*weight(n), *(multiply(r, n) for r in range(rows))]
    return out


def _widened(first: str, second: str, target: CpuTarget) -> list[str]:
    """Read bf16 at %wp.first: two interleaved vectors, or one when there is no ``second``. It is the high half of an
    f32."""
    vector, ints, align = f"<{target.width} x float>", f"<{target.width} x i32>", target.width * 2
    high, mask = (f"<{', '.join([f'i32 {n}'] * target.width)}>" for n in (16, -65536))
    if second:
        out = [f"%wi.{first} = load {ints}, ptr %wp.{first}, align {align}",
               f"%wm.{second} = and {ints} %wi.{first}, {mask}",
               f"%w.{second} = bitcast {ints} %wm.{second} to {vector}"]
    else:
        out = [f"%wh.{first} = load <{target.width} x i16>, ptr %wp.{first}, align {align}",
               f"%wi.{first} = zext <{target.width} x i16> %wh.{first} to {ints}"]
    return [*out, f"%ws.{first} = shl {ints} %wi.{first}, {high}",
            f"%w.{first} = bitcast {ints} %ws.{first} to {vector}"]
