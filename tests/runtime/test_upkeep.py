"""Upkeep by the clock: without events, and heard of when it fails."""

from __future__ import annotations

import threading

from recstream.runtime.upkeep import UpkeepThread

BRIEFLY_S = 0.001


def test_it_runs_again_and_again_while_nothing_else_happens() -> None:
    calls = threading.Semaphore(0)
    with UpkeepThread(calls.release, print, every_s=BRIEFLY_S):
        assert all(calls.acquire(timeout=20) for _ in range(3))


def test_the_end_waits_for_the_run_that_is_under_way() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def maintain() -> None:
        begun.set()
        assert go_on.wait(20)
        done.append(1)

    with UpkeepThread(maintain, print, every_s=BRIEFLY_S):
        assert begun.wait(20)
        threading.Timer(0.05, go_on.set).start()
    assert done


def test_what_a_run_raises_is_told_once() -> None:
    told: list[BaseException] = []
    heard = threading.Event()

    def maintain() -> None:
        raise OSError("no room")

    def fail(error: BaseException) -> None:
        told.append(error)
        heard.set()

    with UpkeepThread(maintain, fail, every_s=BRIEFLY_S):
        assert heard.wait(20)
    assert [str(error) for error in told] == ["no room"]
