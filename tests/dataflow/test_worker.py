"""A worker: every event accounted for, lists when they are due, sessions once, waiting events in time."""

from __future__ import annotations

import dataclasses
import random
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.dataflow.messages import BatchResult, EncodedList, EventBatch, Forgotten
from recstream.items.statistics import Interaction, pairs_of
from recstream.metrics.accounting import accounting
from recstream.records.event import Event
from recstream.records.item import Item
from recstream.records.reject_limit import RejectLimitError
from recstream.records.transport import Partition, shard_of
from recstream.users.codec import user_state_of
from recstream.users.state import AsOf
from tests.support.builders import (
    GENERATION,
    RULES,
    Clock,
    WorkerHarness,
    arrived,
    catalogue_of,
    decoded,
    event,
    item_row,
)
from tests.support.rules import learning_rules, reject_limit_rules

ITEMS = [f"i{k}" for k in range(6)]
USERS = ["u1", "u2", "u3"]


@st.composite
def logs(draw: st.DrawFn, unknown: bool = True, forget: bool = True) -> list[Event]:
    """A log of several users with everything in it, in one partition."""
    events = []
    for k in range(draw(st.integers(1, 25))):
        kinds = ["view", "like", "rate", "search", "dislike", "hide", "impression", "request"]
        action = draw(st.sampled_from([*kinds, "forget"] if forget else kinds))
        more: dict[str, Any] = {"text": "jazz"} if action == "search" else {}
        if action == "rate":
            more["rating"] = draw(st.sampled_from([1.0, 3.0, 5.0]))
        item = draw(st.sampled_from([*ITEMS, "new0", "new1"] if unknown else ITEMS))
        events.append(
            event(
                draw(st.integers(0, 9)) * 1000.0,
                action,
                None if action in ("search", "request", "forget") else item,
                user=draw(st.sampled_from(USERS)),
                event_id=draw(st.sampled_from([None, f"e{k}", "e1"])) if action == "view" else None,
                **more,
            )
        )
    return arrived(events)


def play(harness: WorkerHarness, events: list[Event], cuts: list[int]) -> list[BatchResult]:
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    return [harness.step(*events[a:b]) for a, b in pairwise(edges)]


def states(harness: WorkerHarness) -> dict[str, tuple[int, bytes]]:
    harness.flush()
    return {user: (row.version, row.state) for user, row in harness.users.rows.items()}


cuts = st.lists(st.integers(0, 25), max_size=4)


@given(logs(), cuts, st.integers(0, 3), st.sampled_from([0.0, 60.0]), st.booleans())
@settings(max_examples=60)
def test_every_event_read_is_in_exactly_one_account(
    events: list[Event], at: list[int], repeated: int, wait_s: float, late_item: bool
) -> None:
    rules = dataclasses.replace(RULES, max_waiting=2)
    harness = WorkerHarness(user_state=rules, wait_for_item_s=wait_s, sessions=True)
    harness.know(*ITEMS)
    play(harness, events, at)
    harness.step(*events[-repeated:])
    if late_item:
        harness.know("new0")
        harness.step()
    got = accounting(harness.meters.snapshot())
    assert got.balanced, str(got)
    waiting = sum(len(user_state.waiting) for user_state in harness.worker.users._user_states.values())
    assert got.waiting == waiting
    harness.clock.now += 3600.0
    harness.step()
    got = accounting(harness.meters.snapshot())
    assert got.balanced, str(got)
    assert got.waiting == 0
    assert not harness.worker.timers.waiting
    # and after a restart, of what is stored
    harness.flush()
    harness.again()
    harness.step(*events)
    assert accounting(harness.meters.snapshot()).balanced


@given(logs(), cuts, cuts)
@settings(max_examples=40)
def test_micro_batches_do_not_change_the_state(events: list[Event], at: list[int], other: list[int]) -> None:
    found = []
    for edges in (at, other):
        harness = WorkerHarness()
        harness.know(*ITEMS)
        play(harness, events, edges)
        harness.know("new0", "new1")
        harness.step()
        found.append(states(harness))
    assert found[0] == found[1]


@given(logs(), st.integers(0, 25), st.integers(0, 25))
@settings(max_examples=60)
def test_a_crash_after_the_barrier_and_a_replay_change_nothing(
    events: list[Event], committed: int, flushed: int
) -> None:
    """The source resumes at ``committed``, the users were written at ``flushed``, which is later."""
    whole = WorkerHarness()
    whole.know(*ITEMS)
    whole.step(*events)
    committed, flushed = sorted((min(committed, len(events)), min(flushed, len(events))))
    crashed = WorkerHarness()
    crashed.know(*ITEMS)
    crashed.step(*events[:flushed])
    crashed.flush()
    crashed.again()
    crashed.step(*events[committed:])
    assert {u: v for u, (v, _) in states(crashed).items()} == {u: v for u, (v, _) in states(whole).items()}
    if not any(one.action == "forget" for one in events):
        assert states(crashed) == states(whole)


def listed(done: BatchResult) -> list[EncodedList]:
    """The lists made in place, without the users erased between them."""
    return [one for one in done.lists if isinstance(one, EncodedList)]


def test_a_forget_read_again_does_not_erase_what_came_after_it() -> None:
    harness = WorkerHarness()
    harness.know("i0", "i1")
    log = [
        event(1.0, "view", "i0", offset=1),
        event(2.0, "forget", offset=2),
        event(3.0, "view", "i1", partition="events/1", offset=7),
    ]
    harness.step(*log)
    harness.flush()
    before = harness.users.rows["u1"].state
    harness.again()
    done = harness.step(*reversed(log))
    harness.flush()
    assert harness.users.rows["u1"].state == before
    # The tombstone may have been lost in the crash, and the list that follows it.
    assert done.forgotten == [Forgotten("u1")]
    assert [query.user_id for query in done.queries] == ["u1"]


@pytest.mark.parametrize("every_event", [False, True])
def test_the_tombstone_of_a_forget_read_again_is_followed_by_the_list_of_who_came_back(
    every_event: bool,
) -> None:
    """Alone in its micro-batch: what came after it may have committed, and is not read again."""
    harness = WorkerHarness(in_order=every_event, every_event=every_event)
    harness.know("i0", "i1")
    forget = event(2.0, "forget", offset=2)
    harness.step(event(1.0, "view", "i0", offset=1), forget, event(3.0, "view", "i1", offset=3))
    done = harness.step(forget)
    if every_event:
        assert [type(one) for one in done.lists] == [Forgotten, EncodedList]
    else:
        assert done.forgotten == [Forgotten("u1")]
        assert [(query.user_id, query.version) for query in done.queries] == [("u1", 1)]


def test_the_tombstone_of_a_forget_read_again_is_all_where_nobody_came_back() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    forget = event(2.0, "forget", offset=2)
    harness.step(event(1.0, "view", "i0", offset=1), forget)
    done = harness.step(forget)
    assert (done.forgotten, done.queries) == ([Forgotten("u1")], [])


def test_a_request_learns_nothing_and_the_list_is_as_of_the_request() -> None:
    harness = WorkerHarness()
    harness.know("i0", "i1")
    harness.step(event(10.0, "view", "i0", offset=4))
    harness.flush()
    done = harness.step(event(99.0, "request", offset=5))
    (query,) = done.queries
    assert (query.trigger, query.as_of, query.version) == ("request", AsOf(99.0, "events/0", 5), 1)
    assert harness.worker.users.flush() == 0
    assert done.interactions == []


def test_a_request_of_somebody_new_gets_a_list_and_leaves_no_row() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    harness.count([Interaction(0, ())])
    done = harness.step(event(99.0, "request"))
    (made,) = harness.worker.rank(done.queries)
    assert [one["item_id"] for one in decoded(made.value)["items"]] == ["i0"]
    assert made.version == 0
    assert states(harness) == {}


def test_the_list_of_a_replayed_request_says_how_far_the_state_is() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    request, view = event(5.0, "request", offset=4), event(10.0, "view", "i0", offset=5)
    harness.step(request, view)
    (query,) = harness.step(request).queries
    assert query.as_of == AsOf(10.0, "events/0", 5)


def test_a_user_is_due_once_a_micro_batch() -> None:
    harness = WorkerHarness()
    harness.know(*ITEMS)
    done = harness.step(
        *arrived([event(1.0, "view", "i0"), event(2.0, "view", "i1"), event(3.0, "like", "i2")])
    )
    assert [(query.user_id, query.version) for query in done.queries] == [("u1", 3)]
    assert [interaction.previous for interaction in done.interactions] == [(), (0,), (1, 0)]


def test_absorbed_events_ask_for_the_list_again_and_impressions_for_none() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    one = event(1.0, "view", "i0", offset=1)
    harness.step(one)
    assert [query.version for query in harness.step(one).queries] == [1]
    assert harness.step(event(2.0, "impression", "i0", offset=2)).queries == []


@pytest.mark.parametrize(
    ("action", "rating", "counted"),
    [
        ("view", None, True),
        ("rate", 5.0, True),
        ("rate", 1.0, True),  # they chose it, whatever they think of it
        *((action, None, False) for action in ("dislike", "hide", "impression", "skip")),
    ],
)
def test_only_engagement_is_counted_in_the_statistics(
    action: str, rating: float | None, counted: bool
) -> None:
    harness = WorkerHarness()
    harness.know("i0")
    assert len(harness.step(event(1.0, action, "i0", rating=rating)).interactions) == counted


def test_forget_erases_and_says_so() -> None:
    harness = WorkerHarness()
    harness.know("i0", "i1")
    harness.step(event(1.0, "view", "i0", offset=1))
    harness.flush()
    done = harness.step(event(2.0, "view", "i1", offset=2), event(3.0, "forget", offset=3))
    assert ([one.user_id for one in done.forgotten], done.queries) == (["u1"], [])
    assert states(harness) == {}
    harness.step(event(4.0, "view", "i1", offset=4))
    assert states(harness)["u1"][0] == 1


def test_a_tombstone_leaves_between_the_lists_before_and_after_it() -> None:
    harness = WorkerHarness(in_order=True, every_event=True)
    harness.know("i0", "i1")
    done = harness.step(
        event(1.0, "view", "i0", offset=1), event(2.0, "forget", offset=2), event(3.0, "view", "i1", offset=3)
    )
    assert [type(one) for one in done.lists] == [EncodedList, Forgotten, EncodedList]


def test_a_list_asked_for_before_a_forget_is_not_made() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    assert harness.step(event(1.0, "request", offset=1), event(2.0, "forget", offset=2)).queries == []


def test_lists_of_one_key_are_made_an_event_at_a_time_in_the_order_of_the_log() -> None:
    harness = WorkerHarness(in_order=True, every_event=True)
    harness.know(*ITEMS)
    log = arrived([event(float(k), "view", f"i{k % 3}", user=f"u{k % 2}") for k in range(6)])
    done = harness.step(*log)
    assert [(one.user_id, one.version) for one in listed(done)] == [
        ("u0", 1),
        ("u1", 1),
        ("u0", 2),
        ("u1", 2),
        ("u0", 3),
        ("u1", 3),
    ]
    assert [decoded(one.value)["as_of"]["offset"] for one in listed(done)] == list(range(6))
    assert (done.queries, done.interactions) == ([], [])


@given(logs(unknown=False), cuts)
@settings(max_examples=40)
def test_working_a_log_off_at_once_equals_feeding_it_one_by_one(events: list[Event], at: list[int]) -> None:
    found = []
    for edges in (at, list(range(len(events)))):
        harness = WorkerHarness(in_order=True, every_event=True)
        harness.know(*ITEMS)
        lists = [decoded(one.value) for done in play(harness, events, edges) for one in listed(done)]
        found.append((lists, states(harness), [t.tolist() for t in harness.worker.replica.statistics.tables]))
    assert found[0] == found[1]


def lessons(harness: WorkerHarness) -> tuple[Any, ...]:
    """All that a worker has learned across users, to the last bit."""
    worker = harness.worker
    statistics, sessions = worker.replica.statistics, worker.recommender.sessions
    return (
        worker.recommender.model.to_bytes(),
        worker.learner.sampling_state,
        worker.learner.repeats,
        [table.tolist() for table in statistics.tables],
        [statistics.popularity(len(ITEMS), scale).tolist() for scale in range(4)],
        {user: sessions.chunks_of(user) for user in USERS},
    )


@given(logs(unknown=False), st.lists(st.integers(0, 25), max_size=4), cuts, st.sampled_from(["end", "batch"]))
@settings(max_examples=40)
def test_what_a_replay_learns_does_not_depend_on_micro_batches(
    events: list[Event], read: list[int], at: list[int], refresh: str
) -> None:
    """Nor, where lists are made of each batch as it was read, do they: only of how the log was read."""
    edges = [0, *sorted({min(one, len(events)) for one in read}), len(events)]
    batches = [EventBatch(1.0, events[a:b]) for a, b in pairwise(edges) if a < b]
    found = []
    for starts in ({*at}, {*range(len(batches))}):
        harness = WorkerHarness(
            in_order=True, lists=refresh == "batch", learning=learning_rules(all_of=4, every=2)
        )
        harness.know(*ITEMS)
        lists = []
        for number, batch in enumerate(batches):
            harness.worker.inbox.append(batch)
            if number in starts or batch is batches[-1]:
                lists += [decoded(one.value) for one in listed(harness.worker.step())]
        found.append((lessons(harness), lists, states(harness)))
    assert found[0] == found[1]
    assert refresh == "batch" or not lists
    one_by_one = WorkerHarness(in_order=True, every_event=True, learning=learning_rules(all_of=4, every=2))
    one_by_one.know(*ITEMS)
    play(one_by_one, events, list(range(len(events))))
    assert lessons(one_by_one) == found[0][0], "as with a list after each event"


@given(logs(unknown=False), st.integers(0, 25))
@settings(max_examples=30)
def test_nothing_later_in_the_log_influences_a_list(events: list[Event], cut: int) -> None:
    found = []
    for some in (events, events[:cut]):
        harness = WorkerHarness(in_order=True, every_event=True)
        harness.know(*ITEMS)
        found.append([decoded(one.value) for one in listed(harness.step(*some))])
    assert found[1] == found[0][: len(found[1])]


def test_an_item_that_arrives_settles_what_waited_for_it() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    done = harness.step(event(1.0, "view", "i0", offset=1), event(2.0, "view", "new0", offset=2))
    assert [query.version for query in done.queries] == [1]
    assert harness.step().queries == []
    harness.know("new0")
    assert harness.worker.next_step() == harness.clock()
    done = harness.step()
    (query,) = done.queries
    assert (query.version, query.trigger) == (2, "event")
    assert pairs_of(done.interactions).rows.tolist() == [0, 1]
    assert harness.meters.values["events_waiting",] == 0
    assert harness.worker.timers.waiting == {}


def test_an_item_that_arrives_after_a_restart_settles_what_waited_for_it() -> None:
    harness = WorkerHarness()
    harness.step(event(2.0, "view", "new0", offset=2))
    harness.flush()
    harness.again()
    harness.know("new0")
    harness.step(event(3.0, "request", offset=3))
    assert states(harness)["u1"][0] == 1
    assert accounting(harness.meters.snapshot()).balanced


def test_who_waits_is_found_after_a_restart_without_coming_back() -> None:
    harness = WorkerHarness()
    harness.step(event(2.0, "view", "new0", offset=2))
    harness.flush()
    harness.again()
    harness.know("new0")
    (shard,) = {row.shard for row in harness.users.rows.values()}
    harness.worker.own_shard(shard, None)
    assert harness.worker.next_step() == harness.clock()
    (query,) = harness.step().queries
    assert (query.user_id, query.version) == ("u1", 1)
    assert accounting(harness.meters.snapshot()).balanced


@pytest.mark.parametrize("past", [0.0, 0.001, 900.0])
@pytest.mark.parametrize("wait_s", [60.0, 0.1, 33.3])
def test_an_event_that_waited_long_enough_is_rejected_with_its_bytes(past: float, wait_s: float) -> None:
    harness = WorkerHarness(Clock(1_700_000_000.123), wait_for_item_s=wait_s)
    one = event(2.0, "view", "new0", offset=2)
    assert harness.step(one).rejects == []
    due = harness.clock() + wait_s
    look = harness.worker.next_step()
    assert look is not None
    assert look <= due
    harness.clock.now = due - 0.01
    assert harness.step().rejects == []
    harness.clock.now = due + past
    (reject,) = harness.step().rejects
    assert (reject.reason, reject.raw, reject.offset) == ("unknown_item", one.raw, 2)
    assert (harness.worker.next_step(), harness.worker.timers.waiting) == (None, {})
    assert harness.meters.values["events_waiting",] == 0
    assert harness.meters.values["records_rejected", "events", "unknown_item"] == 1


def test_without_waiting_an_unknown_item_is_rejected_at_once() -> None:
    harness = WorkerHarness(wait_for_item_s=0.0)
    (reject,) = harness.step(event(2.0, "view", "new0", offset=2)).rejects
    assert reject.reason == "unknown_item"
    assert (harness.worker.next_step(), harness.worker.timers.waiting) == (None, {})
    assert harness.meters.values["events_waiting",] == 0


def test_one_event_too_many_that_waits_is_rejected_with_the_mend() -> None:
    harness = WorkerHarness(user_state=dataclasses.replace(RULES, max_waiting=1))
    events = arrived([event(1.0, "view", "new0"), event(2.0, "view", "new1")])
    (reject,) = harness.step(*events).rejects
    assert (reject.reason, reject.raw) == ("too_many_waiting", events[1].raw)
    assert "events.max_waiting" in reject.detail


def test_forgetting_a_user_ends_the_waiting() -> None:
    harness = WorkerHarness()
    harness.step(event(1.0, "view", "new0", offset=1), event(2.0, "forget", offset=2))
    assert harness.meters.values["events_waiting",] == 0
    assert accounting(harness.meters.snapshot()).balanced
    harness.know("new0")
    assert harness.step().queries == []
    assert states(harness) == {}


def test_an_item_that_an_event_brings_is_known_to_the_event() -> None:
    for every_event in (False, True):
        harness = WorkerHarness(in_order=every_event, every_event=every_event)
        one = event(1.0, "view", "new0")._replace(item=_item("new0"))
        harness.worker.inbox.append(EventBatch(harness.clock(), [one], {one.offset: item_row("new0")}))
        harness.worker.step()
        assert states(harness)["u1"][0] == 1
        assert list(harness.items.rows) == (["new0"] if every_event else [])


GAP, LATE = 1800.0, 300.0


def sessions(done: BatchResult) -> list[tuple[float, float]]:
    return [(one.session.start, one.session.end) for one in done.sessions]


def with_sessions(**rules: Any) -> WorkerHarness:
    harness = WorkerHarness(sessions=True, session_gap_s=GAP, lateness_s=LATE, **rules)
    harness.know(*ITEMS)
    return harness


def test_a_session_is_announced_once_when_event_time_has_passed_it() -> None:
    harness = with_sessions()
    assert (
        sessions(harness.step(event(0.0, "view", "i0", offset=1), event(60.0, "view", "i1", offset=2))) == []
    )
    assert sessions(harness.step(event(60.0 + GAP + LATE, "view", "i2", offset=3))) == []
    done = harness.step(event(61.0 + GAP + LATE, "view", "i2", offset=4))
    assert sessions(done) == [(0.0, 60.0)]
    assert sessions(harness.step(event(9000.0, "view", "i2", offset=5))) == [(2160.0, 2161.0)]
    assert harness.meters.values["sessions_closed",] == 2


@pytest.mark.parametrize("gap_s", [GAP, 1800.1, 0.3])
def test_a_session_is_announced_once_when_the_user_went_quiet(gap_s: float) -> None:
    harness = WorkerHarness(Clock(1_700_000_000.123), sessions=True, session_gap_s=gap_s, lateness_s=0.7)
    harness.know("i0")
    harness.step(event(5.0, "view", "i0", offset=1))
    look = harness.worker.next_step()
    assert look is not None
    harness.clock.now = look - 0.01
    assert sessions(harness.step()) == []
    harness.clock.now = look
    assert sessions(harness.step()) == [(5.0, 5.0)]
    assert (harness.worker.next_step(), harness.worker.timers.last_read) == (None, {})
    harness.clock.now += 9999.0
    assert sessions(harness.step()) == []


def test_each_event_puts_the_quiet_off() -> None:
    harness = with_sessions()
    harness.step(event(0.0, "view", "i0", offset=1))
    harness.clock.now += GAP + LATE - 1.0
    harness.step(event(60.0, "view", "i1", offset=2))
    harness.clock.now += 1.0
    assert sessions(harness.step()) == []
    harness.clock.now += GAP + LATE - 1.0
    assert sessions(harness.step()) == [(0.0, 60.0)]


def test_an_open_session_is_looked_at_once_however_many_its_events() -> None:
    harness = with_sessions()
    harness.step(*arrived([event(float(k), "view", "i0") for k in range(30)]))
    assert len(harness.worker.timers.deadlines) == 1


def test_all_sessions_of_a_quiet_user_are_announced() -> None:
    """The one before the last is within the lateness of the newest event: it must not be lost."""
    harness = with_sessions()
    harness.step(event(0.0, "view", "i0", offset=1), event(GAP + 1.0, "view", "i1", offset=2))
    harness.clock.now += GAP + LATE
    assert sessions(harness.step()) == [(0.0, 0.0), (GAP + 1.0, GAP + 1.0)]


def test_a_user_who_only_asked_before_is_still_heard_when_something_happens() -> None:
    harness = with_sessions()
    harness.step(event(0.0, "request", offset=1))
    harness.clock.now += GAP + LATE
    assert sessions(harness.step()) == []
    assert harness.worker.timers.last_read == {}
    harness.step(event(9000.0, "view", "i0", offset=2))
    harness.clock.now += GAP + LATE
    assert sessions(harness.step()) == [(9000.0, 9000.0)]


def test_an_old_log_closes_no_session_before_its_time() -> None:
    """Read years later, within a second: by event time alone, as it was live."""
    log = arrived([event(60.0 * k, "view", f"i{k % 6}", event_id=f"e{k}") for k in range(50)])
    harness = with_sessions()
    done = [harness.step(*log[k : k + 7]) for k in range(0, 50, 7)]
    assert [session for one in done for session in sessions(one)] == []
    assert sessions(harness.step(event(99_000.0, "view", "i0", offset=99))) == [(0.0, 49 * 60.0)]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=15), cuts)
@settings(max_examples=40)
def test_every_session_of_a_log_in_order_is_announced_once_however_it_is_cut(
    minutes: list[int], at: list[int]
) -> None:
    log = arrived([event(minute * 600.0, "view", "i0") for minute in sorted(minutes)])
    wanted: list[list[float]] = []
    for one in log:
        if wanted and one.ts - wanted[-1][1] <= GAP:
            wanted[-1][1] = one.ts
        else:
            wanted.append([one.ts, one.ts])
    harness = with_sessions()
    got = [session for done in play(harness, log, at) for session in sessions(done)]
    harness.clock.now += GAP + LATE
    got += sessions(harness.step())
    assert got == [(start, end) for start, end in wanted]


def test_a_restart_does_not_announce_a_session_again() -> None:
    harness = with_sessions()
    log = [event(0.0, "view", "i0", offset=1), event(9000.0, "view", "i1", offset=2)]
    assert sessions(harness.step(*log)) == [(0.0, 0.0)]
    harness.flush()
    barrier = harness.worker.commits.close()
    harness.again()
    harness.worker.own_shard(shard_of("u1", harness.rules.shards), barrier)
    assert sessions(harness.step(*log)) == []


def test_users_to_be_looked_at_are_fetched_together() -> None:
    harness = with_sessions(hot_users=1)
    events = [event(0.0, "view", "i0", user=f"u{k}") for k in range(20)]
    harness.step(*arrived(events))
    harness.flush()
    harness.users.calls.clear()
    harness.clock.now += GAP + LATE
    assert len(harness.step().sessions) == 20
    assert [name for name, _ in harness.users.calls].count("fetch") == 1


def test_while_an_event_waits_the_worker_looks_for_its_item_in_the_tables() -> None:
    """Another process may write it, and wakes nobody by that."""
    harness = WorkerHarness(refresh_s=1.0)
    harness.step(event(1.0, "view", "new0", offset=1))
    harness.items.upsert([item_row("new0", seq=1)])
    assert harness.worker.next_step() == harness.clock() + 1.0
    harness.clock.now += 1.0
    assert [query.version for query in harness.step().queries] == [1]


def test_more_users_than_fit_are_written_before_the_barrier() -> None:
    harness = WorkerHarness(hot_users=2)
    harness.know("i0")
    harness.step(*arrived([event(0.0, "view", "i0", user=f"u{k}") for k in range(9)]))
    assert len(harness.users.rows) == 9
    assert len(harness.worker.users) == 2


def test_a_list_carries_ids_and_not_handles() -> None:
    harness = WorkerHarness()
    harness.know(*ITEMS)
    harness.count([Interaction(handle, ()) for handle in range(len(ITEMS))])
    (made,) = harness.worker.rank(harness.step(event(1.0, "like", "i3")).queries)
    record = orjson.loads(made.value)
    assert {one["item_id"] for one in record["items"]} == set(ITEMS) - {"i3"}
    assert [one["rank"] for one in record["items"]] == [1, 2, 3, 4, 5]
    assert all(set(one["because"]) <= {"i3"} for one in record["items"])
    assert record["generated_at"] == harness.clock()
    assert record["generation"] == GENERATION
    headers = dict(made.message().headers)
    assert (headers["recstream-generation"], headers["recstream-version"]) == (str(GENERATION).encode(), b"1")


def test_sequence_numbers_grow_even_when_the_clock_does_not() -> None:
    harness = WorkerHarness()
    numbers = [harness.worker.checkpoint.next_seq() for _ in range(3)]
    harness.clock.now -= 100.0
    numbers.append(harness.worker.checkpoint.next_seq())
    assert numbers == sorted(set(numbers))


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_users_of_several_partitions_end_alike_in_any_order(by: random.Random) -> None:
    events = [
        event(float(k // 2), "view", ITEMS[k % 6], user=USERS[k % 3], partition=f"events/{k % 4}", offset=k)
        for k in range(24)
    ]
    found = []
    for order in (events, by.sample(events, len(events))):
        harness = WorkerHarness()
        harness.know(*ITEMS)
        harness.step(*_in_partition_order(order))
        harness.flush()
        catalogue = catalogue_of(ITEMS)
        users = {user: user_state_of(row, catalogue) for user, row in harness.users.rows.items()}
        found.append({user: (p.version, p.recent, p.seen, p.offset_ranges) for user, p in users.items()})
    assert found[0] == found[1]


def _in_partition_order(events: list[Event]) -> list[Event]:
    """The same interleaving of partitions, each in the order of its offsets."""
    logs: dict[Partition, list[int]] = {}
    for one in sorted(events, key=lambda one: one.offset):
        logs.setdefault(one.partition, []).append(one.offset)
    by_place = {(one.partition, one.offset): one for one in events}
    return [by_place[one.partition, logs[one.partition].pop(0)] for one in events]


def _item(item_id: str) -> Item:
    return Item(item_id, "New", None, (), (), None, True, False, None, event(0.0).partition, 0, b"{}")


def test_what_is_learned_is_written_although_nothing_comes_any_more() -> None:
    harness = WorkerHarness()
    items = [f"i{k}" for k in range(1200)]
    harness.know(*items)
    step = harness.step(*arrived([event(float(k), "view", item) for k, item in enumerate(items)]))
    harness.count(step.interactions)
    harness.clock.now += 0.01
    harness.step()  # between events
    barriers: list[int] = []
    while harness.worker.next_checkpoint() is not None:
        harness.worker.wake()
        written = len(harness.statistics.rows)
        harness.flush()
        harness.flush()  # of another shard that comes to the same barrier
        barriers.append(len(harness.statistics.rows) - written)
        harness.worker.commits.close()
    assert [rows for rows in barriers if rows] == [500, 500, 200]
    assert any(name.startswith("sessions/") for name in harness.models.rows), "the sessions too"


def test_a_log_whose_items_are_not_known_blows_the_fuse_before_anything_leaves() -> None:
    harness = WorkerHarness(wait_for_item_s=0.0, reject_limit=reject_limit_rules(records=10, run=0))
    harness.know("i0")
    harness.step(*(event(1.0, "view", "i0", user=f"u{k}", offset=k) for k in range(6)))
    harness.step(*(event(1.0, "view", "never", user=f"u{k}", offset=6 + k) for k in range(4)))
    with pytest.raises(RejectLimitError, match="6 of the last 10 records were rejected, 6 as unknown_item"):
        harness.step(*(event(1.0, "view", "never", user=f"v{k}", offset=10 + k) for k in range(2)))


def test_events_that_wait_have_no_verdict_before_their_time_is_over() -> None:
    harness = WorkerHarness(wait_for_item_s=60.0, reject_limit=reject_limit_rules(records=4, run=0))
    harness.step(*(event(1.0, "view", "never", user=f"u{k}", offset=k) for k in range(9)))
    harness.clock.now += 60.0
    with pytest.raises(RejectLimitError, match="unknown_item"):
        harness.step()


def test_an_erased_user_who_came_back_after_a_restart_is_not_erased_by_a_replay() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    log = [
        event(1.0, "view", "i0", offset=0),
        event(2.0, "forget", offset=1),
        event(3.0, "view", "i0", offset=2),
    ]
    harness.step(*log[:2])
    harness.flush()
    harness.again()  # of an erased user nothing is left, the fence neither
    harness.step(log[2])
    harness.flush()
    before = states(harness)
    harness.step(*log)
    harness.flush()
    assert states(harness) == before
    assert accounting(harness.meters.snapshot()) == (4, 1, 0, 3, 0, 0, True)


def test_an_erasure_met_when_the_past_is_replayed_leaves_what_came_after_it_to_be_read_again() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    past = [event(1.0, "view", "i0", offset=3), event(2.0, "forget", offset=10)]
    later = [event(3.0, "view", "i0", offset=20), event(4.0, "view", "i0", offset=21)]
    harness.step(*(one._replace(partition=one.partition._replace(since=15)) for one in later))
    harness.flush()
    assert states(harness)["u1"][0] == 2
    harness.step(*past, *later)
    harness.flush()
    assert states(harness)["u1"][0] == 2
    harness.step(*past, *later)
    assert accounting(harness.meters.snapshot()) == (10, 6, 0, 4, 0, 0, True)


def test_many_refusals_of_one_user_are_noted_once_a_barrier() -> None:
    harness = WorkerHarness(wait_for_item_s=0.0, reject_limit=reject_limit_rules(share=1.0, run=0))
    harness.step(*(event(1.0, "view", "never", offset=k) for k in range(3000)))
    assert {barrier: list(users) for barrier, users in harness.worker.outbox._kept.items()} == {
        harness.worker.commits.open(): ["u1"]
    }
