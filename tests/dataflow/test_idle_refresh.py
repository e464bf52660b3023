"""Lists of idle users: made again when the world moved, never in the way, and gone with the worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.dataflow.idle_refresh.idle_users import IdleUsers
from recstream.dataflow.messages import BatchResult, EncodedList
from recstream.dataflow.services import IdleRefreshRules
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.records.transport import shard_of
from tests.support.builders import Clock, WorkerHarness, arrived, decoded, event, item_row
from tests.support.rules import idle_refresh_rules, learning_rules, ranking_rules

ITEMS = [f"i{k}" for k in range(6)]
DAY = 86_400.0


def bench_of(
    *, idle_refresh: IdleRefreshRules | None = None, text: str | None = "one text", **rules: Any
) -> WorkerHarness:
    """A worker whose items all say the same, so that only trends tell them apart."""
    harness = WorkerHarness(idle_refresh=idle_refresh or idle_refresh_rules(after_events=5.0), **rules)
    for item_id in ITEMS:
        harness.worker.replica.put(item_row(item_id, text=text))
    harness.worker.replica.take_arrived()
    return harness


def views(item_id: str, count: int, *, first: int) -> list[Event]:
    """So many people who come once, view one thing, and ask for nothing more."""
    return [event(2.0, "view", item_id, user=f"p{first + k}", offset=first + k) for k in range(count)]


def played(harness: WorkerHarness, *events: Event) -> tuple[BatchResult, list[EncodedList | None]]:
    """A micro-batch with all that follows it in the graph: what is due is made, then touches are counted."""
    step = harness.step(*events)
    lists = harness.worker.lists.rank(step.queries)
    harness.count(step.interactions)
    harness.worker.checkpoint.background.wait()
    return step, lists


def idle(harness: WorkerHarness, seconds: float = 2.0) -> list[str]:
    """Time passes without events; gives the users whose lists were made again."""
    harness.clock.now += seconds
    step, _ = played(harness)
    assert {query.trigger for query in step.queries} <= {"drift"}
    return [query.user_id for query in step.queries]


def moved() -> WorkerHarness:
    """One user has a list; then others view something else."""
    harness = bench_of(hot_users=1000)
    played(harness, event(1.0, "view", "i0", offset=1))
    played(harness, *views("i5", 12, first=2))
    return harness


def test_the_list_of_an_idle_user_is_made_again_when_trends_have_moved() -> None:
    harness = moved()
    harness.clock.now += 2.0
    step, lists = played(harness)
    place = [query.user_id for query in step.queries].index("u1")
    made = lists[place]
    assert made is not None
    record = decoded(made.value)
    assert (record["trigger"], record["version"]) == ("drift", 1)
    assert record["as_of"] == {"ts": 1.0, "partition": "events/0", "offset": 1}
    assert record["items"][0]["item_id"] == "i5"
    assert harness.meters.values["lists_emitted", "drift"] == sum(one is not None for one in lists)


def test_it_is_made_later_than_the_one_before_and_with_the_same_version() -> None:
    """A reader keeps the greatest (version, generated_at)."""
    harness = bench_of()
    (before,) = harness.worker.rank(harness.step(event(1.0, "view", "i0", offset=1)).queries)
    played(harness, *views("i5", 12, first=2))
    harness.clock.now += 2.0
    after = next(one for one in played(harness)[1] if one is not None and one.user_id == "u1")
    assert after.version == before.version
    assert after.value.split(b'"generated_at":')[1] > before.value.split(b'"generated_at":')[1]


def test_where_nothing_moves_nothing_is_made_and_nothing_written() -> None:
    harness = moved()
    while idle(harness):
        pass
    harness.flush()
    harness.users.calls.clear()
    harness.statistics.calls.clear()
    for _ in range(50):
        assert idle(harness) == []
        look = harness.worker.next_step()
        assert look is not None
        assert look >= harness.clock() + harness.rules.refresh_s
        harness.flush()
    assert [name for name, _ in harness.users.calls + harness.statistics.calls if name == "upsert"] == []


def test_only_one_of_the_shards_looks_for_idle_users() -> None:
    harness = moved()
    assert [harness.worker.claim_lead() for _ in range(3)] == [True, False, False]
    assert harness.worker.next_step(leads=False) is None
    look = harness.worker.next_step(leads=True)
    assert look is not None
    assert look <= harness.clock() + 1.0


def test_a_list_that_came_out_as_it_was_does_not_leave_and_is_left_alone_for_twice_as_long() -> None:
    harness = bench_of(text=None, ranking=ranking_rules(top_n=5))
    played(harness, *(event(1.0, "view", item, offset=k) for k, item in enumerate(ITEMS)))  # nothing is left
    made = []
    for first in range(10, 50):
        played(harness, event(2.0, "request", user="p", offset=1000 + first))
        harness.count([_interaction(0)])
        if "u1" in idle(harness):
            made.append(first)
    assert harness.meters.values["drift_lists", "unchanged"] >= 3
    assert ("lists_emitted", "drift") not in harness.meters.values
    gaps = np.diff(made)
    assert (gaps[1:] == 2 * gaps[:-1]).all()


def _interaction(item: int) -> Any:
    from recstream.items.statistics import Interaction

    return Interaction(item, ())


def test_so_many_lists_a_second_are_made_and_no_more() -> None:
    harness = bench_of(idle_refresh=idle_refresh_rules(after_events=5.0, lists_per_s=8.0))
    played(harness, *views("i0", 100, first=1))
    assert [len(idle(harness, 0.5)) for _ in range(5)] == [4, 4, 4, 4, 4]
    assert len(idle(harness, 1000.0)) == 8  # what was not made in time is not made up for


def test_lists_that_events_ask_for_come_first_and_alone_unless_others_waited_for_long() -> None:
    harness = bench_of(idle_refresh=idle_refresh_rules(after_events=5.0, lists_per_s=10.0))
    played(harness, *views("i0", 30, first=1))
    found = []
    for k in range(11):
        harness.clock.now += 0.1
        step, _ = played(harness, event(3.0, "view", "i1", user=f"new{k}", offset=100 + k))
        assert step.queries[0].trigger == "event"
        found.append([query.trigger for query in step.queries].count("drift"))
    assert found[:9] == [0] * 9
    assert max(found) > 0


def test_events_that_a_barrier_held_up_come_before_lists_and_lessons_that_can_wait() -> None:
    harness = bench_of(hot_users=1000, learning=learning_rules(all_of=1e9))
    for turn, since_barrier in enumerate((0.001, 60.0)):
        first = 100 * turn
        played(harness, event(1.0 + first, "view", "i0", offset=first))
        played(harness, *views("i5", 12, first=first + 2))
        harness.clock.now += 2.0  # nothing was made for so long that a list is, though others are due
        harness.worker.flush()
        harness.worker.checkpoint.background.wait()
        harness.clock.now += since_barrier
        learned = harness.worker.recommender.model.examples
        step, _ = played(harness, event(50.0 + first, "view", f"i{1 + turn}", offset=first + 50))
        made = [query.trigger for query in step.queries]
        has_learned = harness.worker.recommender.model.examples > learned
        assert ("drift" in made, has_learned) == (since_barrier > 1.0, since_barrier > 1.0), made
        assert "event" in made


@pytest.mark.parametrize(("list_s", "most"), [(0.0, 16), (0.0005, 4), (0.0011, 1), (0.1, 1)])
def test_while_events_come_no_more_lists_are_made_together_than_take_two_milliseconds(
    list_s: float, most: int
) -> None:
    harness = bench_of(idle_refresh=idle_refresh_rules(after_events=5.0, lists_per_s=1000.0))
    assert harness.worker.idle_refresh is not None
    played(harness, *views("i0", 100, first=1))
    for _ in range(200):
        harness.worker.idle_refresh.note_cost(10, 10 * list_s)
    harness.clock.now += 0.9
    assert len(played(harness)[0].queries) == most
    look = harness.worker.next_step()
    assert look is not None
    assert look <= harness.clock(), "the others follow"
    harness.clock.now += 0.1
    assert len(played(harness)[0].queries) == 16, "no events come"


def test_an_erased_user_gets_no_list() -> None:
    harness = moved()
    played(harness, event(3.0, "forget", offset=99))
    assert harness.worker.idle_refresh is not None
    assert harness.worker.idle_refresh.idle.last_event_at("u1") is None
    assert "u1" not in [user for _ in range(5) for user in idle(harness)]


def test_users_who_were_away_for_longer_than_told_are_left_alone() -> None:
    harness = bench_of(idle_refresh=idle_refresh_rules(after_events=5.0, active_s=10.0))
    played(harness, event(1.0, "view", "i0", offset=1))
    harness.clock.now += 11.0
    played(harness, *views("i5", 12, first=2))
    assert "u1" not in [user for _ in range(5) for user in idle(harness, 0.9)]


def test_users_who_left_the_memory_are_left_alone() -> None:
    harness = bench_of(hot_users=3)
    played(harness, event(1.0, "view", "i0", offset=1))
    played(harness, *views("i5", 12, first=2))
    harness.flush()
    assert set(idle(harness)) <= {"p11", "p12", "p13"}
    assert harness.worker.idle_refresh is not None
    assert len(harness.worker.idle_refresh.idle) <= 3


def test_a_worker_that_ends_makes_no_more_of_them() -> None:
    harness = moved()
    harness.worker.is_ending = True
    assert idle(harness) == []
    assert harness.worker.next_step() is None


def test_nothing_of_them_is_kept_for_sending_again() -> None:
    harness = moved()
    assert "u1" in idle(harness)
    user_state = harness.worker.users.find("u1")
    assert user_state is not None
    assert user_state.outbox == []


# new items


def fans(**rules: Any) -> WorkerHarness:
    """Of ten users one likes jazz, and each of the others something of their own."""
    by_text = {name: float(name in ("short_term", "long_term")) for name in SIGNALS}
    harness = WorkerHarness(
        idle_refresh=idle_refresh_rules(), ranking=ranking_rules(top_n=1, weights=by_text), **rules
    )
    tastes = ["jazz", *(f"other{k}" for k in range(9))]
    for k, taste in enumerate(tastes):
        for number in range(4):
            harness.worker.replica.put(item_row(f"{taste} {number}", text=taste))
        log = [event(harness.clock(), "like", f"{taste} {n}", user=f"u{k}", offset=4 * k + n) for n in (0, 1)]
        played(harness, *log)
    harness.flush()
    harness.worker.replica.take_arrived()
    for _ in range(60):  # what came up to now is searched for
        idle(harness)
    return harness


def reached(harness: WorkerHarness) -> list[tuple[str, str]]:
    """The lists that left, and their first items, within a second."""
    records = []
    for _ in range(2):  # users are searched for, then their lists are made
        harness.clock.now += 0.5
        records += [decoded(one.value) for one in played(harness)[1] if one is not None]
    assert {record["trigger"] for record in records} <= {"drift"}
    return [(record["user_id"], record["items"][0]["item_id"]) for record in records]


def jazz(item_id: str = "a new record") -> Any:
    """An item that sounds more like jazz than any before: nobody has seen it, and ties break its way."""
    return item_row(item_id, text="jazz")


def test_a_new_item_reaches_the_idle_user_whom_it_fits_and_nobody_else() -> None:
    harness = fans()
    hide_rest(harness)
    harness.worker.replica.put(jazz())
    assert harness.worker.next_step() == harness.clock()
    assert reached(harness) == [("u0", "a new record")]
    assert reached(harness) == []


def hide_rest(harness: WorkerHarness) -> None:
    """Make what the lover of jazz has not seen yet unavailable, so that a new record has no rival."""
    for number in (2, 3):
        harness.worker.replica.put(item_row(f"jazz {number}", text="jazz", available=False))
    harness.worker.replica.take_arrived()
    harness.worker.replica.take_gone()


def test_a_new_item_finds_users_who_are_not_in_memory() -> None:
    harness = fans()
    hide_rest(harness)
    harness.flush()
    harness.again()
    assert len(harness.worker.users) == 0
    harness.worker.replica.put(jazz())
    assert reached(harness) == [("u0", "a new record")]


def test_a_new_item_leaves_users_alone_who_are_not_active() -> None:
    harness = fans()
    hide_rest(harness)
    harness.flush()
    harness.again()
    harness.clock.now += 31 * DAY
    harness.worker.replica.put(jazz())
    assert reached(harness) == []


def test_what_was_stored_before_the_start_is_not_new() -> None:
    harness = fans()
    harness.worker.replica.put(jazz())
    harness.flush()
    harness.users.calls.clear()
    harness.again()
    assert reached(harness) == []
    assert harness.meters.observed["drift_search_seconds"] == []


def test_another_worker_makes_the_lists_of_its_users() -> None:
    harness = fans(processes=2)
    hide_rest(harness)
    harness.worker.replica.put(jazz())
    assert reached(harness) == []
    harness.worker.own_shard(shard_of("u0", harness.rules.shards), None)
    played(harness)
    harness.worker.replica.put(jazz("a new record")._replace(available=False))
    harness.worker.replica.put(jazz("another record"))
    assert [user for user, _ in reached(harness)] == ["u0"]


def test_no_event_waits_for_the_search_of_users_whom_a_new_item_fits() -> None:
    harness = fans()
    hide_rest(harness)
    may_end = threading.Event()
    near = harness.users.near

    def slow(vector: Vector, n: int) -> list[tuple[str, float]]:
        assert may_end.wait(20.0)
        return near(vector, n)

    harness.users.near = slow  # type: ignore[method-assign]
    harness.worker.replica.put(jazz())
    for k in range(3):
        harness.clock.now += 1.0
        step = harness.step(event(3.0, "view", "other1 2", user=f"new{k}", offset=100 + k))
        assert [query.user_id for query in step.queries if query.trigger == "event"] == [f"new{k}"]
        assert harness.worker.idle_refresh is not None
        look = harness.worker.idle_refresh.next_look()
        assert look is not None
        assert harness.clock() < look < harness.clock() + 1.0, "soon again"
    may_end.set()
    harness.worker.checkpoint.background.wait()
    harness.clock.now += 0.01
    assert harness.worker.next_step() == harness.clock()
    assert ("u0", "a new record") in reached(harness)


def test_what_can_wait_is_not_done_before_lists_have_left_and_the_epoch_is_committed() -> None:
    harness = moved()
    harness.clock.now += 0.5
    assert {
        query.trigger for query in harness.step(event(3.0, "view", "i1", user="n", offset=99)).queries
    } == {"event"}
    look = harness.worker.next_step()
    assert look is not None
    assert harness.clock() < look <= harness.clock() + 0.01
    assert harness.step().queries == []
    harness.flush()
    look = harness.worker.next_step()
    assert look is not None
    assert harness.clock() < look <= harness.clock() + 0.1
    harness.clock.now += 0.1
    assert {query.trigger for query in harness.step().queries} == {"drift"}


@pytest.mark.parametrize(("number_of_it", "found"), [(90, ["record 90"]), (70, [])])
def test_of_many_items_at_once_only_the_newest_are_searched_for(number_of_it: int, found: list[str]) -> None:
    harness = fans()
    hide_rest(harness)
    before = harness.meters.values["drift_items_skipped",]
    for number in range(100):
        text = "jazz" if number == number_of_it else f"of no interest {number}"
        harness.worker.replica.put(item_row(f"record {number}", text=text))
    first = [one for _ in range(30) for one in reached(harness)]
    assert harness.meters.values["drift_items_skipped",] - before == 80
    assert [item for user, item in first if user == "u0"] == found


# items that have gone


def listed_to(count: int, **rules: Any) -> WorkerHarness:
    """So many users have a list with every item that they do not know; the later ones were active later."""
    rules = {"idle_refresh": idle_refresh_rules(after_events=1e9), **rules}
    harness = bench_of(ranking=ranking_rules(top_n=6), **rules)
    for k in range(count):
        harness.clock.now += 1.0
        played(harness, event(harness.clock() - 1000.0, "view", "i0", user=f"u{k}", offset=k))
    harness.flush()
    return harness


def restarted(harness: WorkerHarness) -> WorkerHarness:
    """The harness after a restart; its worker owns the shards that it owned."""
    harness.flush()
    harness.again()
    for shard in range(harness.rules.shards):
        harness.worker.own_shard(shard, None)
    played(harness)
    return harness


def gone(item_id: str, **how: Any) -> Any:
    """An item that was there and is not to be listed any more."""
    return item_row(item_id, text="one text")._replace(**(how or {"deleted": True}))


def refreshed(harness: WorkerHarness, *, seconds: float = 1.0, times: int = 8) -> list[str]:
    """The users whose lists leave although nobody sends anything, in their order."""
    found: list[str] = []
    for _ in range(times):
        harness.clock.now += seconds
        lists = [one for one in played(harness)[1] if one is not None]
        assert all(b"i3" not in one.value for one in lists)
        found += [one.user_id for one in lists]
        harness.worker.checkpoint.background.wait()
    return found


@pytest.mark.parametrize("how", [{"deleted": True}, {"available": False}], ids=["deleted", "withdrawn"])
@pytest.mark.parametrize("when", ["before the stop", "while no job ran", "after the start"])
def test_after_a_restart_lists_that_may_hold_an_item_that_went_are_made_again(
    how: dict[str, bool], when: str
) -> None:
    harness = listed_to(5)
    harness.clock.now += 10.0
    if when == "before the stop":
        harness.worker.replica.put(gone("i3", **how))
    elif when == "while no job ran":
        harness.items.upsert([gone("i3", **how)._replace(seq=int(harness.clock() * 1e9))])
    restarted(harness)
    if when == "after the start":
        assert refreshed(harness) == []
        harness.worker.replica.put(gone("i3", **how))
    assert refreshed(harness) == ["u4", "u3", "u2", "u1", "u0"], "who was here last comes first"
    assert refreshed(harness) == [], "once is enough"


def test_what_went_before_the_last_event_of_a_user_is_not_in_their_list() -> None:
    harness = listed_to(1)
    harness.worker.replica.put(gone("i3"))
    harness.flush()
    late_s = harness.rules.user_state.decode.future_tolerance_s
    harness.clock.now += 2 * late_s
    played(harness, event(harness.clock(), "view", "i1", user="later", offset=99))
    assert refreshed(restarted(harness)) == ["u0"]


def test_users_who_are_here_again_get_no_second_list() -> None:
    harness = listed_to(3)
    harness.worker.replica.put(gone("i3"))
    restarted(harness)
    played(harness, event(harness.clock(), "view", "i1", user="u1", offset=99))
    assert refreshed(harness) == ["u2", "u0"]


def test_users_who_are_not_active_or_were_erased_get_none() -> None:
    harness = listed_to(3)
    harness.worker.replica.put(gone("i3"))
    restarted(harness)
    played(harness, event(harness.clock(), "forget", user="u1", offset=99))
    assert refreshed(harness) == ["u2", "u0"]
    harness = listed_to(3)
    harness.worker.replica.put(gone("i3"))
    harness.flush()
    harness.clock.now += 31 * DAY
    assert refreshed(restarted(harness)) == []


def test_of_lists_made_in_this_run_those_that_hold_it_are_made_again_and_no_others() -> None:
    harness = listed_to(4)
    played(
        harness, event(harness.clock(), "view", "i3", user="u2", offset=99)
    )  # who knows it is not shown it
    harness.worker.replica.put(gone("i3"))
    harness.clock.now += 1.0
    made = harness.meters.values["drift_lists", "emitted"]
    assert refreshed(harness) == ["u3", "u1", "u0"]
    assert harness.meters.values["drift_lists", "emitted"] - made == 3
    assert harness.meters.values["drift_lists", "unchanged"] == 0


def test_so_many_of_them_a_second_are_made_and_no_more() -> None:
    """With 50 a second 10,000 users take 200 s."""
    rules = idle_refresh_rules(after_events=1e9, lists_per_s=8.0)
    harness = listed_to(100, idle_refresh=rules)
    harness.worker.replica.put(gone("i3"))
    restarted(harness)
    counts = [len(refreshed(harness, seconds=0.5, times=1)) for _ in range(30)]
    assert counts[:2] == [0, 8], "they are read first, in a thread of its own"
    assert counts[2:20] == [4] * 18
    assert sum(counts) == 100


def test_the_worker_asks_to_be_called_until_all_are_made() -> None:
    harness = listed_to(40)
    harness.worker.replica.put(gone("i3"))
    restarted(harness)
    found: list[str] = []
    for _ in range(200):
        harness.worker.checkpoint.background.wait()
        look = harness.worker.next_step()
        assert look is not None
        if look >= harness.clock() + harness.rules.refresh_s:
            break
        harness.clock.now = max(look, harness.clock() + 0.01)
        found += [one.user_id for one in played(harness)[1] if one is not None]
    assert sorted(found) == sorted(f"u{k}" for k in range(40))


def test_more_users_than_are_read_at_once_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recstream.dataflow.idle_refresh.outdated._AT_ONCE", 4)
    harness = listed_to(11)
    harness.worker.replica.put(gone("i3"))
    assert refreshed(restarted(harness), times=20) == [f"u{k}" for k in reversed(range(11))]


def test_without_idle_refresh_nobody_looks() -> None:
    harness = WorkerHarness(idle_refresh=None)
    harness.know("i3")
    harness.step(event(1.0, "view", "i3", offset=1))
    harness.worker.replica.put(gone("i3"))
    assert refreshed(restarted(harness)) == []


@given(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 7), max_size=5, unique=True)), max_size=40),
    st.lists(st.integers(0, 7), max_size=3),
)
def test_holders_are_those_whose_last_list_holds_an_item(
    made: list[tuple[int, list[int]]], items: list[int]
) -> None:
    users = IdleUsers(limit=6, after=5.0)
    last: dict[str, list[int]] = {}
    for at, (user, listed) in enumerate(made):
        users.note_event(f"u{user}", float(at), at=float(at))
        is_first = not users.knows_list_of(f"u{user}")
        changed = users.note_list(f"u{user}", float(at), listed, is_refresh=False)
        assert changed == (is_first or listed != last[f"u{user}"])
        last.pop(f"u{user}", None)
        last[f"u{user}"] = listed
    known = [user for user in last if users.knows_list_of(user)]
    assert known == list(last)[-6:]
    assert users.holders(items) == [user for user in reversed(known) if set(last[user]) & set(items)]


# a log worked off event by event

Logs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from(["view", "like", "request", "forget"])),
    min_size=1,
    max_size=120,
)


def log_of(drawn: list[tuple[int, int, str]]) -> list[Event]:
    """Events of six users, one a second."""
    return arrived(
        [
            event(float(k), action, f"i{item}" if action in ("view", "like") else None, user=f"u{user}")
            for k, (user, item, action) in enumerate(drawn)
        ]
    )


def replay(log: list[Event], cuts: list[int], *, flushed: bool = False) -> list[dict[str, Any]]:
    """The lists of a log worked off event by event, in these micro-batches."""
    harness = bench_of(
        in_order=True,
        every_event=True,
        idle_refresh=idle_refresh_rules(after_events=3.0, lists_per_event=2.0),
    )
    lists = []
    edges = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    for begin, end in pairwise(edges):
        lists += [
            decoded(one.value) for one in harness.step(*log[begin:end]).lists if isinstance(one, EncodedList)
        ]
        harness.clock.now += 7.0
        if flushed:
            harness.flush()
    for one in lists:
        del one["model"]  # the version of the table of items
    return lists


@given(Logs, st.lists(st.integers(0, 120), max_size=5), st.integers(0, 120))
@settings(max_examples=40)
def test_in_a_log_they_follow_from_what_came_before_alone(
    drawn: list[tuple[int, int, str]], cuts: list[int], end: int
) -> None:
    log = log_of(drawn)
    whole = replay(log, [])
    assert replay(log, cuts, flushed=True) == whole
    part = replay(log[:end], [])
    assert part == whole[: len(part)]


def test_in_a_log_so_many_are_made_for_each_event() -> None:
    harness = bench_of(
        in_order=True,
        every_event=True,
        idle_refresh=idle_refresh_rules(after_events=3.0, lists_per_event=2.0),
    )
    log = [event(float(k), "view", f"i{k % 6}", user=f"u{k}", offset=k) for k in range(200)]
    harness.step(*log)
    made = sum(harness.meters.values["drift_lists", outcome] for outcome in ("emitted", "unchanged"))
    assert 300 < made <= 400


def test_in_a_log_users_are_active_by_the_time_of_its_events() -> None:
    """Read in one second, whatever the clock says."""
    harness = bench_of(
        in_order=True,
        every_event=True,
        idle_refresh=idle_refresh_rules(after_events=3.0, active_s=50.0, lists_per_event=2.0),
    )
    log = [event(float(k), "view", f"i{k % 6}", user=f"u{k}", offset=k) for k in range(200)]
    lists = [decoded(one.value) for one in harness.step(*log).lists if isinstance(one, EncodedList)]
    newest = 0.0
    for one in lists:
        newest = max(newest, one["as_of"]["ts"])
        assert newest - one["as_of"]["ts"] <= 50.0
    assert "drift" in {one["trigger"] for one in lists}


# the table of idle users


def heard() -> Iterator[tuple[str, float]]:
    for k in range(10):
        yield f"u{k}", 100.0 * k


def test_of_lists_equally_old_those_of_users_who_were_here_last_come_first() -> None:
    users = IdleUsers(limit=100, after=5.0)
    for user, tick in heard():
        users.note_event(user, tick, at=0.0)
    for user, _ in heard():
        users.note_list(user, 1000.0, [1], is_refresh=True)
    assert users.pick(3, tick=1100.0, since=-1.0) == ["u9", "u8", "u7"]


def test_of_users_equally_idle_those_with_the_oldest_lists_come_first() -> None:
    users = IdleUsers(limit=100, after=5.0)
    for user, tick in heard():
        users.note_event(user, 1000.0, at=0.0)
        users.note_list(user, tick, [1], is_refresh=True)
    assert users.pick(3, tick=1100.0, since=-1.0) == ["u0", "u1", "u2"]


def test_nobody_starves_while_the_world_moves() -> None:
    users = IdleUsers(limit=100, after=5.0)
    for user, tick in heard():
        users.note_event(user, tick, at=0.0)
    picked = {user for tick in range(1000, 4000, 10) for user in users.pick(1, tick=tick, since=-1.0)}
    assert picked == {user for user, _ in heard()}


@pytest.mark.parametrize("limit", [1, 3])
def test_the_table_keeps_those_heard_last(limit: int) -> None:
    users = IdleUsers(limit=limit, after=5.0)
    for user, tick in heard():
        users.note_event(user, tick, at=0.0)
    assert len(users) == limit
    assert set(users.pick(9, tick=9999.0, since=-1.0)) == {f"u{9 - k}" for k in range(limit)}


def test_a_clock_is_not_needed_to_be_still() -> None:
    harness = WorkerHarness(Clock(), idle_refresh=idle_refresh_rules())
    assert idle(harness, 100.0) == []
