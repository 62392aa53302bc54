"""A real model, how it is driven, and what it must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rnngraph.ir import Array

Arrays: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[Arrays], Arrays]  # one call of a model, ours or a peer's

RECORDED = Path(__file__).resolve().parents[2] / "tests" / "data" / "real"  # what models gave by their own code


@dataclass(frozen=True, slots=True)
class Case:
    """One model.

    source   what `rnngraph.compile` takes: a path, or a layer
    inputs   one call, by the names of the model's inputs; it is what is timed
    drive    runs the model over the whole of its data, with states fed back, and gives what is compared
    golden   what its own framework gave for that, where it is on record
    onnx     the bytes of an ONNX file that ONNX Runtime can run: the oracle, and the peer for time
    decide   from what `drive` gives to decisions that must be the same
    """

    name: str
    source: object
    inputs: Arrays
    drive: Callable[[Run], Arrays]
    golden: Arrays = field(default_factory=dict)
    onnx: bytes | None = None
    decide: Callable[[Arrays], object] | None = None
    tolerance: float = 1e-5  # of the largest number


@dataclass(frozen=True, slots=True)
class Entry:
    """A case by name; ``load(offline)`` fetches and reads it, or raises `benchmarks.zoo.fetch.Unreachable`."""

    name: str
    load: Callable[[bool], Case]
