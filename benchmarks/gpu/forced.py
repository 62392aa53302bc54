"""A model compiled for the GPU with one candidate for its recurrences, and none else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import rnngraph as rg
from rnngraph import backends
from rnngraph.backends.registry import Implementation, Machine, Registry
from rnngraph.nn import Input, Layer

RECURRENT = frozenset({"rnn", "scan"})
EXPANDED = ("cupy.rnn", "cupy.rnn.ops")  # an rnn node that becomes scans
INTERPRETED = "cupy.op"


def paths() -> list[str]:
    """Every candidate of the GPU for a recurrence, and CuPy op by op."""
    offered = [i.name for i in backends.default_registry().implementations if i.target == "gpu" and i.ops & RECURRENT]
    return [*(n for n in offered if n not in EXPANDED), INTERPRETED]


def precision_of(path: str) -> str:
    """What must be asked for, for a candidate to be offered; it is the last part of its name."""
    last = path.split(".")[-1]
    return last if last in ("tf32", "bf16") else "f32"


def _kept(i: Implementation, path: str, whole: bool) -> bool:
    if i.target != "gpu" or i.name == path:
        return True
    if path == INTERPRETED:
        return i.name in (*EXPANDED, "cupy.scan", "cupy.host")
    return not i.ops & RECURRENT or (i.name in EXPANDED and not whole)


class NotUsed(Exception):
    """A model has nothing that a candidate could do."""


class DidNotBuild(Exception):
    """A candidate was chosen and did not build."""


@contextmanager
def only(path: str) -> Iterator[None]:
    """Within it, compile() knows ``path`` alone for recurrences, and takes it untried."""
    original = backends.default_registry

    def filtered(machine: Machine | None = None, precision: str = "f32", without: Any = ()) -> Registry:
        if isinstance(without, dict) and (failed := [why for why in without.values() if why]):
            raise DidNotBuild(failed[-1])
        registry = original(machine, precision, without)
        (found,) = (i for i in registry.implementations if i.name == path)
        registry.implementations = tuple(replace(i, tried=False) for i in registry.implementations
                                         if _kept(i, path, whole="rnn" in found.ops))
        return registry

    with patch.object(backends, "default_registry", filtered):
        yield


def compiled(path: str, layer: Layer, given: Input, *, lengths: bool = False) -> Any:
    """The model; with ``lengths`` to be called with them. SelectionError where the candidate does not take it, NotUsed
    where it has no recurrence for it, DidNotBuild."""
    with only(path):
        model = rg.compile(layer, given, target="gpu", precision=precision_of(path))
        program = model.variant(lengths=True) if lengths else model.program
    if path not in {op.impl for op in program.graph.block.body}:
        raise NotUsed(f"the model has nothing for {path}")
    return model


__all__ = ["DidNotBuild", "NotUsed", "compiled", "only", "paths", "precision_of"]
