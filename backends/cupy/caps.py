"""What a GPU can hold, as data: of the one that is there, or of one that is described."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class DeviceCaps:
    """name; arch as compilers spell it; multiprocessors; bytes of shared memory that a block may have; bytes of L2
    cache; registers of a multiprocessor."""

    name: str
    arch: str
    sms: int
    shared: int
    l2: int
    registers: int = 65536


SHIM_CAPS = DeviceCaps("shim", "shim", 3, 227 << 10, 50 << 20)
DESCRIBED: MappingProxyType[str, DeviceCaps] = MappingProxyType({c.name: c for c in (
    SHIM_CAPS,
    DeviceCaps("t4", "sm_75", 40, 64 << 10, 4 << 20),
    DeviceCaps("a100", "sm_80", 108, 163 << 10, 40 << 20),
    DeviceCaps("h100", "sm_90a", 132, 227 << 10, 50 << 20),
    DeviceCaps("h200", "sm_90a", 132, 227 << 10, 50 << 20),
)})

__all__ = ["DESCRIBED", "SHIM_CAPS", "DeviceCaps"]
