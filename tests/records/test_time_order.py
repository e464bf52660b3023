"""A log is in order of time if no event is far older than one before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recstream.records.time_order import TimeOrder, out_of_order, time_of

TIMES = st.lists(st.integers(0, 50).map(float), max_size=30)


def late_of(times: list[float], lateness_s: float) -> int:
    order = TimeOrder(lateness_s)
    for ts in times:
        order.note(ts)
    return order.late


@given(TIMES, st.integers(0, 20))
def test_an_event_is_late_if_a_far_newer_one_came_before_it(times: list[float], lateness_s: int) -> None:
    late = [at for at, ts in enumerate(times) if any(one > ts + lateness_s for one in times[:at])]
    assert late_of(times, float(lateness_s)) == len(late)
    assert late_of(sorted(times), float(lateness_s)) == 0


@given(st.binary(max_size=30) | st.from_regex(rb'\{"ts": ?[-0-9."TZ:e]{1,12}\}', fullmatch=True))
def test_whatever_a_record_is_its_time_is_a_number_or_none(raw: bytes) -> None:
    found = time_of(raw)
    assert found is None or found >= 0.0


def test_a_few_late_events_are_no_disorder() -> None:
    assert out_of_order("log", 1, 100, 300.0) == out_of_order("log", 0, 0, 300.0) == ""
    assert "2 of 100 events (2 %)" in out_of_order("log", 2, 100, 300.0)
