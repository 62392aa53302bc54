"""Real models, whole: `python -m benchmarks.real_models`. Fetches packages, runs, checks, and prints a table.

Each model is compiled from its own file and driven over its data; what it gives is compared with what its framework
gave (a golden, where it is on record) and with ONNX Runtime on the same file, or on what `rnngraph.to_onnx` makes.
Times are one call, medians of interleaved blocks in one process; above 1 means that rnngraph is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

import rnngraph as rg
from benchmarks.zoo import g2pm, keras_models, madmom, medaka, onnx_models, onnx_unseen
from benchmarks.zoo.case import Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Unreachable
from benchmarks.zoo.runtime import session
from rnngraph.ir import Graph, RnnAttrs, ScanAttrs

ENTRIES: tuple[Entry, ...] = (*onnx_models.ENTRIES, *keras_models.ENTRIES, *medaka.ENTRIES, *g2pm.ENTRIES,
                              *madmom.ENTRIES, *onnx_unseen.ENTRIES)
BLOCK_SECONDS = 0.1
PAUSE_SECONDS = 0.1


@dataclass(slots=True)
class Row:
    """What the table says of one model. Errors are shares of the largest number; None where there is no such oracle."""

    name: str
    recurrences: str = ""
    merged: str = ""
    golden_error: float | None = None
    runtime_error: float | None = None
    decisions: bool | None = None
    compile_seconds: float = 0.0
    ours: float = 0.0
    peer: float | None = None
    backends: str = ""
    problem: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None or not self.ours else self.peer / self.ours


def examine(case: Case, *, threads: int, rounds: int) -> Row:
    """Compile, run, compare and time one model."""
    row = Row(case.name)
    start = time.perf_counter()
    compiled = rg.compile(case.source, threads=threads)
    ours: Run = compiled.run
    ours(case.inputs)
    row.compile_seconds = time.perf_counter() - start
    outputs = case.drive(ours)
    report = compiled.report
    row.recurrences, row.merged = _recurrences(report)
    row.backends = " ".join(f"{n}:{c}" for n, c in Counter(k.backend for k in report.kernels).items())
    if case.golden:
        row.golden_error = compare(case, outputs, case.golden, row, "the golden")
    onnx = case.onnx
    if onnx is None and isinstance(case.source, rg.nn.Layer):
        onnx = rg.to_onnx(case.source, lengths="lengths" in case.inputs).SerializeToString()
    if onnx is not None:
        peer = session(onnx, threads)
        row.runtime_error = compare(case, outputs, case.drive(peer), row, "ONNX Runtime")
        if rounds:
            row.ours, row.peer = timed([ours, peer], case.inputs, rounds)
    elif rounds:
        (row.ours,) = timed([ours], case.inputs, rounds)
    return row


def compare(case: Case, ours: Arrays, theirs: Arrays, row: Row, what: str) -> float:
    """The largest difference over the largest number, of what both give; goldens may be of the first part."""
    worst = 0.0
    for name, expected in theirs.items():
        got = np.asarray(ours[name])[: len(expected)]
        if got.shape != expected.shape:
            row.failures.append(f"{name} has shape {list(got.shape)}, {what} {list(expected.shape)}")
            continue
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        worst = max(worst, float(np.abs(got.astype(np.float64) - expected).max(initial=0.0)) / scale)
    if not worst <= case.tolerance:
        row.failures.append(f"{worst:.1e} off {what}")
    if case.decide is not None and theirs.keys() == ours.keys():
        row.decisions = case.decide(ours) == case.decide(theirs)
        if not row.decisions:
            row.failures.append(f"other decisions than {what}")
    return worst


def timed(runs: Sequence[Run], inputs: Arrays, rounds: int) -> list[float]:
    """Median seconds of a call by each, in turns."""
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, times in zip(runs, found, strict=True):
            time.sleep(PAUSE_SECONDS)
            run(inputs)
            end = time.perf_counter() + BLOCK_SECONDS
            block: list[float] = []
            while time.perf_counter() < end or len(block) < 3:
                start = time.perf_counter()
                run(inputs)
                block.append(time.perf_counter() - start)
            times.append(statistics.median(block))
    return [statistics.median(t) for t in found]


def _recurrences(report: rg.Report) -> tuple[str, str]:
    """The loops over time as they were traced, and the fused nodes that they became."""
    raised = next((p for p in report.passes if p.name.startswith("merge-stacked")), report.passes[-1])
    return _loops(report.passes[0].start.graph), _loops(raised.end.graph)


def _loops(graph: Graph) -> str:
    found = []
    for op in graph.walk():
        if isinstance(op.attrs, RnnAttrs):
            a = op.attrs
            found.append(f"{a.mode}({a.hidden}){'x' + str(a.num_layers) if a.num_layers > 1 else ''}"
                         f"{' bi' if a.direction == 'bidirectional' else ''}")
        elif isinstance(op.attrs, ScanAttrs):
            found.append("scan")
    return " ".join(f"{n}{'*' + str(c) if c > 1 else ''}" for n, c in Counter(found).items())


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 1 when a model is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_models", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="of timing; 0: check only")
    parser.add_argument("--only", help="models whose name contains this text")
    parser.add_argument("--fetch", action="store_true", help="fetch the packages, and do no more")
    parser.add_argument("--offline", action="store_true", help="only models whose packages are there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    rows, bad = [], 0
    if not options.json and not options.fetch:
        print(f"{'model':26}{'recurrences':>20} {'as':28}{'golden':>9}{'runtime':>9}{'compile':>9}{'us':>10}"
              f"{'ORT us':>10}{'ratio':>7}  segments")
    for entry in ENTRIES:
        if options.only and options.only not in entry.name:
            continue
        try:
            case = entry.load(options.offline)
        except Unreachable as e:
            print(f"{entry.name:26}not there: {e}", file=sys.stderr)
            continue
        if options.fetch:
            continue
        row = examine(case, threads=options.threads, rounds=options.rounds)
        bad += bool(row.failures)
        rows.append(row)
        if not options.json:
            print(line(row), flush=True)
    if options.json:
        json.dump([asdict(r) | {"ratio": r.ratio} for r in rows], sys.stdout, indent=2)
    return 1 if bad else 0


def line(row: Row) -> str:
    """One line of the table."""
    def error(value: float | None) -> str:
        return "-" if value is None else f"{value:.0e}"

    peer = "-" if row.peer is None else f"{row.peer * 1e6:.0f}"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return (f"{row.name:26}{row.recurrences:>20} {row.merged:28}{error(row.golden_error):>9}"
            f"{error(row.runtime_error):>9}{row.compile_seconds:>8.2f}s{row.ours * 1e6:>10.0f}{peer:>10}{ratio:>7}"
            f"  {row.backends}{'  WRONG: ' + '; '.join(row.failures) if row.failures else ''}")


if __name__ == "__main__":
    sys.exit(main())
