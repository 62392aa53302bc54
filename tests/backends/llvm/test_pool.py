"""The pool: jobs do what their tables say, from many threads, after a fork, and with more threads than cores."""

from __future__ import annotations

import functools
import gc
import os
import resource
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from rnngraph.backends.llvm import cpu, jit, pool
from rnngraph.errors import CompileError

pytestmark = pytest.mark.usefixtures("all_cores")

# work: args[a0] += a1 + 10 a2 + ... + 10^5 a6, one after the other.   meet: a0 times { args[a1]++ ; barrier ; count, in
# args[a2], how often the other participant's number args[a3] is not this round's ; barrier }
CODE = """
declare void @rg_barrier(ptr, i64)

define void @work(ptr %args, i64 %a0, i64 %a1, i64 %a2, i64 %a3, i64 %a4, i64 %a5, i64 %a6) {
  %p = getelementptr i64, ptr %args, i64 %a0
  %old = load i64, ptr %p
  %t6 = mul i64 %a6, 10
  %s6 = add i64 %t6, %a5
  %t5 = mul i64 %s6, 10
  %s5 = add i64 %t5, %a4
  %t4 = mul i64 %s5, 10
  %s4 = add i64 %t4, %a3
  %t3 = mul i64 %s4, 10
  %s3 = add i64 %t3, %a2
  %t2 = mul i64 %s3, 10
  %s2 = add i64 %t2, %a1
  %new = add i64 %old, %s2
  store i64 %new, ptr %p
  ret void
}

define void @meet(ptr %args, i64 %a0, i64 %a1, i64 %a2, i64 %a3, i64 %participants, i64 %a5, i64 %a6) {
entry:
  %mine = getelementptr i64, ptr %args, i64 %a1
  %wrong = getelementptr i64, ptr %args, i64 %a2
  %theirs = getelementptr i64, ptr %args, i64 %a3
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %a0
  br i1 %more, label %body, label %out
body:
  %next = add i64 %i, 1
  store i64 %next, ptr %mine
  call void @rg_barrier(ptr %args, i64 %participants)
  %seen = load i64, ptr %theirs
  %differs = icmp ne i64 %seen, %next
  %more.wrong = zext i1 %differs to i64
  %old = load i64, ptr %wrong
  %sum = add i64 %old, %more.wrong
  store i64 %sum, ptr %wrong
  call void @rg_barrier(ptr %args, i64 %participants)
  br label %head
out:
  ret void
}
"""


@functools.cache
def code() -> jit.Library:
    target = cpu.native_target()
    return jit.Library([jit.compile_object(CODE, target), pool.runtime_object(target)], ["work", "meet"])


def work(data: np.ndarray, *numbers: int) -> tuple[int, ...]:
    return (code().address("work"), data.ctypes.data, *numbers)


def job(data: np.ndarray, participants: int) -> pool.Job:
    return pool.Job([pool.records([work(data, t, t + 1)]) for t in range(participants)])


def meetings(rounds: int, participants: int) -> tuple[pool.Job, np.ndarray]:
    """A job whose participants meet ``rounds`` times; data[1 + p + t] counts what participant t saw wrong."""
    data = np.zeros(1 + 2 * participants, np.int64)
    tables = [pool.records([(code().address("meet"), data.ctypes.data, rounds, 1 + t, 1 + participants + t,
                             1 + (t + 1) % participants, participants)]) for t in range(participants)]
    return pool.Job(tables), data


def test_records_pass_seven_numbers_in_order() -> None:
    data = np.zeros(2, np.int64)
    table = pool.records([work(data, 1, 6, 5, 4, 3, 2, 1), work(data, 0, 7)])
    pool.run_alone(pool.Job([table]))
    assert data.tolist() == [7, 123456]
    table["a"][1, 1] = 100  # tables are read when the job runs
    pool.Pool(1).run([table])
    assert data.tolist() == [107, 246912]


@pytest.mark.parametrize("participants", [1, 2, 3, 5])
def test_every_participant_runs_its_table(participants: int) -> None:
    workers, data = pool.Pool(5), np.zeros(5, np.int64)
    made = job(data, participants)
    for _ in range(20):
        workers.run(made)
    assert data.tolist() == [20 * (t + 1) if t < participants else 0 for t in range(5)]
    workers.close()


def test_barrier_records_order_the_work() -> None:
    data, counter = np.zeros(1, np.int64), np.zeros(1, np.int64)
    meet = pool.barrier(counter.ctypes.data, 2)
    first = pool.records([work(data, 0, 1), meet, meet, work(data, 0, 4)])
    second = pool.records([meet, work(data, 0, 2), meet])
    made, workers = pool.Job([first, second]), pool.Pool(2)
    for _ in range(500):  # the additions would race, and lose some, without the barriers
        workers.run(made)
    assert data[0] == 500 * 7
    assert counter[0] == 500 * 4


@pytest.mark.parametrize("participants", [2, 3])
def test_barriers_inside_functions(participants: int) -> None:
    made, data = meetings(2000 if participants == 2 else 200, participants)
    workers = pool.Pool(participants)
    for _ in range(3):
        workers.run(made)
    assert data[1 + participants:].tolist() == [0] * participants


def test_parked_workers_wake() -> None:
    workers, data = pool.Pool(2), np.zeros(2, np.int64)
    made = job(data, 2)
    for pause in (0.0, 0.0001, 0.0003, 0.02) * 5:
        workers.run(made)
        time.sleep(pause)
    assert data.tolist() == [20, 40]


def test_more_threads_than_cores_finish() -> None:
    start = time.perf_counter()
    made, data = meetings(100, 8)
    workers = pool.Pool(8)
    workers.run(made)
    assert data[9:].tolist() == [0] * 8
    workers.close()
    assert time.perf_counter() - start < 20.0  # a livelock would be cut by nothing


def test_many_callers_share_a_pool() -> None:
    workers, ran = pool.Pool(2), []

    def caller(seed: int) -> None:
        data = np.zeros(2, np.int64)
        both, alone = job(data, 2), pool.Job([pool.records([work(data, 0, 1), work(data, 1, 2)])])
        for i in range(300):
            if i % 3 == 0:
                workers.run(both)  # waits for its turn
            elif not workers.try_run(both):
                pool.run_alone(alone)
        ran.append(data.tolist())

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == [[300, 600]] * 6


def test_busy_pool_refuses() -> None:
    workers, data = pool.Pool(2), np.zeros(2, np.int64)
    made, answers = job(data, 2), []
    assert workers.try_acquire()
    thread = threading.Thread(target=lambda: answers.append((workers.try_acquire(), workers.try_run(made))))
    thread.start()
    thread.join()
    workers.run(made)  # the owner may
    workers.release()
    assert answers == [(False, False)]
    assert workers.try_run(made)
    assert data.tolist() == [2, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_pool_works_in_the_child_of_a_fork() -> None:
    workers, data = pool.Pool(2), np.zeros(2, np.int64)
    made = job(data, 2)
    workers.run(made)
    workers.try_acquire()  # held across the fork: the child must not find it locked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what is tested here
        child = os.fork()
    if child == 0:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(workers.try_run(made)))
        thread.start()
        thread.join(20)
        os._exit(0 if answers == [True] and data.tolist() == [2, 4] else 1)
    workers.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    workers.run(made)
    assert data.tolist() == [2, 4]


def test_many_jobs_leave_nothing_behind() -> None:
    workers, data = pool.Pool(2), np.zeros(2, np.int64)
    made, alone = job(data, 2), job(data, 1)
    for _ in range(1000):
        workers.run(made)
    threads, before = threading.active_count(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(80_000):
        workers.run(alone)
    for _ in range(20_000):
        workers.run(made)
    assert threading.active_count() == threads
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
    assert data.tolist() == [101_000, 42_000]


def test_dropped_pool_ends_its_threads() -> None:
    workers, data = pool.Pool(3), np.zeros(3, np.int64)
    workers.run(job(data, 3))
    assert workers._workers is not None
    threads = workers._workers.threads
    del workers
    gc.collect()
    assert not any(thread.is_alive() for thread in threads)


def test_process_ends_cleanly_with_spinning_workers() -> None:
    script = ("import numpy as np; from tests.backends.llvm.test_pool import job, pool; d = np.zeros(2, np.int64)\n"
              "p = pool.Pool(2); p.run(job(d, 2)); q = pool.Pool(2); q.run(job(d, 2)); print(d.tolist())")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2, 4]\n", "")


def test_wrong_jobs_are_refused() -> None:
    data = np.zeros(3, np.int64)
    with pytest.raises(CompileError, match="at least one table"):
        pool.Job([])
    with pytest.raises(CompileError, match="vector of RECORD, got int64"):
        pool.Job([data])  # type: ignore[list-item]
    with pytest.raises(CompileError, match="at most 7 numbers, got 10"):
        pool.records([range(10)])
    with pytest.raises(CompileError, match="3 participants, the pool 2 threads"):
        pool.Pool(2).run(job(data, 3))
    with pytest.raises(CompileError, match="has 2 participants and needs a pool"):
        pool.run_alone(job(data, 2))
    with pytest.raises(CompileError, match="at least 1 thread, got 0"):
        pool.Pool(0)


def test_record_layout_is_the_runtime_s() -> None:
    fields = pool.RECORD.fields
    assert fields is not None
    assert {name: fields[name][1] for name in fields} == {"fn": 0, "args": 8, "a": 16, "unused": 72}
    assert pool.RECORD.itemsize == 80
