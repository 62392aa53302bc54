"""Work as a CUDA graph: launched one by one the first time, captured the second time, and one launch from then on.

The first run is the one that libraries need before a capture: modules are loaded, CuPy compiles its copies, cuBLAS
chooses its kernels. Sizes that come only once are never captured.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rnngraph.errors import CompileError

MAX_LAUNCHES = 20_000  # work of more is not captured: a graph takes memory for each, and gains little for so many


class Captured:
    """Repeats ``work``, whose addresses stay, on ``stream``. ``launches`` is about how many it has; ``errors`` are what
    CUDA's failures raise, beside our own."""

    def __init__(self, work: Callable[[], None], launches: int, stream: Any,
                 errors: tuple[type[Exception], ...]) -> None:
        self.work = work
        self.stream = stream
        self.errors: tuple[type[Exception], ...] = (*errors, CompileError)
        self.graph: Any = None
        self.warm = False
        self.why = "" if launches <= MAX_LAUNCHES else f"{launches} launches are more than {MAX_LAUNCHES}"

    def __call__(self) -> None:
        if self.graph is None and self.warm and not self.why:
            self._capture()
        if self.graph is not None:
            self.graph.launch(self.stream)
        else:
            self.work()
            self.warm = True

    def __str__(self) -> str:
        if self.graph is not None:
            return "a CUDA graph"
        return f"launched one by one: {self.why}" if self.why else "launched one by one until it is called again"

    def _capture(self) -> None:
        """A capture that fails leaves ``why``, and the work is launched one by one for ever."""
        try:
            self.stream.begin_capture()
            try:
                self.work()
            except BaseException:
                with suppress(*self.errors):  # it ends a capture that the failure has made void
                    self.stream.end_capture()
                raise
            graph = self.stream.end_capture()
            graph.upload(self.stream)
        except self.errors as e:
            self.why = f"it could not be captured: {e}"
            return
        self.graph = graph


__all__ = ["MAX_LAUNCHES", "Captured"]
