"""The tables of docs/gpu.md, from the implementations' own data: `python -m benchmarks.gpu.support` writes them anew.

What holds for a cell depends on sizes: the table is of 256 units and as many features on a GPU like an H100.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import rnngraph as rg
from benchmarks.cell_table import TABLE, Entry
from benchmarks.gpu.forced import EXPANDED
from rnngraph import backends, nn
from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.registry import Device, Implementation, Registry
from rnngraph.ir import RNN, SCAN, Dims, Graph
from rnngraph.passes import PIPELINES, run
from rnngraph.rewrite import PassContext

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "gpu.md"
UNITS, DIMS = 256, {"batch": 1, "time": 100}
BEFORE, BEHIND = PIPELINES["default"].split("select-implementation{fused-only=true},")
EVERYWHERE = ("gpu", "cupy")  # constraints that all candidates have
PRECISIONS = ("f32", "tf32", "bf16")


def candidates() -> tuple[Implementation, ...]:
    """Those of the GPU, in the order in which they are registered."""
    return tuple(i for i in backends.default_registry().implementations if i.target == "gpu")


def candidate_table() -> str:
    """What each takes, and the names of its constraints."""
    lines = ["| candidate | takes | constraints |", "| --- | --- | --- |"]
    for i in candidates():
        takes = ", ".join(f"`{n}`" for n in sorted(i.ops)) if len(i.ops) < 4 else f"{len(i.ops)} kinds of ops"
        names = ", ".join(c.name for c in i.constraints if c.name not in EVERYWHERE)
        lines.append(f"| `{i.name}` | {takes} | {names} |")
    return "\n".join(lines)


def constraint_table() -> str:
    """Every constraint, with its sentence; one that each algorithm says in its own words once for each."""
    sentences: dict[str, list[str]] = {}
    for i in candidates():
        for c in i.constraints:
            known = sentences.setdefault(c.name, [])
            known.extend([c.sentence] if c.sentence not in known else [])
    return "\n".join(["| constraint | says |", "| --- | --- |",
                      *(f"| {name} | {'; '.join(said)} |" for name, said in sentences.items())])


# --- cells ----------------------------------------------------------------------------------------------------------


def cell_table() -> str:
    """For each cell which candidates take its recurrence."""
    columns = [i.name for i in candidates() if i.ops & {"rnn", "scan"} and i.name not in EXPANDED]
    own = [n for n in columns if not n.startswith("cupy.cudnn.")]
    lines = ["| cell | cuDNN | " + " | ".join(f"`{n}`" for n in own) + " |", "| --- " * (2 + len(own)) + "|"]
    for name, entry in TABLE.items():
        whole, loops = taken(entry)
        algorithms = [n.split(".")[2] for n in whole if n.startswith("cupy.cudnn.") and n.count(".") == 2]
        fused = "all four" if len(algorithms) == 4 else ", ".join(algorithms)
        lines.append(f"| {name} | " + " | ".join([fused, *("yes" if n in loops else "" for n in own)]) + " |")
    return "\n".join(lines)


def taken(entry: Entry) -> tuple[set[str], set[str]]:
    """The candidates that take a cell's rnn node, and those that take each of its scans."""
    graph = rg.trace(nn.RNN(entry.make(UNITS), return_sequences=True),
                     rg.Input(("batch", "time", *entry.features(UNITS))))
    run(BEFORE.rstrip(","), graph, PassContext("gpu"))
    whole = _all(graph, "rnn")
    context = PassContext("gpu", described("f32", ("cupy.cudnn",)), dict(DIMS), {})
    run("select-implementation{fused-only=true}," + BEHIND, graph, context)
    return whole, _all(graph, "scan")


def _all(graph: Graph, kind: str) -> set[str]:
    """The candidates that take every op of a kind, in the precision that they are for."""
    ops = [op for op in graph.block.body if op.opdef is (RNN if kind == "rnn" else SCAN)]
    dims: Dims = dict(DIMS)
    each = [{c.name for p in PRECISIONS for c in described(p).consider(op, "gpu", dims) if not c.failures}
            for op in ops]
    return set.intersection(*each) if each else set()


def described(precision: str, without: tuple[str, ...] = ()) -> Registry:
    """The registry on a GPU that is not there."""
    caps = DESCRIBED["h100"]
    device = Device("gpu", caps.name, True, frozenset({"gpu", "cupy", "cudnn", caps.arch.rstrip("a")}), {},
                    {"sms": caps.sms, "shared": caps.shared})
    return Registry(backends.default_registry().implementations, devices={"gpu": lambda: device}, precision=precision,
                    without=without)


# --- the document ---------------------------------------------------------------------------------------------------

TABLES = {"candidates": candidate_table, "constraints": constraint_table, "cells": cell_table}


def parts(text: str) -> Iterator[tuple[str, str]]:
    """(name, table) of a document: what stands between ``<!-- table:name -->`` and ``<!-- end -->``."""
    for m in re.finditer(r"<!-- table:(\w+) -->\n(.*?)<!-- end -->", text, re.DOTALL):
        yield m[1], m[2].strip()


def rewritten(text: str) -> str:
    """The document with tables of today."""
    def table(m: re.Match[str]) -> str:
        return f"<!-- table:{m[1]} -->\n{TABLES[m[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["TABLES", "candidate_table", "cell_table", "constraint_table", "parts", "rewritten"]
