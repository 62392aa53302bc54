"""A recording that cannot be made leaves the work as it was."""

from __future__ import annotations

from rnngraph.backends.cupy.graphs import Captured
from rnngraph.errors import CompileError


class Stream:
    """Captures nothing: work fails while it is captured, as a library's call may."""

    capturing = False

    def begin_capture(self) -> None:
        self.capturing = True

    def end_capture(self) -> None:
        self.capturing = False


def test_a_library_that_refuses_to_be_captured() -> None:
    stream, done = Stream(), list[int]()

    def work() -> None:
        if stream.capturing:
            raise CompileError("cudnn: not while a stream is captured")
        done.append(1)

    captured = Captured(work, 3, stream, (OSError,))
    for _ in range(4):
        captured()
    assert len(done) == 4
    assert "not while a stream is captured" in str(captured)
