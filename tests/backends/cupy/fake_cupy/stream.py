"""Streams whose work is done as late as CUDA allows: what one stream was given is done when somebody waits for it.

So work that another stream should have waited for, and did not, is seen undone, or done with memory that was
overwritten meanwhile.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

Work = Callable[[], None]
_device = threading.RLock()  # does one thing at a time


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it."""


class Graph:
    """Captured work."""

    def __init__(self, nodes: list[Work]) -> None:
        self.nodes = nodes
        self.launches = 0

    def launch(self, stream: Stream | None = None) -> None:
        stream = stream or current()
        self.launches += 1
        for node in self.nodes:
            stream.put(node)

    def upload(self, stream: Stream | None = None) -> None:
        assert not (stream or current()).capturing


class Event:
    """A place in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.stream: Stream | None = None
        self.mark = 0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or current()
        self.stream.no_capture("an event of another stream")
        self.mark = self.stream.given

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.drain(self.mark)


class Stream:
    """A queue."""

    numbers = itertools.count(0x5000)
    known: ClassVar[dict[int, Stream]] = {}
    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False,
                 priority: int | None = None) -> None:
        self.ptr = 0 if null else next(self.numbers)
        self.known[self.ptr] = self
        self.queue: deque[Work] = deque()
        self.given = self.done_count = 0
        self.nodes: list[Work] | None = None
        self.running = False

    # --- work -------------------------------------------------------------------------------------------------------

    def put(self, work: Work) -> None:
        if self.nodes is not None:
            self.nodes.append(work)
        else:
            with _device:
                self.queue.append(work)
                self.given += 1

    def drain(self, mark: int | None = None) -> None:
        """Do what was given, up to ``mark``."""
        self.no_capture("a wait")
        with _device:
            mark = self.given if mark is None else mark
            while self.done_count < mark:
                work = self.queue.popleft()
                self.done_count += 1
                work()

    def no_capture(self, what: str) -> None:
        if self.nodes is not None:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream is captured")

    @property
    def capturing(self) -> bool:
        return self.nodes is not None

    # --- CuPy's interface -------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        self.drain()

    @property
    def done(self) -> bool:
        return not self.queue

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        stream, mark = event.stream, event.mark
        if stream is not None and stream is not self:
            self.put(lambda: stream.drain(mark))

    def is_capturing(self) -> bool:
        return self.capturing

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.no_capture("a second capture")
        self.nodes = []

    def end_capture(self) -> Graph:
        if self.nodes is None:
            raise CUDARuntimeError("cudaErrorIllegalState: no capture")
        nodes, self.nodes = self.nodes, None
        return Graph(nodes)

    def use(self) -> Stream:
        _local.stack = [self]
        return self

    def __enter__(self) -> Stream:
        _stack().append(self)
        return self

    def __exit__(self, *args: Any) -> None:
        _stack().pop()


class ExternalStream(Stream):
    """One of another library, by its address."""

    def __new__(cls, ptr: int, device_id: int = -1) -> Any:
        return Stream.known[ptr]

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        """It is one that is known."""


Stream.null = Stream(null=True)
_local = threading.local()


def _stack() -> list[Stream]:
    if not hasattr(_local, "stack"):
        _local.stack = [Stream.null]
    stack: list[Stream] = _local.stack
    return stack


def reset() -> None:
    """Forget what the test before has asked for and not waited for: its memory is gone."""
    with _device:
        Stream.null.queue.clear()
        Stream.null.done_count = Stream.null.given
        Stream.null.nodes = None


def current(device_id: int = -1) -> Stream:
    """CuPy's get_current_stream."""
    return _stack()[-1]
