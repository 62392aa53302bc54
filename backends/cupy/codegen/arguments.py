"""The arguments of a stage's kernels: one struct, passed by value, whose fields are named after the stage's buffers.

Addresses are of the first element; strides are in floats. A buffer of rows has a stride for each of two axes that its
rows are cut into (``o`` outer, ``i`` inner), and one for time where it moves with it (``t``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnngraph.phases.instances import Source
from rnngraph.phases.stages import Stage

TIMED = Source.SEQUENCE


def field_of(name: str) -> str:
    """A buffer's name as a C identifier."""
    return name.replace(":", "_").replace(".", "_")


def fields(stage: Stage, *, starts: bool = False) -> Iterator[tuple[str, str]]:
    """(name, C type) in order; with ``starts`` also of what a carry starts as, where that is memory of its own."""
    yield "rows", "int"
    yield "steps", "int"
    yield "inner", "int"  # places of the inner axis of the rows
    for name, (leaf, _) in stage.inputs.items():
        yield from _strided(field_of(name), "const float*", timed=leaf.source is TIMED,
                            rows=leaf.source in (Source.SEQUENCE, Source.CAPTURE, Source.ROW))
    for name in stage.outputs:
        yield from _strided(field_of(name), "float*", timed=stage.is_scan, rows=True)
    for carry in stage.carries:
        yield f"{carry.name}_0", "float*"
        yield f"{carry.name}_1", "float*"
        if starts:
            yield start_field(carry.name), "const float*"
    for name in stage.partition.temporaries:
        yield field_of(name), "float*"
    for k in stage.partition.reductions.values():
        yield f"reduced{k}", "float*"
    for p, phase in enumerate(stage.partition.phases):
        for g in range(len(phase.groups)):
            yield sums_field(p, g), "const float*"
            yield weights_field(p, g), "const float*"
    if stage.lengths is not None:
        yield "lengths", "const int*"


def _strided(name: str, kind: str, *, timed: bool, rows: bool) -> Iterator[tuple[str, str]]:
    yield name, kind
    if timed:
        yield f"{name}_t", "long long"
    if rows:
        yield f"{name}_o", "long long"
        yield f"{name}_i", "long long"


def sums_field(phase: int, group: int) -> str:
    """Where the products of a group lie: [rows, parts * lanes]."""
    return f"sums{phase}_{group}"


def weights_field(phase: int, group: int) -> str:
    """The weights of a group as the loop wants them: [lanes, parts, k]."""
    return f"weights{phase}_{group}"


def start_field(carry: str) -> str:
    """What a carry is in front of the first step: [rows, lanes]."""
    return f"{carry}_start"


def struct_text(stage: Stage, *, starts: bool = False) -> str:
    """The struct in C."""
    lines = [f"    {kind} {name};\n" for name, kind in fields(stage, starts=starts)]
    return "struct Args {\n" + "".join(lines) + "};\n"


def struct_dtype(stage: Stage, *, starts: bool = False) -> np.dtype[np.void]:
    """The struct as numpy packs it."""
    return np.dtype([(name, np.int32 if kind == "int" else np.int64) for name, kind in fields(stage, starts=starts)],
                    align=True)


__all__ = ["field_of", "fields", "start_field", "struct_dtype", "struct_text", "sums_field", "weights_field"]
