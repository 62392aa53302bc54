"""What is timed: DeepBench's published shapes of inference on a server, and others that applications have.

DeepBench: github.com/baidu-research/DeepBench, code/kernels/rnn_problems.h (inference_server_set): units, rows, steps;
the input is as wide as the state. Its GRU of 2816 units and 1500 steps is the longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LSTM_SHAPES = ((512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150))  # units, steps; of 1, 2 and 4 rows
GRU_UNITS, GRU_STEPS = (2816, 2048, 1536, 2560), (187, 375, 750, 1500)
GRU_SHAPES = ((512, 1), (1024, 1500))
ROWS = (1, 2, 4)


@dataclass(frozen=True, slots=True, order=True)
class Network:
    """One kind of weights: shapes of one network are measured with one compiled model. ``cell``: "lstm", "gru",
    "gru-before", "peephole", "layer-norm"."""

    cell: str
    units: int
    inputs: int
    layers: int = 1
    bidirectional: bool = False

    def __str__(self) -> str:
        more = (f" x{self.layers}" if self.layers > 1 else "") + (" both ways" if self.bidirectional else "")
        return f"{self.cell} {self.units}{more}"


Shapes = list[tuple[int, int]]  # (rows, steps)


def deepbench(steps: frozenset[int] | None = None) -> dict[Network, Shapes]:
    """The shapes of the server set; of GRUs only those with ``steps``, where given."""
    found: dict[Network, Shapes] = {}
    for units, time in LSTM_SHAPES:
        found.setdefault(Network("lstm", units, units), []).extend((rows, time) for rows in ROWS)
    grus = [(u, t) for u in GRU_UNITS for t in GRU_STEPS] + list(GRU_SHAPES)
    for units, time in grus:
        if steps is None or time in steps:
            found.setdefault(Network("gru", units, units), []).extend((rows, time) for rows in ROWS)
    return found


def others() -> dict[Network, Shapes]:
    """Small states and few rows; batches; cells that cuDNN has not; stacks."""
    small = {Network(cell, units, units): [(1, 100), (4, 100)] for cell in ("lstm", "gru") for units in (64, 128, 256)}
    wide = {Network("lstm", 512, 512): [(32, 50)], Network("gru", 1024, 1024): [(32, 50)],
            Network("lstm", 1024, 1024): [(32, 50)]}
    own = {Network(cell, units, units): [(1, 100), (4, 100)] for cell in ("gru-before", "peephole", "layer-norm")
           for units in (256, 512)}
    stacks = {Network("lstm", 256, 80, 3, True): [(1, 100), (4, 100)], Network("gru", 256, 80, 2, True): [(1, 100)]}
    return small | own | stacks | wide


def workloads(full: bool) -> Iterator[tuple[Network, Shapes]]:
    """All of them, the longest last: time may run out."""
    found: dict[Network, Shapes] = {}
    for part in (deepbench(frozenset({1})), others(), deepbench(frozenset({187})), deepbench() if full else {}):
        for network, shapes in part.items():
            known = found.setdefault(network, [])
            known.extend(s for s in shapes if s not in known)
    yield from found.items()


__all__ = ["Network", "Shapes", "deepbench", "others", "workloads"]
