"""Whether a process lives and is ready: only what a new start would mend is a reason to make one."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from recstream.metrics.health import Health


class Process:
    """A process with clocks that a test sets."""

    def __init__(self, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self.time = 1000.0
        self.computed = 0.0
        self.health = Health(
            stalled_after_s=60.0,
            epoch_late_s=30.0,
            is_stopping=is_stopping,
            now=lambda: self.time,
            cpu=lambda: self.computed,
        )

    def passes(self, seconds: float, *, cores: float = 0.0, probe_every_s: float = 10.0) -> str:
        """Let time pass under probes; gives the last reason to start anew."""
        end = self.time + seconds
        why = self.health.why_dead()
        while self.time < end:
            step = min(probe_every_s, end - self.time)
            self.time += step
            self.computed += cores * step
            why = self.health.why_dead()
        return why


def test_before_the_first_turn_it_starts_and_lives() -> None:
    process = Process()
    assert process.passes(1e6) == ""
    assert process.health.why_not_ready() == "starting: nothing is read yet"


@given(st.floats(1, 50), st.lists(st.booleans(), max_size=20))
def test_while_the_loop_turns_it_lives_whatever_is_away(pause_s: float, away: list[bool]) -> None:
    process = Process()
    for is_away in away:
        process.health.turned()
        process.health.report("lists", "no broker answers" if is_away else "")
        assert process.passes(pause_s) == ""
        assert ("lists: no broker answers" == process.health.why_not_ready()) == is_away


def test_who_waits_for_a_broker_lives_as_long_as_it_says_so() -> None:
    process = Process()
    process.health.turned()
    for _ in range(100):
        assert process.passes(10.0) == ""
        process.health.report("lists", "no broker answers")
    assert process.health.why_not_ready() == "lists: no broker answers"


def test_a_loop_that_hangs_is_a_reason_to_start_again() -> None:
    process = Process()
    process.health.turned()
    process.health.closed_epoch()
    assert process.passes(60.0, cores=0.05) == ""
    assert process.passes(1.0) == "the worker's loop has not turned for 61 s"
    assert process.health.why_not_ready()
    process.health.turned()
    process.health.closed_epoch()
    assert process.health.why_dead() == process.health.why_not_ready() == ""


def test_a_single_late_probe_sees_it_too() -> None:
    process = Process()
    process.health.turned()
    assert process.passes(100.0, cores=0.01, probe_every_s=100.0)


def test_a_loop_that_computes_has_ten_times_as_long() -> None:
    process = Process()
    process.health.turned()
    assert process.passes(590.0, cores=1.9) == ""
    assert process.passes(20.0, cores=1.9) == "the worker's loop has not turned for 610 s"


def test_epochs_that_are_not_closed_make_it_unready_not_dead() -> None:
    process = Process()
    for _ in range(4):
        process.health.turned()
        process.time += 10
    assert process.health.why_not_ready() == "the last epoch was closed 40 s ago"
    assert process.health.why_dead() == ""
    process.health.closed_epoch()
    assert process.health.why_not_ready() == ""


def test_a_process_that_is_asked_to_stop_is_not_ready() -> None:
    process = Process(is_stopping=lambda: True)
    process.health.turned()
    assert process.health.why_not_ready() == "stopping"
    assert process.health.why_dead() == ""


def test_a_stop_is_not_asked_for_before_the_first_turn() -> None:
    """Who asks counts as a source that reads, see `Stop`."""

    def asked() -> bool:
        raise AssertionError("asked")

    Process(is_stopping=asked).health.why_not_ready()


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans())))
def test_a_reason_names_three_places_and_counts_the_others(reports: list[tuple[int, bool]]) -> None:
    process, away = Process(), set[int]()
    process.health.turned()
    for place, is_away in reports:
        process.health.report(f"events/{place}", "away" if is_away else "")
        (away.add if is_away else away.discard)(place)
    why = process.health.why_not_ready()
    assert why.count(": away") == min(len(away), 3)
    assert (f"and {len(away) - 3} more" in why) == (len(away) > 3)
