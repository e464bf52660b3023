"""Calls by the clock: without events, and heard of when one fails."""

from __future__ import annotations

import threading

from recstream.runtime.periodic import PeriodicCall

BRIEFLY_S = 0.001


def test_calls_follow_each_other_while_nothing_else_happens() -> None:
    calls = threading.Semaphore(0)
    with PeriodicCall("calls", calls.release, print, every_s=BRIEFLY_S):
        assert all(calls.acquire(timeout=20) for _ in range(3))


def test_the_end_waits_for_the_call_that_is_under_way() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def call() -> None:
        begun.set()
        assert go_on.wait(20)
        done.append(1)

    with PeriodicCall("waits", call, print, every_s=BRIEFLY_S):
        assert begun.wait(20)
        threading.Timer(0.05, go_on.set).start()
    assert done


def test_a_call_that_takes_too_long_is_left_behind() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go_on.wait(20)
        done.set()

    with PeriodicCall("left", call, print, every_s=BRIEFLY_S, end_s=0.01):
        assert begun.wait(20)
    assert not done.is_set()
    go_on.set()
    assert done.wait(20)


def test_what_a_call_raises_is_told_once() -> None:
    told: list[BaseException] = []
    heard = threading.Event()

    def call() -> None:
        raise OSError("no room")

    def fail(error: BaseException) -> None:
        told.append(error)
        heard.set()

    with PeriodicCall("fails", call, fail, every_s=BRIEFLY_S):
        assert heard.wait(20)
    assert [str(error) for error in told] == ["no room"]
