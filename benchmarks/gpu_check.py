"""One check for a machine with a GPU, within ten minutes: is every path right, what does it take, how fast is it.

    python benchmarks/gpu_check.py [--out DIR] [--minutes 10] [--only section,...] [--shim] [--wheel PATH]

Runs from a bare copy of the repository, with nothing installed but numpy, CuPy and, to compare with, PyTorch. Writes
`gpu_check.md`, `gpu_check.csv` and `gpu_check.log` into ``--out`` ($OUT, or benchmarks/results). The exit code is 0 if
every check has been run and holds. ``--shim`` runs the checks, small, on the CPU standing in for a GPU: its times mean
nothing. ``--wheel``, once or more, names a wheel, or a folder of wheels or packages, to import from (llvmlite).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gpu.child import run_child
from benchmarks.gpu.parent import program, run_section
from benchmarks.gpu.repository import ROOT, make_importable
from benchmarks.gpu.section import SECTIONS, Setting
from benchmarks.gpu.table import FAIL, INFO, LEFT, OK, Result, csv_text, markdown


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    make_importable(options.wheel)
    os.environ.pop("RNNGRAPH_GPU", None)
    if options.shim:
        os.environ["RNNGRAPH_GPU"] = "shim"
    if options.child:
        done = set(json.loads(options.done))
        setting = Setting(options.shim, options.full, options.until, options.case)
        return run_child(SECTIONS[options.child], setting, done)
    out = options.out or Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results")
    out.mkdir(parents=True, exist_ok=True)
    return _check(options, out)


def _check(options: argparse.Namespace, out: Path) -> int:
    names = options.only or [n for n, s in SECTIONS.items() if s.shim or not options.shim]
    end, results = time.time() + 60 * options.minutes, list[Result]()
    log = out / "gpu_check.log"
    log.write_text("")
    handed = [*(["--shim"] if options.shim else []), *(["--full"] if options.full else []),
              *(f"--wheel={w}" for w in options.wheel), f"--case={options.case}"]
    for name in names:
        section = SECTIONS[name]
        share = section.seconds * options.minutes / 10
        results.append(run_section(section, program(), handed, min(end, time.time() + share), log))
        (out / "gpu_check.md").write_text(markdown(results, _head(options, results)))  # after each: it may be the last
        (out / "gpu_check.csv").write_text(csv_text(results))
        print(f"{name}: {results[-1].count(OK)} ok, {results[-1].count(FAIL)} failed, {results[-1].seconds:.1f} s",
              flush=True)
    print(f"written: {out / 'gpu_check.md'}")
    return 0 if all(_holds(r, options.shim) for r in results) else 1


def _holds(result: Result, shim: bool) -> bool:
    """Nothing failed; a section that checks has left nothing out, and on a GPU there was something to check."""
    whole = not result.count(LEFT) and (shim or result.count(OK) > 0)
    return not result.count(FAIL) and (whole or not SECTIONS[result.name].checks)


def _head(options: argparse.Namespace, results: list[Result]) -> str:
    """The date, and what the device section says the machine is."""
    where = next((row.note for r in results for row in r.rows if row.case == "device" and row.verdict == INFO), "")
    kind = "the CPU standing in for a GPU; no time here means anything" if options.shim else where or "a GPU"
    return f"# gpu_check, {time.strftime('%Y-%m-%d')}: {kind}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", type=_names, help=", ".join(SECTIONS))
    parser.add_argument("--shim", action="store_true")
    parser.add_argument("--full", action="store_true", help="more sizes, for longer --minutes")
    parser.add_argument("--wheel", type=Path, action="append", default=[])
    parser.add_argument("--case", default="", help="only the cases whose names hold this text")
    for name in ("--child", "--done"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [n for n in names if n not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
