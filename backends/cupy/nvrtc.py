"""CUDA C to machine code by NVRTC, which needs no GPU; through CuPy's binding of it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from rnngraph.backends.cache import cache_for, digest_of
from rnngraph.backends.cupy.shim import HEADERS
from rnngraph.errors import CompileError, MissingExtraError

PORT = HEADERS / "port.h"
SUFFIX = ".cubin"
OPTIONS = ("-std=c++17", "--ptxas-options=-v", "-diag-suppress=177")  # 177: a helper that this kernel does not call


@dataclass(frozen=True, slots=True)
class Built:
    """A cubin, and what ptxas says of its kernels."""

    image: bytes
    log: str

    @property
    def registers(self) -> list[int]:
        """Per thread, of each kernel."""
        return [int(n) for n in re.findall(r"Used (\d+) registers", self.log)]

    @property
    def spilled(self) -> int:
        """Bytes of registers that went to memory."""
        return sum(int(n) for n in re.findall(r"(\d+) bytes spill", self.log))


def build(text: str, arch: str) -> Built:
    """Compile for ``arch`` ("sm_90a"); CompileError with the compiler's words."""
    nvrtc = binding()
    program = nvrtc.createProgram(text, "stage.cu", [PORT.read_bytes()], [b"port.h"])
    try:
        nvrtc.compileProgram(program, (f"-arch={arch}", *OPTIONS))
        return Built(nvrtc.getCUBIN(program), nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError as e:
        log = nvrtc.getProgramLog(program)[:2000]
        raise CompileError(f"cupy: NVRTC refused a kernel for {arch}: {e}\n{log}") from None
    finally:
        nvrtc.destroyProgram(program)


@cache
def cubin(text: str, arch: str) -> bytes:
    """The machine code: from the compile cache, or compiled now and kept."""
    version = ".".join(map(str, binding().getVersion()))
    key = digest_of(text, PORT.read_text(), arch, " ".join(OPTIONS), version,
                    getattr(sys.modules["rnngraph"], "__version__", ""))
    kept = cache_for(SUFFIX)
    image = kept.get(key)
    if image is None:
        image = build(text, arch).image
        kept.put(key, image)
    return image


def binding() -> Any:
    """CuPy's module; MissingExtraError without it or without the library."""
    try:
        from cupy_backends.cuda.libs import nvrtc
        nvrtc.getVersion()
    except (ImportError, RuntimeError, OSError) as e:
        raise MissingExtraError("NVRTC, the compiler of GPU kernels, was not found; the extras gpu-cuda13 and "
                                f"gpu-cuda12 bring it: {e}") from None
    return nvrtc


__all__ = ["Built", "binding", "build", "cubin"]
