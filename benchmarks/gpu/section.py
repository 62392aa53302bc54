"""A section of the check: cases, each of which gives rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.gpu.table import Row


@dataclass(frozen=True, slots=True)
class Case:
    """``run`` gives the rows; an exception in it fails this case alone. A name is ``case`` or ``case on path``."""

    name: str
    run: Callable[[], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a section is run: on the stand-in or on a GPU, with all cases or a few, until when (`time.time`)."""

    shim: bool
    full: bool
    until: float
    only: str = ""  # the text that names of cases hold

    @property
    def late(self) -> bool:
        return time.time() > self.until


@dataclass(frozen=True, slots=True)
class Section:
    """``place`` names the function that makes the cases; ``seconds`` is its share of ten minutes, ``stall`` how long a
    case may say nothing; ``checks``: what is left out is not passed. ``shim``: whether the stand-in has it."""

    name: str
    title: str
    place: str
    seconds: float
    stall: float = 60.0
    checks: bool = False
    shim: bool = True
    matrix: str = ""

    def cases(self, setting: Setting) -> Iterator[Case]:
        module, name = self.place.split(":")
        made: Callable[[Setting], Iterator[Case]] = getattr(import_module(f"benchmarks.gpu.{module}"), name)
        return made(setting)


SECTIONS = {s.name: s for s in (
    Section("device", "what there is", "machine:cases", 30),
    Section("correctness", "largest error of each path, of the largest number of the float64 reference's output; "
            "outputs and workspace held NaN before the call", "correctness:cases", 200, checks=True, matrix="error"),
    Section("cudnn", "cuDNN's algorithms by themselves: largest error, weights where the formula says", "cudnn:cases",
            40, checks=True, matrix="error"),
    Section("kernels", "registers, spills, shared memory and blocks of the kernels", "kernels:cases", 50, checks=True),
    Section("barrier", "what a barrier of a whole grid takes", "barrier:cases", 15, checks=True),
    Section("capture", "which parts of a call are CUDA graphs", "capture:cases", 20),
    Section("times", "microseconds of a call, arrays on the GPU", "times:cases", 240, matrix="us"),
    Section("streams", "microseconds of a step, from the host to the host", "streams:cases", 40),
    Section("sanitizer", "compute-sanitizer on small cases", "sanitizer:cases", 60, shim=False),
)}


def row_of(event: dict[str, Any]) -> Row:
    """A row that was sent from another process."""
    return Row(**event)


__all__ = ["SECTIONS", "Case", "Section", "Setting", "row_of"]
