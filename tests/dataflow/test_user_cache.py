"""The hot set: a bounded window on the user table that nobody can tell from an unbounded one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.dataflow.background import Work
from recstream.dataflow.user_cache import UserCache
from recstream.stores.memory import MemoryUserStore
from recstream.testing.stores import user_row
from recstream.users.codec import UserRow
from recstream.users.state import UserState
from tests.support.builders import DIM, RULES, catalogue_of, event
from tests.support.meters import MemoryMeters

ITEMS = ["a", "b", "c"]
USERS = [f"u{k}" for k in range(6)]
CATALOGUE = catalogue_of(ITEMS)

# what happens: a micro-batch of (user, item) views, or a barrier
steps = st.lists(
    st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from([*ITEMS, "forget"])), max_size=6), max_size=12
)


def hot(store: MemoryUserStore, limit: int) -> UserCache:
    return UserCache(store, CATALOGUE, MemoryMeters(), limit=limit, shards=32, sessions=False)


def play(users: UserCache, batch: list[tuple[str, str]], offset: int) -> None:
    """A micro-batch and its barrier."""
    users.load(user for user, _ in batch)
    for at, (user, item) in enumerate(batch, offset):
        one = event(float(at), "view", item, user=user, offset=at)
        if item == "forget":
            users.forget(one)
        else:
            users.get(user).observe(one, CATALOGUE, RULES, 0.0)
            users.changed(user)
    users.flush()


def played(batches: list[list[tuple[str, str]]], limit: int) -> MemoryUserStore:
    store = MemoryUserStore(DIM)
    users = hot(store, limit)
    for number, batch in enumerate(batches):
        play(users, batch, 1 + 10 * number)
    return store


def stored(store: MemoryUserStore) -> dict[str, tuple[int, bytes]]:
    return {user: (row.version, row.state) for user, row in store.rows.items()}


@given(steps, st.integers(0, 3))
@settings(max_examples=100)
def test_a_small_hot_set_writes_the_same_users_as_an_unlimited_one(
    batches: list[list[tuple[str, str]]], limit: int
) -> None:
    few, all_of_them = stored(played(batches, limit)), stored(played(batches, 10**6))
    assert few.keys() == all_of_them.keys()
    for user, (version, state) in few.items():
        assert version == all_of_them[user][0]
        # a forgotten user's old fence may have left memory with them: nothing else may differ
        if not any((user, "forget") in batch for batch in batches):
            assert state == all_of_them[user][1]


def test_one_look_up_brings_all_the_cold_users_of_a_batch() -> None:
    store = played([[("u1", "a"), ("u2", "b"), ("u3", "c")]], 10)
    store.calls.clear()
    users = hot(store, 10)
    loaded = users.load(["u1", "u9", "u2", "u1"])
    assert [user_state.user_id for user_state in loaded] == ["u1", "u2"]
    assert store.calls == [("fetch", ("u1", "u9", "u2"))]
    users.load(["u9", "u2"])
    assert len(store.calls) == 1


def test_an_empty_store_is_not_asked_until_somebody_was_let_go() -> None:
    store = MemoryUserStore(DIM)
    users = hot(store, 1)
    users.load(["u1", "u2"])
    assert store.calls == []
    users.flush()
    users.load(["u3"])
    assert store.calls == [("fetch", ("u3",))]


def test_changed_users_stay_until_they_are_written() -> None:
    store = MemoryUserStore(DIM)
    users = hot(store, 1)
    users.load(USERS)
    for at, user in enumerate(USERS):
        users.get(user).observe(event(1.0, "view", "a", user=user, offset=at), CATALOGUE, RULES, 0.0)
        users.changed(user)
    assert (len(users), users.is_overfull) == (6, True)
    assert users.flush() == 6
    assert (len(users), len(store.rows), users.is_overfull) == (1, 6, False)


def test_the_least_recently_used_are_let_go_first() -> None:
    users = hot(MemoryUserStore(DIM), 2)
    users.load(["u1", "u2", "u3"])
    users.load(["u1"])
    users.flush()
    assert {"u1", "u3"} == {user for user in USERS if _holds(users, user)}


def test_users_whose_events_wait_are_not_let_go() -> None:
    users = hot(MemoryUserStore(DIM), 0)
    users.load(["u1", "u2"])
    users.get("u1").observe(event(1.0, "view", "unknown"), CATALOGUE, RULES, 0.0)
    users.flush()
    assert (_holds(users, "u1"), _holds(users, "u2")) == (True, False)


def test_nothing_is_written_twice() -> None:
    store = MemoryUserStore(DIM)
    users = hot(store, 10)
    users.load(["u1"])
    users.changed("u1")
    assert (users.flush(), users.flush()) == (1, 0)
    assert [call for call, _ in store.calls] == ["upsert"]


def test_a_forgotten_user_is_erased_at_the_barrier_and_not_read_back_before() -> None:
    store = played([[("u1", "a")]], 10)
    users = hot(store, 10)
    users.load(["u1"])
    users.forget(event(5.0, "forget", offset=9))
    assert users.load(["u1"]) == []
    assert users.get("u1").version == 0
    assert "u1" in store.rows
    users.flush()
    assert "u1" not in store.rows


def test_a_forgotten_user_who_comes_back_is_a_new_one() -> None:
    store = played([[("u1", "a"), ("u1", "forget"), ("u1", "b")]], 10)
    row: UserRow = store.rows["u1"]
    assert row.version == 1
    assert [name for name, _ in store.calls] == ["delete", "upsert"], "what was stored before is erased"


def test_a_forgotten_user_keeps_only_the_fence() -> None:
    store = played([[("u1", "a")]], 10)
    users = hot(store, 10)
    users.load(["u1"])
    users.forget(event(5.0, "forget", offset=9, partition="events/1"))
    left: UserState = users.get("u1")
    assert left.offset_ranges == {"events/0@1": [0, 1], "events/1@1": [0, 9]}
    assert (left.seen, left.recent, left.long_term, left.as_of) == ({}, [], None, None)


def test_a_user_that_was_not_loaded_is_an_error() -> None:
    with pytest.raises(KeyError):
        hot(MemoryUserStore(DIM), 10).get("u1")


def _holds(users: UserCache, user: str) -> bool:
    return user in users._user_states


def warmed(store: MemoryUserStore, limit: int) -> tuple[UserCache, list[Work]]:
    """A hot set whose reading ahead is done when its work is."""
    users = hot(store, limit)
    works: list[Work] = []
    users.warm(works.append)
    return users, works


def test_users_read_ahead_need_no_look_up() -> None:
    store = played([[("u1", "a"), ("u2", "b"), ("u3", "c")]], 10)
    users, works = warmed(store, 10)
    for work in works:
        work()
    store.calls.clear()
    assert [user_state.user_id for user_state in users.load(["u1", "u9", "u2"])] == ["u1", "u2"]
    assert users.get("u1").version == 1
    assert users.get("u9").version == 0
    users.load(["u3"])
    assert not store.calls, "all that is stored was read ahead"


def test_only_those_who_changed_last_are_read_ahead() -> None:
    store = played([[("u1", "a")], [("u2", "b")], [("u3", "c")]], 10)
    users, works = warmed(store, 2)
    for work in works:
        work()
    store.calls.clear()
    users.load(["u1", "u2", "u3", "u9"])
    assert store.calls == [("fetch", ("u1", "u9"))]
    assert [users.get(user).version for user in ("u1", "u2", "u3", "u9")] == [1, 1, 1, 0]


@given(steps, st.integers(0, 3), st.integers(0, 3), st.integers(0, 6))
@settings(max_examples=200)
def test_reading_ahead_changes_nothing(
    after: list[list[tuple[str, str]]], limit: int, reads: int, arrives: int
) -> None:
    """Whenever it reads, and whenever what it has read arrives."""

    def ends(*, warm: bool) -> dict[str, tuple[int, bytes]]:
        store = played([[(user, "a") for user in USERS]], 10)
        users = hot(store, limit)
        works: list[Work] = []
        if warm:
            users.warm(works.append)
        for number, batch in enumerate(after):
            if number == reads:
                rows = store.newest(len(USERS))  # the read is over long before its end
                store.newest = lambda n: rows[:n]  # type: ignore[method-assign]  # noqa: B023 - once
            if works and number == reads + arrives:
                works.pop()()
            play(users, batch, 1000 + 10 * number)
        return stored(store)

    read_ahead, looked_up = ends(warm=True), ends(warm=False)
    assert read_ahead.keys() == looked_up.keys()
    if not any(item == "forget" for batch in after for _, item in batch):
        assert read_ahead == looked_up


def test_who_was_left_unfinished_is_found_though_all_was_read_ahead() -> None:
    store = MemoryUserStore(DIM)
    store.upsert([user_row("u1", shard=3, unfinished=1), user_row("u2", shard=3)])
    users, works = warmed(store, 10)
    works.pop()()
    users.load(["u9"])
    assert users.unfinished([3]) == {"u1": 1}


def test_a_row_that_was_read_ahead_before_it_changed_is_not_used() -> None:
    store = played([[("u1", "a"), ("u2", "b")]], 10)
    users = hot(store, 1)
    works: list[Work] = []
    users.warm(works.append)
    early = store.newest(5)
    store.newest = lambda n: early[:n]  # type: ignore[method-assign]  # the read is over long before its end
    users.load(["u1"])
    users.get("u1").observe(event(9.0, "view", "c", user="u1", offset=9), CATALOGUE, RULES, 0.0)
    users.changed("u1")
    users.load(["u2"])
    users.flush()
    assert users.find("u1") is None
    works.pop()()
    users.load(["u1"])
    assert users.get("u1").version == 2
