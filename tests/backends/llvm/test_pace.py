"""When calls are shared among threads, and when not."""

from __future__ import annotations

from rnngraph.backends.llvm.pace import LONGEST, Pace


def test_calls_are_shared_while_they_are_about_as_fast_as_the_best() -> None:
    pace = Pace()
    for seconds in (1.0, 0.9, 1.3, 1.0):
        assert pace.share()
        pace.took(seconds, shared=True)
    assert pace.share()


def test_a_slow_shared_call_is_followed_by_calls_alone_then_sharing_is_tried_again() -> None:
    pace = Pace()
    pace.took(1.0, shared=True)
    lengths = []
    for _ in range(8):
        pace.took(9.0, shared=True)
        alone = 0
        while not pace.share():
            pace.took(2.0, shared=False)
            alone += 1
        lengths.append(alone)
    assert lengths == [1, 2, 4, 8, 16, LONGEST, LONGEST, LONGEST]
    pace.took(1.0, shared=True)
    pace.took(9.0, shared=True)
    pace.took(2.0, shared=False)
    assert pace.share()  # one good shared call and the patience is short again


def test_alone_is_given_up_at_once_when_it_is_no_faster() -> None:
    pace = Pace()
    pace.took(1.0, shared=True)
    pace.took(2.0, shared=True)
    assert not pace.share()
    pace.took(3.0, shared=False)
    assert pace.share()
