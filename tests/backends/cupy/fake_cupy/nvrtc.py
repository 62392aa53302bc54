"""CuPy's binding of NVRTC: what it compiles to is the source."""

from __future__ import annotations

from collections.abc import Sequence

from tests.backends.cupy.fake_cupy.cuda import NVRTCError

sources: dict[int, str] = {}
compiled: list[tuple[str, ...]] = []  # the options of every compilation


def getVersion() -> tuple[int, int]:
    return 13, 0


def createProgram(src: str, name: str, headers: Sequence[bytes], include_names: Sequence[bytes]) -> int:
    assert list(include_names) == [b"port.h"]
    assert headers[0].startswith(b"//")
    sources[len(sources) + 1] = src
    return len(sources)


def compileProgram(prog: int, options: Sequence[str]) -> None:
    if "-arch=sm_90a" not in options:
        raise NVRTCError("NVRTC_ERROR_INVALID_OPTION")
    compiled.append(tuple(options))


def getCUBIN(prog: int) -> bytes:
    return sources[prog].encode()


def getProgramLog(prog: int) -> str:
    return "ptxas info    : Used 32 registers"


def destroyProgram(prog: int) -> None:
    """It stays."""
