"""Runs a reader on mutated files: each in bounded time and memory, and nothing but an ImportModelError may come out.

A batch runs in a process of its own, so that a crash is seen and the file that did it is known.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize, NeedsValue

Mutator = Callable[[bytes, random.Random, list[bytes]], bytes]
LIMIT_S = 5.0  # of one file; sound ones of this size take some milliseconds
LIMIT_BYTES = 3 * 2**30  # of address space beyond what the process had


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed: ``seeds`` are sound files, ``read`` loads a file (and traces what it gives)."""

    name: str
    suffix: str
    seeds: Sequence[bytes]
    read: Callable[[Path], None]
    mutators: Sequence[Mutator]


@dataclass(slots=True)
class Outcome:
    """How many files were read, refused, and what went wrong: (what, the file)."""

    read: int = 0
    refused: int = 0
    failures: list[tuple[str, bytes]] = field(default_factory=list)
    slowest: float = 0.0


class TooLong(BaseException):
    """The time limit; not an Exception, so that no handler takes it for an error of the file."""


def mutant(target: Target, number: int) -> bytes:
    """File number ``number``: the same every time."""
    rng = random.Random(f"{target.name}/{number}")
    seeds = list(target.seeds)
    return rng.choice(list(target.mutators))(rng.choice(seeds), rng, seeds)


def fuzz(target: Target, first: int, count: int, batch: int = 2000) -> Outcome:
    """Read the files ``first`` to ``first + count - 1``."""
    total = Outcome()
    context = multiprocessing.get_context("fork")
    for start in range(first, first + count, batch):
        at = start
        end = min(start + batch, first + count)
        while at < end:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_batch, args=(target, at, end, theirs))
            process.start()
            theirs.close()
            at = _collect(ours, total, at, target)
            process.join()
    return total


def _collect(ours: Any, total: Outcome, at: int, target: Target) -> int:
    """Take what a process sends until it is done, or dead; the number of the next file."""
    while True:
        try:
            what, seconds = ours.recv()
        except EOFError:
            total.failures.append(("the process died", mutant(target, at)))
            return at + 1
        if what == "end":
            return at
        total.slowest = max(total.slowest, seconds)
        if what == "read":
            total.read += 1
        elif what == "refused":
            total.refused += 1
        else:
            total.failures.append((what, mutant(target, at)))
        at += 1


def _batch(target: Target, start: int, end: int, pipe: Any) -> None:
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{target.suffix}"
        for number in range(start, end):
            pipe.send(outcome(target, mutant(target, number), path))
    pipe.send(("end", 0.0))
    pipe.close()


def outcome(target: Target, data: bytes, path: Path) -> tuple[str, float]:
    """What happens to one file: "read", "refused" or an error; and the seconds."""
    path.write_bytes(data)
    start = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        target.read(path)
        what = "read"
    except (ImportModelError, NeedsValue, NeedsSize):
        what = "refused"
    except TooLong:
        what = f"longer than {LIMIT_S} s"
    except BaseException as e:
        what = f"{type(e).__name__}: {e}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return what, time.perf_counter() - start


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TooLong
