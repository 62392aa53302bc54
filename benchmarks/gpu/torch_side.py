"""PyTorch's side: nn.LSTM and nn.GRU through cuDNN, and by hand the cells that it has not, in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.gpu.workloads import Network

DTYPES = {"f32": "float32", "tf32": "float32", "bf16": "bfloat16", "f16": "float16"}


def module_of(network: Network, torch: Any) -> Any:
    """The module, on the CPU; of a cell that PyTorch has not, nn.LSTM or nn.GRU of the same sizes."""
    torch.manual_seed(0)
    made = torch.nn.GRU if network.cell.startswith("gru") else torch.nn.LSTM
    return made(network.inputs, network.units, network.layers, bidirectional=network.bidirectional,
                batch_first=True).eval()


def has(network: Network) -> bool:
    """Whether the module computes the network's cell."""
    return network.cell in ("lstm", "gru")


def contender(module: Any, x: Any, kind: str, torch: Any) -> Callable[[], object]:
    """A call on the GPU, whose input is there."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    dtype = getattr(torch, DTYPES[kind])
    placed = module.to("cuda", dtype)
    if hasattr(placed, "flatten_parameters"):
        placed.flatten_parameters()
    given = torch.from_numpy(x).to("cuda", dtype)

    def call() -> Any:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        with torch.inference_mode():
            return placed(given)

    return call


class Cell:
    """A cell step by step in plain PyTorch: peephole LSTM, layer-norm LSTM, or the GRU whose reset gate comes first."""

    def __init__(self, network: Network, torch: Any) -> None:
        self.torch, self.kind, u = torch, network.cell, network.units
        gates = 3 if network.cell.startswith("gru") else 4
        torch.manual_seed(0)
        self.w, self.r, self.b = (torch.randn(s, device="cuda") / u ** 0.5 for s in (
            (network.inputs, gates * u), (u, gates * u), (gates * u,)))
        self.p = torch.randn(3, u, device="cuda")
        self.units = u

    def __call__(self, x: Any) -> Any:
        torch, u = self.torch, self.units
        left = x @ self.w + self.b
        h = c = torch.zeros(x.shape[0], u, device="cuda")
        outputs = []
        for t in range(x.shape[1]):
            if self.kind == "gru-before":
                z, r = torch.sigmoid(left[:, t, : 2 * u] + h @ self.r[:, : 2 * u]).chunk(2, 1)
                h = z * h + (1 - z) * torch.tanh(left[:, t, 2 * u :] + (r * h) @ self.r[:, 2 * u :])
            else:
                h, c = self._lstm(left[:, t] + h @ self.r, h, c)
            outputs.append(h)
        return torch.stack(outputs, 1)

    def _lstm(self, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
        torch = self.torch
        norm = torch.nn.functional.layer_norm
        if self.kind == "layer-norm":
            z = norm(z, z.shape[1:])
        i, f, g, o = z.chunk(4, 1)
        if self.kind == "peephole":
            i, f = i + c * self.p[0], f + c * self.p[1]
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if self.kind == "peephole":
            return torch.sigmoid(o + c * self.p[2]) * torch.tanh(c), c
        return torch.sigmoid(o) * torch.tanh(norm(c, c.shape[1:]) if self.kind == "layer-norm" else c), c


def captured(call: Callable[[], object], torch: Any) -> Callable[[], object] | None:
    """The same as one CUDA graph; None where PyTorch cannot capture it."""
    with suppress(RuntimeError):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.inference_mode():
            call()
        replay: Callable[[], object] = graph.replay
        return replay
    return None


__all__ = ["DTYPES", "Cell", "captured", "contender", "has", "module_of"]
