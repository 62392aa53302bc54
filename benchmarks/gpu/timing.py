"""Medians of interleaved rounds: every contender is measured once a round, so that what slows the machine slows all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Protocol

ROUNDS = 7
ROUND = 0.004  # seconds that one contender takes of a round, at least one call


class Clock(Protocol):
    """Seconds that ``calls`` calls take, until all that they have started is done."""

    def __call__(self, call: Callable[[], object], calls: int) -> float: ...


def host_clock(call: Callable[[], object], calls: int) -> float:
    """By the wall: for calls that return when they are done."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


class EventClock:
    """By events on CuPy's current stream, for which compiled models and PyTorch's default stream are ordered."""

    def __init__(self, xp: Any) -> None:
        self.cuda = xp.cuda

    def __call__(self, call: Callable[[], object], calls: int) -> float:
        begin, end = self.cuda.Event(), self.cuda.Event()
        self.cuda.Device().synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        self.cuda.Device().synchronize()
        milliseconds: float = self.cuda.get_elapsed_time(begin, end)
        return milliseconds / 1e3


def medians(contenders: Mapping[str, Callable[[], object]], clock: Clock, rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of one call of each. Three calls first: graphs are captured, kernels loaded."""
    calls = {}
    for name, call in contenders.items():
        clock(call, 3)
        calls[name] = max(1, min(1000, int(ROUND / max(clock(call, 1), 1e-7))))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            found[name].append(clock(call, calls[name]) / calls[name])
    return {name: median(times) for name, times in found.items()}


def percentiles(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Seconds of a call by the wall, each measured alone: half of them take less, and 99 of 100."""
    for _ in range(min(calls, 20)):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


__all__ = ["EventClock", "host_clock", "medians", "percentiles"]
