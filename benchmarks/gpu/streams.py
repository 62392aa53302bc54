"""Latency of a stream: one step at a time, from an array of the host to an array of the host, each call alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import rnngraph as rg
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, OK, Row
from benchmarks.gpu.timing import percentiles
from rnngraph import nn
from rnngraph.errors import RnngraphError
from rnngraph.ir import Array, evaluate

UNITS, LAYERS, INPUTS = 256, 2, 80
CALLS = 2000
TOLERANCE = 1e-5
Step = Callable[[Array], Array]


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each batch and side."""
    units, calls = (8, 3) if setting.shim else (UNITS, CALLS)
    for batch in (1,) if setting.shim else (1, 4):
        name = f"LSTM {units} x{LAYERS}, {batch} rows"
        for path, made in (("rnngraph gpu", _gpu), ("rnngraph cpu", _cpu), ("torch", _torch),
                           ("torch, CUDA graph", _torch_graph)):
            yield Case(f"{name} on {path}", partial(_stream, name, path, made, units, batch, calls))


def _stream(name: str, path: str, made: Any, units: int, batch: int, calls: int) -> Iterator[Row]:
    layer = rg.Sequential([nn.LSTM(units, return_sequences=True) for _ in range(LAYERS)])
    x = np.random.default_rng(0).standard_normal((batch, 20, INPUTS)).astype(np.float32)
    graph = rg.trace(layer, rg.Input(("batch", "time", INPUTS)))
    want = next(iter(evaluate(graph, {graph.input_names[0]: x}, float64=True).values()))
    step = made(layer, batch)
    if isinstance(step, str):
        yield Row(name, path, ABSENT, note=step)
        return
    numbers: dict[str, Any] = {}
    if path.startswith("rnngraph"):
        got = np.stack([step(x[:, t]).copy() for t in range(x.shape[1])], 1)
        numbers["error"] = float(np.abs(got - want).max()) / float(np.abs(want).max())
    half, most = percentiles(lambda: step(x[:, 0]), calls)
    numbers |= {"p50 us": 1e6 * half, "p99 us": 1e6 * most}
    right = numbers.get("error", 0.0) <= TOLERANCE
    yield Row(name, path, OK if right else FAIL, numbers, "" if right else "off by more than allowed")


def _ours(layer: nn.Layer, batch: int, target: str) -> Step | str:
    try:
        session = rg.compile(layer, rg.Input(("batch", "time", INPUTS)), target=target).stream(batch)
    except RnngraphError as e:
        return str(e)
    return lambda x: np.asarray(session.step(x))


def _gpu(layer: nn.Layer, batch: int) -> Step | str:
    return _ours(layer, batch, "gpu")


def _cpu(layer: nn.Layer, batch: int) -> Step | str:
    return _ours(layer, batch, "cpu")


def _module(layer: nn.Layer) -> Any:
    """PyTorch, its module on the GPU and the sizes; or why not."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if not torch.cuda.is_available():
        return "PyTorch has no CUDA"
    torch.backends.cudnn.allow_tf32 = False
    assert isinstance(layer, nn.Sequential)
    first: Any = layer.layers[0]
    units = first.units
    return torch, torch.nn.LSTM(INPUTS, units, LAYERS, batch_first=True).cuda().eval(), units


def _torch(layer: nn.Layer, batch: int) -> Step | str:
    found = _module(layer)
    if isinstance(found, str):
        return found
    torch, module, units = found
    state = [torch.zeros(LAYERS, batch, units, device="cuda") for _ in range(2)]

    def step(x: Array) -> Array:
        with torch.inference_mode():
            y, (state[0], state[1]) = module(torch.from_numpy(x[:, None]).cuda(), (state[0], state[1]))
        return np.asarray(y.cpu().numpy())

    return step


def _torch_graph(layer: nn.Layer, batch: int) -> Step | str:
    found = _module(layer)
    if isinstance(found, str):
        return found
    torch, module, units = found
    given = torch.zeros(batch, 1, INPUTS, device="cuda")
    h, c = (torch.zeros(LAYERS, batch, units, device="cuda") for _ in range(2))

    def work() -> Any:
        y, (h1, c1) = module(given, (h, c))
        h.copy_(h1)
        c.copy_(c1)
        return y

    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = work()

    def step(x: Array) -> Array:
        given.copy_(torch.from_numpy(x[:, None]))
        graph.replay()
        return np.asarray(y.cpu().numpy())

    return step


__all__ = ["cases"]
