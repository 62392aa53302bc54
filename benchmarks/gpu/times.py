"""Times beside PyTorch's cuDNN and all of cuDNN's algorithms: medians of interleaved rounds; errors in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import rnngraph as rg
from benchmarks.gpu import torch_side
from benchmarks.gpu.correctness import TOLERANCES
from benchmarks.gpu.forced import DidNotBuild, NotUsed, compiled, paths, precision_of
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, INFO, LEFT, OK, Row
from benchmarks.gpu.timing import Clock, EventClock, host_clock, medians
from benchmarks.gpu.workloads import Network, Shapes, workloads
from rnngraph import nn
from rnngraph.backends.cupy.device import open_device
from rnngraph.errors import RnngraphError, SelectionError
from rnngraph.ir import Array, evaluate

CHOSEN = "rnngraph"  # what compile() takes by itself
SMALL_H = 512  # more units than cuDNN's algorithms for small and dynamic states are likely to be chosen for
LIMITS = {**TOLERANCES, "f16": 2e-2, "bf16": 5e-2}  # of the largest number of the float64 result; sums over long times
Call = Callable[[], Any]


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each network: all its shapes."""
    if setting.shim:
        small = Network("gru-before", 6, 5)
        yield Case(str(small), partial(_network, small, [(2, 3)], setting))
        return
    for network, shapes in workloads(setting.full):
        yield Case(str(network), partial(_network, network, shapes, setting))


@dataclass(slots=True)
class _Entrant:
    """``make(x)`` gives a call; ``kind`` is the precision."""

    name: str
    kind: str
    make: Callable[[Array], Call]
    right: bool = True  # whether it computes the network, so that its error counts


@dataclass(slots=True)
class _Field:
    """All entrants of a network, and rows about those that could not start."""

    entrants: list[_Entrant] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def _network(network: Network, shapes: Shapes, setting: Setting) -> Iterator[Row]:
    torch = _torch()
    module = torch_side.module_of(network, torch) if torch else None
    layer = layer_of(network, module)
    model = rg.compile(layer, _given(network), target="gpu")
    start = _Field()
    if torch is not None and torch.cuda.is_available():
        _enter_torch(start, network, module, torch)
    else:
        start.rows.append(Row(str(network), "torch", ABSENT, note="PyTorch with CUDA is not there"))
    start.entrants.append(_Entrant(CHOSEN, "f32", partial(_ours, model)))
    _enter_paths(start, network, layer, setting)
    yield from start.rows
    clock = host_clock if setting.shim else EventClock(open_device().xp)
    for rows, steps in shapes:
        case = f"{network}, {rows} rows, {steps} steps"
        if setting.late:
            yield Row(case, "", LEFT)
            continue
        yield from _shape(case, start, network, module, model, (rows, steps), clock)


def _shape(case: str, start: _Field, network: Network, module: Any, model: Any, size: tuple[int, int],
           clock: Clock) -> Iterator[Row]:
    rows, steps = size
    x = np.random.default_rng(rows).standard_normal((rows, steps, network.inputs)).astype(np.float32)
    want = reference(network, module, model, x)
    calls, errors = dict[str, Call](), dict[str, float]()
    for e in start.entrants:
        try:
            call = e.make(x)
            errors[e.name] = _error(call(), want) if e.right else 0.0
            calls[e.name] = call
        except Exception as failure:  # this shape on this path alone; a row says what happened
            yield Row(case, e.name, FAIL, note=f"{type(failure).__name__}: {failure}")
    times = medians(calls, clock)
    for e in start.entrants:
        if e.name in times:
            fine = errors[e.name] <= LIMITS[e.kind]
            numbers = {"us": 1e6 * times[e.name], "us a step": 1e6 * times[e.name] / steps, "error": errors[e.name]}
            yield Row(case, e.name, OK if fine else FAIL, numbers, "" if fine else "off by more than allowed")
    yield from _ratios(case, start.entrants, times)


def _ratios(case: str, entrants: list[_Entrant], times: dict[str, float]) -> Iterator[Row]:
    """How many times faster than PyTorch: what is chosen, and the best path of each precision."""
    for kind in ("f32", "tf32", "bf16"):
        theirs = [times[e.name] for e in entrants if e.name in times and e.name.startswith("torch") and e.kind == kind
                  and (e.right or len(times) > 1)]
        ours = [times[e.name] for e in entrants if e.name in times and not e.name.startswith("torch")
                and e.kind == kind]
        if theirs and ours:
            yield Row(case, f"best {kind} to torch", INFO, {"ratio": min(theirs) / min(ours)})
            if kind == "f32" and CHOSEN in times:
                yield Row(case, "chosen f32 to torch", INFO, {"ratio": min(theirs) / times[CHOSEN]})


# --- entrants -------------------------------------------------------------------------------------------------------


def _contender(module: Any, kind: str, torch: Any, x: Array) -> Any:
    return torch_side.contender(deepcopy(module), x, kind, torch)


def _enter_torch(start: _Field, network: Network, module: Any, torch: Any) -> None:
    if torch_side.has(network):
        for kind in torch_side.DTYPES:
            start.entrants.append(_Entrant(f"torch {kind}", kind, partial(_contender, module, kind, torch)))
        return
    cell = torch_side.Cell(network, torch)

    def graph(x: Array) -> Call:
        call = torch_side.captured(torch_side.contender(_Plain(cell), x, "f32", torch), torch)
        if call is None:
            raise RuntimeError("PyTorch could not capture the cell")
        return call

    start.entrants.append(_Entrant("torch cell, CUDA graph", "f32", graph, right=False))
    start.entrants.append(_Entrant("torch, cuDNN's cell instead", "f32", lambda x: torch_side.contender(
        deepcopy(module), x, "f32", torch), right=False))


class _Plain:
    """A function where a module is expected."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def to(self, *_: object) -> Any:
        return self.call


def _enter_paths(start: _Field, network: Network, layer: nn.Layer, setting: Setting) -> None:
    """Every path but CuPy op by op; of large states not cuDNN's small ones, unless there is time."""
    for path in paths():
        rare = any(part in path for part in ("small_h", "persist_dynamic"))
        if path == "cupy.op" or (rare and network.units > SMALL_H and not setting.full):
            continue
        if setting.late:
            start.rows.append(Row(str(network), path, LEFT))
            continue
        try:
            model = compiled(path, layer, _given(network))
        except (SelectionError, NotUsed) as e:
            start.rows.append(Row(str(network), path, ABSENT, note=str(e).partition(f"{path}: ")[2] or str(e)))
        except (DidNotBuild, RnngraphError) as e:
            start.rows.append(Row(str(network), path, FAIL, note=str(e)))
        else:
            start.entrants.append(_Entrant(path, precision_of(path), partial(_ours, model)))


def _ours(model: Any, x: Array) -> Call:
    """A call with an array of the device."""
    given = open_device().xp.asarray(x)
    return lambda: model(given)


def layer_of(network: Network, module: Any) -> nn.Layer:
    """Our layer; with PyTorch's weights where it has the cell."""
    u = network.units
    own: dict[str, Callable[[], nn.Layer]] = {
        "gru-before": lambda: nn.GRU(u, return_sequences=True, reset_after=False),
        "peephole": lambda: nn.LSTM(u, peepholes=True, return_sequences=True),
        "layer-norm": lambda: nn.RNN(nn.LayerNormLSTMCell(u), return_sequences=True)}
    if network.cell in own:
        return own[network.cell]()
    made = rg.Sequential([nn.FusedRNN(network.cell, u, network.layers, bidirectional=network.bidirectional)])
    if module is not None:
        rg.trace(made, _given(network))  # makes its weights
        rg.load_state_dict(made, module.state_dict())
    return made


def _given(network: Network) -> rg.Input:
    return rg.Input(("batch", "time", network.inputs))


# --- what is right --------------------------------------------------------------------------------------------------


def reference(network: Network, module: Any, model: Any, x: Array) -> Array:
    """The float64 result: of PyTorch on the CPU where it has the cell, else of the graph's evaluation."""
    if module is not None and torch_side.has(network):
        torch = _torch()
        with torch.inference_mode():
            found: Array = deepcopy(module).double()(torch.from_numpy(x).double())[0].numpy()
        return found
    graph = model.program.graph
    return next(iter(evaluate(graph, {model.program.input_names[0]: x}, float64=True).values()))


def _error(got: Any, want: Array) -> float:
    """Of the largest number; NaN counts as infinite."""
    first = got[0] if isinstance(got, tuple) else got
    if hasattr(first, "detach"):
        first = first.detach().float().cpu().numpy()
    host = first.get() if hasattr(first, "get") else np.asarray(first)
    difference = float(np.abs(host.astype(np.float64) - want).max(initial=0.0))
    return difference / max(1e-3, float(np.abs(want).max(initial=0.0))) if difference == difference else float("inf")


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


__all__ = ["cases", "layer_of", "reference"]
