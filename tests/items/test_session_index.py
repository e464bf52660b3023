"""Chunks go from one session index to another, which then answers as the first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.session_index import SESSION_ITEMS, SessionChunk, SessionIndex

engagements = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3", "u4"]), st.integers(0, 8)), min_size=1, max_size=40
)


def index_of(log: list[tuple[str, int]], *, capacity: int = 64, per_item: int = 200) -> SessionIndex:
    index = SessionIndex(capacity, per_item=per_item)
    for at, (user, item) in enumerate(log):
        if at % 7 == 6:
            index.begin(user)
        index.add(user, item, float(at))
    return index


def copied(index: SessionIndex, users: list[str], **more: int) -> SessionIndex:
    other = SessionIndex(more.get("capacity", index.capacity))
    other.put({user: index.chunks_of(user) for user in users})
    return other


def seen(index: SessionIndex) -> tuple[object, ...]:
    """What session-kNN has of an index: whose chunks are in it, and which chunks held each item, in order."""
    arrays = index.arrays
    names = {n: (user, *index.items_of(n), index.tick_of(n)) for n, user in index._users.items()}
    held = [[names[n] for n in ring.tolist() if n in names and index.items_of(n)] for ring in arrays.of_item]
    order = [names[n] for n in sorted(names) if index.items_of(n)]
    return order, [one for one in held if one]


@given(engagements, st.permutations(["u1", "u2", "u3", "u4"]))
def test_a_copy_answers_as_the_index_it_was_made_of(log: list[tuple[str, int]], users: list[str]) -> None:
    index = index_of(log)
    assert seen(copied(index, users)) == seen(index)


@given(engagements, engagements)
def test_a_copy_that_is_brought_up_to_date_differs_in_nothing(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    index, other = SessionIndex(64), SessionIndex(64)
    for at, (user, item) in enumerate(before):
        index.add(user, item, float(at))
    everybody = ["u1", "u2", "u3", "u4"]
    other.put({user: index.chunks_of(user) for user in everybody})
    for at, (user, item) in enumerate(after):
        index.add(user, item, float(len(before) + at))
    index.forget("u4")
    other.put({user: index.chunks_of(user) for user in everybody})
    assert seen(other) == seen(index)


def test_what_is_copied_goes_on_where_it_was() -> None:
    index = index_of([("u1", 1), ("u2", 2)])
    other = copied(index, ["u1", "u2"])
    for one in (index, other):
        one.add("u1", 5, 9.0)
    assert other.chunks_of("u1") == index.chunks_of("u1") == [SessionChunk(9.0, [1, 5], [0, 2])]


def test_of_more_than_there_is_room_for_the_newest_are_taken() -> None:
    index = index_of([(f"u{k}", k) for k in range(6)])
    other = copied(index, [f"u{k}" for k in range(6)], capacity=4)
    assert sorted(other._users.values()) == ["u2", "u3", "u4", "u5"]
    other.put({"u0": index.chunks_of("u0")})
    assert sorted(other._users.values()) == ["u2", "u3", "u4", "u5"], "it would have left already"


def test_a_ring_that_is_full_keeps_the_newest() -> None:
    index = SessionIndex(64)
    for k in range(10):
        index.add(f"u{k}", 0, float(k))
    other = SessionIndex(64, per_item=4)
    other.put({f"u{k}": index.chunks_of(f"u{k}") for k in range(10)})
    assert sorted(other._users[int(n)] for n in other.arrays.of_item[0]) == ["u6", "u7", "u8", "u9"]


def test_a_full_chunk_is_copied_whole_and_the_next_begins_anew() -> None:
    index = SessionIndex(8)
    for item in range(SESSION_ITEMS + 1):
        index.add("u1", item, float(item))
    other = copied(index, ["u1"])
    assert [len(one.items) for one in other.chunks_of("u1")] == [SESSION_ITEMS, 1]
    assert other.items_of(other.current("u1")) == [SESSION_ITEMS]


def test_only_what_was_added_or_forgotten_here_has_changed() -> None:
    index = index_of([("u1", 1), ("u2", 2)])
    assert index.take_changed() == ["u1", "u2"]
    assert index.take_changed() == []
    other = copied(index, ["u1", "u2"])
    assert other.take_changed() == []
    assert other.forget("u2")
    assert (other.take_changed(), other.chunks_of("u2"), len(other)) == (["u2"], [], 1)
    assert np.count_nonzero(other.arrays.lengths) == 1
