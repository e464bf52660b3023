"""Sessions go from one window to another, and the other then answers as the first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.session_index import SESSION_ITEMS, SessionChunk, SessionIndex

engagements = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3", "u4"]), st.integers(0, 8)), min_size=1, max_size=40
)


def window_of(log: list[tuple[str, int]], *, most: int = 64, per_item: int = 200) -> SessionIndex:
    window = SessionIndex(most, per_item=per_item)
    for at, (user, item) in enumerate(log):
        if at % 7 == 6:
            window.begin(user)
        window.add(user, item, float(at))
    return window


def copied(window: SessionIndex, users: list[str], **more: int) -> SessionIndex:
    other = SessionIndex(more.get("most", window.most))
    other.put({user: window.sessions_of(user) for user in users})
    return other


def seen(window: SessionIndex) -> tuple[object, ...]:
    """What session-kNN has of a window: who is in it, and per item who held it, in order."""
    arrays = window.arrays
    names = {n: (user, *window.items_of(n), window.tick_of(n)) for n, user in window._users.items()}
    held = [[names[n] for n in ring.tolist() if n in names and window.items_of(n)] for ring in arrays.of_item]
    order = [names[n] for n in sorted(names) if window.items_of(n)]
    return order, [one for one in held if one]


@given(engagements, st.permutations(["u1", "u2", "u3", "u4"]))
def test_a_copy_answers_as_the_window_it_was_made_of(log: list[tuple[str, int]], users: list[str]) -> None:
    window = window_of(log)
    assert seen(copied(window, users)) == seen(window)


@given(engagements, engagements)
def test_a_copy_that_is_brought_up_to_date_differs_in_nothing(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    window, other = SessionIndex(64), SessionIndex(64)
    for at, (user, item) in enumerate(before):
        window.add(user, item, float(at))
    everybody = ["u1", "u2", "u3", "u4"]
    other.put({user: window.sessions_of(user) for user in everybody})
    for at, (user, item) in enumerate(after):
        window.add(user, item, float(len(before) + at))
    window.forget("u4")
    other.put({user: window.sessions_of(user) for user in everybody})
    assert seen(other) == seen(window)


def test_what_is_copied_goes_on_where_it_was() -> None:
    window = window_of([("u1", 1), ("u2", 2)])
    other = copied(window, ["u1", "u2"])
    for one in (window, other):
        one.add("u1", 5, 9.0)
    assert other.sessions_of("u1") == window.sessions_of("u1") == [SessionChunk(9.0, [1, 5], [0, 2])]


def test_of_more_than_there_is_room_for_the_newest_are_taken() -> None:
    window = window_of([(f"u{k}", k) for k in range(6)])
    other = copied(window, [f"u{k}" for k in range(6)], most=4)
    assert sorted(other._users.values()) == ["u2", "u3", "u4", "u5"]
    other.put({"u0": window.sessions_of("u0")})
    assert sorted(other._users.values()) == ["u2", "u3", "u4", "u5"], "it would have left already"


def test_a_ring_that_is_full_keeps_the_newest() -> None:
    window = SessionIndex(64)
    for k in range(10):
        window.add(f"u{k}", 0, float(k))
    other = SessionIndex(64, per_item=4)
    other.put({f"u{k}": window.sessions_of(f"u{k}") for k in range(10)})
    assert sorted(other._users[int(n)] for n in other.arrays.of_item[0]) == ["u6", "u7", "u8", "u9"]


def test_a_full_session_is_copied_whole_and_the_next_begins_anew() -> None:
    window = SessionIndex(8)
    for item in range(SESSION_ITEMS + 1):
        window.add("u1", item, float(item))
    other = copied(window, ["u1"])
    assert [len(one.items) for one in other.sessions_of("u1")] == [SESSION_ITEMS, 1]
    assert other.items_of(other.current("u1")) == [SESSION_ITEMS]


def test_only_what_was_added_or_forgotten_here_has_changed() -> None:
    window = window_of([("u1", 1), ("u2", 2)])
    assert window.take_changed() == ["u1", "u2"]
    assert window.take_changed() == []
    other = copied(window, ["u1", "u2"])
    assert other.take_changed() == []
    assert other.forget("u2")
    assert (other.take_changed(), other.sessions_of("u2"), len(other)) == (["u2"], [], 1)
    assert np.count_nonzero(other.arrays.lengths) == 1
