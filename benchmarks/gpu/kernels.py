"""What kernels take, as NVRTC and the driver say: registers, spills, shared memory, and blocks at the same time.

Without a GPU, but with NVRTC, they are compiled for GPUs that are described; that needs no driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

import rnngraph as rg
from benchmarks.gpu.forced import NotUsed, compiled, paths
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, OK, Row
from rnngraph import nn
from rnngraph.backends.cupy import device as devices
from rnngraph.backends.cupy import nvrtc
from rnngraph.backends.cupy.caps import DESCRIBED, DeviceCaps
from rnngraph.backends.cupy.codegen.persistent import THREADS
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.registry import Device
from rnngraph.errors import MissingExtraError, RnngraphError, SelectionError

LAYERS: dict[str, Callable[[int], nn.Layer]] = {
    "LSTM": lambda u: nn.LSTM(u, return_sequences=True),
    "GRU": lambda u: nn.GRU(u, return_sequences=True),
    "GRU, reset before": lambda u: nn.GRU(u, return_sequences=True, reset_after=False),
    "LSTM, peepholes": lambda u: nn.LSTM(u, peepholes=True, return_sequences=True),
    "LSTM, layer norm": lambda u: nn.RNN(nn.LayerNormLSTMCell(u), return_sequences=True),
}
UNITS = (64, 256, 512, 1024, 1536, 2048)
OFFLINE = ("a100", "h100")


@dataclass(eq=False)
class Compiler:
    """A device that has no kernels: they are compiled apart from it."""

    caps: DeviceCaps
    xp: Any = np
    place: Any = None

    def build(self, source: Source) -> None:
        """Nothing: see `resources`."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"kernels are compiled here, not run: {name}")


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each layer, size, path and GPU."""
    try:
        nvrtc.binding()
    except MissingExtraError as e:
        yield Case("all", partial(_absent, str(e)))
        return
    gpus = [DESCRIBED[n] for n in OFFLINE] if setting.shim else [devices.open_device().caps]
    for caps in gpus:
        for name, make in LAYERS.items():
            for units in UNITS if setting.full or not setting.shim else UNITS[1:2]:
                for path in paths():
                    if "cudnn" not in path and path != "cupy.op":
                        run = partial(_kernels, f"{name}, {units}, {caps.name}", make(units), path, caps,
                                      not setting.shim)
                        yield Case(f"{name}, {units}, {caps.name} on {path}", run)


def _absent(why: str) -> Iterator[Row]:
    yield Row("all", "", ABSENT, note=why)


def _kernels(case: str, layer: nn.Layer, path: str, caps: DeviceCaps, present: bool) -> Iterator[Row]:
    compiler = Compiler(caps)
    described = Device("gpu", caps.name, True, frozenset({"gpu", "cupy"}), {"cudnn": "not looked at"},
                       {"sms": caps.sms, "shared": caps.shared})
    try:
        with patch.multiple(devices, open_device=lambda: compiler, discover=lambda: described):
            model = compiled(path, layer, rg.Input(("batch", "time", 64)))
    except (SelectionError, NotUsed) as e:
        yield Row(case, path, ABSENT, note=str(e).partition(f"{path}: ")[2] or str(e))
        return
    (kernel,) = (s.kernel for s in model.program.steps)
    for source, made in {s.text: (s, m) for s, m in zip(kernel.sources, kernel.products, strict=True)}.values():
        shared, blocks = (made.bytes, made.blocks) if made else (0, 0)
        for name, registers, spilled, held in resources(source, caps.arch, shared, present):
            yield _row(case, path, caps, name, registers, spilled, shared, blocks, held)


def _row(case: str, path: str, caps: DeviceCaps, kernel: str, registers: int, spilled: int, shared: int, blocks: int,
         held: int | None) -> Row:
    numbers: dict[str, Any] = {"kernel": kernel, "registers": registers, "spilled bytes": spilled,
                               "shared KiB": shared >> 10}
    if blocks:
        numbers["blocks"] = blocks
    if held is not None:
        numbers["blocks of a multiprocessor"] = held
    wrong = [f"{spilled} bytes of registers went to memory"] if spilled else []
    if registers * THREADS > caps.registers:
        wrong.append(f"{registers} registers of {THREADS} threads are more than a multiprocessor has")
    if blocks and held is not None and blocks > held * caps.sms:
        wrong.append(f"{blocks} blocks must run at the same time, {held * caps.sms} can")
    return Row(case, path, FAIL if wrong else OK, numbers, "; ".join(wrong))


def resources(source: Source, arch: str, shared: int, present: bool) -> Iterator[tuple[str, int, int, int | None]]:
    """(kernel, registers, spilled bytes, blocks of a multiprocessor or None where there is no GPU to ask)."""
    built = nvrtc.build(source.text, arch)
    found = parsed(built.log)
    for name in source.kernels:
        if name not in found:
            raise RnngraphError(f"NVRTC's log does not say what kernel {name} takes")
        yield name, *found[name], _held(built.image, name, shared) if present else None


def parsed(log: str) -> dict[str, tuple[int, int]]:
    """Registers and spilled bytes by kernel, from ptxas's words."""
    found: dict[str, tuple[int, int]] = {}
    parts: Sequence[str] = re.split(r"Compiling entry function '(\w+)'", log)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        used = re.search(r"Used (\d+) registers", text)
        spills = [int(n) for n in re.findall(r"(\d+) bytes spill", text)]
        found[name] = (int(used[1]) if used else 0, sum(spills))
    return found


def _held(image: bytes, name: str, shared: int) -> int:
    from cupy.cuda import driver
    from cupy.cuda.function import Module

    module = Module()
    module.load(image)
    function = module.get_function(name)
    function.max_dynamic_shared_size_bytes = max(shared, 48 << 10)
    held: int = driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, THREADS, shared)
    return held


__all__ = ["cases", "parsed", "resources"]
