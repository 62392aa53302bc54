"""Jobs made of calls to compiled functions, and the threads that run them.

    table = records([(address, args, a0, a1), barrier(counter, 2), ...])   one per participant
    job = Job([table0, table1])                                            made once, run often
    pool = Pool(2)
    if not pool.try_run(job):       # another Python thread is using the pool:
        run_alone(one_thread_job)   # this thread works alone, without waiting

A record calls ``void fn(i64* args, i64 a0, ..., i64 a6)``. The loop that waits for jobs and runs them is native
(runtime.ll): one foreign call per job, with the interpreter lock released. Tables are read when the job runs, so
their numbers may be changed between runs. The arrays that records point at are the caller's to keep alive.

Generated code that needs a barrier inside its loops declares `BARRIER` (``void rg_barrier(i64* counter, i64
participants)``) and links `runtime_object`; a counter starts at zero, is never reset, and belongs to one job. The i64
behind such a counter says how many turns to spin before giving the core away.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.backends.llvm import cache
from rnngraph.backends.llvm.cpu import CpuTarget, native_target
from rnngraph.backends.llvm.jit import Library
from rnngraph.errors import CompileError

RECORD = np.dtype([("fn", np.int64), ("args", np.int64), ("a", np.int64, (7,)), ("unused", np.int64)])
BARRIER = "rg_barrier"
SPIN_SECONDS = 150e-6  # how long a worker spins for the next job before it parks
_SLOT = 512  # bytes; the layout is in runtime.ll
_EXPORTS = ("rg_run", "rg_spin", "rg_barrier", "rg_pool_init", "rg_pool_run", "rg_post", "rg_worker", "rg_bind",
            "rg_call")
_PAUSE = {"x86_64": "call void @llvm.x86.sse2.pause()", "aarch64": "call void @llvm.aarch64.hint(i32 1)",
          "arm64": "call void @llvm.aarch64.hint(i32 1)"}


def runtime_text(target: CpuTarget) -> str:
    """runtime.ll for the target, with its pause instruction."""
    text = resources.files("rnngraph.backends.llvm").joinpath("runtime.ll").read_text(encoding="utf-8")
    pause = _PAUSE.get(target.triple.split("-", 1)[0], "")
    return (f'target triple = "{target.triple}"\n{text}\n'
            f"define internal void @rg.pause() nounwind alwaysinline {{\n  {pause}\n  ret void\n}}\n")


@functools.cache
def runtime_object(target: CpuTarget) -> bytes:
    """The runtime as an object, for linking beside code that calls `BARRIER`; from the disk cache if it is there."""
    return cache.cached_object(runtime_text(target), target)


class _Runtime:
    """The native functions of this process."""

    def __init__(self) -> None:
        if os.name != "posix":
            raise CompileError(f"llvm: the thread pool needs POSIX threads, this system is {sys.platform}")
        self.library = Library([runtime_object(native_target())], _EXPORTS)

        def native(name: str, *kinds: Any) -> Any:
            return ctypes.CFUNCTYPE(None, *kinds)(self.library.address(name))

        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.run = native("rg_run", pointer, number)
        self.bind, self.call = (ctypes.CFUNCTYPE(number, pointer)(self.library.address(name))
                                for name in ("rg_bind", "rg_call"))
        self.spin = native("rg_spin", number)
        self.pool_init = native("rg_pool_init", pointer, number)
        self.pool_run = native("rg_pool_run", pointer, pointer)
        self.post = native("rg_post", pointer, pointer)
        self.worker = native("rg_worker", pointer, number, number)
        self.pauses = self._pauses(SPIN_SECONDS)

    def _pauses(self, seconds: float) -> int:
        """How many pauses take that long (a pause is 10 to 150 cycles, by CPU)."""
        best = float("inf")
        for _ in range(3):  # the shortest of three: an interruption must not shorten the spin
            start = time.perf_counter()
            self.spin(500)
            best = min(best, time.perf_counter() - start)
        return max(100, min(int(seconds * 500 / best), 100_000))


_started: list[_Runtime] = []
_starting = threading.Lock()


def _runtime() -> _Runtime:
    """The one runtime: never a second by a race of threads, which would unmap code that workers of the first run."""
    if not _started:
        with _starting:
            if not _started:
                _started.append(_Runtime())
    return _started[0]


def records(rows: Sequence[Sequence[int]]) -> NDArray[np.void]:
    """A table from (fn, args, a0, a1, ...) rows; numbers left out are zero."""
    flat = np.zeros((len(rows), RECORD.itemsize // 8), np.int64)
    for out, row in zip(flat, rows, strict=True):
        if len(row) > 9:
            raise CompileError(f"llvm: a record has fn, args and at most 7 numbers, got {len(row)} values")
        out[:len(row)] = row
    return flat.view(RECORD).reshape(len(rows))


def barrier(counter: int, participants: int) -> tuple[int, ...]:
    """The record that waits for all ``participants`` at the i64 counter at that address (zero before its first use)."""
    return (0, counter, participants)


class Job:
    """What each participant does, in order: one table of `RECORD` per participant. Reusable; keeps its tables alive."""

    def __init__(self, tables: Sequence[NDArray[np.void]]) -> None:
        if not tables:
            raise CompileError("llvm: a job needs at least one table of records")
        for table in tables:
            if table.dtype != RECORD or table.ndim != 1 or not table.flags.c_contiguous:
                raise CompileError(f"llvm: a job's table must be a contiguous vector of RECORD, got "
                                   f"{table.dtype} of shape {table.shape}")
        self.tables = tuple(tables)
        self.participants = len(self.tables)
        words = [self.participants]
        for table in self.tables:
            words += [table.ctypes.data, len(table)]
        self._words = np.array(words, np.int64)
        self.address: int = self._words.ctypes.data


def native_calls() -> tuple[Callable[[int], int], Callable[[int], int]]:
    """``rg_bind`` and ``rg_call`` of runtime.ll."""
    runtime = _runtime()
    return runtime.bind, runtime.call


def run_alone(job: Job) -> None:
    """Run a job of one participant on the calling thread; needs no pool, any number of threads may do so."""
    if job.participants != 1:
        raise CompileError(f"llvm: this job has {job.participants} participants and needs a pool")
    _runtime().run(job.address, 0)


class _Workers:
    """The worker threads of a pool and their slots. Separate from Pool, so that a pool no longer used can end them."""

    def __init__(self, threads: int) -> None:
        runtime = _runtime()
        self._raw = np.zeros((threads + 1) * _SLOT, np.uint8)
        self.slots: int = self._raw.ctypes.data + -self._raw.ctypes.data % 64
        runtime.pool_init(self.slots, threads)
        # With more threads than cores a spinning worker only keeps a working one from its core.
        patience = runtime.pauses if threads <= available_cores() else 0
        self.threads = [
            threading.Thread(target=runtime.worker, args=(self.slots + i * _SLOT, i, patience),
                             name=f"rnngraph-{i}", daemon=True) for i in range(1, threads)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        for i in range(1, len(self.threads) + 1):
            _runtime().post(self.slots + i * _SLOT, None)
        for thread in self.threads:
            thread.join()


class Pool:
    """``threads`` threads, the calling one among them; the others start with the first job that needs them.

    One job runs at a time. Pools survive a fork (the child starts threads of its own) and end at exit.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise CompileError(f"llvm: a pool needs at least 1 thread, got {threads}")
        self.threads = threads
        self._forget()
        _pools.add(self)

    def _forget(self) -> None:
        """Start anew: at first, and in the child of a fork, where the threads and the lock's owner are gone."""
        self._lock = threading.RLock()
        self._workers: _Workers | None = None
        self._finalizer: weakref.finalize[[], Pool] | None = None

    def try_acquire(self) -> bool:
        """Reserve the pool for the calling thread, without waiting; False when another thread has it."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        """Give back what `try_acquire` reserved."""
        self._lock.release()

    def try_run(self, job: Job) -> bool:
        """Run the job and return True, or return False at once when another thread is using the pool."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._run(job)
        finally:
            self._lock.release()
        return True

    def run(self, job: Job | Sequence[NDArray[np.void]]) -> None:
        """Run the job (or one made of these tables), waiting for its turn; returns when all participants are done."""
        job = job if isinstance(job, Job) else Job(job)
        if job.participants == 1:
            _runtime().run(job.address, 0)
            return
        with self._lock:
            self._run(job)

    def _run(self, job: Job) -> None:
        if job.participants > self.threads:
            raise CompileError(f"llvm: the job has {job.participants} participants, the pool {self.threads} threads")
        workers = self._workers
        if workers is None:
            workers = self._workers = _Workers(self.threads)
            # Runs when the pool is dropped and at exit: a spinning worker must not outlive the code it runs.
            self._finalizer = weakref.finalize(self, workers.stop)
        _runtime().pool_run(workers.slots, job.address)

    def close(self) -> None:
        """End the threads now; the next job starts new ones."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._workers = self._finalizer = None


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        if pool._finalizer is not None:
            pool._finalizer.detach()
        pool._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def available_cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
